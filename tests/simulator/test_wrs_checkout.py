from collections.abc import Callable

import httpx
import pytest

from reconciler.simulator import history as witness
from reconciler.simulator.history import Entry
from tests.simulator.conftest import DOCUMENT, edit, patch, tag, truth
from tests.simulator.wrs import INREVIEW, User


@pytest.fixture
def user(server: httpx.Client) -> User:
    return User(server).nonce()


def test_a_cycle_makes_one_iteration_that_both_dialects_show(
    server: httpx.Client, user: User, history: Callable[[], list[Entry]]
) -> None:
    before = user.find()
    copy = user.check_out(before["ID"], note="to work on it")
    assert copy["ID"] != before["ID"]
    assert user.patch(copy["ID"], {"Title": "New", "Note": "x", "Weight": 2.5}).status_code == 204
    assert user.find() == before | {"CheckoutState": "Checked out", "CheckOutStatus": "Checked out by you",
                                    "WorkInProgressState": {"Value": "c/o", "Display": "Checked out"}}  # fmt: skip
    made = user.check_in(copy["ID"], note="done")
    assert (made["ID"], made["Version"], made["Title"], made["CheckoutState"]) == (
        copy["ID"], "A.2", "New", "Checked in",
    )  # fmt: skip
    assert user.find()["ID"] == made["ID"]
    document = truth(server)
    assert (document["title"], document["attributes"]["Note"], document["attributes"]["Weight"]) == ("New", "x", 2.5)
    (entry,) = history()
    assert (entry.way, entry.guard, entry.before, entry.who) == ("CheckIn", "v1.1.1", "v1.1.1", "integration")
    assert set(entry.changes) == {"title", "attributes.Note", "attributes.Weight"}
    old = user.read(before["ID"])
    assert (old["Latest"], old["Title"], old["Version"]) == (False, before["Title"], "A.1")


def test_a_write_without_a_nonce_is_refused_and_audited(server: httpx.Client) -> None:
    user = User(server)
    reply = user.act(user.find()["ID"], "CheckOut")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "INVALID_NONCE")


def test_a_state_moves_outside_check_out_and_leaves_the_iteration(
    server: httpx.Client, user: User, history: Callable[[], list[Entry]]
) -> None:
    edit(server, {"status": "INWORK"})
    before = user.find()
    assert user.act(before["ID"], "SetState", State=INREVIEW).status_code == 200
    after = user.find()
    assert (after["ID"], after["State"]) == (before["ID"], INREVIEW)
    entry = history()[-1]
    assert (entry.way, entry.guard, entry.seen == entry.before) == ("SetState", None, True)
    assert witness.outside(history()) == [entry]
    assert witness.unguarded(history()) == []


def test_a_write_through_the_other_dialect_is_an_iteration_here(server: httpx.Client, user: User) -> None:
    before = user.find()
    patch(server, {"title": "Elsewhere"}, tag(server))
    after = user.find()
    assert (after["Title"], after["Version"]) == ("Elsewhere", "A.2")
    assert after["ID"] != before["ID"]


def test_what_is_checked_out_here_is_locked_there(server: httpx.Client, user: User) -> None:
    User(server, "jdoe").nonce().check_out(user.find(DOCUMENT)["ID"])
    assert patch(server, {"title": "Elsewhere"}).status_code == 423
