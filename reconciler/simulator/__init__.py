"""
A simulated Windchill: a real HTTP server, users who edit, faults, and a history that proves who lost what.

Charter. Here lives everything that plays the other side: documents with versions, the HTTP dialects over them, rival
users, faults, the control API, and the history of every accepted write. Nothing here imports the client side (adapters,
core, flows, model, config): a witness that shares code with the accused repeats its mistakes. Nothing but a command
starts it, and nothing of the product imports it.

    server    sockets, signals, tasks: the only place that starts anything
    asgi      one request from bytes to bytes: faults, credentials, then the dialect's answer
    control   the API under /_control/ by which tests and demos steer and ask
    world     what there is: documents, faults, rivals, credentials, statistics
    documents_dialect   the plain JSON dialect; a dialect is four functions (messages.Dialect)
    wrs       the other dialect, Windchill REST Services, over the same documents; a package of its own
    documents, history, fields, etags   versions of documents, and what can be proved of them
    rivals, faults, credentials   each one way of making life hard
    settings, validation   what can be chosen, and how a choice is checked
    process   starts the server for demos and tests
    broker    the other thing demos need from outside: an embedded broker
"""
