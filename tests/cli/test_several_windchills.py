"""Several Windchills on one topic, as docs/howto.md shows it: each reconciler takes its part, and no two the same."""

import re
from pathlib import Path

import pytest

from reconciler import config, factory
from reconciler.config import Config

PAGE = (Path(__file__).parents[2] / "docs" / "howto.md").read_text(encoding="utf-8")
(ONE,) = re.findall(r"^`plant-1/reconciler.toml`:\n\n```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(TWO,) = re.findall(r"^`plant-2/reconciler.toml` differs.*?:\n\n```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def plants(tmp_path: Path) -> list[Config]:
    """The two configurations, with secrets in files of our own."""
    (tmp_path / "secret").write_text("a-password-of-plants\n", encoding="utf-8")
    second = ONE
    for line in TWO.splitlines():
        key = line.partition(" ")[0]
        second, count = re.subn(rf"^{key} = .*$", line, second, flags=re.MULTILINE)
        assert count == 1, f"{key} is not in the first file"
    files = [tmp_path / "1.toml", tmp_path / "2.toml"]
    for file, text in zip(files, (ONE, second), strict=True):
        file.write_text(text.replace("/run/secrets/reconciler/windchill-password", str(tmp_path / "secret")))
    return [config.load(file, {}) for file in files]


def test_they_share_what_they_read_and_nothing_that_they_write(plants: list[Config]) -> None:
    one, two = (plant.log for plant in plants)
    assert (one.brokers, one.read_topics) == (two.brokers, two.read_topics)
    for name in ("group", "outcomes_topic", "dead_letter_topic"):
        assert getattr(one, name) != getattr(two, name)


@pytest.mark.parametrize(("document", "plant"), [("PRJ-1", 0), ("P1-7", 0), ("P2-7", 1), ("p2-7", None)])
def test_each_document_is_in_one_part_at_most(plants: list[Config], document: str, plant: int | None) -> None:
    parts = [factory.decoding(one).part for one in plants]
    takers = [number for number, part in enumerate(parts) if part.has(document, "//erp/prod")]
    assert takers == ([] if plant is None else [plant])
