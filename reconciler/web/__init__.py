"""
Web: what the daemon shows over HTTP, and the few things that it may be call.

Here live routes, their answers, and the server around them. It decides nothing and opens nothing: all that it shows or
does comes through the callables of `application.Services`, which the composition root hands over.
"""
