"""
The dialect `wrs`: Windchill REST Services, OData v4 (WINDCHILL, second section), and OData services like it.

Here lives what is known of that server and no other: its metadata and types, the nonce that every write carries, which
iteration a number means, check-out as the lock that stands in for `If-Match`. Never here: what a field should be, and
when to try again; the flows know neither a status nor a URL of it.

How the modules build on each other: `options` and `tokens` at the bottom, then `metadata`, `values`, `session`,
`service` (requests), `reading`, `locking` and `writing`, and `windchill`, which is the port.
"""
