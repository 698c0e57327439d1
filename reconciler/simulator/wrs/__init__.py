"""
The dialect `wrs`: the same documents as Windchill REST Services (OData v4) show them.

Charter. Here lives what a server of that kind does with documents: iterations, check-out, nonces, metadata, queries.
The documents themselves, their history, users, faults and credentials belong to the packages around it, so that
both dialects show one world and one history proves what both did. Everything that nobody knows of the real server is a
switch in `options.Wrs`.

    dialect     from a path to what is asked of it; a `messages.Dialect`
    lists, query, filters   many documents: $filter, pages, $orderby
    entities    one iteration as JSON; secured nulls, $select, $expand, entity tags
    writing     what PATCH and the actions outside check-out do
    checkout    the life of a working copy, for the dialect's users and for everybody else
    deeds       what people do in the GUI, by the control API or by script
    control     the part of the control API that is about this dialect
    shelf       iterations and working copies, and the numbers by which they go
    types, metadata, values   what a property is, as $metadata says it, and what may be written to it
    nonces      nonces and the security audit log
"""
