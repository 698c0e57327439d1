"""What holds for every command: its help, its options, how it fails."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from reconciler import cli, errors
from reconciler.cli import framework, runtime
from tests.patience import HANG_S


def _all(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from _all(below, (*path, name))


COMMANDS = [(path, command) for path, command in _all(cli.main) if path != ("demo",)]
every_command = pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])


def _failing(error: BaseException, *options: str) -> tuple[int, str, str]:
    """Run a program whose one command raises; return its exit code and what it says."""
    root = framework.Root(name="reconciler")

    @framework.command("reconciler fail")
    def fail() -> None:
        """Fail."""
        raise error

    root.add_command(fail)
    ended = CliRunner().invoke(root, ["fail", *options])
    return ended.exit_code, ended.stdout, ended.stderr


@every_command
def test_each_command_says_in_one_line_what_it_is_for_and_shows_an_example(path, command) -> None:
    shown = CliRunner().invoke(cli.main, [*path, "--help"])
    assert shown.exit_code == 0
    assert f"reconciler {' '.join(path)}" in shown.stdout.split("Example")[1]
    first = command.help.strip().splitlines()[0]
    assert first.endswith((".", ":"))
    assert max(map(len, shown.stdout.splitlines())) <= 80


@every_command
def test_each_command_takes_a_configuration_except_those_that_need_none(path, command) -> None:
    taken = {option for parameter in command.params for option in parameter.opts}
    assert ("-c" in taken) is (path not in {("simulate",), ("completion",)})


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.StoreError("the store is gone; bring it back"), 1, "error: the store is gone; bring it back\n"),
        (errors.ConfigError("a: wrong\nb: wrong"), 1, "error: a: wrong\nerror: b: wrong\n"),
        (ExceptionGroup("tasks", [errors.LogError("one"), errors.StoreError("two")]), 1, "error: one\nerror: two\n"),
        (errors.UsageError("that can't be done"), 2, "error: that can't be done\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["ours", "several faults", "several tasks", "usage", "interrupt"],
)
def test_an_error_is_a_line_for_each_fault_and_an_exit_code(error: BaseException, code: int, said: str) -> None:
    assert _failing(error) == (code, "", said)


def test_wrong_usage_names_the_help() -> None:
    ended = CliRunner().invoke(cli.main, ["status", "--nonsense"])
    assert ended.exit_code == runtime.USAGE
    assert ended.stderr == "error: no such option '--nonsense'; see `reconciler status --help`\n"


@pytest.mark.parametrize("typed", [(), ("conflicts",)])
def test_a_command_that_needs_another_word_shows_its_help_as_it_is(typed) -> None:
    ended = CliRunner().invoke(cli.main, typed)
    helped = CliRunner().invoke(cli.main, [*typed, "--help"])
    assert (ended.exit_code, ended.stdout, ended.stderr) == (runtime.USAGE, "", helped.stdout)


def test_a_demo_without_its_extra_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    ended = CliRunner().invoke(cli.main, ["demo"])
    assert ended.exit_code == runtime.FAILED
    assert "error: the embedded broker needs confluent-kafka: pip install" in ended.stderr
    assert "report it" not in ended.stderr


def test_whoever_forgets_the_configuration_is_told_so(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(cli.main, ["status"]).stderr
    assert "there is no store at state.db" in said
    assert "is -c FILE missing?" in said
    (tmp_path / "given.toml").write_text('[store]\nurl = "sqlite:///other.db"\n')
    assert "is -c FILE missing?" not in CliRunner().invoke(cli.main, ["status", "-c", "given.toml"]).stderr


def test_what_no_one_expected_is_one_line_too_and_a_traceback_only_with_debug() -> None:
    code, _, said = _failing(RuntimeError("a\nbug"))
    assert code == 1
    assert said.startswith("error: unexpected RuntimeError: a bug; please report it")
    assert "Traceback" in _failing(RuntimeError("a bug"), "--debug")[2]


def test_a_reader_that_went_away_is_no_error(capfd) -> None:
    with pytest.raises(click.exceptions.Exit) as ended, runtime.quiet_ends():
        raise BrokenPipeError
    assert ended.value.exit_code == runtime.PIPE_CLOSED


def test_the_version_is_shown() -> None:
    assert CliRunner().invoke(cli.main, ["--version"]).stdout.startswith("reconciler 0.")


def test_help_and_completion_wait_for_no_client_library() -> None:
    """What a command needs is imported when it runs: every Tab in a shell would pay for it."""
    heavy = "aiohttp", "aiokafka", "httpx", "starlette", "uvicorn", "jinja2"
    script = f"import sys, reconciler.cli; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_an_identity_provider_without_its_extra_says_what_to_install(tmp_path) -> None:
    config = tmp_path / "reconciler.toml"
    config.write_text(
        '[log]\nkind = "file"\n[admin]\nbind = "127.0.0.1:0"\noidc_issuer = "https://login.example.com"\n'
        'oidc_audience = "us"\n',
        encoding="utf-8",
    )
    script = "import sys; sys.modules['jwt'] = None; import reconciler.cli; reconciler.cli.main()"
    command = [sys.executable, "-c", script, "run", "-c", str(config)]
    ended = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=HANG_S)
    assert ended.returncode == 1
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "pip install 'windchill-reconciler[oidc]'" in said
