"""Whatever JSON a server calls a document, reading it ends with an answer."""

import asyncio
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.http import HttpClient
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import metadata, tokens
from reconciler.adapters.wrs.checked_out import is_checked_out, is_working_copy
from reconciler.adapters.wrs.reading import Reader
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import Broken, Failed, NotAvailable, Throttled, Unauthorised, Unchanged
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import canonical
from tests import defaults
from tests.adapters.wrs.odata import METADATA, row

SCHEMA = metadata.parse(METADATA.encode(), "Documents")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [*row(), *SCHEMA.document.properties, "@odata.type", "@odata.etag", "Context", "CheckOutStatus"]
)
ROWS = st.builds(lambda sound, odd: sound | odd, st.just(row("k")), st.dictionaries(NAMES, JSON, max_size=4))


class Canned(HttpClient):
    """Answers every request with the same body."""

    def __init__(self, status: int, kind: bytes, body: bytes) -> None:
        self._reply = Reply(status, {b"content-type": kind}, body)

    async def exchange(self, method: str, url: str, headers: Any, content: bytes = b"") -> Reply:
        if url.endswith("$metadata"):
            return Reply(200, {b"content-type": b"application/xml"}, METADATA.encode())
        return self._reply

    def hidden(self, said: str) -> str:
        return said

    def retry_after_s(self, reply: Reply) -> None:
        return None


async def read(status: int, kind: bytes, body: bytes, known: Snapshot | None = None) -> list[Any]:
    options = defaults.wrs(base_url="http://127.0.0.1:9", expand=("Context",))
    reader = Reader(Service(Canned(status, kind, body), options, SystemClock()), SystemClock())
    return [await reader.read("k", known), await reader.iteration("k", "x"), await reader.changed(0)]


KNOWN = Snapshot("k", {}, tokens.seen("OR:wt.doc.WTDocument:100", {}))
ANSWERS = Snapshot | Unchanged | NotAvailable | Unauthorised | Throttled | Failed | Broken


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, max_size=3), st.booleans(), st.sampled_from([None, KNOWN]))
def test_odd_rows_are_read_or_refused_and_what_is_read_can_be_stored(
    found: list[dict[str, Any]], listed: bool, known: Snapshot | None
) -> None:
    body = {"value": found} if listed else (found or [{}])[0]
    answers = asyncio.run(read(200, b"application/json", msgspec.json.encode(body), known))
    for answer in answers:
        assert isinstance(answer, ANSWERS | list)
        if isinstance(answer, Snapshot):
            assert canonical(answer.body)
            assert answer.token is None or tokens.place(answer.token) is not None
            assert answer.unreadable.isdisjoint(answer.body)
    for entity in found:
        is_working_copy(entity)
        is_checked_out(entity)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [200, 201, 204, 206, 300, 304, 400, 401, 403, 404, 409, 410, 412, 418, 428, 429, 500, 501, 503, 599]
    ),
    st.sampled_from([b"application/json", b"text/html", b""]),
    st.binary(max_size=60) | JSON.map(msgspec.json.encode) | st.just(b'{"error":{"code":"ENTITY_NOT_FOUND"}}'),
    st.sampled_from([None, KNOWN]),
)
def test_any_answer_is_an_answer_and_only_a_document_is_one(
    status: int, kind: bytes, body: bytes, known: Snapshot | None
) -> None:
    for answer in asyncio.run(read(status, kind, body, known)):
        assert isinstance(answer, ANSWERS | list)
        assert not isinstance(answer, Snapshot | Unchanged)
