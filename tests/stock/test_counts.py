"""Counts of requests and iterations that `benchmarks/RESULTS.md` states, held at a smaller size; nothing is timed."""

from pathlib import Path

from tests.stock import counting

DOCUMENTS = 40


def test_a_document_costs_few_requests_and_one_iteration(tmp_path: Path) -> None:
    found = counting.three_hundred(tmp_path, DOCUMENTS)
    assert found["iterations"] == DOCUMENTS
    assert found["a document"] <= 8
    assert (found["sessions"], found["security log"]) == (1, 0)


async def test_a_burst_makes_one_iteration() -> None:
    assert (await counting.burst())["iterations"] == 1


async def test_the_end_of_all_nonces_is_one_entry_in_the_security_log() -> None:
    found = await counting.expiry()
    assert (found["security log"], found["written"]) == (1, counting.FLIGHT)


async def test_one_request_lies_between_the_last_read_of_a_state_and_the_write_that_rests_on_it() -> None:
    assert (await counting.window(moves=4, latency_s=0))["requests"] == 1


async def test_polls_of_unchanged_documents_read_each_once_at_most() -> None:
    reads = (await counting.polls())["reads by ID"]
    assert reads[1:] == [0] * (counting.POLLS - 1)


async def test_a_day_of_failing_check_ins_makes_few_check_outs() -> None:
    assert (await counting.refused_for_a_day())["check-outs"] <= 20
