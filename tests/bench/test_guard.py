"""The node may not become much slower, measured in plain echoes."""

import pytest

from tests.bench import guard
from tests.bench.guard import ECHO, TOLERANCE, Guard
from toxmesh.bench.measured import Measured
from toxmesh.bench.traffic import Result


@pytest.mark.alone
@pytest.mark.process
@pytest.mark.slow
def test_no_answer_costs_more_than_the_best_committed_one() -> None:
    """The short form of the table that CI runs; `python -m tests.bench guard` shows the figures."""
    best = guard.stored()
    lines: list[str] = []
    found = guard.run(None, best, say=lines.append)
    assert set(found.ratios()) == set(best), "guard --write after a change of its loads"
    assert found.worse(best) == [], "\n".join(lines)


def _row(load: str, cpu_us: float | None, answers: int = 100) -> Measured:
    return Measured("node", load, None, Result(1.0, 100, answers), cpu_us)


def test_the_least_of_all_rounds_counts() -> None:
    found = Guard()
    for load, cpu in ((ECHO, 4.0), ("ping", 9.0), (ECHO, 3.0), ("ping", 6.0), ("ping", 7.0)):
        found.take(_row(load, cpu))
    found.take(_row("ping", 1.0, answers=0))
    found.take(_row("nodes", None))
    assert found.ratios() == {"ping": 2.0}


def test_what_is_too_dear_and_what_was_not_answered_is_named() -> None:
    found = Guard({ECHO: 2.0, "ping": 4.0, "nodes": 8.0})
    assert found.worse({"ping": 2.0 / TOLERANCE, "nodes": 4.0}) == []
    assert found.worse({"ping": 1.5, "nodes": 4.0, "data to route": 2.0}) == [
        "data to route was not answered",
        "ping costs 2.00 echoes, 1.33 times the best 1.50",
    ]


def test_the_committed_ratios_are_those_of_the_guards_loads() -> None:
    best = guard.stored()
    assert set(best) == {*guard.UDP_LOADS, guard.FRAME_LOAD.name}
    assert all(1 < ratio < 10 for ratio in best.values())
