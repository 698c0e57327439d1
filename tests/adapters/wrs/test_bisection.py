"""One refused attribute among many: what goes out, what is held, and how many PATCHes that takes."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.adapters import refusals
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import bisection
from reconciler.model.document import Status
from reconciler.model.plan import Reason, ReasonCode
from tests.adapters.wrs.world import Fault, WrsWorld

MANY = {f"Extra{number:02}": f"value {number}" for number in range(30)}


@pytest.fixture
async def ready(world: WrsWorld) -> WrsWorld:
    world.switch(soft_attributes=dict.fromkeys(MANY, "Edm.String"))
    return await world.known()


def refuses(
    monkeypatch: pytest.MonkeyPatch, world: WrsWorld, status: int, said: Callable[[set[str]], str], *culprits: str
) -> None:
    """Let each PATCH that names one of these be refused, whatever the server would say."""
    sends = world.wire.exchange

    async def exchange(method: str, url: str, headers: Any, content: bytes = b"") -> Any:
        wrong = set(culprits) & set(json.loads(content or b"{}")) if method == "PATCH" else set()
        if not wrong:
            return await sends(method, url, headers, content)
        world.wire.asked.append("PATCH")
        body = json.dumps({"error": {"code": "NO", "message": said(wrong)}}).encode()
        return Reply(status, {b"content-type": b"application/json"}, body)

    monkeypatch.setattr(world.wire, "exchange", exchange)


def nothing(_: set[str]) -> str:
    return "You are not allowed to do that."


def patches(world: WrsWorld) -> int:
    return world.wire.asked.count("PATCH")


@pytest.mark.parametrize("status", [400, 403, 409])
async def test_what_no_refusal_names_is_found_and_held_and_all_else_goes_out_at_once(
    ready: WrsWorld, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    refuses(monkeypatch, ready, status, nothing, "Extra17")
    before = ready.iterations()
    await ready.try_once(MANY)
    assert ready.document().status is Status.HELD
    assert ready.held() == ["Extra17"]
    (conflict,) = ready.document().agreement.held
    assert conflict.reasons == (Reason(ReasonCode.REFUSED, message="NO: You are not allowed to do that."),)
    assert {name: value for name, value in ready.live()["attributes"].items() if name in MANY} == {
        name: value for name, value in MANY.items() if name != "Extra17"
    }
    assert ready.iterations() == before + 1
    assert patches(ready) <= 1 + bisection.more_patches(len(MANY))
    assert ready.holder() is None


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("said", ["attribute Extra03 is yours not", "see 'extra 03'", 'no "Extra03"'])
async def test_what_a_refusal_names_is_left_out_of_the_second_patch(
    ready: WrsWorld, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    refuses(monkeypatch, ready, status, lambda _: said, "Extra03")
    await ready.try_once(MANY)
    assert ready.held() == ["Extra03"]
    assert patches(ready) == 2


async def test_several_are_found_in_a_few_rounds(ready: WrsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    culprits = ("Extra01", "Extra08", "Extra15", "Extra29")
    refuses(monkeypatch, ready, 400, nothing, *culprits)
    before = ready.iterations()
    await ready.emit(MANY)
    for _ in range(6):
        await ready.attempt()
        await ready.wait()
    written = set(ready.live()["attributes"]) & MANY.keys()
    assert written == MANY.keys() - set(culprits)
    assert ready.iterations() <= before + 4
    assert patches(ready) <= 6 * (1 + bisection.more_patches(len(MANY)))


async def test_where_nothing_passes_it_is_about_the_document(ready: WrsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses(monkeypatch, ready, 403, nothing, *MANY)
    before = ready.iterations()
    await ready.try_once(MANY)
    assert ready.document().status is Status.PARKED
    assert ready.held() == []
    assert patches(ready) <= 1 + bisection.more_patches(len(MANY))
    assert (ready.iterations(), ready.holder()) == (before, None)


async def test_a_lost_reply_to_the_check_in_is_confirmed_by_what_was_not_refused(
    ready: WrsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses(monkeypatch, ready, 400, nothing, "Extra17")
    before = ready.iterations()
    ready.wire.faults["CheckIn"] = Fault.REPLY_LOST
    await ready.try_once(MANY)
    intent = ready.document().agreement.intent
    assert intent is not None
    assert intent.fields.keys() == MANY.keys() - {"Extra17"}
    await ready.settle()
    assert ready.held() == ["Extra17"]
    assert ready.iterations() == before + 1


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 30, 256])
async def test_one_among_any_number_is_found_within_the_budget(count: int) -> None:
    names = [f"F{number}" for number in range(count)]
    for culprit in {0, count // 2, count - 1}:
        asked: list[set[str]] = []
        found = await _halved(names, {names[culprit]}, asked)
        assert [one.fields for one in found.refused] == ([(names[culprit],)] if count > 1 else [])
        assert len(asked) <= 1 + bisection.more_patches(count)
        assert bisection.more_patches(count) <= 18


async def _halved(names: list[str], wrong: set[str], asked: list[set[str]]) -> bisection.Bisection:
    class Server(bisection.Bisection):
        async def _send(self, body: bisection.Body) -> Any:
            from reconciler.model.answer import Refused

            asked.append(set(body))
            return Refused(400, "no") if wrong & body.keys() else Reply(204, {}, b"")

    made = Server(None, None, "copy", None)
    await made.patch(dict.fromkeys(names, "x"))
    return made


def test_names_that_people_see_are_read_as_whole_words_in_any_case() -> None:
    labels = {"Weight": ("Weight",), "Mass": ("Weight [kg]",), "CostCenter": ("Cost Centre (ERP)", "Cost Center")}

    def blamed(said: str, *, plain: bool = True) -> tuple[str, ...]:
        reply = Reply(400, {b"content-type": b"application/json"}, json.dumps({"error": {"message": said}}).encode())
        return refusals.blamed(reply, tuple(labels), labels, in_plain_words=plain)

    assert blamed("the COST CENTRE (ERP) is closed") == ("CostCenter",)
    assert blamed("attribute cost center: access denied", plain=False) == ("CostCenter",)
    assert blamed("attribute Weight [kg] is too much", plain=False) == ("Mass",)
    assert blamed("costs centered here") == ()
    assert blamed("the weight of evidence", plain=False) == ()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("The object is locked by the workflow Release.", "locked by a workflow"),
        ("Locked by administrator.", "administratively locked"),
        ("It is administratively locked.", "administratively locked"),
        ("It has an administrative lock", "administratively locked"),
        ("It is checked out by Administrator.", ""),
        ("It is locked by jdoe; the workflow goes on.", ""),
    ],
)
def test_locks_that_are_no_check_out_are_known_by_what_is_said(said: str, kind: str) -> None:
    assert refusals.lock_kind(said) == kind


async def test_a_lock_by_a_workflow_is_called_so(ready: WrsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    sends = ready.wire.exchange
    said = json.dumps({"error": {"code": "NO", "message": "The object is locked by the workflow Release."}}).encode()

    async def exchange(method: str, url: str, headers: Any, content: bytes = b"") -> Any:
        if url.endswith(".CheckOut"):
            return Reply(403, {b"content-type": b"application/json"}, said)
        return await sends(method, url, headers, content)

    monkeypatch.setattr(ready.wire, "exchange", exchange)
    await ready.try_once({"Owner": "akim"})
    assert ready.document().status is Status.LOCKED
    assert ready.document().reason.startswith("locked by a workflow: ")
