"""
The dialect `wrs`: Windchill REST Services, OData v4 (docs/windchill.md), and OData services like it.

This package knows that server: its metadata and types, the nonce that every write carries, which iteration a number
means, and check-out as the lock that stands in for `If-Match`. It does not decide what a field should be or when to try
again, and the flows know neither a status code nor a URL of it.

Modules in the order in which they build on each other:

    options, tokens            settings; which iteration was read, and how it was then
    metadata, values           the types of the service; values between OData and us
    signatures, functions      actions as the metadata describes them and as we call them; which states can follow
    cookies, nonces, service   the HTTP session; the nonce; requests, pages, what a refused read means
    lookup, checked_out        from numbers to rows; what a row says about its check-out
    reading, writable          documents and the list of changes; which fields can be written, and by which action
    results                    what a reply to a write means
    working_copies, checkout   whose working copy it is; check-out, and how it is given up
    bisection                  which of several attributes the server refuses
    writing, actions           attributes under check-out or ETag; State and the common properties
    windchill                  the port
    probe, probe_*             what `doctor --probe` asks the server, and how it puts the document back
"""
