"""The scenarios: what they conclude from what they saw, and each once in its short form."""

import math
import os
import time
from collections.abc import Callable

import pytest

from tests.bench import clients, memory, scenarios
from tests.bench.nodes import Toxmesh
from toxmesh.bench.scenarios import SCENARIOS, Bar, Outcome
from toxmesh.bench.scenarios.beside import Beside, BesideError, Gate
from toxmesh.bench.scenarios.floods import Flooded
from toxmesh.bench.scenarios.outcome import quantile
from toxmesh.bench.scenarios.rhythm import Asks
from toxmesh.bench.scenarios.scale import table

CLIENTS = 45_000  # two seconds of new keys


def test_a_bar_is_missed_by_what_is_worse_and_by_what_is_no_number() -> None:
    outcome = Outcome("idle", "ours")
    outcome.at_most("p99, ms", 5.0, 5.0)
    outcome.at_most("RSS, bytes", 16_001, 16_000)
    outcome.at_least("answered, %", 94.9, 95.0)
    outcome.at_most("slowest, s", math.nan, 0.5)
    assert [bar.figure for bar in outcome.missed] == ["RSS, bytes", "answered, %", "slowest, s"]
    assert outcome.lines()[1] == "  p99, ms: 5, at most 5: met"
    assert outcome.lines()[3] == "  answered, %: 94.9, at least 95: MISSED"
    bars = outcome.plain()["bars"]
    assert isinstance(bars, dict)
    assert bars["answered, %"] == {"value": 94.9, "at_least": 95.0, "met": False}


def test_a_quantile_of_nothing_meets_no_bar() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0] * 98 + [9.0, 9.0], 0.99) == 9.0
    assert math.isnan(quantile([], 0.99))


def _rows(*times: float, node: int = 0, key: bytes = b"k") -> list[tuple[float, int, bytes]]:
    return [(when, node, key) for when in times]


def test_silence_counts_although_it_has_no_end() -> None:
    asks = Asks(_rows(0, 20, 40, 60) + _rows(5, 25, 45, key=b"other"))
    assert asks.lists(30) == 2
    assert asks.silence(30, 64) == 20
    assert asks.silence(30, 90) == 45  # nobody was asked for the other key since 45


def test_a_node_outside_the_table_is_in_no_rhythm() -> None:
    kept = _rows(0, 60, 120, node=1)
    late = _rows(0, 60, 150, node=2)
    never_again = _rows(1, 61, node=3)
    asked_once = _rows(2, node=4)
    asks = Asks(kept + late + never_again + asked_once)
    assert sorted(asks.checks(100, 160)) == [60, 90, 99]


def test_a_flood_is_measured_against_what_is_answered_in_it_too() -> None:
    assert Flooded(sent=200, answers=90, seconds=1, capacity=100).times == 2
    assert Flooded(sent=200, answers=160, seconds=1, capacity=100).times == 1.25


def test_the_ceiling_is_computed_from_the_dearest_column() -> None:
    lines = table({"ping": [8.0, 10.0]}, (1, 2))
    assert lines[2].startswith("| ping | 8.0 | 10.0 | 200,000 |")
    assert "not measured" in lines[-1]


def _late(gate: Gate) -> int:
    gate.wait()
    while not gate.over():
        time.sleep(0.001)
    return os.getpid()


def _dies(gate: Gate) -> int:
    os._exit(3)


def test_a_part_beside_begins_and_ends_when_it_is_told() -> None:
    with Beside(_late) as part:
        part.ready()
        part.go()
        part.end()
        assert part.result(10) != os.getpid()


def test_a_part_that_died_is_an_error_and_no_result() -> None:
    with Beside(_dies) as part, pytest.raises(BesideError):
        part.ready()
    with Beside(_dies) as part, pytest.raises(BesideError):
        part.result(10)


def test_scenarios_are_chosen_by_parts_of_their_names() -> None:
    assert scenarios.chosen("flood") == ["udp-flood", "relay-flood"]
    assert scenarios.chosen(None) == [*SCENARIOS, "memory"]


@pytest.mark.slow
def test_tables_take_no_more_than_their_bars() -> None:
    kept, size = memory.in_fresh_process("keys", memory.SHORT_KEYS)
    assert kept >= memory.SHORT_KEYS - 1
    assert 64 < size / kept <= memory.KEY_BYTES
    for name in ("entries4", "entries6"):
        kept, size = memory.in_fresh_process(name, memory.SHORT_ENTRIES)
        assert kept == memory.SHORT_ENTRIES
        assert 241 < size / kept <= memory.ENTRY_BYTES


def _play(name: str) -> Outcome:
    made = clients.load(CLIENTS)
    place = scenarios.ours(made, "dht=1,onion=1,relay=1", True, 1000, pin=False)
    play: Callable[..., Outcome] = scenarios.ALL[name]
    outcome = play(place)
    assert outcome.node == Toxmesh.name
    assert outcome.bars
    return outcome


# What depends on the machine: how many cores it has, and how fast the load is on them.
_OF_THE_MACHINE = ("pings sent, times",)
_SLACK = 3  # a suite shares its machine; tox-bootstrapd is beyond this by far where it is beyond
_TIMES = (", ms", ", s")


def _kept(bar: Bar) -> bool:
    if bar.figure.endswith(_TIMES) and not bar.at_least:
        return bar.value <= _SLACK * bar.bound
    if "most CPU /" in bar.figure:  # on one core with one more it says little, but not nothing
        return bar.value < 4
    return bar.met or bar.figure.startswith(_OF_THE_MACHINE)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_our_node_keeps_the_bars_of_each_scenario_in_its_short_form(name: str) -> None:
    outcome = _play(name)
    assert [bar for bar in outcome.bars if not _kept(bar)] == [], "\n".join(outcome.lines())


def test_the_slack_of_a_shared_machine_is_not_without_end() -> None:
    assert _kept(Bar("p99, ms", 14.9, 5.0))
    assert not _kept(Bar("p99, ms", 15.1, 5.0))
    assert not _kept(Bar("p99, ms", math.nan, 5.0))
    assert not _kept(Bar("answered, %", 94.0, 95.0, at_least=True))
    assert not _kept(Bar("RSS each, bytes", 16_001, 16_000))
