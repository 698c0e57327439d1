"""Many documents: which rows a query finds, in which order, and page by page."""

import re
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, urlencode

from reconciler.simulator.messages import Reply, Request
from reconciler.simulator.wrs import query, replies
from reconciler.simulator.wrs.entities import View
from reconciler.simulator.wrs.iterations import Iteration, WorkingCopy
from reconciler.simulator.wrs.query import Asked
from reconciler.simulator.wrs.state import WrsState
from reconciler.simulator.wrs.types import BASE, Types

_PREFERRED = re.compile(rb"(?:odata\.)?maxpagesize\s*=\s*(\d+)")


def answer(state: WrsState, request: Request, user: str, root: str) -> Reply:
    """One page of `Documents`; `root` is the service's URL with a slash at its end."""
    switches = state.switches
    asked = query.read(request.query, state.types, switches)
    size = switches.page_size
    applied: list[tuple[bytes, bytes]] = []
    preferred = _PREFERRED.search(request.headers.get(b"prefer", b""))
    if preferred is not None and int(preferred[1]):
        size = min(int(preferred[1]), switches.page_size_max)
        applied = [(b"preference-applied", b"odata.maxpagesize=%d" % size)]
    rows = _rows(state, asked, user)
    page = rows[asked.after : asked.after + size]
    shown: dict[str, Any] = {"@odata.context": f"{root}$metadata#Documents"}
    shown["value"] = [_shown(state, View(state, row, user), asked, user) for row in page]
    if len(rows) > asked.after + size:
        shown["@odata.nextLink"] = _next_link(state, request, root, asked.after + size)
    return replies.shown(shown, *applied)


def only_key(state: WrsState, request: Request) -> str | None:
    """The key of the one document that a query can find; None where it may find several."""
    text = query.parsed(request.query).get("$filter")
    if text is None:
        return None
    try:
        numbers = query.bound(query.parse(text), "Number")
    except query.Malformed:
        return None
    return state.iterations.key_of(str(next(iter(numbers)))) if numbers is not None and len(numbers) == 1 else None


def _rows(state: WrsState, asked: Asked, user: str) -> list[Iteration | WorkingCopy]:
    types = state.types
    zone = None if asked.on_time else timezone(timedelta(minutes=state.switches.utc_offset_minutes))
    found = list(_candidates(state, asked, user))
    if asked.filter is None:
        return found
    matches = query.matcher(asked.filter)
    return [row for row in found if matches(_Look(View(state, row, user), types, zone))]


def _candidates(state: WrsState, asked: Asked, user: str) -> Iterator[Iteration | WorkingCopy]:
    iterations, documents = state.iterations, state.documents
    numbers = None if asked.filter is None else query.bound(asked.filter, "Number")
    keys = documents.keys()
    if numbers is not None:
        found = sorted(key for number in numbers if (key := iterations.key_of(str(number))) is not None)
        keys = [key for one in found for key in iterations.revisions(one)]
    for key in keys:
        if asked.latest and key in documents.former:
            continue
        condition = documents.conditions.get(key)
        if condition is not None and not condition.writes_only:
            continue  # who may not read a document doesn't find it either
        latest = iterations.latest(key)
        assert latest is not None
        if asked.latest:
            yield latest
        else:
            yield from iterations.all_of(key)
        if state.switches.working_copies_listed:
            copy = iterations.copy_of(key)
            if copy is not None and copy.holder == user:
                yield copy


class _Look:
    """A row's values as filters compare them."""

    def __init__(self, view: View, types: Types, zone: timezone | None) -> None:
        self._view = view
        self._types = types
        self._zone = zone
        """Where only days count: whose days. None: the time counts."""

    def __call__(self, path: str) -> Any:
        view = self._view
        name, _, inside = path.partition("/")
        found = self._types.properties[view.type].get(name)
        if found is None or name in view.secured:
            return None
        if found.kind == "Edm.DateTimeOffset":
            moment = view.moment(found)
            return moment if moment is None or self._zone is None else moment.astimezone(self._zone).date()
        value = view.value(found)
        return value.get(inside) if inside and value is not None else value


def _shown(state: WrsState, view: View, asked: Asked, user: str) -> dict[str, Any]:
    if asked.shows_content and view.latest:
        state.showed(user, view.found.key, view.token)
    shown = view.entity(asked.select, asked.expand)
    if state.switches.lists_show == "common" and not asked.select:
        common = state.types.properties[BASE]
        own = state.types.properties[view.type].keys() - common.keys()
        return {name: value for name, value in shown.items() if name.partition("@")[0] not in own}
    return shown


def _next_link(state: WrsState, request: Request, root: str, after: int) -> str:
    given = [pair for pair in parse_qsl(request.query.decode("latin-1"), True) if pair[0] != "$skiptoken"]
    base = state.switches.next_link_base
    path = root if not base else base.rstrip("/") + "/" + root.split("/", 3)[3]
    return f"{path}Documents?{urlencode([*given, ('$skiptoken', str(after))])}"
