"""How values are shown: never as markup, with invisible characters visible, long ones cut, differences marked."""

import html
import json
import re
import subprocess

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.web.page import audit, diff, formatting, links

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def unmarked(markup: str) -> str:
    """What a reader sees, signs being read back."""
    signs = re.sub(r'<span class="sign" title="[^"<>]*">U\+([0-9A-F]+)</span>', lambda m: f"&#x{m[1]};", markup)
    assert "<" not in signs
    return signs


@given(st.text())
def test_a_text_becomes_no_markup_and_nothing_in_it_stays_unseen(text: str) -> None:
    markup = str(formatting.visible(text))
    kept = unmarked(markup)
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069\u200b\ufeff\x7f]", markup)
    if not re.search("[\x00-\x1f\x7f-\x9f\r]|[\ufdd0-\ufdef\ufffe\uffff]", text):  # HTML has no numbers for those
        assert html.unescape(kept) == text


@given(st.text())
def test_editable_json_is_visible_and_means_the_same(text: str) -> None:
    shown = formatting.mendable(json.dumps({"a": text}, ensure_ascii=False))
    assert json.loads(shown) == {"a": text}
    assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069\u200b\ufeff\x7f\U000e0000-\U000e007f]", shown)


def test_reversed_text_shows_its_control_characters() -> None:
    assert 'title="right-to-left override">U+202E<' in formatting.visible("a\u202eb")
    assert formatting.plain("a\u202eb") == "a<U+202E>b"
    assert "U+D800" in formatting.visible("\ud800")


def test_a_text_of_invisible_characters_stays_small() -> None:
    markup = formatting.visible("a" + "\u200b" * 100_000 + "<b")
    assert markup.count("<span") == formatting.SIGNS_MAX
    assert len(markup) < 2_000_000
    assert "\u200b" not in markup
    assert markup.endswith("&lt;U+200B&gt;&lt;b")


def test_the_same_few_words_again_and_again_are_not_compared_for_ages() -> None:
    value, other = [1, 2] * 140, [1, *[2, 1, 1] * 90, 2]
    (part,) = [part for part in diff.parts(value, other) if part.differs]
    assert part.text.count("1") > 130  # as a whole


def test_joined_emoji_stay_whole() -> None:
    assert formatting.visible("👩‍🔧") == "👩‍🔧"


def test_long_values_are_cut_and_show_their_length() -> None:
    cut = formatting.value("x" * 100_000)
    assert (len(cut.text), cut.length, cut.is_cut) == (formatting.LIST_MAX, 100_002, True)
    assert not formatting.value("x" * 20).is_cut
    assert formatting.value(["x" * 200]).is_cut


@given(JSON, JSON)
def test_marked_parts_together_are_the_value(value: object, other: object) -> None:
    parts = diff.parts(value, other)
    if not any(part.left_out for part in parts):
        text = "".join(part.text for part in parts)
        assert msgspec.json.decode(text) == value or isinstance(value, float)
    assert not [part for part in diff.parts(value, value) if part.differs]


@given(st.text(max_size=200), st.text(max_size=200))
def test_two_unlike_texts_have_a_mark_on_one_of_them(one: str, other: str) -> None:
    marked = any(part.differs for part in (*diff.parts(one, other), *diff.parts(other, one)))
    assert marked is (one != other)


def marks(value: object, other: object) -> list[str]:
    return [part.text for part in diff.parts(value, other) if part.differs]


def test_a_mark_is_on_the_words_and_elements_that_differ_alone() -> None:
    assert marks("Tolerance 0.2 mm on the flange", "Tolerance 0.15 mm on the flange") == ["2"]
    assert marks(["draft", "steel"], ["steel", "bent"]) == ['"draft"']
    assert marks({"a": 1, "b": 2}, {"a": 1, "b": 3}) == ["2"]
    assert marks("4000", 4000) == ['"4000"']
    assert marks("x", msgspec.UNSET) == []


def test_a_difference_in_a_long_text_is_shown_without_the_equal_parts() -> None:
    parts = diff.parts("a" * 50_000 + " here " + "b" * 50_000, "a" * 50_000 + " there " + "b" * 50_000)
    assert [part.text for part in parts if part.differs] == ["here"]
    assert sum(len(part.text) for part in parts) < 1_000
    assert sum(len(part.text) + part.left_out for part in parts) == 100_008


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.25, "250 ms"), (3.14, "3.1 s"), (59, "59 s"), (90, "1 min 30 s"), (3_600, "1 h"), (90_000, "1 d 1 h")],
)
def test_durations_use_everyday_units(seconds: float, said: str) -> None:
    assert formatting.span(seconds) == said


def test_times_are_relative_to_now() -> None:
    at = "2026-11-22T10:00:00.000000Z"
    now_us = 1_795_341_600_000_000
    assert [formatting.ago(at, now_us + s * 1_000_000) for s in (0, 65, -30)] == ["now", "1 min 5 s ago", "in 30 s"]


def test_a_command_is_typed_as_a_shell_takes_it() -> None:
    assert links.command("docs", "retry", of="it's; rm -rf /") == "reconciler docs retry 'it'\"'\"'s; rm -rf /'"
    assert links.command("docs", "list", "--status", "held") == "reconciler docs list --status held"
    assert links.command("docs", "show", of="--status") == "reconciler docs show -- --status"


def test_a_key_is_one_segment_of_an_address() -> None:
    assert links.document("a/b?c#d") == "/documents/a%2Fb%3Fc%23d"
    assert links.document("..") == "/documents?q=.."


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1"])
def test_no_cell_of_an_export_is_a_formula(text: str) -> None:
    assert audit.safe(text) == "'" + text
    assert audit.safe("plain") == "plain"
    assert audit.safe(7) == 7


def test_a_command_that_is_pasted_presses_no_keys() -> None:
    key = "a\x15touch owned\n'\\\x1b[201~"
    typed = links.command("docs", "show", of=key)
    assert typed.isprintable()
    found = subprocess.run(["bash", "-c", f'set -- {typed}; printf %s "$4"'], capture_output=True, check=True)
    assert found.stdout.decode() == key


def test_text_after_a_semicolon_is_no_formula_either() -> None:
    assert audit.safe('x; =HYPERLINK("a")') == 'x; \'=HYPERLINK("a")'
    assert audit.safe("x\n@SUM(1)") == "x\n'@SUM(1)"
    assert audit.safe("a; b = c") == "a; b = c"
