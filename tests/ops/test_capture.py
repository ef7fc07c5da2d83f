"""`ops capture` of a real node: what comes and leaves, filtered, decoded, and as a file."""

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from core import endpoint
from ops import capture, client, pcap
from ops.kinds import FRAMES
from tests.cli.commands import Said, call, spawn
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, free_port, running, until
from tests.processes.streams import Stream

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", params=["kernel", "broker"])
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("capture") / "state"
    options = ("--tcp-port", "0", "--http", "off", "--dispatch", request.param)
    with running(folder, *options, workers="dht=1,onion=1,relay=0") as node:
        yield node


@contextmanager
def traffic(node: Node) -> Iterator[Pinger]:
    """Lets somebody ping all the time."""
    over = threading.Event()

    def ping() -> None:
        while not over.is_set():
            pinger.answered(0.1)
            over.wait(0.01)

    with closing(Pinger(node.key, node.udp_port)) as pinger:
        thread = threading.Thread(target=ping)
        thread.start()
        try:
            yield pinger
        finally:
            over.set()
            thread.join()


def ops(capsys: pytest.CaptureFixture[str], node: Node, *words: object) -> Said:
    return call(capsys, "ops", "capture", *words, "--state-dir", node.state_dir)


def test_pings_and_answers_are_shown_decoded(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    with traffic(node) as pinger:
        key = pinger.pair.public.hex().upper()
        said = ops(capsys, node, "--kind", "ping-request", "--kind", "0x01", "-n", 6)
        assert said.code == 0
        assert len(said.out.splitlines()) == 6
        assert f"0x00 ping request, 82 bytes  sender {key[:16]}" in said.out
        assert f"0x01 ping response, 82 bytes  sender {node.key.hex().upper()[:16]}" in said.out
        assert said.err.startswith("6 packets")
        fields = ops(capsys, node, "--kind", "0", "-n", 1, "--direction", "in", "--fields")
        assert f"sender  {key}" in fields.out
        assert "sealed: PingRequestBody" in fields.out
        lines = ops(capsys, node, "--key", key[:16], "-n", 3, "--json").out.splitlines()
        for line in lines:
            row = json.loads(line)
            assert differences(shapes.COMMANDS["capture"].answer, row) == []
            assert differences(shapes.COMMANDS["decode"].answer, row["packet"]) == []
            assert row["packet"]["packet"] == "PingRequest"
            assert row["packet"]["fields"][0]["value"] == key
            assert row["direction"] == "in"
            assert len(row["data"]) == 2 * 82


def test_what_does_not_match_is_not_shown(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    with traffic(node):
        for words in (
            ["--kind", "lan-discovery"],
            ["--key", "00" * 8 + "FF" * 8],
            ["--addr", "192.0.2.0/24"],
            ["--addr", "127.0.0.1:9"],
        ):
            said = ops(capsys, node, *words, "--for", "1s")
            assert (said.code, said.out) == (1, "")
        assert ops(capsys, node, "--addr", "127.0.0.0/8", "-n", 1).code == 0


def test_what_is_no_packet_is_shown_as_such(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            while not over.wait(0.05):
                stranger.sendto(b"\x77 no packet", ("127.0.0.1", node.udp_port))

    thread = threading.Thread(target=send)
    thread.start()
    said = ops(capsys, node, "--kind", "0x77", "-n", 1)
    line = ops(capsys, node, "--kind", "0x77", "-n", 1, "--json")
    over.set()
    thread.join()
    assert "0x77 no packet of Tox, 11 bytes" in said.out
    assert "no packet begins with 0x77" in said.out
    row = json.loads(line.out)
    assert row["packet"] is None
    assert differences(shapes.COMMANDS["capture"].answer, row) == []


def test_frames_of_relay_clients_are_shown_and_nothing_that_they_carry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = b"what one tells the other"
    over = threading.Event()
    port = free_port(socket.SOCK_STREAM)
    options = ("--tcp-port", str(port), "--http", "off")
    with ExitStack() as stack:
        node = stack.enter_context(
            running(tmp_path / "s", *options, workers="dht=1,onion=0,relay=2")
        )
        one, other = (stack.enter_context(closing(Stream(node))) for _ in range(2))
        one.confirmed()
        other.confirmed()
        one.send(b"\x00" + other.keys.public)
        other.send(b"\x00" + one.keys.public)
        until(lambda: one.pull(0.05) and any(row[0] == 2 for row in one.client.packets), 10)
        place = f"127.0.0.1:{other.socket.getsockname()[1]}"

        def talk() -> None:
            while not over.wait(0.02):
                one.send(b"\x04" + bytes(7) + b"\x01", b"\x10" + secret)

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            data = ops(capsys, node, "--kind", "relay-data", "--key", other.key[:16], "-n", 3)
            lines = ops(capsys, node, "--transport", "tcp", "--key", one.key, "-n", 9, "--json")
            ping = ops(capsys, node, "--kind", "relay-ping", "-n", 1, "--fields")
            none = ops(capsys, node, "--transport", "tcp", "--addr", "192.0.2.0/24", "--for", "1s")
        finally:
            over.set()
            thread.join()
    assert data.code == 0
    for line in data.out.splitlines():
        assert f"to   {place}" in line
        assert f"relay data, {1 + len(secret)} bytes  client {other.key[:16]}" in line
    rows = [json.loads(line) for line in lines.out.splitlines()]
    assert {(row["direction"], row["data"][:2]) for row in rows} >= {("in", "04"), ("out", "05")}
    for row in rows:
        assert differences(shapes.COMMANDS["capture"].answer, row) == []
        assert (row["transport"], row["client"]) == ("tcp", one.key)
        if row["packet"] is not None:
            assert differences(shapes.COMMANDS["decode"].answer, row["packet"]) == []
            assert row["packet"]["packet"] in ("RelayPing", "RelayPong")
    assert any(row["packet"] is None and row["size"] == 1 + len(secret) for row in rows)
    assert secret.hex().upper() not in lines.out
    assert "RelayPing (0x04), 9 bytes, relay" in ping.out
    assert (none.code, none.out) == (1, "")


def test_a_file_for_wireshark_has_both_directions(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.pcap"
    with traffic(node) as pinger:
        said = ops(capsys, node, "--pcap", file, "-n", 8)
        port = pinger.socket.getsockname()[1]
    assert (said.code, said.out) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open("rb") as stream:
        rows = list(pcap.Reader(stream))
    assert len(rows) == 8
    ports = {(endpoint.port_of(row.source), endpoint.port_of(row.destination)) for row in rows}
    assert {(port, node.udp_port), (node.udp_port, port)} <= ports
    assert {row.payload[0] for row in rows} >= {0, 1}
    assert ops(capsys, node, "--pcap", tmp_path / "no" / "file", "-n", 1).code == 2


def test_the_answer_and_its_events_are_as_they_are_described(node: Node) -> None:
    answers: list[dict[str, Any]] = []
    args = {
        "kinds": [0], "frames": [], "transport": "all", "key": "", "network": "127.0.0.1",
        "port": 0, "direction": "both", "count": 3, "rate": 50,
    }  # fmt: skip
    described = shapes.REQUESTS["capture"]
    assert described.full
    assert set(args) == set(described.arguments)
    with traffic(node), closing(
        client.follow(node.state_dir, "capture", args, begin=answers.append)
    ) as events:
        event = next(events)
    assert differences(described.answer, answers[0]) == []
    assert event.name == "capture"
    assert differences(shapes.EVENTS["capture"].answer, event.data) == []
    assert event.data["id"] == answers[0]["id"]
    started_ms = int(node.status()["node"]["started_s"] * 1000)
    assert answers[0]["id"] >= started_ms - 60_000  # no number of a supervisor before this one


def test_eight_run_at_a_time_and_who_leaves_makes_room(node: Node) -> None:
    def begin(stack: ExitStack) -> bool:
        rows = stack.enter_context(
            closing(client.follow(node.state_dir, "capture", {"kinds": [255]}, seconds=0.05))
        )
        try:
            next(rows)
        except client.TooLong:  # it runs, and nothing came
            return True
        except client.AskError as error:
            if "8 captures run already" in str(error):
                return False
            raise
        return True

    doors = [_open(node) for _ in range(8)]
    with ExitStack() as stack:
        assert not begin(stack)
        doors.pop().close()
        until(lambda: begin(stack), 5.0)
    for door in doors:
        door.close()


def _open(node: Node) -> socket.socket:
    """Begins a capture and keeps its connection open."""
    door = socket.socket(socket.AF_UNIX)
    door.connect(str(node.state_dir / "control.sock"))
    door.sendall(b'{"version": 1, "request": "capture", "args": {"kinds": [255]}}\n')
    assert json.loads(door.recv(4096))["ok"]
    return door


def test_a_worker_that_begins_meanwhile_is_looked_at_too(node: Node) -> None:
    with traffic(node), closing(
        client.follow(node.state_dir, "capture", {"kinds": [1]}, seconds=30.0)
    ) as events:
        assert next(events).data["from"] == "dht.0"
        pid = node.child("dht.0")["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: node.child("dht.0")["pid"] not in (pid, None), 15.0)
        now = node.status()["node"]["started_s"] + node.status()["node"]["uptime_s"]
        assert any(event.at > now for event in events)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "zz"], "write 0x02 or nodes-request"),
        (["--kind", "256"], "write 0x02 or nodes-request"),
        (["--addr", "here"], "write 192.0.2.1, 192.0.2.0/24"),
        (["--key", "12"], "8 to 64 hex digits"),
        (["--count", "0"], "0 is not in the range"),
        (["--transport", "tcp", "--pcap", "x.pcap"], "leave --transport or --pcap out"),
        (["--transport", "tcp", "--kind", "nodes-request"], "no packet of these kinds"),
    ],
)
def test_wrong_words_are_exit_3(
    node: Node, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ops(capsys, node, *words)
    assert answer.code == 3
    assert said in answer.err


def test_kinds_are_named_as_operators_write_them() -> None:
    kind = capture.Kind()
    names = ("0x02", "2", "nodes-request", "nodes_request", "Nodes Request")
    assert [kind.convert(name, None, None) for name in names] == [(2, 2)] * 2 + [(2, None)] * 3
    assert kind.convert("bootstrap-info", None, None) == (0xF0, None)
    assert kind.convert("0x77", None, None) == (0x77, None)
    assert kind.convert("relay-data", None, None) == (None, 0x10)
    named = set((capture.command.help or "").replace(",", " ").replace(".", " ").split())
    assert {name.replace(" ", "-") for name in FRAMES.values()} <= named


def test_no_node_is_exit_4_and_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    said = spawn("ops", "capture", "--state-dir", tmp_path, options=("-X", "importtime"))
    assert said.code == 4
    loaded = {line.rsplit("|")[-1].strip() for line in said.err.splitlines() if "|" in line}
    assert not loaded & {"zmq", "pydantic", "nacl", "psutil", "core.packets", "core"}
