"""
What every Windchill promises (`reconciler/ports/windchill.py`), sentence by sentence: a fake, and both
dialects on a socket.

Fields go by the names of the dialect `documents` here; `world.name` says what another dialect calls them.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar, Protocol

import pytest
from msgspec import structs

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.http import HttpClient
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.model.answer import (
    Broken,
    Failed,
    Locked,
    NotAvailable,
    Refused,
    Released,
    Throttled,
    Unchanged,
    Unknown,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import MISSING, Json
from reconciler.ports import Windchill
from tests import defaults, windchills
from tests.adapters.simulated import DOCUMENT, Simulated, simulating, windchill
from tests.checks import expect
from tests.fakes.journal import MemoryJournal
from tests.fakes.memory_windchill import Fault, MemoryWindchill

BODY: dict[str, Any] = {
    "id": DOCUMENT,
    "type": "Drawing",
    "status": "INWORK",
    "owner": "sgarcia",
    "title": "Valve body",
    "attributes": {"CostCenter": "4959", "Note": "x", "Keywords": ["draft"], "Size": {"w": 1, "h": 2}, "a.b": "dotted"},
}


class World(Protocol):
    """One kind of Windchill with the means to steer and watch it from outside."""

    @property
    def windchill(self) -> Windchill: ...

    def name(self, field: str) -> str: ...
    def make(self, body: dict[str, Any]) -> None: ...
    def edit(self, fields: dict[str, Any]) -> None: ...
    def document(self, key: str = DOCUMENT) -> dict[str, Any]: ...
    def accepted(self) -> list[tuple[str, set[str]]]:
        """Who wrote the document, and which fields, oldest first."""
        ...

    def lock(self, user: str) -> None: ...
    def refuse(self, status: int) -> None: ...
    def script(self, operation: str, *faults: str) -> None: ...


MEMORY_FAULTS: dict[str, Any] = {
    "unavailable": Throttled(503, "restarting", 1.0),
    "throttle": Throttled(429, "slow down", 1.0),
    "lost_reply": Fault.LOST_REPLY,
    "version_conflict": Fault.RIVAL,
    "dropped_request": Unknown("the connection broke"),
}


class MemoryWorld:
    """The fake."""

    def __init__(self, **behaviour: bool) -> None:
        self.windchill = self._memory = MemoryWindchill(**behaviour)
        self.name = str

    def make(self, body: dict[str, Any]) -> None:
        self._memory.put(body["id"], body)

    def edit(self, fields: dict[str, Any]) -> None:
        self._memory.edit(DOCUMENT, fields)

    def document(self, key: str = DOCUMENT) -> dict[str, Any]:
        return self._memory.body(key)

    def accepted(self) -> list[tuple[str, set[str]]]:
        return [(entry.who, set(entry.fields)) for entry in self._memory.history]

    def lock(self, user: str) -> None:
        self._memory.holders[DOCUMENT] = user

    def refuse(self, status: int) -> None:
        self._memory.refusals[DOCUMENT] = NotAvailable(status, "refused")

    def script(self, operation: str, *faults: str) -> None:
        if operation == "read":
            broken = {"login_page": Broken("an HTML login page")}
            self._memory.script_reads(*((MEMORY_FAULTS | broken)[fault] for fault in faults))
        else:
            unknown = {"login_page": Unknown("an HTML login page")}
            self._memory.script_writes(*((MEMORY_FAULTS | unknown)[fault] for fault in faults))


class SocketWorld:
    """The adapter for the dialect `documents`, and the simulator in a process of its own."""

    windchill: Windchill

    def __init__(self, simulated: Simulated, write_method: str, behaviour: dict[str, Any]) -> None:
        self._steer(simulated, write_method)
        simulated.behave(**behaviour)
        self.windchill = windchill(simulated.url, write_method=write_method)

    def _steer(self, simulated: Simulated, write_method: str) -> None:
        simulated.reset()
        self._simulated, self._write_method = simulated, write_method
        self.make, self.edit = simulated.make, simulated.edit
        self.lock, self.document = simulated.lock, simulated.document

    def name(self, field: str) -> str:
        return field

    def accepted(self) -> list[tuple[str, set[str]]]:
        return [(entry.who, set(entry.changes)) for entry in self._simulated.history()[1:]]  # the first made it

    def refuse(self, status: int) -> None:
        self._simulated.condition(status)

    def script(self, operation: str, *faults: str) -> None:
        self._simulated.script("GET" if operation == "read" else self._write_method.upper(), *faults)


class WrsWorld(SocketWorld):
    """The adapter for the dialect `wrs`, and the same simulator."""

    _FIELDS: ClassVar = {"owner": "Owner", "title": "Title"}

    def __init__(self, simulated: Simulated, options: dict[str, Any], switches: dict[str, Any]) -> None:
        self._steer(simulated, "patch")
        self.switches = switches
        simulated.switch(display_names={"integration": "Integration"}, **switches)
        root = f"{simulated.url}/Windchill/servlet/odata"
        chosen = defaults.wrs(base_url=root, account="Integration", **options)
        client = HttpClient(defaults.http(timeout_s=30), SystemClock())
        self.windchill = WrsWindchill(client, chosen, SystemClock())

    def name(self, field: str) -> str:
        return self._FIELDS.get(field, field.removeprefix("attributes."))


_ETAG = {"lock": "etag", "etag_proven": True}
_ENFORCED = {"if_match": "enforced", "patch_without_checkout": "accepted"}
# Each mode differs from the others in as much as it can: together they take every branch of the adapters that all
# single differences took, and every value of them but those that the adapter's own tests try one by one.
WRS_MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "wrs": ({}, {}),
    "wrs-ids-alone": (
        {"lock": "checkout"},
        {"checkout_reply": "id", "checkin_reply": "id", "checkin_id": "fresh", "stale_checkout": 404}
        | {"checkout_conflict": 400, "checkout_again": 400, "etags": "strong", "etag_in": "both"},
    ),
    "wrs-copies-shown": (
        {},
        {"patch_reply": "entity", "working_copies_listed": True, "stale_checkout": "latest", "checkout_conflict": 423}
        | {"etags": "strong", "etag_in": "both", "if_match": "enforced"},
    ),
    "wrs-locked-500": (
        {},
        {"checkout_conflict": 500, "nonce_uses": 1, "vr_keys": False, "etags": "weak", "etag_in": "both"},
    ),
    "wrs-etag-weak": (_ETAG, {"etags": "weak", "etag_in": "header", **_ENFORCED}),
    "wrs-etag-required": (_ETAG, {"etags": "strong", "etag_in": "body", **_ENFORCED, "if_match": "required"}),
}
SOCKET_MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "patch-gzip": ("patch", {"etag": "gzip", "gzip_suffix_accepted": False}),
    "patch-without-token": ("patch", {"write_etag": False, "conflict_status": 412, "cleared_fields": "null"}),
    "put-weak-412": ("put", {"etag": "weak", "conflict_status": 412}),
    "put-gzip-204": ("put", {"etag": "gzip", "write_reply": "none"}),
}
MEMORY_MODES: dict[str, dict[str, bool]] = {
    "memory": {},
    "memory-204-without-token": {"shows_document": False, "shows_token": False},
}


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with simulating(documents=3) as steering:
        yield steering


async def _made(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made: World
    if request.param in MEMORY_MODES:
        made = MemoryWorld(**MEMORY_MODES[request.param])
    elif request.param in SOCKET_MODES:
        made = SocketWorld(request.getfixturevalue("simulated"), *SOCKET_MODES[request.param])
    else:
        made = WrsWorld(request.getfixturevalue("simulated"), *WRS_MODES[request.param])
    made.make(BODY)
    yield made
    await made.windchill.close()


_LOCKING = [name for name, (options, _) in WRS_MODES.items() if options.get("lock") != "etag"]
_JSON = [*MEMORY_MODES, *SOCKET_MODES]
_GUARDED = [*_JSON, *(name for name in WRS_MODES if name not in _LOCKING)]

world = pytest.fixture(params=[*_JSON, *WRS_MODES], name="world")(_made)
"""Every kind there is."""
json_world = pytest.fixture(params=_JSON, name="json_world")(_made)
"""Documents that hold any JSON, not properties with types."""
token_world = pytest.fixture(params=_GUARDED, name="token_world")(_made)
"""The token is the guard."""
locking_world = pytest.fixture(params=_LOCKING, name="locking_world")(_made)
"""The guard is a lock."""
any_key_world = pytest.fixture(params=[*_JSON, "wrs"], name="any_key_world")(_made)
"""Each dialect that puts keys into paths in every mode, and the other one once."""


async def seen(world: World, key: str = DOCUMENT) -> Snapshot:
    return await windchills.seen(world.windchill, key)


async def write(world: World, fields: dict[str, Json]) -> WriteAnswer:
    return await sent(world, await seen(world), fields)


async def sent(
    world: World, snapshot: Snapshot, fields: dict[str, Json], *, token: Token | None = None, again: bool = True
) -> WriteAnswer:
    """Write on an earlier read, or with a token; `again`: the same is decided again under a lock."""
    named = {world.name(field): value for field, value in fields.items()}
    shown = snapshot if token is None else structs.replace(snapshot, token=token)
    return await windchills.write_on(world.windchill, shown, named, MemoryJournal(named if again else {}))


async def value(world: World, field: str) -> object:
    return (await seen(world)).value(world.name(field))


# ------------------------------------------------------------------------------------------------------------- reading


async def test_a_read_shows_the_document_and_who_modified_it_when(world: World) -> None:
    snapshot = await seen(world)
    assert snapshot.key == DOCUMENT
    if world.name("owner") == "owner":
        assert {name: snapshot.body[name] for name in BODY} == BODY
        assert snapshot.type == "Drawing"
    assert [snapshot.value(world.name(field)) for field in ("owner", "attributes.CostCenter")] == ["sgarcia", "4959"]
    assert snapshot.modified_by == "administrator"
    assert snapshot.modified_at is not None
    assert len(snapshot.modified_at) == 27


async def test_a_document_that_has_not_changed_is_unchanged(world: World) -> None:
    known = await seen(world)
    assert await world.windchill.read(DOCUMENT, known) == Unchanged()


async def test_a_changed_document_is_shown_with_another_token(world: World) -> None:
    known = await seen(world)
    world.edit({"owner": "jdoe"})
    snapshot = expect(Snapshot, await world.windchill.read(DOCUMENT, known))
    assert snapshot.value(world.name("owner")) == "jdoe"
    assert snapshot.token != known.token
    assert snapshot.modified_by == "jdoe"


async def test_a_missing_document_is_not_available(world: World) -> None:
    answer = expect(NotAvailable, await world.windchill.read("no such key"))
    assert answer.status == 404


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_refused_document_is_not_available_to_read_or_write(world: World, status: int) -> None:
    snapshot = await seen(world)
    world.refuse(status)
    for answer in (await world.windchill.read(DOCUMENT), await sent(world, snapshot, {"owner": "akim"})):
        assert isinstance(answer, NotAvailable)
        # A list leaves out what one may not see, so it looks like what does not exist.
        assert answer.status in ((status, 404) if isinstance(world, WrsWorld) else (status,))
    assert world.accepted() == []


@pytest.mark.parametrize(
    "key", ["a/b", "a//b/", "a b", "50%", "a%2Fb", "a?b#c", "Ä–𝄞", "a+b&c=d", "'\"", "-", "a;b", "*", "..a", "a\\b"]
)
async def test_a_key_may_hold_any_character(any_key_world: World, key: str) -> None:
    any_key_world.make(BODY | {"id": key})
    expect(Written, await sent(any_key_world, await seen(any_key_world, key), {"owner": "akim"}))
    assert (await seen(any_key_world, key)).value(any_key_world.name("owner")) == "akim"


@pytest.mark.parametrize("key", [".", "..", ""])
async def test_a_key_that_no_url_can_say_is_not_available(json_world: World, key: str) -> None:
    assert isinstance(await json_world.windchill.read(key), NotAvailable)
    snapshot = Snapshot(key, {"id": key}, Token('"x"'))
    assert isinstance(await sent(json_world, snapshot, {"owner": "x"}), NotAvailable)


# ------------------------------------------------------------------------------------------------------------- writing


async def test_a_write_changes_its_fields_and_no_others(world: World) -> None:
    assert isinstance(await write(world, {"owner": "akim", "attributes.CostCenter": "4711"}), Written)
    expected = BODY | {"owner": "akim", "attributes": BODY["attributes"] | {"CostCenter": "4711"}}
    assert {name: world.document()[name] for name in BODY} == expected
    assert world.accepted() == [("integration", {"owner", "attributes.CostCenter"})]


async def test_the_answer_to_a_write_shows_no_more_than_is_true(world: World) -> None:
    answer = expect(Written, await write(world, {"owner": "akim"}))
    now = await seen(world)
    assert answer.token in (None, now.token)
    if answer.snapshot is not None:
        assert answer.snapshot.body == now.body
        assert answer.snapshot.token == answer.token


async def test_the_token_of_a_write_guards_the_next(world: World) -> None:
    first = expect(Written, await write(world, {"owner": "akim"}))
    if first.token is None:
        return  # this server shows none: the flow has to read first
    expect(Written, await sent(world, await seen(world), {"owner": "lchen"}, token=first.token))
    assert await value(world, "owner") == "lchen"


def says_stale(answer: object) -> bool:
    """Whether it is a version conflict, or a refusal that a read would show to be one."""
    return isinstance(answer, VersionConflict) or (isinstance(answer, Refused | NotAvailable) and answer.perhaps_stale)


async def test_a_write_to_a_document_changed_since_is_a_version_conflict(world: World) -> None:
    snapshot = await seen(world)
    world.edit({"title": "Edited"})
    answer = await sent(world, snapshot, {"owner": "akim"}, again=False)
    assert says_stale(answer)
    assert world.accepted() == [("jdoe", {"title"})]


async def test_the_write_is_decided_again_under_the_lock(locking_world: World) -> None:
    snapshot = await seen(locking_world)
    locking_world.edit({"title": "Edited"})
    journal = MemoryJournal({locking_world.name("attributes.CostCenter"): "4711"})
    fields = {locking_world.name("owner"): "akim"}
    expect(Written, await windchills.write_on(locking_world.windchill, snapshot, fields, journal))
    assert [shown.value(locking_world.name("title")) for shown in journal.shown] == ["Edited"]
    assert len(journal.locks) == 1
    assert locking_world.accepted() == [("jdoe", {"title"}), ("integration", {"attributes.CostCenter"})]
    assert await locking_world.windchill.release(DOCUMENT, journal.locks[0], journal.mark) == Released()


async def test_a_write_that_loses_a_race_is_a_version_conflict(token_world: World) -> None:
    token_world.script("write", "version_conflict")
    assert says_stale(await write(token_world, {"attributes.CostCenter": "4711"}))
    assert await value(token_world, "attributes.CostCenter") == "4959"
    assert isinstance(await write(token_world, {"attributes.CostCenter": "4711"}), Written)


@pytest.mark.parametrize("token", ["", " ", "*", " * "])
async def test_an_unguarded_write_is_an_error_of_ours(world: World, token: str) -> None:
    snapshot = await seen(world)
    with pytest.raises(ValueError, match="token"):
        await sent(world, snapshot, {"owner": "akim"}, token=Token(token))
    assert world.accepted() == []


async def test_null_clears_a_field(world: World) -> None:
    assert isinstance(await write(world, {"owner": None, "attributes.Note": None}), Written)
    assert await value(world, "owner") in (None, MISSING)
    assert await value(world, "attributes.Note") in (None, MISSING)
    assert await value(world, "attributes.CostCenter") == "4959"


async def test_a_list_is_replaced_whole(world: World) -> None:
    assert isinstance(await write(world, {"attributes.Keywords": ["bracket", "steel"]}), Written)
    assert await value(world, "attributes.Keywords") == ["bracket", "steel"]


async def test_a_list_may_hold_anything(json_world: World) -> None:
    assert isinstance(await write(json_world, {"attributes.Keywords": ["bracket", None, {"x": None}]}), Written)
    assert await value(json_world, "attributes.Keywords") == ["bracket", None, {"x": None}]


async def test_an_object_is_replaced_whole(json_world: World) -> None:
    assert isinstance(await write(json_world, {"attributes.Size": {"w": 3, "d": {"e": []}}}), Written)
    size = await value(json_world, "attributes.Size")
    assert isinstance(size, dict)
    # Some servers show as null what was cleared.
    assert {name: inner for name, inner in size.items() if inner is not None} == {"w": 3, "d": {"e": []}}


async def test_a_member_whose_name_has_dots_is_one_field(json_world: World) -> None:
    assert isinstance(await write(json_world, {"attributes.a.b": "new"}), Written)
    assert json_world.document()["attributes"]["a.b"] == "new"
    assert "a" not in json_world.document()["attributes"]


async def test_a_field_in_an_object_that_is_not_there_yet_makes_it(json_world: World) -> None:
    assert isinstance(await write(json_world, {"more.inside.x": 1}), Written)
    assert json_world.document()["more"] == {"inside": {"x": 1}}


async def test_numbers_and_text_come_through_unchanged(json_world: World) -> None:
    fields: dict[str, Json] = {"n": 2**53 + 1, "f": 0.1, "one": 1.0, "yes": True, "s": "ü–𝄞 '\\\n\u2028"}
    assert isinstance(await write(json_world, fields), Written)
    for name, wanted in fields.items():
        assert repr(await value(json_world, name)) == repr(wanted)


# -------------------------------------------------------------------------------------------------- what can go wrong


async def test_a_write_whose_reply_is_lost_is_unknown_and_may_have_been_applied(token_world: World) -> None:
    snapshot = await seen(token_world)
    token_world.script("write", "lost_reply")
    assert isinstance(await sent(token_world, snapshot, {"owner": "akim"}), Unknown)
    assert await value(token_world, "owner") == "akim"
    # The guard makes a second sending harmless.
    assert says_stale(await sent(token_world, snapshot, {"owner": "akim"}))
    assert len(token_world.accepted()) == 1


async def test_a_write_that_is_lost_on_its_way_is_unknown_too_or_taken_back(world: World) -> None:
    world.script("write", "dropped_request")
    assert isinstance(await write(world, {"owner": "akim"}), Failed if world.windchill.locks else Unknown)
    assert world.accepted() == []
    assert isinstance(await write(world, {"owner": "akim"}), Written)


@pytest.mark.parametrize(("fault", "status"), [("unavailable", 503), ("throttle", 429)])
async def test_a_throttled_request_says_how_long_to_wait(world: World, fault: str, status: int) -> None:
    world.script("read", fault)
    read = await world.windchill.read(DOCUMENT)
    world.script("write", fault)
    written = await write(world, {"owner": "akim"})
    for answer in (read, written):
        assert isinstance(answer, Throttled)
        assert structs.replace(answer, message="", perhaps_applied=False) == Throttled(status, "", 1.0)
    assert world.accepted() == []


async def test_a_login_page_is_never_data(world: World) -> None:
    world.script("read", "login_page", "login_page")  # one may only mean that a session has ended
    read, _ = await world.windchill.read(DOCUMENT), await world.windchill.read(DOCUMENT)
    assert isinstance(read, Broken)
    assert "login page" in read.message
    world.script("write", "login_page")
    assert isinstance(await write(world, {"owner": "akim"}), Failed if world.windchill.locks else Unknown)


async def test_a_document_checked_out_by_someone_else_is_locked_and_names_the_holder(world: World) -> None:
    world.lock("mrossi")
    answer = expect(Locked, await write(world, {"owner": "akim"}))
    assert answer.holder == "mrossi"
    assert world.accepted() == []
