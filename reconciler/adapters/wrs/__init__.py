"""
The dialect `wrs`: Windchill REST Services, OData v4 (WINDCHILL, second section), and OData services like it.

Here lives what is known of that server and no other: its metadata and types, the nonce that every write carries, which
iteration a number means, check-out as the lock that stands in for `If-Match`. Never here: what a field should be, and
when to try again; the flows know neither a status nor a URL of it.

How the modules build on each other:

    options, tokens        where and how; which iteration was read, and how it was then
    metadata, values       what types there are; values between OData and us
    shapes                 what actions take and answer, as the metadata says and as we call them
    turnstile, cookies     one request ahead of others; the HTTP session that all requests share
    session, service       the nonce; requests, pages, what a refusal means
    numbers, holders       many numbers with one request; who has a document checked out
    reading, portions      documents and the list of changes; which way a field is written
    answers, locking       what became of a write's step; check-out and how it is given up
    questions              which states can follow; whether a check-out would be taken
    halving                which of several attributes a server refuses
    writing, actions       attributes under check-out or ETag; State and common properties
    windchill              the port
    findings, scratch      what a probe found; the document that it may spoil, and how that is put right again
    trials, probe          questions that only a write can answer; all of them in order, and the settings that follow
"""
