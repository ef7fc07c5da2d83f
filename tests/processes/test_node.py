"""What only real processes can show: they answer, die, hang, come back and stop in order."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.node import Node, Pinger, free_port, gone, open_files, running, until

pytestmark = pytest.mark.process


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with two dht workers."""
    with running(tmp_path / "state", workers="dht=2,onion=0,relay=0") as node:
        yield node


def pinger_of_shard(node: Node, shard: int) -> Pinger:
    """Makes a client whose key belongs to a shard (slots alternate between the shards)."""
    while True:
        pinger = Pinger(node.key, node.udp_port)
        if pinger.pair.public[8] % 2 == shard:
            return pinger
        pinger.close()


def sent(node: Node, kind: str) -> int:
    """Returns how many datagrams of a kind the node has sent."""
    return int(node.status()["totals"]["kinds"].get(kind, {}).get("sent", 0))


def received(node: Node, kind: str) -> int:
    """Returns how many datagrams of a kind the node has received."""
    return int(node.status()["totals"]["kinds"].get(kind, {}).get("received", 0))


def test_every_shard_answers_pings_and_the_status_tells_of_them(node: Node) -> None:
    for shard in (0, 1):
        pinger = pinger_of_shard(node, shard)
        assert until(pinger.answered, 5)
        pinger.close()
    assert node.ready_line == f"ready udp={node.udp_port} tcp=0 key={node.key.hex().upper()}"
    until(lambda: sent(node, "0x01") >= 2 and received(node, "0x00") >= 2, 3)
    answer = node.status()
    assert answer["node"]["state"] == "good"
    assert [row["name"] for row in answer["workers"]] == ["dht.0", "dht.1"]
    assert (node.state_dir / "control.sock").stat().st_mode & 0o777 == 0o600
    assert (node.state_dir / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["dht.0", "dht.1", "broker"])
def test_a_killed_process_is_back_within_two_seconds_and_nothing_else_restarts(
    node: Node, name: str
) -> None:
    pinger = pinger_of_shard(node, 1 if name == "dht.1" else 0)
    assert until(pinger.answered, 5)
    others = {pid for pid in node.children() if pid != node.child(name)["pid"]}
    pid = node.child(name)["pid"]
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: gone(pid), 1)

    def back() -> bool:
        row = node.child(name)
        return bool(row["restarts"] == 1 and row["state"] == "good")

    until(back, 2)
    assert until(lambda: pinger.answered(0.1), 2)
    assert time.monotonic() - killed < 2
    pinger.close()
    assert others < set(node.children())
    assert node.status()["node"]["state"] == "good"


def test_a_worker_that_hangs_is_replaced_within_five_seconds(node: Node) -> None:
    pinger = pinger_of_shard(node, 1)
    assert until(pinger.answered, 5)
    pid = node.child("dht.1")["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert until(lambda: pinger.answered(0.1), 5)
    assert gone(pid)
    assert node.child("dht.1")["restarts"] == 1
    assert node.child("dht.0")["restarts"] == 0
    pinger.close()


def test_a_worker_that_dies_again_and_again_comes_back_ever_later_and_the_node_says_degraded(
    node: Node,
) -> None:
    files = 0
    for restarts in range(1, 5):
        os.kill(node.child("dht.1")["pid"], signal.SIGKILL)
        until(lambda: node.child("dht.1")["restarts"] == restarts, 2)  # noqa: B023
        if restarts == 4:
            assert node.status()["node"]["state"] == "degraded"
        until(lambda: node.child("dht.1")["state"] == "good", 4)
        files = files or open_files(node.process.pid)
    assert node.child("dht.0")["restarts"] == 0
    assert open_files(node.process.pid) <= files + 1  # who asked last may not be gone yet
    assert len(list((node.state_dir / "run").iterdir())) == 3


def test_no_secret_stands_in_arguments_environment_or_readable_files(node: Node) -> None:
    secret = (node.state_dir / "keys").read_bytes()[32:]
    for pid in [node.process.pid, *node.children()]:
        for name in ("cmdline", "environ"):
            data = Path(f"/proc/{pid}/{name}").read_bytes()
            assert secret not in data
            assert secret.hex().encode() not in data.lower()
    assert secret.hex() not in str(node.status()).lower()


def test_sigterm_stops_all_in_order_within_five_seconds(node: Node) -> None:
    pids = node.children()
    began = time.monotonic()
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(6) == 0
    assert time.monotonic() - began < 5
    assert all(gone(pid) for pid in pids)
    assert not (node.state_dir / "control.sock").exists()
    assert not (node.state_dir / "run").exists()


def test_sighup_changes_nothing_and_ctrl_c_stops_in_order(node: Node) -> None:
    pids = node.children()
    node.process.send_signal(signal.SIGHUP)
    for pid in pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    pinger = pinger_of_shard(node, 0)
    assert until(pinger.answered, 3)
    pinger.close()
    assert node.children() == pids
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait(6) == 0


def test_a_killed_supervisor_leaves_no_process(node: Node) -> None:
    pids = node.children()
    node.process.kill()
    node.process.wait()
    until(lambda: all(gone(pid) for pid in pids), 5)
    with running(node.state_dir) as successor:  # and nothing that it left is in the way
        assert successor.status()["node"]["state"] == "good"


def test_a_node_stops_within_five_seconds_though_a_worker_hangs(node: Node) -> None:
    os.kill(node.child("dht.1")["pid"], signal.SIGSTOP)
    began = time.monotonic()
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(7) == 0
    assert time.monotonic() - began < 5


def test_a_taken_port_is_said_in_one_sentence_with_exit_code_3(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        line = [sys.executable, "-m", "toxmesh", "run", "--dev", "--state-dir", str(tmp_path / "s")]
        line += ["--udp-port", str(port), "--tcp-port", "0", "--workers", "dht=1,onion=0,relay=0"]
        result = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 3
    assert f"UDP port {port} on 127.0.0.1 is taken by another process" in result.stderr
    assert result.stdout == ""


def test_bootstrap_info_is_answered_within_its_budget(tmp_path: Path) -> None:
    with (
        running(tmp_path / "state", "--tcp-port", "0", "--motd", "hello") as node,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(2)
        client.sendto(b"\xf0" + bytes(77), ("127.0.0.1", node.udp_port))
        answer = client.recv(2048)
        assert answer[0] == 0xF0
        assert int.from_bytes(answer[1:5], "big") // 1_000_000_000 == 2
        assert answer[5:] == b"hello\0"
        client.sendto(b"\xf0" + bytes(76), ("127.0.0.1", node.udp_port))
        for _ in range(40):
            client.sendto(b"\xf0" + bytes(77), ("127.0.0.1", node.udp_port))
        client.sendto(b"\x1b" + bytes(60), ("127.0.0.1", node.udp_port))
        client.sendto(b"\x77" + bytes(60), ("127.0.0.1", node.udp_port))
        client.sendto(b"", ("127.0.0.1", node.udp_port))
        client.sendto(bytes(2100), ("127.0.0.1", node.udp_port))
        drops = until(
            lambda: (
                "unknown_kind:0x77" in (rows := node.status()["totals"]["drops"])
                and "too_long" in rows
                and rows
            ),
            3,
        )
        assert drops["budget:0xf0"] >= 20
        assert drops["bad_size:0xf0"] == 1
        assert drops["not_served:0x1b"] == 1
        assert drops["empty"] == 1
        assert drops["too_long"] == 1


def test_the_control_door_refuses_what_it_does_not_know(node: Node) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(3)
        door.connect(str(node.state_dir / "control.sock"))
        for request, error in (
            (b"no json\n", b"not JSON"),
            (b'{"version": 9, "request": "status"}\n', b"version 1"),
            (b'{"version": 1, "request": "dance"}\n', b"no such request: dance"),
        ):
            door.sendall(request)
            answer = door.recv(4096)
            assert b'"ok":false' in answer
            assert error in answer


def test_two_ports_that_differ_are_both_served(tmp_path: Path) -> None:
    """IPv4 and IPv6 have a socket each, and answers leave through the one they came to."""
    with running(
        tmp_path / "state", "--tcp-port", "0", "--listen", "127.0.0.1", "--listen", "::1"
    ) as node:
        pinger = Pinger(node.key, node.udp_port)
        assert until(pinger.answered, 5)
        pinger.close()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            client.settimeout(3)
            client.sendto(b"\xf0" + bytes(77), ("::1", node.udp_port))
            assert client.recv(2048)[0] == 0xF0
            _, packet = Pinger(node.key, node.udp_port).request()
            client.sendto(packet, ("::1", node.udp_port))
            assert client.recv(2048)[0] == 0x01
        assert len(node.status()["node"]["addresses"]) == 2
        assert free_port() != node.udp_port


def connected(node: Node) -> bool:
    """Tells whether the node's dht.0 knows a node that answers."""
    table = node.status()["modules"]["dht.0"].get("table", {})
    return bool(table.get("connected"))


def test_a_node_finds_another_by_host_name_and_again_after_a_restart_and_a_kill(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "other") as other:
        place = f"localhost:{other.udp_port}:{other.key.hex()}"
        with running(tmp_path / "s", "--tcp-port", "0", "--bootstrap", place) as node:
            until(lambda: connected(node), 15)
            until((tmp_path / "s" / "nodes.db").exists, 10)  # saved while it runs
            os.kill(node.child("dht.0")["pid"], signal.SIGKILL)
            until(lambda: node.child("dht.0")["restarts"] == 1, 2)
            until(lambda: connected(node), 15)
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(6) == 0
        with running(tmp_path / "s") as again:  # nobody tells it where to begin
            until(lambda: connected(again), 15)
