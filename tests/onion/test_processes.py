"""Real processes with two shards of each role answer as the module does in one process."""

from pathlib import Path
from typing import NamedTuple

import pytest

from core.crypto import KeyPair, PublicKey, SecretKey
from core.endpoint import Endpoint, from_text
from tests.interop import nodes
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
