"""
A simulated Windchill: a real HTTP server, users who edit, faults, and a history that proves who lost what.

Everything that plays the other side lives here: documents with versions, the HTTP dialects over them, rival users,
faults, the control API, and the history of every accepted write. Nothing here imports the client side (adapters, core,
flows, model, config): a witness that shares code with the accused repeats its mistakes. Only commands start it, and no
other part of the product imports it. The list below goes from the outside in; no module imports one above it.

    server    sockets, signals, tasks: the only place that starts anything
    control   the API under /_control/ by which tests and demos steer and ask
    asgi      one request from bytes to bytes: faults, credentials, then the dialect's answer
    wrs.dialect         the dialect of Windchill REST Services; a dialect is four functions (`asgi.Dialect`)
    documents_dialect   the plain JSON dialect over the same documents
    world     one simulation: documents, faults, rivals, credentials, statistics
    faults, rivals, credentials   what makes a client's life hard
    wrs       what the dialect of Windchill REST Services knows of documents
    documents, history, fields, seeds   versions of documents, and what can be proved of them
    messages, settings, validation   requests and replies; what can be chosen, and how a choice is checked
    broker    apart from all that: an embedded Kafka broker for demos and tests
    groups    lets that broker serve consumer groups of several members
"""
