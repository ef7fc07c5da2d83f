"""Looking at a real node: its processes, rates, drops, queues, routes, keys, who sends to it."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from core.crypto import PublicKey
from core.slots import slot_of
from tests.cli.commands import Said, call, spawn
from tests.ops.asked import ask
from tests.processes.node import Node, Pinger, free_port, running, until
from toxmesh.reasons import explain

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    port = free_port(socket.SOCK_STREAM)
    folder = tmp_path_factory.mktemp("look") / "state"
    options = ("--tcp-port", str(port), "--http", "off")
    with running(folder, *options, workers="dht=2,onion=1,relay=1") as node:
        yield node


NAMES = ["broker", "dht.0", "dht.1", "onion.0", "relay.0"]


def ops(capsys: pytest.CaptureFixture[str], node: Node, *words: object) -> Said:
    return call(capsys, "ops", *words, "--state-dir", node.state_dir)


def has_successor(node: Node, name: str, pid: int) -> bool:
    row = node.child(name)
    return bool(row["state"] == "good" and row["pid"] != pid)


def send(node: Node, *packets: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for packet in packets:
            stranger.sendto(packet, ("127.0.0.1", node.udp_port))


def test_workers_are_listed_and_one_that_is_missing_is_exit_1(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [row["name"] for row in ask(node, "workers")["rows"]] == NAMES
    said = ops(capsys, node, "workers")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["worker", *NAMES]
    cut = ops(capsys, node, "workers", "--limit", 2)
    assert len(cut.out.splitlines()) == 3
    assert "3 more rows" in cut.err
    pid = node.child("dht.1")["pid"]
    os.kill(pid, signal.SIGSTOP)  # it will be ended for its silence
    until(lambda: ops(capsys, node, "workers", "--json").code == 1, 15.0)
    until(lambda: has_successor(node, "dht.1", pid), 15.0)
    assert ops(capsys, node, "workers").code == 0


def test_rates_are_those_of_this_second(node: Node) -> None:
    with closing(Pinger(node.key, node.udp_port)) as pinger:
        assert pinger.answered(5.0)

        def seen() -> bool:
            assert pinger.answered(5.0)
            rates = ask(node, "rates")
            pings = rates["kinds"].get("0x00", {"received_per_s": 0})
            return bool(pings["received_per_s"] and rates["received_per_s"])

        until(seen, 10.0)
    until(lambda: ask(node, "rates")["kinds"]["0x00"]["received_per_s"] == 0.0, 10.0)
    assert ask(node, "rates")["kinds"]["0x00"]["received"] > 0
    assert ask(node, "rates")["state"] == "good"


def test_drops_come_with_their_rate_their_meaning_and_what_to_do(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    def now() -> float:
        send(node, *[b"\x77 no packet of Tox"] * 10)
        rows = ask(node, "drops", prefix="unknown_kind")["rows"]
        return rows[0]["per_s"] if rows else 0.0

    until(now, 10.0)
    until(lambda: not ask(node, "drops", prefix="unknown_kind")["rows"][0]["per_s"], 10.0)
    (row,) = ask(node, "drops", prefix="unknown_kind")["rows"]
    assert row["reason"] == "unknown_kind:0x77"
    assert row["count"] % 10 == 0
    said = ops(capsys, node, "drops", "unknown")
    assert said.code == 0
    assert "A datagram that is no packet of Tox.  Nothing while it is little" in said.out
    assert "Nothing while" not in ops(capsys, node, "drops", "--short").out
    answer = json.loads(ops(capsys, node, "drops", "unknown", "--json").out)
    assert answer["rows"][0]["meaning"] == explain("unknown_kind:0x77").meaning
    nothing = ops(capsys, node, "drops", "there is no such reason")
    assert (nothing.code, "Nothing" in nothing.out) == (0, True)


def test_queues_of_the_kernel_and_of_all_processes_are_listed(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ask(node, "queues")["rows"]
    found = {(row["where"], row["owner"], row["queue"], row["of"]) for row in rows}
    assert ("kernel", "broker", "all", "broker") in found
    assert ("kernel", "dht.1", "query", "dht.1") in found
    assert ("process", "broker", "datagrams", "onion.0") in found
    assert ("process", "dht.0", "messages", "dht.1") in found
    assert ("process", "onion.0", "new keys", "") in found
    assert {row["limit"] for row in rows if row["queue"] == "new keys"} == {4096}
    assert "queues are empty" in ops(capsys, node, "queues").out
    assert "onion.0  new keys" in ops(capsys, node, "queues", "--all").out
    assert json.loads(ops(capsys, node, "queues", "--json").out)["total"] == len(rows)


def test_what_waits_stands_first(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    pid = node.child("dht.0")["pid"]
    os.kill(pid, signal.SIGSTOP)
    with closing(Pinger(node.key, node.udp_port)) as pinger:
        pinger.pair = pinger.pair._replace(public=_key_of_shard(pinger, 0))
        send(node, *[pinger.request()[1] for _ in range(50)])
    said = ops(capsys, node, "queues").out.splitlines()  # the others answer within 3 s
    assert said[1].split()[:3] == ["dht.0", "kernel", "query"]
    assert int(said[1].split()[4].replace(",", "")) > 50 * 82
    with suppress(ProcessLookupError):  # by now it may have been ended for its silence
        os.kill(pid, signal.SIGKILL)
    until(lambda: has_successor(node, "dht.0", pid), 15.0)


def _key_of_shard(pinger: Pinger, shard: int) -> PublicKey:
    """Returns a key of a slot that this shard of two has."""
    key = bytearray(pinger.pair.public)
    key[8] = shard
    return PublicKey(bytes(key))


def test_routes_name_who_has_a_kind_and_a_key(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(node, "routes")
    assert "key" not in answer
    rows = {row["kind"]: row for row in answer["rows"]}
    assert (rows["0x00"]["role"], rows["0x00"]["slot_byte"]) == ("dht", 9)
    assert (rows["0x04"]["role"], rows["0x04"]["slot_byte"]) == ("dht", None)
    assert not rows["0x1b"]["served"]
    assert rows["0xf0"]["served"]
    slots = answer["slots"]["dht"]
    assert (slots["shards"], slots["even"]) == (2, True)
    assert slots["ranges"]["1"][:2] == [[1, 1], [3, 3]]
    assert answer["slots"]["onion"]["ranges"] == {"0": [[0, 255]]}
    key = bytes(8) + b"\x07" + bytes(23)
    found = ask(node, "routes", key=key.hex())["key"]
    assert found["slot"] == slot_of(key) == 7
    assert found["owners"] == {"dht": "dht.1", "onion": "onion.0", "relay": "relay.0"}
    said = ops(capsys, node, "routes", "--key", key.hex())
    assert said.code == 0
    assert "has slot 7: dht.1, onion.0, relay.0" in said.out
    assert "dht.1    1, 3, 5, ..." in said.out
    assert "onion.0  all 256 slots" in said.out
    assert "messenger (not served)" in said.out
    wrong = ops(capsys, node, "routes", "--key", "12")
    assert (wrong.code, "64 hex digits" in wrong.err) == (3, True)


def test_keys_at_hand_are_counted(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    def keys() -> int:
        return sum(row["young"] + row["old"] for row in ask(node, "keys cache")["rows"])

    before = keys()
    with closing(Pinger(node.key, node.udp_port)) as pinger:
        assert pinger.answered(5.0)
        assert pinger.answered(5.0)
    assert keys() > before
    rows = ask(node, "keys cache")["rows"]
    assert [row["worker"] for row in rows] == NAMES[1:]  # a broker opens nothing
    assert any(row["hits"] and row["misses"] and 0 < row["hit_ratio"] < 1 for row in rows)
    said = ops(capsys, node, "keys-cache")
    assert said.code == 0
    assert "250,000" in said.out


def test_prefixes_are_counted_while_somebody_looks(node: Node) -> None:
    with closing(Pinger(node.key, node.udp_port)) as pinger:

        def seen() -> bool:
            assert pinger.answered(5.0)
            rows = ask(node, "prefixes")["rows"]
            return any(
                row["prefix"] == "127.0.0.0/24"
                and row["packets_per_s"] > 0
                and row["bytes_per_s"] == pytest.approx(82 * row["packets_per_s"], rel=0.2)
                for row in rows
            )

        until(seen, 10.0)


def test_each_command_starts_without_heavy_modules(node: Node) -> None:
    heavy = {"zmq", "pydantic", "nacl", "psutil", "core.packets", "core", "toxmesh.settings"}
    for words in ("workers", "drops", "queues", "routes", "keys-cache"):
        said = spawn("ops", words, "--state-dir", node.state_dir, options=("-X", "importtime"))
        assert said.code == 0
        loaded = {line.rsplit("|")[-1].strip() for line in said.err.splitlines() if "|" in line}
        assert not loaded & heavy


def test_without_a_node_each_command_is_exit_4(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    for words in ("workers", "drops", "queues", "routes", "keys-cache"):
        said = call(capsys, "ops", words, "--state-dir", empty)
        assert (said.code, said.out) == (4, "")
        assert "toxmesh run --state-dir" in said.err
