"""The probe against the simulated server in each of its moods, and with every single request going wrong."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

import attrs
import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Headers
from reconciler.adapters.replies import Exchange, Lost, Reply
from reconciler.adapters.wrs.probe import Means, Probe
from reconciler.adapters.wrs.probe_findings import Finding, Result
from reconciler.adapters.wrs.windchill import WrsWindchill
from tests import defaults
from tests.adapters.simulated import Simulated
from tests.adapters.wrs.world import ACCOUNT, ME, Fault, Person, Wire

DOC = "0000000001"
LOGIN = Reply(
    200, {b"content-type": b"text/html"}, b"<html><title>Sign in</title><form><input type='password'></form></html>"
)
GUARDED = {"etags": "weak", "etag_in": "both", "if_match": "enforced", "patch_without_checkout": "accepted"}
GUARDED_ACTIONS = ["CheckOut", "CheckIn", "UndoCheckOut"]


class Hasty(SystemClock):
    """A clock that waits for nothing: good where it does not matter whether a whole second has passed."""

    async def sleep(self, delay_s: float) -> None:
        await super().sleep(0)


class Faulty(Wire):
    """A client of which one request goes wrong, or some for good."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong_at = 0
        self.how = ""
        self.never = ""
        self.days_only = False
        self.nameless = False
        self.midnight = False

    async def exchange(self, method: str, url: str, headers: Headers, content: bytes = b"") -> Exchange:
        if self.never and self.never in url:
            return LOGIN
        if self.days_only:
            url = url.replace("&ptc.search.allowFilterOnTime=true", "")
        if self.midnight and "LastModified" in url:
            self.midnight, url = False, url.replace(DOC, "nothing")  # a second later is the next day
        if self.nameless and "CheckOut" in url:
            self.nameless = False
            await super().exchange(method, url, headers, content)
            return Reply(200, {b"content-type": b"application/json"}, b"{}")
        if len(self.asked) + 1 != self.wrong_at:
            return await super().exchange(method, url, headers, content)
        if self.how in ("login page", "request lost", "cancelled before"):
            self.asked.append(self._step(method, url))
        else:
            await super().exchange(method, url, headers, content)
        if self.how.startswith("cancelled"):
            raise asyncio.CancelledError
        return LOGIN if "login page" in self.how else Lost("the connection broke")


class Probed:
    """One probe of one simulated server."""

    def __init__(self, simulated: Simulated, **switches: Any) -> None:
        self.simulated = simulated
        self.control = simulated._control
        self.wire = Faulty()
        self.findings: list[Finding] = []
        self.intentions: list[str] = []
        self.control.patch("/wrs", json={"display_names": {ME: ACCOUNT}, **switches}).raise_for_status()
        self.before = simulated.document(DOC)

    async def run(self, *, lock: str = "auto", clock: SystemClock | None = None, **options: Any) -> Self:
        def tell_intentions(intentions: Sequence[str]) -> None:
            assert self.cycles() == [], "what is going to be done is said before it is done"
            self.intentions += intentions

        clock = clock or Hasty()
        base = f"{self.simulated.url}/Windchill/servlet/odata"
        known = defaults.wrs(**{"base_url": base, "lock": "checkout", **options})
        nonces = WrsWindchill(Wire(), defaults.wrs(base_url=base, service="PTC"), clock)
        windchill = WrsWindchill(self.wire, known, clock)
        means = Means(
            windchill,
            nonces.service if known.service else None,
            None,
            clock,
            lock,
            self.findings.append,
            tell_intentions,
        )
        try:
            await Probe(means, DOC).run()
        finally:
            await windchill.close()
            await nonces.close()
        return self

    def of(self, check: str) -> Finding:
        (found,) = (finding for finding in self.findings if finding.check == check)
        return found

    @property
    def failed(self) -> list[str]:
        return [finding.check for finding in self.findings if finding.result is Result.FAILED]

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for finding in self.findings for name, value in finding.setting.items()}

    def cycles(self) -> list[str]:
        shown = self.control.get("/wrs/checkouts", params={"document": DOC, "user": ME}).raise_for_status()
        return [step["event"] for step in shown.json()["items"]]

    def copies(self) -> list[Any]:
        return list(self.control.get("/wrs/working-copies").raise_for_status().json()["items"])

    def as_before(self) -> None:
        """The document is checked in, and what anyone could change of it is what it was."""
        assert self.copies() == []
        ours = ("modifiedBy", "modifiedOn")
        now = self.simulated.document(DOC)
        assert {k: v for k, v in now.items() if k not in ours and v != DOC} == {
            k: v for k, v in self.before.items() if k not in ours and v != DOC
        }


async def test_a_stock_server_is_proved_to_guard_by_check_out(server: Simulated) -> None:
    probed = await Probed(server).run()
    assert probed.failed == []
    assert probed.settings["windchill.lock"] == "checkout"
    assert probed.settings["windchill.account"] == ACCOUNT
    assert "windchill.etag_proven" not in probed.settings
    assert probed.cycles() == ["CheckOut", "UndoCheckOut", *["CheckOut", "CheckIn"] * 2]
    assert len(probed.intentions) == 5
    assert probed.control.get("/wrs/audit").json()["items"] == []
    probed.as_before()


MOODS: dict[str, dict[str, Any]] = {
    "fresh ids": {"checkin_id": "fresh", "checkin_reply": "id", "checkout_reply": "id", "patch_reply": "entity"},
    "told again": {"checkout_again": 400, "stale_checkout": "latest"},
    "etags required": {"etags": "strong", "etag_in": "body", "if_match": "required"},
    "etags in place required": {**GUARDED, "etags": "strong", "etag_in": "header", "if_match": "required"},
    "holder hidden": {"holder_shown": False, "working_copies_listed": True},
}


@pytest.mark.parametrize("mood", MOODS.values(), ids=MOODS)
async def test_check_out_is_proved_in_every_mood(server: Simulated, mood: dict[str, Any]) -> None:
    probed = await Probed(server, **mood).run()
    assert probed.failed == []
    assert probed.settings["windchill.lock"] == "checkout"
    probed.as_before()


OK, WARNING, SKIPPED = Result.OK, Result.WARNING, Result.SKIPPED
IGNORED = {**GUARDED, "if_match": "ignored"}


@attrs.frozen
class Found:
    """How a server is switched and what the probe is told; what it finds: settings (None: not set) and results."""

    switches: dict[str, Any]
    settings: dict[str, Any]
    results: dict[str, Result] = attrs.field(factory=dict)
    options: dict[str, Any] = attrs.field(factory=dict)
    failed: tuple[str, ...] = ()
    says: dict[str, str] = attrs.field(factory=dict)


PROVEN, LOCK = "windchill.etag_proven", "windchill.lock"
FOUND = {
    "a stale token that is refused proves the etag": Found(
        GUARDED, {PROVEN: True}, {"stale If-Match": OK}, says={"stale If-Match under check-out": "refused"}
    ),
    "a stale token that is ignored proves nothing": Found(
        IGNORED, {PROVEN: None, LOCK: "checkout"}, says={"stale If-Match": "IGNORED"}
    ),
    "relying on an etag that is ignored is unsafe": Found(
        IGNORED, {PROVEN: False, LOCK: "checkout"}, options={"lock": "etag", "etag_proven": True}, failed=("If-Match",)
    ),
    "a token is not proved where writes need a check-out anyway": Found(
        {**GUARDED, "patch_without_checkout": "refused"}, {PROVEN: None}, {"stale If-Match": SKIPPED}
    ),
    "without check-out the etag guards if it is honoured": Found(
        {**GUARDED, "actions": []}, {LOCK: "etag", PROVEN: True}, {"common properties": SKIPPED}
    ),
    "without etags or check-out nothing guards": Found(
        {**IGNORED, "etags": "none", "actions": []}, {LOCK: None}, failed=("guard",)
    ),
    "ignored etags without check-out guard nothing": Found({**IGNORED, "actions": []}, {LOCK: None}, failed=("guard",)),
    "a smaller page than asked for is a setting": Found(
        {"page_size_max": 7}, {"windchill.page_size": 7}, options={"page_size": 10}
    ),
    "an account that is not the configured one is named": Found(
        {}, {"windchill.account": ACCOUNT}, {"account": WARNING}, options={"account": "Someone Else"}
    ),
    "the note of a check-out is shown": Found({"checkout_note_shown": True}, {}, {"check-out note": OK}),
    "the note of a check-out is hidden": Found({"checkout_note_shown": False}, {}, {"check-out note": WARNING}),
    **{
        f"next pages of {elsewhere} rule out polling": Found(
            {"next_link_base": elsewhere}, {"resync.poll_s": 0}, {"pages": WARNING}, options={"page_size": 10}
        )
        for elsewhere in ("http://inside.example", "//inside.example", "http://[inside")
    },
}


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
async def test_what_a_server_does_is_found_and_it_is_left_as_it_was(server: Simulated, found: Found) -> None:
    probed = await Probed(server, **found.switches).run(**found.options)
    assert probed.failed == [*found.failed]
    assert {name: probed.settings.get(name) for name in found.settings} == found.settings
    assert {check: probed.of(check).result for check in found.results} == found.results
    for check, said in found.says.items():
        assert said in probed.of(check).message
    probed.as_before()


async def test_a_document_that_someone_works_on_is_left_alone(server: Simulated) -> None:
    probed = Probed(server)
    Person(server).does("checkout", document=DOC)
    await probed.run()
    assert probed.failed == ["document", "guard"]
    assert "checked out by jdoe" in probed.of("document").message
    assert probed.intentions == []
    assert not {"CheckOut", "PATCH", "UndoCheckOut", "SetState"} & set(probed.wire.asked)
    assert [copy["holder"] for copy in probed.copies()] == ["jdoe"]


async def test_someone_who_checks_out_in_the_middle_keeps_the_check_out(server: Simulated) -> None:
    probed = Probed(server, administrators=[ME])
    probed.wire.before["CheckOut"] = lambda: Person(server).does("checkout", document=DOC)
    await probed.run()
    assert probed.failed == ["check-out", "guard"]
    assert [copy["holder"] for copy in probed.copies()] == ["jdoe"]


async def test_a_state_without_a_way_back_is_said_to_stay(server: Simulated) -> None:
    one_way = {"INWORK": ["INREVIEW"], "INREVIEW": [], "RELEASED": ["INREVIEW"], "OBSOLETE": ["INREVIEW"]}
    probed = await Probed(server, transitions=one_way).run()
    assert probed.failed == []
    assert any("no way back from INREVIEW" in finding.message for finding in probed.findings)
    assert server.document(DOC)["status"] == "INREVIEW"
    assert probed.copies() == []


async def test_no_state_is_set_that_can_not_follow(server: Simulated) -> None:
    nowhere: dict[str, list[str]] = {state: [] for state in ("INWORK", "INREVIEW", "RELEASED", "OBSOLETE")}
    probed = await Probed(server, transitions=nowhere).run()
    assert probed.of("state").result is Result.SKIPPED
    assert "SetState" not in probed.wire.asked


async def test_states_are_read_in_either_form_and_what_is_not_understood_is_no_success(server: Simulated) -> None:
    for listed in ("Items", "value"):
        probed = await Probed(server, transitions_in=listed).run()
        assert probed.failed == []
        assert probed.of("transitions").answer == "INREVIEW and OBSOLETE"
        assert probed.of("actions").result is Result.OK
        server.reset()
    probed = await Probed(server, transitions_in="States").run()
    assert probed.failed == ["transitions"]
    assert "is not understood: an object with States" in probed.of("transitions").message
    assert probed.of("state").message == "not changed, because we don't know which states can follow"
    assert "SetState" not in probed.wire.asked
    probed.as_before()


async def test_whether_a_check_out_is_allowed_is_asked_where_the_server_tells(server: Simulated) -> None:
    asking = [*GUARDED_ACTIONS, "IsCheckoutAllowed"]
    assert (await Probed(server, actions=asking).run()).of("check-out allowed").result is Result.OK
    server.reset()
    probed = await Probed(server, actions=asking, check_out_allowed=False).run()
    assert "IsCheckoutAllowed says no" in probed.of("check-out allowed").message
    assert "check-out allowed" in probed.failed


async def test_the_end_of_a_life_cycle_is_chosen_last(server: Simulated) -> None:
    either = {state: ["OBSOLETE", "INREVIEW", "INWORK"] for state in ("INWORK", "INREVIEW", "RELEASED")}
    probed = await Probed(server, transitions=either).run()
    assert "SetState IN" in probed.of("state").sent
    probed.as_before()


async def test_actions_that_move_last_modified_are_told_from_those_that_do_not(server: Simulated) -> None:
    probed = await Probed(server, set_state_moves_last_modified=False).run(clock=SystemClock())
    assert probed.of("common properties").result is Result.OK
    assert probed.of("state").result is Result.WARNING
    assert "LastModified does not change" in probed.of("state").message


@pytest.mark.parametrize("days_only", [True, False])
@pytest.mark.parametrize("offset", [-480, 0, 840])
async def test_filters_by_day_are_told_from_filters_by_time(server: Simulated, days_only: bool, offset: int) -> None:
    probed = Probed(server, utc_offset_minutes=offset)
    probed.wire.days_only = days_only
    await probed.run()
    assert probed.settings["windchill.time_filters"] == ("date" if days_only else "time")


async def test_at_midnight_days_are_not_taken_for_times(server: Simulated) -> None:
    probed = Probed(server)
    probed.wire.days_only = probed.wire.midnight = True
    await probed.run()
    assert probed.settings["windchill.time_filters"] == "date"


async def test_a_check_out_that_names_no_working_copy_is_undone_all_the_same(server: Simulated) -> None:
    probed = Probed(server)
    probed.wire.nameless = True
    await probed.run()
    assert probed.failed == ["check-out", "guard"]
    assert probed.cycles()[-1] == "UndoCheckOut"
    probed.as_before()


async def test_a_text_that_the_server_hides_is_not_written(server: Simulated) -> None:
    probed = await Probed(server, secured={"*": ["Description"]}).run()
    assert probed.failed == []
    assert not any("Description" in finding.sent for finding in probed.findings)
    probed.as_before()


async def test_a_document_that_does_not_show_its_check_out_is_put_back_all_the_same(server: Simulated) -> None:
    columns = ["CheckoutState", "CheckOutStatus", "WorkInProgressState"]
    probed = await Probed(server, secured={"*": columns}).run()
    assert probed.of("who holds it").result is Result.FAILED
    assert probed.of("put back").result is Result.OK
    probed.as_before()


async def test_what_can_not_be_undone_is_never_said_to_be_put_back(server: Simulated) -> None:
    refusal = {"status": 403, "body": {"error": {"code": "FORBIDDEN", "message": "not for you"}}}
    server.script("POST", "ok", "ok", *[refusal] * 20, document=DOC)
    probed = await Probed(server, secured={"*": ["WorkInProgressState"]}).run()
    told = [finding for finding in probed.findings if finding.check == "put back"]
    assert told
    assert all(finding.result is Result.FAILED for finding in told)
    assert "is still checked out" in told[0].message


@pytest.mark.parametrize(
    "how", ["login page", "applied, login page", "request lost", "reply lost", "cancelled before", "cancelled after"]
)
@pytest.mark.parametrize("first", [1, 2, 3, 4])  # of every fourth step: a probe a step is long for one test
async def test_whatever_goes_wrong_the_document_is_as_before(server: Simulated, how: str, first: int) -> None:
    whole = await Probed(server).run()
    steps = list(whole.wire.asked)
    reads = ("metadata", "nonce", "GET one", "GET list", "GET", "GetValidStateTransitions")
    for step in range(first, len(steps) + 1, 4):
        if steps[step - 1] in reads and how not in ("login page", "cancelled before"):
            continue  # of a read it does not matter whether it was carried out
        server.reset()
        probed = Probed(server)
        probed.wire.wrong_at, probed.wire.how = step, how
        try:
            await probed.run()
        except asyncio.CancelledError:
            assert how.startswith("cancelled")
        try:
            probed.as_before()
        except AssertionError as error:
            raise AssertionError(f"{how} at {step}, {steps[step - 1]}: {probed.failed}") from error
        assert "put back" not in probed.failed, (step, steps[step - 1])


async def test_a_check_out_that_can_not_be_undone_is_told_with_what_to_do(server: Simulated) -> None:
    probed = Probed(server)
    probed.wire.never = "UndoCheckOut"
    await probed.run()
    assert set(probed.failed) == {"undo", "put back", "guard"}
    said = probed.of("put back").message
    assert f"{DOC} is still checked out by our account" in said
    assert probed.copies()[0]["id"] in said
    assert "choose Undo Check Out" in said


async def test_a_value_that_can_not_be_put_back_is_told_with_the_value(server: Simulated) -> None:
    server.edit({"description": "Bracket, left"}, DOC)
    probed = Probed(server)
    probed.wire.before["CheckIn"] = lambda: setattr(probed.wire, "never", "/PTC.DocMgmt.CheckOut")
    await probed.run()
    assert set(probed.failed) == {"put back", "guard"}
    assert any("put Description back to 'Bracket, left' by hand" in finding.message for finding in probed.findings)


async def test_what_someone_writes_meanwhile_is_not_put_back(server: Simulated) -> None:
    probed = Probed(server)
    person = Person(server)

    def edits_at_the_next_check_out() -> None:
        probed.wire.before["GET list"] = lambda: person.does(
            "checkout", "edit", "checkin", document=DOC, set={"description": "Theirs"}
        )

    probed.wire.before["CheckIn"] = edits_at_the_next_check_out
    await probed.run()
    assert server.document(DOC)["description"] == "Theirs"
    assert any("'Theirs' now, which is not ours" in finding.message for finding in probed.findings)
    assert probed.copies() == []


async def test_a_plain_service_without_nonces_is_probed_too(server: Simulated) -> None:
    base = f"{server.url}/Windchill/servlet/odata/v6/DocMgmt"
    probed = Probed(server, nonce_required=False)
    await probed.run(base_url=base, service="")
    assert probed.failed == []
    assert probed.settings["windchill.lock"] == "checkout"
    probed.as_before()


async def test_a_document_known_by_its_name_keeps_it(server: Simulated) -> None:
    probed = await Probed(server).run(key_property="Name")
    assert probed.of("common properties").result is Result.SKIPPED
    assert "UpdateCommonProperties" not in probed.wire.asked
    probed.as_before()


async def test_a_request_without_an_answer_is_said_to_be_under_way_perhaps(server: Simulated) -> None:
    probed = Probed(server)
    probed.wire.faults["SetState"] = Fault.LATE
    await probed.run()
    assert "SetState got no answer" in probed.of("late requests").message
    server.reset()
    assert all(finding.check != "late requests" for finding in (await Probed(server).run()).findings)
