"""2,000 relay clients in pairs send while workers are killed, halted, replaced: nothing is lost."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.crypto import KeyPair
from core.entropy import SystemEntropy
from ops import client
from tests.processes.node import Node, free_port, gone, running, until
from tests.processes.pairs import Pairs, Seen
from tests.relay.client import RelayClient
from toxmesh.bench.clients import Clients, make_rows

pytestmark = [pytest.mark.process, pytest.mark.slow]
CONNECTIONS = 2000
WORKERS = "dht=1,onion=1,relay=2"
SIZE, IN_FLIGHT = 200, 2
LONGEST_S = 120.0
RELAYS = ("relay.0", "relay.1")


def back(node: Node, name: str, old: int) -> bool:
    row = node.child(name)
    return row["state"] == "good" and row["pid"] not in (0, old)


def kill(node: Node, name: str, number: signal.Signals, within_s: float) -> float:
    """Sends a signal to a worker; returns after how many seconds there is another one."""
    old, begin = node.child(name)["pid"], time.monotonic()
    os.kill(old, number)
    until(lambda: back(node, name, old), within_s)
    return time.monotonic() - begin


def story(
    tmp_path: Path, change: Callable[[Node], None], capsys: pytest.CaptureFixture[str]
) -> tuple[Seen, dict[str, Any]]:
    """Lets the pairs send while the node is changed; returns what they saw, and its status."""
    port = free_port()
    with running(tmp_path, "--tcp-port", str(port), workers=WORKERS) as node:
        load = Pairs(
            Clients(node.key, make_rows(node.key, CONNECTIONS)), ("127.0.0.1", port), 80
        )
        assert load.connect_pairs(CONNECTIONS, timeout=60.0) == CONNECTIONS
        failed: list[BaseException] = []

        def act() -> None:
            try:
                time.sleep(1.0)  # let all pairs send first
                change(node)
            except BaseException as error:  # told in the test's own thread
                failed.append(error)
            load.brake.pulled = True

        acting = threading.Thread(target=act)
        acting.start()
        seen = load.run(SIZE, IN_FLIGHT, LONGEST_S)
        acting.join()
        with capsys.disabled():
            print(f"\n{seen}")
        if failed:
            raise failed[0]
        assert len(load.connections) == CONNECTIONS
        assert seen.frames > 20 * CONNECTIONS
        load.close()
        status = node.status()
    assert (seen.closed, seen.unread, seen.notices) == ([], [], 0)
    assert (seen.lost, seen.doubled) == (0, 0)
    drops = status["totals"]["drops"]
    assert {reason: n for reason, n in drops.items() if "lost" in reason or "bug" in reason} == {}
    return seen, status


def test_killing_relay_workers_loses_no_connection_and_no_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(node: Node) -> None:
        for name in RELAYS * 2:
            kill(node, name, signal.SIGKILL, 10.0)
            time.sleep(1.0)

    _, status = story(tmp_path, change, capsys)
    assert sum(row["restarts"] for row in status["workers"]) == 4


def test_halting_relay_workers_loses_no_connection_and_no_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(node: Node) -> None:
        for name in RELAYS:
            kill(node, name, signal.SIGSTOP, 20.0)
            time.sleep(1.0)

    _, status = story(tmp_path, change, capsys)
    assert sum(row["restarts"] for row in status["workers"]) == 2


def test_replacing_every_process_in_turn_loses_no_connection_and_no_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(node: Node) -> None:
        for _ in range(2):
            client.ask(tmp_path, "worker restart", {"name": "*"}, timeout_s=120)

    _, status = story(tmp_path, change, capsys)
    assert sum(row["restarts"] for row in status["workers"]) == 0


def shakes_hands(node: Node, port: int) -> bool:
    """Connects to the relay, and tells whether the answer to a hello comes."""
    client = RelayClient(node.key, KeyPair.generate(SystemEntropy()), SystemEntropy())
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as stream:
        stream.sendall(client.hello())
        try:
            while not client.ready:
                data = stream.recv(4096)
                if not data:
                    return False
                client.receive(data)
        except ConnectionError:
            return False
    return True


def test_a_killed_broker_is_back_within_half_a_second(tmp_path: Path) -> None:
    port, took = free_port(), []
    with running(tmp_path, "--tcp-port", str(port), workers=WORKERS) as node:
        for _ in range(3):
            assert shakes_hands(node, port)
            old, begin = node.child("broker")["pid"], time.monotonic()
            os.kill(old, signal.SIGKILL)
            until(partial(gone, old), 5.0)
            assert shakes_hands(node, port)  # the listener never closes: who calls now is answered
            took.append(time.monotonic() - begin)
            until(partial(back, node, "broker", old), 10.0)
        rows = node.status()["workers"]
    assert min(took) <= 0.5, took  # the later ones wait 0.1 and 0.2 s for their turn besides
    assert max(took) <= 2.0, took
    assert sum(row["restarts"] for row in rows) == 0
