"""How often a value is written that does not stay: for any rival, any looks, and any time between them."""

import attrs
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from reconciler.core.planning import contest, plan, reasons, retrying
from reconciler.core.planning.retrying import DAY_S, TRIES, Moment
from reconciler.model.base import NO_BASE, Base
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.plan import Hold, Patch, Verb
from reconciler.model.policy import Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from tests.core.strategies import KEY
from tests.core.test_plan import event, wanting

HOUR_US = 3_600_000_000
DAY_US = round(DAY_S) * 1_000_000
EXTERNAL = Policy((Rule(("*",), Strategy.EXTERNAL),))


@attrs.define
class Tug:
    """One field of one document, a program that sets it back, and looks now and then."""

    desired: Desired = NOTHING_DESIRED
    base: Base = NO_BASE
    live: Json = "theirs"
    version: int = 0
    now_us: int = 1_795_341_600_000_000
    writes: list[tuple[int, Json]] = attrs.field(factory=list)

    def look(self, chance: float = 0.5) -> None:
        at = Moment(self.now_us, chance)
        read = Snapshot(KEY, {"owner": self.live}, Token(f'"{self.version}"'), modified_by="plm-batch")
        base = retrying.lifted(self.base, self.now_us)
        drafted = plan.draft(self.desired, base, read, EXTERNAL)
        if undone := contest.undone(drafted, None, read, EXTERNAL, at):
            base = structs.replace(base, refused={**base.refused, **undone})
            drafted = plan.draft(self.desired, base, read, EXTERNAL)
        after = read
        if isinstance(drafted, Patch):
            self.writes.append((self.now_us, drafted.fields["owner"]))
            self.version += 1
            self.live = drafted.fields["owner"]
            after = read.with_fields(drafted.fields, Token(f'"{self.version}"'))
        self.base = plan.agree(drafted, read, after, EXTERNAL, at)

    def set_back(self, value: Json) -> None:
        self.live, self.version = value, self.version + 1


moves = st.lists(
    st.tuples(st.sampled_from(["look", "look", "back", "wait"]), st.integers(0, 30), st.floats(0, 1, exclude_max=True)),
    max_size=120,
)


@given(moves)
def test_no_value_is_written_more_than_four_times_within_a_day(moves):
    tug = Tug(wanting(event(1, set={"owner": "ours"})))
    for move, size, chance in moves:
        match move:
            case "look":
                tug.now_us += 1_000_000
                tug.look(chance)
            case "back":
                tug.set_back(f"theirs {size % 3}")
            case "wait":
                tug.now_us += size * HOUR_US // 2
    times = [at for at, _ in tug.writes]
    for first, at in enumerate(times):
        assert sum(at <= other < at + DAY_US for other in times[first:]) <= TRIES + 1


def after(moves) -> Tug:
    """A document for whose owner two parties have pulled, with a look after each move."""
    tug = Tug(wanting(event(1, set={"owner": "ours"})))
    for move, size, chance in moves:
        if move == "back":
            tug.set_back("theirs")
        tug.now_us += size * HOUR_US // 8
        tug.look(chance)
    return tug


@given(moves)
def test_another_value_is_always_written_at_the_next_look(moves):
    tug = after(moves)
    tug.desired = wanting(event(1, set={"owner": "ours"}), event(2, set={"owner": "something else"}))
    tug.look()
    assert tug.live == "something else"


@given(moves)
def test_what_is_contested_is_tried_again_within_a_day_of_looks(moves):
    tug = after(moves)
    tug.set_back("theirs")
    for _ in range(25):
        tug.look()
        tug.now_us += HOUR_US
    tug.look()
    assert tug.live == "ours"


def test_the_held_decision_says_that_it_is_contested():
    tug = Tug(wanting(event(1, set={"owner": "ours"})))
    for _ in range(TRIES + 1):
        tug.look()
        tug.set_back("theirs")
        tug.now_us += HOUR_US
    drafted = plan.draft(tug.desired, tug.base, Snapshot(KEY, {"owner": "x"}, Token('"9"')), EXTERNAL)
    (decision,) = drafted.decisions
    assert (decision.verb, decision.hold) == (Verb.HOLD, Hold.CONTESTED)
    assert "plm-batch" in reasons.text(decision.reasons)
