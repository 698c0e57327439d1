"""
The dialect `wrs`: the same documents as Windchill REST Services (OData v4) show them.

What such a server does with documents lives here: iterations, check-out, nonces, metadata, queries. The documents
themselves, their history, users, faults and credentials belong to the package around it, so that both dialects show
the same documents, and one history proves what both did. Whatever is unknown of the real server is a switch in
`options.Wrs`.

    dialect     from a path to what is asked of it; an `asgi.Dialect`
    lists, query   many documents: $filter, pages, $orderby
    entities    one iteration as JSON; secured nulls, $select, $expand, entity tags
    writing     what PATCH and the actions outside check-out do
    people      what people do in the GUI, told by the control API or by a script
    checkout    the life of a working copy, for the dialect's users and for everyone else
    state       what the dialect keeps beside the documents
    iterations  iterations and working copies, and the numbers by which they go
    types, values   what a property is, as $metadata says it, and what may be written to it
    sessions    sessions, nonces and the security audit log
"""
