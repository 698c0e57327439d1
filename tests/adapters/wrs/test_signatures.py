"""How a service describes its actions, compared with how they are called; and answers of either form."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from reconciler.adapters.wrs import metadata, signatures
from reconciler.adapters.wrs.metadata import Operation, Schema
from tests.adapters.wrs.odata import METADATA, PLAIN, Answer, serving, windchill

RELEASED = {"Value": "RELEASED", "Display": "Released"}
DOCUMENT = '<ReturnType Type="PTC.DocMgmt.Document"/>'
TEXT = '<ReturnType Type="Edm.String"/>'
NOTE = f'<Parameter Name="CheckOutNote" Type="Edm.String"/>{DOCUMENT}'
WHY = "<Parameter Name='Why' Type='Edm.String'/>"
STATE = '<Parameter Name="State" Type="PTC.EnumType" Nullable="false"/>'
LIST = '<ReturnType Type="PTC.EnumTypeList"/>'


def parse(text: str) -> Schema:
    return metadata.parse(text.encode(), "Documents")


@pytest.mark.parametrize("text", [METADATA, PLAIN], ids=["stock", "plain"])
def test_what_is_described_as_it_is_called_makes_no_difference(text: str) -> None:
    assert signatures.differences(parse(text)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (NOTE, NOTE.replace("OutNote", "Text"), "CheckOut takes no CheckOutNote; it takes CheckText"),
        (NOTE, NOTE.replace(DOCUMENT, ""), "CheckOut returns nothing, and we read a document"),
        (NOTE, NOTE.replace(DOCUMENT, TEXT), "CheckOut returns Edm.String, and we read a document"),
        (
            STATE,
            STATE.replace("PTC.EnumType", "Edm.Int32"),
            "SetState takes State as Edm.Int32, and we send enumeration",
        ),
        (STATE, f"{STATE}{WHY[:-2]} Nullable='false'/>", "SetState wants Why (Edm.String), which we don't send"),
        (STATE, f"{STATE}{WHY}", ""),
        (
            'Name="Updates" Type="PTC.DocMgmt.Document"',
            'Name="Updates" Type="Collection(N.Update)"',
            "UpdateCommonProperties takes Updates as Collection(N.Update), and we send one object",
        ),
        (LIST, TEXT, "GetValidStateTransitions returns Edm.String, and we read a list of states"),
        (LIST, '<ReturnType Type="Collection(PTC.EnumType)"/>', ""),
        (LIST, '<ReturnType Type="Far.Thing"/>', ""),
    ],
)
def test_a_difference_says_what_is_described_and_what_we_do(old: str, new: str, said: str) -> None:
    assert old in METADATA
    assert signatures.differences(parse(METADATA.replace(old, new))) == ([said] if said else [])


async def test_differences_are_logged_once_at_the_start() -> None:
    async with serving() as odata:
        odata.metadata = Answer(body=METADATA.replace("CheckOutNote", "Comment"), headers=odata.metadata.headers)
        async with windchill(odata.url) as made:
            with capture_logs() as logs:
                await made.service.schema()
                await made.service.schema("#PTC.DocMgmt.Novelty")
    assert [(log["log_level"], log["differences"]) for log in logs] == [
        ("warning", ["CheckOut takes no CheckOutNote; it takes Comment"])
    ]


@pytest.mark.parametrize(
    ("body", "states"),
    [
        ({"Items": [RELEASED]}, [RELEASED]),
        ({"value": [RELEASED]}, [RELEASED]),
        ({"States": [RELEASED]}, [RELEASED]),  # as described below
        ({"Items": []}, []),
        ({"items": [RELEASED]}, None),
        ({"Items": ["RELEASED"]}, None),
        ({"Items": [RELEASED, {"Value": None}]}, None),
        ({"Items": {"Value": "RELEASED"}}, None),
        ({}, None),
    ],
)
def test_states_are_read_in_each_form_that_is_known_or_described(body: Any, states: Any) -> None:
    listed = metadata.Property("States", metadata.Kind.ENUMERATION, "PTC.EnumType", collection=True)
    assert signatures.states(body, Operation("N.F", members={"States": listed})) == states


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (None, "no JSON object"),
        ({"@odata.context": "x"}, "an object with nothing in it"),
        (
            {"a": "s3cret", "b": 1, "c": True, "d": None, "e": {}, "f": [], "g": []},
            "an object with a (text), b (a number), c (true or false), d (null), e (an object), 2 more",
        ),
    ],
)
def test_a_shape_is_shown_without_values(body: Any, shown: str) -> None:
    assert signatures.shown(body) == shown
