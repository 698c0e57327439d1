"""docs/producers.md: each program is run as it is shown, and the reconciler writes what it said."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.core.events import decode
from reconciler.model.event import Event, PlainRecord
from tests import absences
from tests.brokers import Server, apache
from tests.brokers.fixtures import MakeTopic
from tests.cli.program import Program, Topics
from tests.patience import HANG_S

PAGE = (Path(__file__).parents[2] / "docs" / "producers.md").read_text(encoding="utf-8")
(PYTHON,), (JAVA,), (KCAT,), (ABAP,) = (
    re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for language in ("python", "java", "sh", "abap")
)
DOC = "0000000002"


def command(language: str, folder: Path) -> list[str] | None:
    """Return what runs a program of the page, None without what it takes."""
    if language == "python":
        (folder / "send.py").write_text(PYTHON, encoding="utf-8")
        return [sys.executable, str(folder / "send.py")]
    if language == "java":
        if apache.missing() is not None:
            return None
        (folder / "Send.java").write_text(JAVA, encoding="utf-8")
        return ["java", "-cp", f"{apache.jars()}/*", str(folder / "Send.java")]
    return None if shutil.which("kcat") is None else ["sh", "-c", KCAT, "sh"]


@pytest.fixture
def sent_to(broker: Server, topic: MakeTopic) -> tuple[str, Topics]:
    """The brokers and topics that events are sent to."""
    return ",".join(broker.brokers), Topics.made(topic)


@pytest.mark.kafka
@pytest.mark.e2e
@pytest.mark.parametrize("language", ["python", "java", "kcat"])
def test_what_a_program_of_the_page_sends_is_written(
    language: str, tmp_path: Path, windchill: str, sent_to: tuple[str, Topics], request: pytest.FixtureRequest
) -> None:
    told = command(language, tmp_path)
    if told is None:
        absences.note(request.config, f"the producer in {language} of docs/producers.md was not run")
        pytest.skip(f"there is no {language}")
    addresses, topics = sent_to
    program = Program(tmp_path, windchill, topics.log(addresses.split(",")))
    for status in ("INREVIEW", "RELEASED"):
        arguments = [addresses, topics.changes, DOC, status]
        subprocess.run([*told, *arguments], check=True, timeout=HANG_S, stdin=subprocess.DEVNULL)
    assert program.json("run", "--once")["dead_letters"] == 0
    assert program.document(DOC)["status"] == "RELEASED"


def test_the_program_in_abap_makes_a_usable_event() -> None:
    parts = re.findall(r"^ +\|(.*)\|(?: &&|\.)$", ABAP, re.MULTILINE)
    text = "".join(parts).replace(r"\{", "\0").replace(r"\}", "\1")
    values = {"doknr": DOC, "status": "RELEASED", "uuid": "5f2c", "TIME STAMP": ""}
    values |= {"now": "2026-11-22T10:00:00.1234567"}
    said = re.sub(r"\{ ([^}]*) \}", lambda found: next(said for name, said in values.items() if name in found[1]), text)
    event = decode.record(
        PlainRecord("t", 0, 0, 0, None, said.replace("\0", "{").replace("\1", "}").encode()), decode.Options()
    )
    assert isinstance(event, Event), (said, event)
    assert (event.key, event.set, json.loads(json.dumps(event.source))) == (DOC, {"status": "RELEASED"}, "//sap/PRD")
