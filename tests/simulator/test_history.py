"""The witness itself: planted losses are found, and nothing else is called one."""

from datetime import UTC, datetime
from typing import Any

from reconciler.simulator import history
from reconciler.simulator.history import Entry, History, Kind, Writer

NOW = datetime(2026, 11, 22, tzinfo=UTC)
OURS = "integration"


class Chain:
    """Writes to one document, token by token: v1 is what stood before the first."""

    def __init__(self, document: str = "A") -> None:
        self.entries: list[Entry] = []
        self._document = document

    def write(self, who: str, guard: str | None, kind: Kind = "rest", **changes: Any) -> "Chain":
        number = len(self.entries) + 1
        pairs = {path: (None, value) for path, value in changes.items()}
        entry = Entry(number, NOW, self._document, who, kind, guard, f"v{number}", f"v{number + 1}", pairs)
        self.entries.append(entry)
        return self

    def rival(self, **changes: Any) -> "Chain":
        return self.write("jdoe", None, "rival", **changes)

    def lost(self) -> list[tuple[str, int, int]]:
        """(field, number of the lost write, number of the write that lost it)"""
        found = history.lost_updates(self.entries, OURS)
        return [(loss.field, loss.lost.sequence, loss.by.sequence) for loss in found]


def test_a_write_with_the_current_guard_loses_nothing() -> None:
    assert Chain().rival(owner="a").write(OURS, "v2", owner="b").lost() == []


def test_a_stale_guard_that_was_accepted_loses_the_edit_between() -> None:
    assert Chain().rival(owner="a").write(OURS, "v1", owner="b").lost() == [("owner", 1, 2)]


def test_a_stale_guard_on_another_field_loses_nothing_but_is_reported_as_stale() -> None:
    chain = Chain().rival(title="a").write(OURS, "v1", owner="b")
    assert chain.lost() == []
    assert [entry.sequence for entry in history.stale_writes(chain.entries, OURS)] == [2]


def test_only_edits_after_the_guarded_version_are_lost() -> None:
    chain = (
        Chain().rival(owner="a").rival(owner="b").rival(owner="c", title="t").write(OURS, "v3", owner="d", title="u")
    )
    assert chain.lost() == [("owner", 3, 4), ("title", 3, 4)]


def test_a_guard_older_than_the_writers_own_last_write_still_counts_everything_since() -> None:
    chain = (
        Chain().write(OURS, "v1", owner="a").rival(owner="b").write(OURS, "v3", title="t").write(OURS, "v1", owner="c")
    )
    assert chain.lost() == [("owner", 2, 4)]


def test_an_unguarded_write_loses_what_others_changed_since_the_writers_own_last_write() -> None:
    chain = Chain().rival(owner="a").write(OURS, "v2", owner="b").rival(owner="c").write(OURS, None, owner="d")
    assert chain.lost() == [("owner", 3, 4)]


def test_if_match_any_guards_nothing() -> None:
    chain = Chain().rival(owner="a").write(OURS, "*", owner="b")
    assert chain.lost() == [("owner", 1, 2)]
    assert [entry.sequence for entry in history.unguarded(chain.entries)] == [2]
    assert history.stale_writes(chain.entries, OURS) == []


def test_an_unknown_guard_counts_as_none() -> None:
    assert Chain().rival(owner="a").write(OURS, "nonsense", owner="b").lost() == [("owner", 1, 2)]


def test_people_in_the_gui_are_not_called_unguarded() -> None:
    assert history.unguarded(Chain().rival(owner="a").entries) == []


def test_people_who_overwrite_us_are_not_our_losses() -> None:
    assert Chain().write(OURS, "v1", owner="a").rival(owner="b").lost() == []


def test_documents_do_not_mix() -> None:
    first, second = Chain("A").rival(owner="a"), Chain("B").write(OURS, "v1", owner="b")
    assert history.lost_updates([*first.entries, *second.entries], OURS) == []


def test_a_bounded_history_forgets_the_oldest_and_says_so() -> None:
    kept = History(entries_max=3)
    for number in range(5):
        kept.record(NOW, "A" if number % 2 else "B", Writer(OURS, "rest"), (f"v{number}", f"v{number + 1}"), {})
    assert (kept.last, kept.forgotten) == (5, 2)
    assert [entry.sequence for entry in kept.after(0)] == [3, 4, 5]
    assert [entry.sequence for entry in kept.after(3)] == [4, 5]
    assert [entry.sequence for entry in kept.after(0, "A")] == [4]
    assert [entry.sequence for entry in kept.after(0, limit=2)] == [3, 4]


def test_an_entry_survives_its_journey_as_json() -> None:
    entry = Chain().write(OURS, "v1", owner="b").entries[0]
    assert history.from_json(history.as_json(entry)) == entry
