"""The scenarios: what they conclude from what they saw, and each once in its short form."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable

import pytest

from core.crypto import PublicKey
from core.slots import SlotTable
from tests.bench import clients, memory, scenarios
from tests.bench.nodes import Toxmesh
from toxmesh.bench.clients import Client, Clients
from toxmesh.bench.measured import Measured
from toxmesh.bench.scenarios import SCENARIOS, Bar, Outcome
from toxmesh.bench.scenarios.beside import Beside, BesideError, Gate
from toxmesh.bench.scenarios.floods import Flooded
from toxmesh.bench.scenarios.outcome import quantile
from toxmesh.bench.scenarios.rhythm import Asks
from toxmesh.bench.scenarios.scale import ratios, switches, table, table_at_once, worst
from toxmesh.bench.scenarios.turns import Cost, Turns, groups, pairs
from toxmesh.bench.traffic import Result

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


def _costs(*cpu_us: float) -> dict[str, list[Cost]]:
    return {"ping": [Cost(each, 1.0, 40 * each) for each in cpu_us]}


def test_more_workers_are_compared_with_one_at_the_same_time() -> None:
    # a machine that is half as fast in the second minute makes nothing dearer
    assert ratios(_costs(8.0, 16.0), _costs(8.0, 16.0)) == {"ping": [1.0, 1.0]}
    assert ratios(_costs(8.0, 16.0), _costs(8.8, 16.0)) == {"ping": [1.1, 1.0]}


def test_the_ceiling_is_computed_from_the_dearest_column() -> None:
    lines = table(_costs(8.0, 8.0), _costs(8.0, 10.0), (2, 4))
    assert lines[0].startswith("| CPU us of a packet, in turn | 1 w | 2 w (times 1 w) | 4 w")
    assert lines[2].startswith("| ping | 8.0 | 8.0 (1.00) | 10.0 (1.25) | 200,000 |")
    assert "not measured" in lines[-1]
    cheaper = table(_costs(8.0), _costs(6.0), (2,))  # noise: nothing that more cores would give
    assert cheaper[2].startswith("| ping | 8.0 | 6.0 (0.75) | 250,000 |")
    assert table_at_once(_costs(8.0, 8.0), _costs(8.0, 10.0), (2, 4))[2] == (
        "| ping | 8.0 | 8.0 | 10.0 |"
    )
    lines = switches(_costs(1.0, 1.0), _costs(2.0, 3.0), _costs(10.0, 20.0), (2, 4))
    assert lines[2:] == [
        "| ping, in turn | 40 | 80 | 120 |", "| ping, all at once, one core | 40 | 400 | 800 |",
    ]  # fmt: skip


def _turn(worker: str, answers: int, cpu_us: float, own_us: float, switches: int) -> Measured:
    result = Result(0.5, answers, answers)
    by = {worker: own_us, "broker": cpu_us - own_us}
    return Measured("ours", "ping", 1000, result, cpu_us, cpu_by=by, switches=switches)


def test_the_cost_of_a_packet_is_that_of_all_turns_by_the_packets_of_all_turns() -> None:
    turns = [_turn("dht.0", 1000, 10.0, 9.0, 20), _turn("dht.1", 3000, 6.0, 5.0, 80)]
    cost = Cost.of(turns, ["dht.0", "dht.1"])
    assert cost.cpu_us == pytest.approx((1000 * 10 + 3000 * 6) / 4000)
    assert cost.own == pytest.approx((1000 * 9 + 3000 * 5) / (1000 * 10 + 3000 * 6))
    assert (cost.per_s, cost.switches_per_s) == (4000, 100)
    silent = Measured("ours", "ping", 1000, Result(0.5, 9), 5.0)
    assert math.isnan(Cost.of([silent]).cpu_us)
    unseen = Measured("ours", "ping", 1000, Result(0.5, 9, 9), None)
    assert math.isnan(Cost.of([turns[0], unseen]).cpu_us)
    assert math.isnan(worst([1.0, math.nan, 2.0]))
    assert worst([1.0, 2.0, 1.5]) == 2.0


def _many_clients(count: int) -> Clients:
    """Made-up clients whose keys say their number; nothing of them is genuine."""
    rows = b"".join(i.to_bytes(8, "big") + bytes((i % 256,)) + bytes(55) for i in range(count))
    return Clients(PublicKey(bytes(32)), rows)


def _shard(client: Client, shards: int) -> int:
    return SlotTable.even(shards).shard_of(client.public)


def test_each_shard_is_asked_by_clients_of_its_own() -> None:
    made = _many_clients(1024)
    found = groups(made, 4, 100)
    assert [len(group) for group in found] == [100] * 4
    for shard, group in enumerate(found):
        part = made.part(group)
        assert len(part) == 100
        assert {_shard(part[i], 4) for i in range(100)} == {shard}
        assert part[7] == made[group[7]]
    with pytest.raises(ValueError, match="too few"):
        groups(made, 4, 257)


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_pairs_are_as_often_of_two_shards_as_chance_would_make_them(shards: int) -> None:
    made = _many_clients(2048)
    turns = list(pairs(made, groups(made, shards, 200), 80))
    assert len(turns) == shards
    for shard, part in enumerate(turns):
        assert len(part) == 160
        firsts = [_shard(part[i], shards) for i in range(0, 160, 2)]
        seconds = [_shard(part[i], shards) for i in range(1, 160, 2)]
        assert set(firsts) == {shard}
        assert Counter(seconds) == dict.fromkeys(range(shards), 80 // shards)
        assert len({part[i].public for i in range(160)}) == 160


@pytest.mark.alone
@pytest.mark.process
def test_a_turn_is_the_work_of_one_worker() -> None:
    made = clients.load(4000)
    with Toxmesh(made, None, "dht=2,onion=2,relay=0") as node, Turns(
        node, made, 2, 50, sources=50, window=64
    ) as turns:
        for name, role in (("ping", "dht"), ("onion 0x80", "onion"), ("announce store", "onion")):
            cost = Cost.of(turns.datagrams(turns.prepare(name), 0.2), turns.workers(role))
            assert cost.own > 0.8, name


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


@pytest.mark.alone
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
