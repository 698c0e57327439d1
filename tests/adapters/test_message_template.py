"""Templates: what people read of a conflict, of many, and what a template may not do."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from reconciler.adapters.message_template import Template
from reconciler.core.explain import messages, notices
from reconciler.core.explain.messages import Links
from reconciler.errors import ConfigError

AT_US = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z
LINKS = Links(lambda notice: f"https://r/{notice.document}", lambda document: f"https://plm/{document.key}")
NOTICE, DOCUMENT = messages.sample(AT_US)


def test_a_conflict_says_who_changed_it_and_when_both_values_and_where_to_decide() -> None:
    told = messages.whole([messages.about(NOTICE, DOCUMENT, LINKS)], {"conflict.opened": 1})
    title, text = Template(zone=ZoneInfo("Europe/Berlin")).render(told)
    assert title == "Test: Conflict on attributes.CostCenter of 0000000042"
    for said in (
        '"4712"',
        '"4713"',
        '"4711"',
        "//erp/sample",
        "mrossi",
        "2026-09-21 16:13 CEST",
        "https://r/0000000042",
        "https://plm/0000000042",
        "reconciler conflicts list",
    ):
        assert said in text
    assert "\n\n\n" not in text


def test_what_is_not_known_leaves_no_gap_and_no_word_of_python() -> None:
    gone = notices.breaker_opened(AT_US)
    told = messages.whole([messages.about(gone, None, Links())], {"breaker.opened": 1})
    title, text = Template().render(told)
    assert title == "Windchill is down"
    assert "None" not in text
    assert "modified" not in text
    assert "\n\n\n" not in text


def test_many_are_counted_and_the_first_are_shown() -> None:
    shown = [messages.about(NOTICE, DOCUMENT, LINKS)] * 2
    title, text = Template().render(messages.whole(shown, {"conflict.opened": 5, "document.parked": 2}))
    assert title == "7 things in Windchill's documents need attention"
    assert "2. Test: Conflict" in text
    assert "And 5 more. All together: 5 × conflict.opened, 2 × document.parked" in text


def test_a_template_of_ones_own_gets_the_same_and_can_do_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    told = messages.whole([messages.about(NOTICE, DOCUMENT, LINKS)], {"conflict.opened": 1})
    path.write_text("{{ notices[0].field }}!\n\n{{ notices[0].modified_by }} {{ notices[0].at | local }}", "utf-8")
    assert Template(path).render(told) == ("attributes.CostCenter!", "mrossi 2026-09-21 14:13 UTC\n")
    path.write_text("{{ notices[0].nothing }}", "utf-8")
    with pytest.raises(ValueError, match="nothing"):
        Template(path).render(told)
    path.write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}", "utf-8")
    with pytest.raises(ValueError, match="unsafe"):
        Template(path).render(told)


@pytest.mark.parametrize("content", [None, b"{% if %}", b"\xff\xfe"])
def test_a_file_that_is_no_template_is_named_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.txt"):
        Template(path)
