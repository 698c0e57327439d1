"""Which store a URL names. No other module outside the stores' own packages knows which kinds of store there are."""

from reconciler.adapters.sqlite.admin import SqliteAdmin
from reconciler.errors import StoreError
from reconciler.ports import StoreAdmin


def admin(url: str) -> StoreAdmin:
    """Return the store that a URL names, not yet opened."""
    scheme, _, _ = url.partition(":")
    match scheme:
        case "sqlite":
            return SqliteAdmin(url)
        case "postgresql" | "postgres":
            raise StoreError("this version has no store in PostgreSQL yet; use sqlite:///FILE and one replica")
        case _:
            raise StoreError(f"there is no store of the kind {scheme!r}; use sqlite:///FILE")
