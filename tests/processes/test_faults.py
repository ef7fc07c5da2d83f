"""Workers that fail: poison datagrams, bugs, receivers that are slower than those who tell them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.node import Node, Pinger, free_port, gone, running, until
from tests.processes.odd_worker import ORDER, TOLD

pytestmark = pytest.mark.process


DISPATCH = ("kernel", "broker")


@pytest.fixture(params=DISPATCH)
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    """A node of two workers that obey datagrams."""
    state_dir = tmp_path / "state"
    line = [sys.executable, "-m", "tests.processes.odd_worker", "run"]
    process = subprocess.Popen(
        [*line, str(state_dir), str(free_port()), request.param],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Node(process, state_dir)
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as row:
        row.settimeout(0.2)
        yield row


def order(client: socket.socket, node: Node, word: bytes, shard: int = 0) -> None:
    """Sends an order to a shard: byte 9 of a datagram is the slot byte of its key."""
    packet = bytearray(ORDER) + word
    packet[9] = shard
    client.sendto(packet, ("127.0.0.1", node.udp_port))


def echoed(client: socket.socket, node: Node, shard: int = 0) -> bool:
    order(client, node, b"echo", shard)
    try:
        return client.recv(2048).endswith(b"echo")
    except TimeoutError:
        return False


def test_a_datagram_that_kills_its_worker_is_never_given_to_the_successor(
    odd: Node, client: socket.socket
) -> None:
    other = odd.child("dht.0")["pid"]
    order(client, odd, b"die", 1)
    until(lambda: odd.child("dht.1")["restarts"] == 1, 3)
    assert until(lambda: echoed(client, odd, 1), 3)
    assert odd.child("dht.1")["restarts"] == 1
    assert odd.child("dht.0")["pid"] == other
    drops = until(
        lambda: "lost_in_worker:dht" in (rows := odd.status()["totals"]["drops"]) and rows, 3
    )
    assert drops["lost_in_worker:dht"] == 1


def test_bugs_are_counted_and_outlived_and_ten_in_ten_seconds_end_the_worker(
    odd: Node, client: socket.socket
) -> None:
    for word in (b"wire", b"rule", *[b"bug"] * 9):
        order(client, odd, word)
    assert until(lambda: echoed(client, odd), 3)
    drops = until(lambda: (rows := odd.status()["totals"]["drops"]).get("bug") == 9 and rows, 10)
    assert drops == {"bug": 9, "wire:Odd": 1, "odd_rule": 1}
    assert odd.child("dht.0")["restarts"] == 0
    order(client, odd, b"bug")
    until(lambda: odd.child("dht.0")["restarts"] == 1, 10)
    assert until(lambda: echoed(client, odd), 10)
    assert odd.child("dht.1")["restarts"] == 0


def test_ten_thousand_messages_to_a_busy_worker_arrive_in_order_or_are_counted(
    odd: Node, client: socket.socket
) -> None:
    order(client, odd, b"tell")

    def accounted() -> bool:
        answer = odd.status()
        heard = answer["modules"]["dht.1"].get("heard", 0)
        return bool(heard + answer["totals"]["drops"].get("told_full:dht", 0) == TOLD)

    until(accounted, 10)
    answer = odd.status()
    assert answer["modules"]["dht.1"]["heard"] >= TOLD - 2000
    assert answer["modules"]["dht.1"]["in_order"]
    assert answer["modules"]["dht.1"]["raw"] == "01"
    assert until(lambda: echoed(client, odd), 3)


@pytest.mark.alone
@pytest.mark.parametrize("dispatch", DISPATCH)
def test_a_flood_at_a_worker_that_hangs_is_answered_or_counted_to_the_last_datagram(
    tmp_path: Path, dispatch: str
) -> None:
    options = ("--tcp-port", "0", "--dispatch", dispatch)
    with running(tmp_path / "state", *options, workers="dht=2,onion=0,relay=0") as node:
        pinger = Pinger(node.key, node.udp_port)
        while pinger.pair.public[8] % 2 == 0:
            pinger.close()
            pinger = Pinger(node.key, node.udp_port)
        pid = node.child("dht.1")["pid"]
        os.kill(pid, signal.SIGSTOP)
        packet = pinger.request()[1]
        for sent in range(1, 14_001):
            pinger.socket.sendto(packet, ("127.0.0.1", node.udp_port))
            if sent % 100 == 0:  # the kernel's own queue is not to overflow
                time.sleep(0.003)
        full = "queue_full:query" if dispatch == "broker" else "kernel_full:dht:query"
        until(lambda: node.status()["totals"]["drops"].get(full, 0) > 1000, 2.5)
        until(lambda: gone(pid), 5)

        def accounted() -> bool:
            drops = node.status()["totals"]["drops"]
            reasons = (full, "lost_in_worker:dht", "new_key:prefix")
            lost = sum(drops.get(reason, 0) for reason in reasons)
            count = kind(node, "0x00", "received")
            if dispatch == "kernel":  # what the kernel dropped nobody has received
                count += drops[full]
            return count > 13_000 and kind(node, "0x01", "sent") + int(lost) == count

        until(accounted, 5)
        pinger.close()


def kind(node: Node, name: str, way: str) -> int:
    """Returns how many datagrams of a kind the node has received or sent."""
    return int(node.status()["totals"]["kinds"].get(name, {}).get(way, 0))
