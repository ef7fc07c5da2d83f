"""What clients announce at a real node outlives the worker that keeps it."""

import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from core.crypto import KeyPair
from core.onion.data_announce import MIN_LIFE_S
from core.packets.data import DataSearchResponseBody
from ops import client as door
from tests.onion.client import AnnounceAnswer, Client, DataAnswer, group_announce
from tests.processes.node import Node, running, until

pytestmark = pytest.mark.process
COUNT = 400
RETURN = bytes(range(177))
CHATS, PEERS, DATA = 12, 3, 16
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
        data = self._answer(packet + RETURN, b"\x8c")
        return None if data is None else client.open_announce(requester, self.key, data[178:])

    def _answer(self, packet: bytes, kind: bytes) -> bytes | None:
        self.socket.send(packet)
        end = time.monotonic() + 0.3
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(2048)
            except TimeoutError:
                return None
            if data[:1] == kind:
                return data
        return None

    def data(self, client: Client, packet: bytes) -> DataAnswer:
        """Sends a request about data until there is an answer."""
        for _ in range(40):
            data = self._answer(packet, bytes((packet[0] + 1,)))
            if data is not None:
                return client.open_data_answer(self.key, data)
        raise AssertionError("no answer to 40 requests")

    def search(self, client: Client, data_key: bytes) -> DataSearchResponseBody:
        """Searches for data."""
        answer = self.data(client, client.data_search(self.key, data_key))
        return DataSearchResponseBody.decode(answer.body + answer.ping_id)

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

    def announce_chats(self) -> None:
        """Has peers announce themselves in chats, by 0x87."""
        for chat in range(CHATS):
            for number in range(PEERS):
                announce = chat_id(chat) + peer(number)
                self.talk.sure(self.seeker, self.seeker.dht, chat_id(chat), group=announce)

    def missing_chats(self) -> list[int]:
        """Asks for all chats as somebody else; returns those of which a peer is not found."""
        found = []
        for chat in range(CHATS):
            asker = Client(f"asker {chat}")
            own = chat_id(chat) + group_announce(asker.real.public, b"", RELAY)
            answer = self.talk.sure(asker, asker.dht, chat_id(chat), group=own)
            if not all(peer(number) in answer.rest for number in range(PEERS)):
                found.append(chat)
        return found

    def announce_data(self) -> None:
        """Has clients store data, by 0x97."""
        for client in self.clients[:DATA]:
            token = self.talk.search(client, client.data.public).token
            packet = client.data_store(self.talk.key, token, MIN_LIFE_S, 0, content(client))
            answer = self.talk.data(client, packet)
            assert answer.body[32:36] == MIN_LIFE_S.to_bytes(4, "big")

    def missing_data(self) -> list[int]:
        """Searches for all of it as somebody else, and has it sent."""
        seeker, found = self.seeker, []
        for number, client in enumerate(self.clients[:DATA]):
            key = client.data.public
            answer = self.talk.search(seeker, key)
            if not answer.exists:
                found.append(number)
                continue
            packet = seeker.data_retrieve(self.talk.key, key, answer.token)
            assert self.talk.data(seeker, packet).body == key + b"\x01" + content(client)
        return found

    def keeps_all_through(self, change: Callable[[], None]) -> None:
        """Has everything announced, lets something happen, and asks for everything again.

        A node that is young keeps data for 10 s. What took longer says nothing about data.
        """
        for _ in range(5):
            self.announce_chats()
            began = time.monotonic()
            self.announce_data()
            change()
            missing = self.missing_data()
            slow = time.monotonic() - began > MIN_LIFE_S - 1
            assert self.missing_chats() == []
            if not slow:
                assert missing == []
                return
        raise AssertionError("five times slower than data lives")

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Has each onion worker in turn killed, and waits for its successor."""
        names = [row["name"] for row in self.node.status()["workers"] if row["role"] == "onion"]
        for name in names:
            old = self.node.child(name)["pid"]
            os.kill(old, how)
            until(partial(new_process, self.node, name, old), 20.0)

    def entries(self, name: str = "announce_entries") -> int:
        modules = self.node.status()["modules"]
        return sum(part.get(name, 0) for part in modules.values())


def chat_id(number: int) -> bytes:
    return bytes(8) + bytes([number * 19]) + bytes(23)


def peer(number: int) -> bytes:
    return group_announce(bytes([1 + number]) * 32, b"", RELAY)


def content(client: Client) -> bytes:
    return b"found at " + client.real.public * (1 + client.real.public[0] % 15)


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
        here.keeps_all_through(here.kill)
        assert here.missing() == []
        until(lambda: here.entries("announces_taken_over") == COUNT, 5.0)
        assert here.entries() == COUNT
        assert here.entries("group_chats_taken_over") == CHATS
        assert here.entries("data_entries_taken_over") == DATA
        drops = node.status()["totals"]["drops"]
        assert not {"announce_torn", "group_torn", "data_torn"} & set(drops)
        here.talk.socket.close()


def test_entries_are_found_again_after_a_worker_hung_and_was_replaced(tmp_path: Path) -> None:
    with running(tmp_path, workers="dht=1,onion=1,relay=0") as node:
        here = town(node)
        here.keeps_all_through(partial(here.kill, signal.SIGSTOP))
        assert here.missing() == []
        here.talk.socket.close()


@pytest.mark.alone  # data lives for 10 s, and a restart of all and an upgrade take long
def test_entries_are_kept_when_workers_are_restarted_and_when_the_node_is_upgraded(
    tmp_path: Path,
) -> None:
    with running(tmp_path, workers="dht=1,onion=2,relay=0") as node:
        here = town(node)

        def restart() -> None:
            for _ in range(2):
                door.ask(tmp_path, "worker restart", {"name": "*"}, timeout_s=60)

        def upgrade() -> None:
            door.ask(tmp_path, "upgrade", timeout_s=120)

        here.keeps_all_through(restart)
        here.keeps_all_through(upgrade)
        assert here.missing() == []
        until(lambda: here.entries() == COUNT, 5.0)
        assert sum(row["restarts"] for row in node.status()["workers"]) == 0
        here.keeps_all_through(here.kill)  # the memory is that of the version before
        here.talk.socket.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_entries_go_along_with_their_slots_though_workers_die_meanwhile(
    tmp_path: Path, how: signal.Signals
) -> None:
    with running(tmp_path, workers="dht=1,onion=1,relay=0") as node:
        here = town(node)

        def grow() -> None:
            os.kill(node.child("onion.0")["pid"], how)
            door.ask(tmp_path, "worker add", {"role": "onion", "count": 2}, timeout_s=60)

        def shrink() -> None:
            os.kill(node.child("onion.2")["pid"], how)
            door.ask(tmp_path, "worker drain", {"name": "onion.1"}, timeout_s=60)

        here.keeps_all_through(grow)
        here.kill()
        assert (here.missing_chats(), here.missing()) == ([], [])
        here.keeps_all_through(shrink)
        assert here.missing() == []
        here.talk.socket.close()
