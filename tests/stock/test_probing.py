"""`doctor` and its probe on the second server: what it is found to do, and that nothing is left behind unsaid."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Ended
from tests.stock.server import ACCOUNT, Stock
from tests.stock.world import Real

PROBE = "PROBE-1"


@pytest.fixture
def program(stock: Stock, tmp_path: Path) -> Real:
    stock.vault.make(PROBE, Owner="sgarcia", CostCenter="4000", Title="A probe")
    return Real(tmp_path, stock, real=False)


def probed(program: Real) -> Ended:
    return program.run("doctor", "--probe", PROBE)


@pytest.mark.parametrize("shape", ["Items", "value"])
def test_a_stock_server_passes_and_is_left_as_it_was(stock: Stock, program: Real, shape: Any) -> None:
    stock.transitions = shape
    before = stock.vault.current(PROBE)
    ended = probed(program)
    assert ended.returncode == 0, ended.stdout
    assert stock.vault.current(PROBE) == before
    assert stock.vault.checked_out() == {}
    assert stock.security_log == []


def test_transitions_that_cannot_be_read_fail_the_probe(stock: Stock, program: Real) -> None:
    stock.transitions = "nonsense"
    ended = probed(program)
    assert ended.returncode == 1, ended.stdout
    assert "not understood" in ended.stdout
    assert stock.vault.checked_out() == {}


@pytest.mark.parametrize("columns", ["as checked out", "null", "secured"])
def test_a_working_copy_that_is_not_recognised_is_not_called_put_back(
    stock: Stock, program: Real, columns: Any
) -> None:
    stock.columns, stock.holder, stock.note = columns, "hidden", "hidden"
    ended = probed(program)
    if stock.vault.checked_out():
        assert ended.returncode == 1, ended.stdout
        assert "is checked in, and" not in ended.stdout
        assert "by hand" in ended.stdout


def test_a_check_out_that_cannot_be_undone_is_not_called_put_back(stock: Stock, program: Real) -> None:
    stock.refused_documents[PROBE] = ("UndoCheckOut", 403, "not for you")
    ended = probed(program)
    assert stock.vault.checked_out() == {PROBE: ACCOUNT}
    assert ended.returncode == 1, ended.stdout
    assert "is checked in, and" not in ended.stdout
    assert "by hand" in ended.stdout


def test_doctor_says_where_the_server_describes_other_actions_than_ours(stock: Stock, program: Real) -> None:
    stock.actions["CheckIn"] = {"Comment": "Edm.String", "KeepCheckedOut": "Edm.Boolean"}
    ended = program.run("doctor", "--document", PROBE)
    assert "CheckInNote" in ended.stdout, ended.stdout
    assert stock.vault.done(who=ACCOUNT) == []
