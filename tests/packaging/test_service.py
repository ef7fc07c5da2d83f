"""A real node under a service manager: ready, watchdog, sockets handed over, stop."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.crypto import PublicKey
from core.link import dispatch
from core.slots import SlotTable
from tests.cli.commands import CHECKOUT, spawn
from tests.packaging.manager import Manager
from tests.processes.node import Pinger, gone, until

pytestmark = pytest.mark.process

WORKERS = {"dht": 2, "onion": 1, "relay": 1}
NODE = [sys.executable, "-m", "toxmesh", "run", "--dev", "--workers"]
NODE.append(",".join(f"{role}={count}" for role, count in WORKERS.items()))


def udp(port: int = 0) -> socket.socket:
    row = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    row.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    row.bind(("127.0.0.1", port))
    return row


def tcp() -> socket.socket:
    row = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    row.bind(("127.0.0.1", 0))
    row.listen()
    return row


def node_status(state: Path) -> dict[str, object]:
    said = spawn("ops", "status", "--json", "--state-dir", state)
    answer: dict[str, object] = json.loads(said.out)["node"]
    return answer


def test_a_node_says_it_is_ready_feeds_the_watchdog_and_says_that_it_stops(tmp_path: Path) -> None:
    with Manager(tmp_path, watchdog_s=2.0) as manager:
        manager.start(
            [*NODE, "--state-dir", str(tmp_path / "state"), "--tcp-port", "0"], folder=CHECKOUT
        )
        manager.wait_for("READY=1")
        assert manager.wait_for("STATUS=0 packets/s, 0 relay clients, 0 DHT nodes, 5 of 5")
        manager.wait_for("WATCHDOG=1", 3.0)
        manager.wait_for("WATCHDOG=1", 3.0)
        children = [
            row["pid"]
            for row in json.loads(
                spawn("ops", "status", "--json", "--state-dir", tmp_path / "state").out
            )["workers"]
        ]
        for pid in children:  # only the supervisor may speak for the node
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environment
            assert b"WATCHDOG_USEC" not in environment
        code, _, log = manager.stop()
        assert code == 0, log
        manager.wait_for("STOPPING=1")


def test_a_worker_that_hangs_is_replaced_without_a_missed_watchdog(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Manager(tmp_path, watchdog_s=2.0) as manager:
        manager.start([*NODE, "--state-dir", str(state), "--tcp-port", "0"], folder=CHECKOUT)
        manager.wait_for("READY=1")
        said = json.loads(spawn("ops", "status", "--json", "--state-dir", state).out)
        pid = said["workers"][0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        until(lambda: gone(pid), 10)
        for _ in range(5):
            manager.wait_for("WATCHDOG=1", 2.0)
        assert manager.stop()[0] == 0


def children_of(pid: int) -> set[int]:
    return {int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def feed(manager: Manager, times: int, patience_s: float) -> None:
    for _ in range(times):
        manager.wait_for("WATCHDOG=1", patience_s)


@pytest.mark.slow
def test_the_watchdog_goes_hungry_while_a_worker_cannot_be_brought_back(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Manager(tmp_path, watchdog_s=2.0) as manager:
        manager.start([*NODE, "--state-dir", str(state), "--tcp-port", "0"], folder=CHECKOUT)
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1", 3.0)
        assert manager.process is not None
        node = manager.process.pid
        known = children_of(node)
        said = json.loads(spawn("ops", "status", "--json", "--state-dir", state).out)
        (hung,) = (row["pid"] for row in said["workers"] if row["name"] == "dht.0")
        os.kill(hung, signal.SIGSTOP)
        successor = until(lambda: min(children_of(node) - known, default=0), 10.0)
        os.kill(successor, signal.SIGSTOP)  # before it could say anything
        with pytest.raises(AssertionError, match=r"no 'WATCHDOG=1' in 6\.0 s"):
            feed(manager, 30, 6.0)  # systemd would have waited for 2 s
        os.kill(successor, signal.SIGCONT)
        manager.wait_for("WATCHDOG=1", 10.0)
        assert manager.stop()[0] == 0


def key_of(said: dict[str, object]) -> PublicKey:
    return PublicKey(bytes.fromhex(str(said["public_key"])))


@contextmanager
def serving(
    folder: Path, state: Path, rows: list[socket.socket], names: str
) -> Iterator[dict[str, object]]:
    """Runs a node on sockets that are handed over; yields what it says of itself."""
    folder.mkdir()
    with Manager(folder) as manager:
        manager.start([*NODE, "--state-dir", str(state)], rows, names, folder=CHECKOUT)
        manager.wait_for("READY=1")
        yield node_status(state)
        code, out, log = manager.stop()
        assert code == 0, log
        assert "was taken" not in log
        assert f"ready udp={rows[0].getsockname()[1]} " in out


def test_sockets_that_are_handed_over_outlive_the_node_with_what_they_queue(
    tmp_path: Path,
) -> None:
    lanes = dispatch.lanes({role: SlotTable.even(count) for role, count in WORKERS.items()})
    rows = [udp()]
    port = rows[0].getsockname()[1]
    rows += [udp(port) for _ in lanes]
    rows.append(tcp())
    names = ":".join([*["udp"] * (1 + len(lanes)), "tcp"])
    state = tmp_path / "state"
    with serving(tmp_path / "first", state, rows, names) as said:
        assert said["udp_port"] == port
        assert said["tcp_ports"] == [rows[-1].getsockname()[1]]
        assert said["dispatch"] == "kernel"
        pinger = Pinger(key_of(said), port)
        assert pinger.answered(2.0)
        pinger.close()
    pinger = Pinger(key_of(said), port)
    pinger.socket.sendto(pinger.request()[1], ("127.0.0.1", port))  # no node is there now
    with serving(tmp_path / "second", state, rows, names):
        pinger.socket.settimeout(2.0)
        assert pinger.socket.recv(2048)[:1] == b"\x01"
    pinger.close()
    for row in rows:
        row.close()


def test_a_wrong_socket_is_one_sentence_and_exit_3(tmp_path: Path) -> None:
    with Manager(tmp_path) as manager, udp() as row:
        manager.start(
            [*NODE, "--state-dir", str(tmp_path / "state")], [row], "tcp", folder=CHECKOUT
        )
        assert manager.process is not None
        _, err = manager.process.communicate(timeout=20)
        assert manager.process.returncode == 3
        lines = [line for line in err.splitlines() if line.startswith("toxmesh: ")]
        assert lines == [
            "toxmesh: the socket handed over as tcp is of the other kind;"
            " its FileDescriptorName= says what it is not"
        ]
