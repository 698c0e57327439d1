"""`reconciler hotspots`: documents and fields where version conflicts happen most."""

from reconciler import views
from reconciler.adapters.clock import SystemClock
from reconciler.cli import framework, options, output, store_access
from reconciler.config import Config


def _share(period: views.open_items.Period) -> str:
    return f"{period.conflicts} of {period.attempts}"


_COLUMNS = (
    output.Column("document", "document", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("conflicts", "conflicts", right=True),
    output.Column("attempts", "attempts", right=True),
    output.Column("rate", "rate", lambda rate: f"{rate:.0%}", right=True),
    output.Column("day", "last 24 h", _share, right=True),
    output.Column("day_before", "24 h before", _share, right=True),
    output.Column("trend", "trend"),
)


@framework.command("reconciler hotspots -c reconciler.toml")
@options.limit(50)
@options.on_store
def hotspots(config: Config, limit: int, form: str) -> None:
    """List the documents and fields with most version conflicts."""
    found = store_access.ask(config, lambda store: store.hotspots(SystemClock().now_us(), limit))
    output.report(form, [views.open_items.hot_spot(spot) for spot in found], _COLUMNS, "No version conflicts so far.")
