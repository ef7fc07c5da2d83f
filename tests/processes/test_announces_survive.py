"""Announce entries of a real node outlive the worker that keeps them."""

import os
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from core.crypto import KeyPair
from ops import client as door
from tests.onion.client import AnnounceAnswer, Client, group_announce
from tests.processes.node import Node, running, until

pytestmark = pytest.mark.process
COUNT = 400
RETURN = bytes(range(177))
CHAT = b"\x07" * 32
RELAY = b"\x82" + b"\xc6\x33\x64\x4d" + b"\x11\x5c" + b"r" * 32


class Talk:
    """A third hop with a socket, through which clients announce and search."""

    def __init__(self, node: Node) -> None:
        self.key = bytes(node.key)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", node.udp_port))

    def ask(
        self,
        client: Client,
        requester: KeyPair,
        searched: bytes,
        ping_id: bytes = bytes(32),
        group: bytes | None = None,
    ) -> AnnounceAnswer | None:
        """Sends one request and returns its answer, or None where none comes within 0.3 s."""
        packet = client.announce_request(
            self.key, requester, searched, ping_id, client.data.public, group=group
        )
        self.socket.send(packet + RETURN)
        end = time.monotonic() + 0.3
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(2048)
            except TimeoutError:
                return None
            if data[:1] == b"\x8c":
                return client.open_announce(requester, self.key, data[178:])
        return None

    def sure(
        self,
        client: Client,
        requester: KeyPair,
        searched: bytes,
        ping_id: bytes = bytes(32),
        group: bytes | None = None,
    ) -> AnnounceAnswer:
        """The same, asked again as clients do until there is an answer."""
        for _ in range(40):
            answer = self.ask(client, requester, searched, ping_id, group)
            if answer is not None:
                return answer
        raise AssertionError("no answer to 40 requests")


class Town(NamedTuple):
    """A node with clients that have announced themselves."""

    node: Node
    talk: Talk
    clients: list[Client]
    seeker: Client

    def announce(self) -> None:
        for client in self.clients:
            own = client.real.public
            first = self.talk.sure(client, client.real, own)
            assert self.talk.sure(client, client.real, own, first.payload).is_stored == 2

    def missing(self) -> list[int]:
        """Searches for all of them; returns the numbers of those that are not found."""
        seeker, found = self.seeker, []
        for number, client in enumerate(self.clients):
            answer = self.talk.sure(seeker, seeker.dht, client.real.public)
            if answer.is_stored != 1 or answer.payload != client.data.public:
                found.append(number)
        return found

    def entries(self, name: str = "announce_entries") -> int:
        modules = self.node.status()["modules"]
        return sum(part.get(name, 0) for part in modules.values())


def town(node: Node) -> Town:
    clients = [Client(f"survivor {number}") for number in range(COUNT)]
    made = Town(node, Talk(node), clients, Client("seeker"))
    made.announce()
    assert made.missing() == []
    return made


def new_process(node: Node, name: str, old: int) -> bool:
    row = node.child(name)
    return row["state"] == "good" and row["pid"] not in (0, old)


@pytest.mark.parametrize("workers", ["dht=1,onion=1,relay=0", "dht=1,onion=3,relay=0"])
def test_entries_are_found_again_after_each_onion_worker_was_killed(
    tmp_path: Path, workers: str
) -> None:
    with running(tmp_path, workers=workers) as node:
        here = town(node)
        names = [row["name"] for row in node.status()["workers"] if row["role"] == "onion"]
        for name in names:
            old = node.child(name)["pid"]
            os.kill(old, signal.SIGKILL)
            until(partial(new_process, node, name, old), 10.0)
        assert here.missing() == []
        until(lambda: here.entries("announces_taken_over") == COUNT, 5.0)
        assert here.entries() == COUNT
        drops = node.status()["totals"]["drops"]
        assert "announce_torn" not in drops
        here.talk.socket.close()


def test_entries_and_group_announces_are_handed_over_when_workers_are_restarted(
    tmp_path: Path,
) -> None:
    with running(tmp_path, workers="dht=1,onion=2,relay=0") as node:
        here = town(node)
        talk, peers = here.talk, [bytes([number]) * 32 for number in range(1, 4)]
        for peer in peers:
            announce = CHAT + group_announce(peer, b"", RELAY)
            talk.sure(here.seeker, here.seeker.dht, CHAT, group=announce)
        for _ in range(2):
            door.ask(tmp_path, "worker restart", {"name": "*"}, timeout_s=60)
        assert here.missing() == []
        until(lambda: here.entries() == COUNT, 5.0)
        asker = CHAT + group_announce(b"\x09" * 32, b"", RELAY)
        answer = talk.sure(here.seeker, here.seeker.dht, CHAT, group=asker)
        for peer in peers:
            assert group_announce(peer, b"", RELAY) in answer.rest
        assert sum(row["restarts"] for row in node.status()["workers"]) == 0
        talk.socket.close()
