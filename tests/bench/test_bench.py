"""The load is real: each node answers every kind of it, and its answers open."""

from pathlib import Path

import pytest

from tests.bench import clients
from tests.bench.__main__ import ALL, arguments, chosen, one_node
from tests.bench.clients import KeptClients
from tests.bench.nodes import Bootstrapd, Node, Toxmesh
from tests.interop import peers
from tests.interop.conftest import found
from toxmesh.bench import table
from toxmesh.bench.measured import Measured
from toxmesh.bench.ring import source_address
from toxmesh.bench.suite import FRESH_LOAD, NAMES
from toxmesh.bench.traffic import Result


def _run(node: Node, made: KeptClients) -> None:
    args = arguments(["--keys", "20", "--seconds", "0.3", "--no-pin", "--sources", "50"])
    args.connections = 10
    with node:
        rows = one_node(node, args, made)
    assert {row.load for row in rows} == set(ALL)
    for row in rows:
        assert row.result.answers > 20, row.plain()
        if row.load != FRESH_LOAD:
            assert row.result.latencies, row.plain()  # an answer was opened and checked
        assert row.result.wrong == 0, row.plain()
        assert row.result.lost < 0.05 * row.result.sent, row.plain()
        assert row.cpu_us is not None
        assert 0 < row.cpu_us < 5000, row.plain()
        assert row.rss
    nodes = next(row for row in rows if row.load == "nodes")
    assert nodes.note.startswith("4 nodes listed")


@pytest.mark.process
def test_our_node_answers_every_load() -> None:
    made = clients.load(5000)
    _run(Toxmesh(made, None), made)


@pytest.mark.interop
def test_tox_bootstrapd_answers_every_load() -> None:
    peer = found(peers.bootstrapd)
    made = clients.load(5000)
    _run(Bootstrapd(peer, made, None), made)


def _row(node: str, load: str, keys: int | None, cpu: float) -> Measured:
    return Measured(node, load, keys, Result(1.0, 10, 10), cpu)


def test_a_bar_is_missed_at_a_thousand_keys_and_above() -> None:
    rows = [
        _row("tox-bootstrapd", "ping", 1, 40),
        _row("toxmesh", "ping", 1, 39),
        _row("tox-bootstrapd", "ping", 1000, 40),
        _row("toxmesh", "ping", 1000, 21),
        _row("tox-bootstrapd", "relay 100 B", None, 30),
        _row("toxmesh", "relay 100 B", None, 29),
    ]
    assert table.missed(rows, "tox-bootstrapd") == [
        "ping, 1,000 keys: toxmesh uses 0.53 of tox-bootstrapd's CPU per answer, "
        "at most 0.50 is the bar"
    ]
    rendered = table.render(rows).splitlines()
    assert len({len(line) for line in rendered}) == 1
    assert [cell.strip() for cell in rendered[5].split("|")[1:4]] == ["ping", "1,000", "toxmesh"]


def test_sources_lie_in_networks_of_their_own() -> None:
    addresses = [source_address(i) for i in range(62_500)]
    assert len({address[:3] for address in addresses}) == len(addresses)
    assert all(address[0] == 127 for address in addresses)


def test_loads_are_chosen_by_parts_of_their_names() -> None:
    assert chosen("nodes, 0x8c") == ["nodes", "onion 0x8c"]
    assert chosen(None)[: len(NAMES)] == list(NAMES)


def test_clients_come_back_from_the_file_and_a_broken_file_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    first = clients.load(20, folder)
    assert clients.load(20, folder).node == first.node
    assert clients.load(10, folder)[3] == first[3]
    path = folder / "clients.bin"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert clients.load(20, folder).node != first.node
