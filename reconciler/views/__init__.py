"""
Views: the JSON that the API, `-o json` and the page show of the model.

Each shape is next to the function that makes it, and a member has the same name everywhere. Members are only added.
Pure: no store, clock or request is used here. Templates and tables of commands show members of these shapes.
"""

from reconciler.views import actions, documents, history, open_items, service

__all__ = ["actions", "documents", "history", "open_items", "service"]
