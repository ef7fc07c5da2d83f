"""The load is real: each node answers every kind of it, and its answers open."""

from math import isnan
from pathlib import Path

import pytest

from tests.bench import bars, clients
from tests.bench.__main__ import _loads, arguments, measure
from tests.bench.clients import KeptClients
from tests.bench.nodes import Bootstrapd, Node, Toxmesh
from tests.interop import peers
from tests.interop.conftest import found
from toxmesh.bench import plan, report, table
from toxmesh.bench.measured import Measured, figures_of_frames
from toxmesh.bench.plan import ALL, FRAMES, HANDSHAKES, Options
from toxmesh.bench.ring import source_address
from toxmesh.bench.rows import Row
from toxmesh.bench.suite import FRESH_LOAD, NAMES, RATE, RATE_LOAD
from toxmesh.bench.traffic import Brake, Result

QUICK = [name for name in ALL if name != "relay 1400 B 1000x2"]  # 1,000 connections take a while

ONE_SOURCE = ("ping", "onion 0x8e", "data to route", "announce store")


def _run(node: Node, made: KeptClients) -> None:
    with node:
        rows = measure([node], made, QUICK, Options((20,), 0.3, sources=50))
        alone = list(plan.run([node], made, ONE_SOURCE, Options((20,), 0.1, sources=1), Brake()))
    assert all(row.answers > 20 and not row.wrong for row in alone)
    assert [row.load for row in rows] == QUICK
    for row in rows:
        assert row.answers > 20, row.plain()
        if row.load != FRESH_LOAD:
            assert row.checked, row.plain()  # an answer was opened
        assert row.wrong == 0, row.plain()
        assert row.lost < 0.05 * row.sent, row.plain()
        assert row.cpu_us is not None
        assert 0 < row.cpu_us < 5000, row.plain()
        assert row.rss
        assert row.own_us > 0
        assert row.switches_per_s
    by_load = {row.load: row for row in rows}
    assert by_load["nodes"].note.startswith("4 nodes listed")
    assert by_load[RATE_LOAD].sent <= 0.3 * RATE + 1
    fresh = by_load[FRESH_LOAD].figures
    assert 5 < fresh["scalar_us"] < 500
    assert by_load[FRESH_LOAD].cpu_us == pytest.approx(fresh["scalar_us"] + fresh["beside_us"])


def _clients() -> KeptClients:
    return clients.load(plan.clients_needed(ALL, (20,)))


@pytest.mark.alone
@pytest.mark.process
def test_our_node_answers_every_load() -> None:
    made = _clients()
    _run(Toxmesh(made, None), made)


@pytest.mark.alone
@pytest.mark.interop
def test_tox_bootstrapd_answers_every_load() -> None:
    peer = found(peers.bootstrapd)
    made = _clients()
    _run(Bootstrapd(peer, made, None), made)


def _row(
    node: str, load: str, keys: int | None, cpu: float, per_second: int = 100, p99: float = 0.001
) -> Row:
    result = Result(1.0, per_second, per_second, latencies=[p99])
    row = Measured(node, load, keys, result, cpu)
    if load in FRAMES:
        frames = FRAMES[load]
        under_way = frames.connections * frames.in_flight
        row.figures.update(figures_of_frames(result, frames.size, under_way, cpu))
    return Row((row,))


def _missed(*rows: Row) -> list[str]:
    return [bar.figure for bar in bars.judge(rows) if not bar.met]


def test_a_bar_beside_the_reference_counts_from_a_thousand_keys_on() -> None:
    reference, ours = "tox-bootstrapd", "toxmesh"
    assert bars.judge([_row(reference, "ping", 1, 40), _row(ours, "ping", 1, 39)]) == []
    rows = [_row(reference, "ping", 1000, 40), _row(ours, "ping", 1000, 10.0, 400)]
    assert _missed(*rows) == []
    rows[1] = _row(ours, "ping", 1000, 10.1, 399)
    assert _missed(*rows) == [
        "ping, 1,000 keys: CPU per answer, share of tox-bootstrapd's",
        "ping, 1,000 keys: answers/s, times tox-bootstrapd's",
    ]
    rows = [_row(reference, "ping", 100_000, 40), _row(ours, "ping", 100_000, 8.1, 400)]
    assert _missed(*rows) == ["ping, 100,000 keys: CPU per answer, share of tox-bootstrapd's"]
    assert bars.judge([_row(ours, "ping", 1000, 10)]) == []  # nothing to compare with


def test_bars_of_our_node_alone() -> None:
    ours = "toxmesh"
    assert _missed(_row(ours, HANDSHAKES, 1000, 140, 5000)) == []
    assert len(_missed(_row(ours, HANDSHAKES, 1000, 141, 4999))) == 2
    assert _missed(_row(ours, RATE_LOAD, 1000, 100, p99=0.0003)) == []
    assert len(_missed(_row(ours, RATE_LOAD, 1000, 100, p99=0.0021))) == 2
    name = "relay 1400 B 100x5"  # 500 frames under way: at 50,000 a second 10 ms for each
    assert _missed(_row(ours, name, None, 10, 50_000, p99=0.0299)) == []
    assert _missed(_row(ours, name, None, 10, 50_000, p99=0.0301)) == [
        f"{name}: p99, times frames in flight / frames a second"
    ]


def test_a_load_without_answers_misses_its_bars() -> None:
    rows = [_row("tox-bootstrapd", "nodes", 1000, 40), _row("toxmesh", "nodes", 1000, 0, 0)]
    judged = bars.judge(rows)
    assert len(judged) == 2
    assert all(isnan(bar.value) and not bar.met for bar in judged)


def test_every_load_has_a_bar() -> None:
    held = {load for rule in bars.RULES for load in rule.loads}
    assert held == set(ALL)


def test_the_table_is_straight_and_has_each_load_together() -> None:
    rows = [
        _row("tox-bootstrapd", "ping", 1, 40),
        _row("tox-bootstrapd", "nodes", 1, 50),
        _row("toxmesh", "ping", 1, 10),
        _row("toxmesh", "nodes", 1, 20),
    ]
    lines = table.render(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [(row[0], row[2], row[8]) for row in cells] == [
        ("ping", "tox-bootstrapd", ""),
        ("ping", "toxmesh", "0.25"),
        ("nodes", "tox-bootstrapd", ""),
        ("nodes", "toxmesh", "0.40"),
    ]


def test_a_load_that_had_no_time_left_says_so() -> None:
    row = _row("toxmesh", "ping", 1, 10)
    assert "BOUNDED" not in table.note(row)
    row.repeats[0].result.own_cpu = 0.96
    assert table.note(row) == "BOUNDED BY THE LOAD"
    assert row.plain()["bounded_by_load"]


def test_sources_lie_in_networks_of_their_own() -> None:
    addresses = [source_address(i) for i in range(62_500)]
    assert len({address[:3] for address in addresses}) == len(addresses)
    assert all(address[0] == 127 for address in addresses)


def test_loads_are_chosen_by_whole_names_or_parts_of_names() -> None:
    assert plan.chosen("nodes, 0x8c") == ["nodes", "onion 0x8c"]
    assert plan.chosen("ping") == ["ping"]
    assert plan.chosen("ping 2") == [RATE_LOAD]
    assert plan.chosen(None)[: len(NAMES)] == list(NAMES)
    with pytest.raises(ValueError, match="no load is called 'pong'"):
        plan.chosen("ping,pong")
    assert _loads("ping,udp-flood") == ["ping"]


def test_what_the_number_of_keys_does_not_change_is_run_once() -> None:
    jobs = plan.udp_jobs(ALL, (1000, 1, 100_000))
    assert [keys for name, keys in jobs if name == "nodes"] == [1, 1000, 100_000]
    assert [keys for name, keys in jobs if name == "onion 0x8c"] == [1000]
    assert [keys for name, keys in jobs if name == FRESH_LOAD] == [100_000]
    assert not {name for name, _ in jobs} & plan.RELAY


def test_a_worse_figure_is_one_beyond_the_tolerance() -> None:
    def verdicts(cpu: float, per_second: int, tolerance: float = 0.3) -> list[str]:
        rows = [_row("b", "ping", 1, cpu, per_second).plain()]
        then = [_row("a", "ping", 1, 10, 100).plain()]
        return [row.verdict for row in report.compare(rows, then, tolerance)]

    assert verdicts(13, 77) == ["same", "same"]
    assert verdicts(13.1, 76) == ["WORSE", "WORSE"]
    assert verdicts(7.6, 131) == ["better", "better"]
    assert verdicts(13.1, 76, tolerance=0.5) == ["same", "same"]
    rows = [_row("b", RATE_LOAD, 1, 10, 100, p99=0.002).plain()]
    then = [_row("a", RATE_LOAD, 1, 10, 100, p99=0.001).plain()]
    compared = report.compare(rows, then, 0.3)
    assert [(row.figure, row.worse) for row in compared] == [("cpu_us", False), ("p50_ms", True)]
    assert report.compare(rows, [_row("a", "nodes", 1, 10).plain()], 0.3) == []


def test_clients_come_back_from_the_file_and_a_broken_file_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    first = clients.load(20, folder)
    assert clients.load(20, folder).node == first.node
    assert clients.load(10, folder)[3] == first[3]
    path = folder / "clients.bin"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert clients.load(20, folder).node != first.node


def test_the_command_line_knows_short_runs() -> None:
    assert arguments(["--quick"]).keys == "1,1000"
    assert (arguments(["--quick"]).repeat, arguments([]).repeat) == (1, 3)
    assert arguments(["--quick", "--repeat", "2"]).repeat == 2
    assert arguments(["soak"]).seconds == 600
    assert arguments(["soak", "--seconds", "20"]).seconds == 20
