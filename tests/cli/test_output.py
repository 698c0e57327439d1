"""Tables, values and times: what people and programs see."""

import io
import json
import re
import sys
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli import events, options, output
from reconciler.model.value import MISSING

ROWS: list[dict[str, Any]] = [
    {"id": "3f2a9c", "field": "attributes.CostCenter", "live": "4711", "note": "a word and another, " * 6},
    {"id": "77", "field": "owner", "live": None, "note": "short"},
]
COLUMNS = (
    output.Column("id", "id", whole=True),
    output.Column("field", "field", whole=True),
    output.Column("live", "live", output.of_json),
    output.Column("note", "note"),
)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())


def _shown_at(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal of so many columns shows of a table."""
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    output.report("table", ROWS, COLUMNS, "nothing")
    return terminal.shown()


def test_in_a_pipe_every_row_is_one_uncut_line_without_colour(capsys) -> None:
    output.report("table", ROWS, COLUMNS, "nothing")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    header, first, second = said.splitlines()
    assert header.split() == ["ID", "FIELD", "LIVE", "NOTE"]
    assert first.endswith(ROWS[0]["note"].rstrip())
    assert second == "77      owner                  null    short"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_nothing_is_wider_than_it_and_ids_stay_whole(monkeypatch, width: int) -> None:
    lines = _shown_at(width, monkeypatch).splitlines()
    assert max(map(len, lines)) <= width
    assert any("3f2a9c" in line for line in lines)
    assert any("attributes.CostCenter" in line for line in lines)


def test_what_does_not_fit_a_terminal_is_shown_as_blocks(monkeypatch) -> None:
    assert "FIELD  attributes.CostCenter" in _shown_at(40, monkeypatch)


def test_programs_get_every_member(capsys) -> None:
    output.report("json", ROWS, COLUMNS[:1], "nothing")
    assert json.loads(capsys.readouterr().out) == ROWS


def test_no_rows_are_a_sentence_for_people_and_an_empty_array_for_programs(capsys) -> None:
    output.report("table", [], COLUMNS, "No conflicts.")
    output.report("json", [], COLUMNS, "No conflicts.")
    assert capsys.readouterr().out == "No conflicts.\n[]\n"


def test_text_from_outside_cannot_steer_a_terminal(capsys) -> None:
    output.report("table", [{"id": "\x1b[2J[red]x\u202e\n"}], COLUMNS[:1], "")
    assert capsys.readouterr().out.splitlines()[1] == r"\x1b[2J[red]x\u202e\n"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON)
def test_a_value_is_shown_as_an_option_takes_it(value) -> None:
    shown = output.of_json(value)
    assert shown.isprintable()
    taken = events.value(shown)
    # What can't be printed is spelled out, in or out of JSON, so only printable values come back as they were.
    if json.dumps(value, ensure_ascii=False).isprintable() and not (isinstance(value, str) and not value.isprintable()):
        assert taken == value
        assert type(taken) is type(value)


def test_what_is_not_there_is_shown_as_a_dash_and_never_as_a_value() -> None:
    assert output.of_json(MISSING) == "–"
    assert output.of_json("–") == '"–"'
    assert output.of_json(None) == "null"


@pytest.mark.parametrize(
    ("text", "value"),
    [("RELEASED", "RELEASED"), ("3", 3), ('"3"', "3"), ("null", None), ("[1]", [1]), ("NaN", "NaN"), ("", "")],
)
def test_a_value_is_json_if_it_reads_as_json_else_text(text: str, value: object) -> None:
    assert events.value(text) == value


def test_times_are_taken_as_people_type_them() -> None:
    def moment(text: str) -> int:
        return options.Moment().convert(text, None, None)

    assert moment("1970-01-01T00:00:01Z") == moment("1970-01-01T01:00:01+01:00") == 1_000_000
    assert moment("1970-01-02") == 86_400_000_000
    assert moment("2h") - moment("3h") == pytest.approx(3_600_000_000, abs=1_000_000)
    with pytest.raises(click.BadParameter, match="write 2026-11-22T10:00:00Z"):
        moment("yesterday")


def test_one_of_something_is_not_plural() -> None:
    assert [output.counted(count, "record") for count in (0, 1, 2)] == ["0 records", "1 record", "2 records"]
