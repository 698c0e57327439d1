"""`reconciler observed`: what would have been written to documents that are only observed, and what people did."""

from collections import Counter
from collections.abc import Sequence

import attrs

from reconciler import views
from reconciler.cli import framework, options, output, store_access
from reconciler.config import Config
from reconciler.core.explain import observation
from reconciler.core.explain.observation import Meanwhile, Observed
from reconciler.model.document import Status
from reconciler.ports import Store

_RECORDS_MAX = 1000  # of one document, newest first
_COUNTED = (
    output.Column("field", "field", whole=True),
    output.Column("open", "still to write", right=True),
    output.Column("same", "people wrote our value", right=True),
    output.Column("other", "people wrote another", right=True),
)
_OTHERS = (
    output.Column("document", "document", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("ours", "ours"),
    output.Column("then", "before"),
    output.Column("now", "now"),
    output.Column("at", "since", output.when),
)


@framework.command("reconciler observed -c reconciler.toml", "reconciler observed -c reconciler.toml -o json")
@options.limit(50)
@options.on_store
def observed(config: Config, limit: int, form: str) -> None:
    """
    Compare what would have been written with what people did meanwhile.

    For documents that `windchill.write` leaves unwritten. Each field counts from the first time that it would have been
    written; its value now is that of the last comparison. Fields that people set to another value are listed: those are
    where the policy and the people disagree. As JSON, every field is listed.
    """
    found = store_access.ask(config, _observed)
    if form == "json":
        output.as_json([_row(one) for one in found])
        return
    if not found:
        print("Nothing would have been written: no document is observed, or all agree with the log.")
        return
    output.table(_counted(found), _COUNTED)
    others = [_row(one) for one in found if one.meanwhile is Meanwhile.OTHER]
    if others:
        first = f" (the first {limit} of {len(others):,})" if len(others) > limit else ""
        print(f"\nPeople wrote another value{first}:")
        output.table(others[:limit], _OTHERS)


async def _observed(store: Store) -> list[Observed]:
    found: list[Observed] = []
    after = ""
    while page := await store.list_documents(Status.OBSERVED, after, store_access.PAGE):
        for document in page:
            records = await store.audit(document.key, limit=_RECORDS_MAX)
            found += observation.compared(document, records)
        after = page[-1].key
    return found


def _counted(found: Sequence[Observed]) -> list[dict[str, object]]:
    counts = Counter((one.field, one.meanwhile) for one in found)
    return [
        {"field": field} | {kind.value: counts[field, kind] for kind in Meanwhile}
        for field in sorted({one.field for one in found})
    ]


def _row(one: Observed) -> dict[str, object]:
    row = attrs.asdict(one)
    return row | {"at": views.shape.at(row.pop("at_us"))}
