"""Real processes with two shards of each role answer as the module does in one process."""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from core.crypto import KeyPair, PublicKey, SecretKey
from core.endpoint import Endpoint, from_text
from tests.interop import nodes
from tests.interop.driver import wait_until
from tests.onion.client import AnnounceAnswer, Client
from tests.onion.node import Node
from tests.onion.test_reference import (
    HOST,
    Ours,
    Reference,
    announces,
    data_announcements,
    groups,
)

pytestmark = pytest.mark.process


class Known(NamedTuple):
    """Where the processes listen, and their public key."""

    endpoint: Endpoint
    keys: KeyPair


@pytest.mark.alone  # what one process is told is searched for in the other at once
def test_worker_processes_and_the_module_answer_alike(tmp_path: Path) -> None:
    running = nodes.start_ours(tmp_path, workers="dht=2,onion=2,relay=2")
    door = Reference(running.udp_port)
    try:
        endpoint = from_text(HOST, running.udp_port)
        there = Known(endpoint, KeyPair(PublicKey(running.key), SecretKey(bytes(32))))
        node = Node("ours", from_text(HOST, 33445))
        here = Ours(node, from_text(HOST, 1234), [])
        assert announces(door, there) == announces(here, node)
        assert data_announcements(door, there) == data_announcements(here, node)
        expected = groups(here, node.endpoint, node.keys.public)
        assert groups(door, endpoint, running.key) == expected
        assert all(row["restarts"] == 0 for row in running.workers().values())
    finally:
        running.stop()
        door.door.close()


RETURN = bytes(range(177))


def ask(
    door: Reference,
    running: nodes.Node,
    client: Client,
    requester: KeyPair,
    searched: bytes,
    ping_id: bytes = bytes(32),
) -> AnnounceAnswer:
    """Sends a search or an announce as a third hop does."""
    packet = client.announce_request(
        running.key, requester, searched, ping_id, client.data.public
    )
    answer = door.ask(packet + RETURN)
    assert answer is not None
    return client.open_announce(requester, running.key, answer[178:])


def test_a_stored_key_is_found_through_another_process_within_milliseconds(tmp_path: Path) -> None:
    running = nodes.start_ours(tmp_path, workers="dht=1,onion=2,relay=1")
    door = Reference(running.udp_port)

    def sums() -> dict[str, int]:
        modules = running.status()["modules"]
        parts = [modules["onion.0"], modules["onion.1"]]
        return {name: parts[0].get(name, 0) + parts[1].get(name, 0) for name in parts[1]}

    try:
        wait_until(lambda: sums().get("other_filters") == 2, "filters", 20.0)
        took = []
        for number in range(60):
            wanted, seeker = Client(f"wanted {number}"), Client(f"seeker {number}")
            key = wanted.real.public
            while key[8] % 2 == seeker.dht.public[8] % 2:
                seeker.dht = KeyPair.generate(seeker.entropy)
            assert ask(door, running, seeker, seeker.dht, key).is_stored == 0
            first = ask(door, running, wanted, wanted.real, key)
            assert ask(door, running, wanted, wanted.real, key, first.payload).is_stored == 2
            begin = time.monotonic()
            while not ask(door, running, seeker, seeker.dht, key).is_stored:
                assert time.monotonic() - begin < 1.0
            took.append(time.monotonic() - begin)
        assert statistics.median(took) < 0.02
        wait_until(lambda: sums()["searches_crossed"] >= 60, "counters", 5.0)
        counts = sums()
        assert counts["searches_spared"] >= 60
        assert counts["announce_entries"] == 60
        assert counts["searches_in_vain"] <= 3
    finally:
        running.stop()
        door.door.close()
