"""What is shown of values: none becomes markup, nothing stays unseen, long things are cut, differences are marked."""

import html
import json
import re
import shlex
import subprocess

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.web.page import differing, looks, spelling, trail

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
    markup = str(looks.visible(text))
    kept = unmarked(markup)
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069\u200b\ufeff\x7f]", markup)
    if not re.search("[\x00-\x1f\x7f-\x9f\r]|[\ufdd0-\ufdef\ufffe\uffff]", text):  # HTML has no numbers for those
        assert html.unescape(kept) == text


@given(st.text())
def test_what_is_to_be_mended_shows_all_that_is_in_it_and_still_means_the_same(text: str) -> None:
    shown = looks.mendable(json.dumps({"a": text}, ensure_ascii=False))
    assert json.loads(shown) == {"a": text}
    assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069\u200b\ufeff\x7f\U000e0000-\U000e007f]", shown)


def test_a_turned_text_shows_what_turns_it() -> None:
    assert 'title="right-to-left override">U+202E<' in looks.visible("a\u202eb")
    assert looks.plain("a\u202eb") == "a<U+202E>b"
    assert "U+D800" in looks.visible("\ud800")


def test_a_text_of_nothing_but_what_is_unseen_makes_no_page_of_megabytes() -> None:
    markup = looks.visible("a" + "\u200b" * 100_000 + "<b")
    assert markup.count("<span") == looks.SIGNS_MAX
    assert len(markup) < 2_000_000
    assert "\u200b" not in markup
    assert markup.endswith("&lt;U+200B&gt;&lt;b")


def test_the_same_few_words_again_and_again_are_not_compared_for_ages() -> None:
    value, other = [1, 2] * 140, [1, *[2, 1, 1] * 90, 2]
    (part,) = [part for part in differing.parts(value, other) if part.differs]
    assert part.text.count("1") > 130  # as a whole


def test_joined_emoji_stay_whole() -> None:
    assert looks.visible("👩‍🔧") == "👩‍🔧"


def test_what_is_long_is_cut_and_says_how_long_it_is() -> None:
    cut = looks.value("x" * 100_000)
    assert (len(cut.text), cut.length, cut.is_cut) == (looks.LIST_MAX, 100_002, True)
    assert not looks.value("x" * 20).is_cut
    assert looks.value(["x" * 200]).is_cut


@given(JSON, JSON)
def test_marked_parts_together_are_the_value(value: object, other: object) -> None:
    parts = differing.parts(value, other)
    if not any(part.left_out for part in parts):
        text = "".join(part.text for part in parts)
        assert msgspec.json.decode(text) == value or isinstance(value, float)
    assert not [part for part in differing.parts(value, value) if part.differs]


@given(st.text(max_size=200), st.text(max_size=200))
def test_two_unlike_texts_have_a_mark_on_one_of_them(one: str, other: str) -> None:
    marked = any(part.differs for part in (*differing.parts(one, other), *differing.parts(other, one)))
    assert marked is (one != other)


def marks(value: object, other: object) -> list[str]:
    return [part.text for part in differing.parts(value, other) if part.differs]


def test_a_mark_is_on_the_words_and_elements_that_differ_alone() -> None:
    assert marks("Tolerance 0.2 mm on the flange", "Tolerance 0.15 mm on the flange") == ["2"]
    assert marks(["draft", "steel"], ["steel", "bent"]) == ['"draft"']
    assert marks({"a": 1, "b": 2}, {"a": 1, "b": 3}) == ["2"]
    assert marks("4000", 4000) == ['"4000"']
    assert marks("x", msgspec.UNSET) == []


def test_a_difference_in_the_middle_of_a_long_text_is_shown_without_what_is_the_same() -> None:
    parts = differing.parts("a" * 50_000 + " here " + "b" * 50_000, "a" * 50_000 + " there " + "b" * 50_000)
    assert [part.text for part in parts if part.differs] == ["here"]
    assert sum(len(part.text) for part in parts) < 1_000
    assert sum(len(part.text) + part.left_out for part in parts) == 100_008


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.25, "250 ms"), (3.14, "3.1 s"), (59, "59 s"), (90, "1 min 30 s"), (3_600, "1 h"), (90_000, "1 d 1 h")],
)
def test_a_span_is_said_in_the_units_that_people_use(seconds: float, said: str) -> None:
    assert looks.span(seconds) == said


def test_a_moment_is_told_from_now() -> None:
    at = "2026-11-22T10:00:00.000000Z"
    now_us = 1_795_341_600_000_000
    assert [looks.ago(at, now_us + s * 1_000_000) for s in (0, 65, -30)] == ["now", "1 min 5 s ago", "in 30 s"]


def test_a_command_is_typed_as_a_shell_takes_it() -> None:
    assert spelling.command("docs", "retry", of="it's; rm -rf /") == "reconciler docs retry 'it'\"'\"'s; rm -rf /'"
    assert spelling.command("docs", "list", "--status", "held") == "reconciler docs list --status held"
    assert spelling.command("docs", "show", of="--status") == "reconciler docs show -- --status"


def test_a_call_is_typed_with_a_token_where_one_is_asked_for() -> None:
    call = spelling.call("https://r.example", "/api/v1/compare", "{}", with_token=True)
    words = shlex.split(call)
    assert words == [
        *("curl", "--header", "Authorization: Bearer $TOKEN", "--json", "{}"),
        "https://r.example/api/v1/compare",
    ]
    assert "$TOKEN" not in spelling.call("http://localhost", "/x", "{}", with_token=False)


def test_a_key_is_one_segment_of_an_address() -> None:
    assert spelling.document("a/b?c#d") == "/documents/a%2Fb%3Fc%23d"
    assert spelling.document("..") == "/documents?q=.."


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1"])
def test_no_cell_of_an_export_is_a_formula(text: str) -> None:
    assert trail.safe(text) == "'" + text
    assert trail.safe("plain") == "plain"
    assert trail.safe(7) == 7


def test_a_command_that_is_pasted_presses_no_keys() -> None:
    key = "a\x15touch owned\n'\\\x1b[201~"
    typed = spelling.command("docs", "show", of=key)
    assert typed.isprintable()
    found = subprocess.run(["bash", "-c", f'set -- {typed}; printf %s "$4"'], capture_output=True, check=True)
    assert found.stdout.decode() == key


def test_what_stands_behind_a_semicolon_is_no_formula_either() -> None:
    assert trail.safe('x; =HYPERLINK("a")') == 'x; \'=HYPERLINK("a")'
    assert trail.safe("x\n@SUM(1)") == "x\n'@SUM(1)"
    assert trail.safe("a; b = c") == "a; b = c"
