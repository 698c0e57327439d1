"""When a write in doubt is over."""

from reconciler.core.settling import doubts
from reconciler.model.document import Intent
from reconciler.model.snapshot import Token

OLD, NEW = Token('"1"'), Token('"2"')
SENT_US = 1_000_000
LATE_US = SENT_US + round(doubts.LATE_S * 1_000_000)

guarded = Intent({"title": "Cover"}, OLD, SENT_US)
action = Intent({"State": "RELEASED"}, OLD, SENT_US, action=True)
both = Intent({"title": "Cover"}, OLD, SENT_US, earlier=(action,))


def test_a_write_stands_in_doubt_as_long_as_its_token() -> None:
    assert doubts.standing(guarded, OLD, LATE_US) is guarded
    assert doubts.standing(guarded, NEW, SENT_US) is None


def test_an_action_stands_in_doubt_for_a_while_beyond_its_token() -> None:
    assert doubts.standing(action, OLD, LATE_US) is action
    assert doubts.standing(action, NEW, LATE_US - 1) is action
    assert doubts.standing(action, NEW, LATE_US) is None


def test_an_answer_to_a_write_does_not_show_that_no_action_has_come_since() -> None:
    assert doubts.standing(action, NEW, None) is action
    assert doubts.standing(guarded, NEW, None) is None


def test_each_of_several_writes_in_doubt_ends_by_itself() -> None:
    assert doubts.standing(both, NEW, SENT_US) == action


def test_only_what_no_token_rules_out_is_looked_for_at_a_time() -> None:
    assert doubts.looked_for_us(None) is doubts.looked_for_us(guarded) is None
    assert doubts.looked_for_us(both) == LATE_US


def test_the_latest_doubts_are_kept() -> None:
    many = tuple(Intent({"title": str(n)}, OLD, n) for n in range(20))
    assert doubts.each(doubts.joined(many)) == many[-doubts.KEPT_MAX - 1 :]
