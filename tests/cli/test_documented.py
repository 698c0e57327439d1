"""What is printed about commands can be typed: the examples of the help, the pages under docs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from reconciler import cli

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CHANGELOG.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
GENERATED = {"docs/commands.md"}  # from the help, whose examples are checked by themselves
TYPED = re.compile(r"^\s*(?:\$ |[A-Z_]+=\S+ )*(?:\.venv/bin/)?reconciler( .*)$", re.MULTILINE)
IN_LINE = re.compile(r"`(?:\.venv/bin/)?reconciler ([^`\n]+)`")
BLOCK = re.compile(r"^```[\s\S]*?^```|(?:^ {4}.*\n)+", re.MULTILINE)
FILES = ("events.jsonl", "corrected.json", "payload.json")  # those that a command looks for while it is parsed


@pytest.fixture(autouse=True)
def _folder_with_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def parse(words: list[str]) -> None:
    """Parse a command as the program would, without running it; raises UsageError."""
    command: click.Command = cli.main
    context: click.Context | None = None
    name = "reconciler"
    while isinstance(command, click.Group):
        context = command.make_context(name, words, parent=context)
        rest = [*context._protected_args, *context.args]
        found, below, words = command.resolve_command(context, rest)
        assert below is not None, rest
        name, command = found or "", below
    with command.make_context(name, words, parent=context):
        pass  # closes the files that were opened to be read


def typed(text: str) -> list[str]:
    """Return a line's words up to what is the shell's: a comment, a pipe, a redirection."""
    words = shlex.split(text.replace("$(cat audit-head.txt)", f"1:{'0' * 64}"), comments=True)
    ends = [place for place, word in enumerate(words) if word in {"|", ">", ">>", "2>", "&&", "&", "<"}]
    return words[: min(ends, default=len(words))]


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    for line in (command.epilog or "").splitlines():
        if line.startswith("  "):
            yield path, line.strip()
    for name, below in command.commands.items() if isinstance(command, click.Group) else ():
        yield from _commands(below, f"{path} {name}")


EXAMPLES = list(_commands(cli.main, "reconciler"))


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_in_the_help_can_be_typed(path, example) -> None:
    assert typed(example)[0] == "reconciler"
    parse(typed(example)[1:])


def _blocks(page: str) -> Iterator[str]:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for block in BLOCK.findall(text):
        yield from (line for line in TYPED.findall(block) if "…" not in line)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_every_command_that_a_page_shows_in_a_block_can_be_typed(page) -> None:
    for line in _blocks(page):
        try:
            parse(typed(line))
        except click.UsageError as error:
            pytest.fail(f"{page} shows `reconciler{line}`: {error.format_message()}")


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_every_command_that_a_page_mentions_exists_with_its_options(page) -> None:
    for text in IN_LINE.findall((ROOT / page).read_text(encoding="utf-8")):
        command: click.Command = cli.main
        for word in re.findall(r"[^\s\[\]|…]+", text):
            if isinstance(command, click.Group) and not word.startswith("-"):
                assert word in command.commands, f"{page} mentions `reconciler {text}`: no {word}"
                command = command.commands[word]
            elif word.startswith("--"):
                known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
                assert word.split("=")[0] in known, f"{page} mentions `reconciler {text}`: no {word}"


def test_a_command_that_cannot_be_typed_is_found() -> None:
    parse(["conflicts", "resolve", "3f2a", "--take", "live"])
    with pytest.raises(click.UsageError):
        parse(["conflicts", "resolve", "3f2a", "--taking", "live"])
    with pytest.raises(click.UsageError):
        parse(["conflicts", "solve", "3f2a"])
    shown = "Text:\n\n    $ .venv/bin/reconciler run --once | cat   # once\n\n```sh\nreconciler status\n```\n"
    lines = [line for block in BLOCK.findall(shown) for line in TYPED.findall(block)]
    assert lines == [" run --once | cat   # once", " status"]
    assert typed(" run --once | cat   # once") == ["run", "--once"]
