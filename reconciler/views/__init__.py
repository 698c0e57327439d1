"""
Views: the JSON in which whatever the model holds is shown to the outside: by the API, by `-o json`, and to the page.

Each shape stands beside the function that makes it, and the same thing has the same member names everywhere. Members
are only ever added. Pure: nothing here reads a store, a clock or a request; the page's templates and the commands'
tables show members of these shapes, and build no rows of their own.
"""

from reconciler.views import actions, documents, history, service, waiting

__all__ = ["actions", "documents", "history", "service", "waiting"]
