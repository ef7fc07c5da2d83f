"""The DHT node of an identity: it is found, finds others, and hears what is for it."""

from collections import Counter

import pytest

from core.crypto import SharedKeys
from core.dht.light import LightDht
from core.dht.requests import INNER_DHT_KEY
from core.endpoint import Endpoint
from core.entropy import SeededEntropy
from core.module import NodeOptions
from tests.simulation import Node, World
from tests.simulation.dweller import Dweller

OPTIONS = NodeOptions(lan_discovery=False)


class Someone:
    """An identity's node, and what it was told."""

    def __init__(self, world: World, name: str) -> None:
        keys = world.keys(name)
        self.world = world
        self.key = bytes(keys.public)
        self.host = Dweller(world, name, keys=keys)
        self.found: list[tuple[bytes, Endpoint]] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self.connected: list[bool] = []
        self.drops: Counter[str] = Counter()
        self.dht = LightDht(
            keys,
            SharedKeys(keys.secret),
            SeededEntropy(name),
            self.host,
            self,
            self.drops,
            OPTIONS,
            world.now,
        )
        self.host.move_in(self.dht)

    def address_found(self, dht_key: bytes, endpoint: Endpoint, now: float) -> None:
        self.found.append((dht_key, endpoint))

    def dht_request(self, sender: bytes, plain: bytes, source: Endpoint, now: float) -> None:
        self.requests.append((sender, plain))

    def dht_connected(self, connected: bool, now: float) -> None:
        self.connected.append(connected)

    def join(self, node: Node) -> None:
        self.dht.bootstrap([(node.endpoint, node.key)], self.world.now)
        self.host.plan()


@pytest.fixture
def town() -> tuple[World, list[Node], Someone, Someone]:
    """A network of 20 nodes, and two identities that have joined it."""
    world = World(seed=7)
    first = world.add_node()
    nodes = [first, *(world.add_node(bootstrap=[first]) for _ in range(19))]
    world.run_for(60)
    alice, bob = Someone(world, "alice"), Someone(world, "bob")
    for one in (alice, bob):
        one.join(first)
    world.run_for(60)
    return world, nodes, alice, bob


Town = tuple[World, list[Node], Someone, Someone]


def test_they_find_each_other_and_are_told_addresses_and_requests(town: Town) -> None:
    world, _, alice, bob = town
    assert (alice.connected, bob.connected) == ([True], [True])
    assert alice.dht.search(bob.key, world.now)
    alice.host.plan()
    assert world.run_until(lambda: alice.found, limit=30)
    assert set(alice.found) == {(bob.key, bob.host.peer.endpoint)}
    assert alice.dht.address_of(bob.key, world.now) == bob.host.peer.endpoint
    ways = alice.dht.send_request(bob.key, bytes((INNER_DHT_KEY,)) + b"hello", world.now)
    assert ways >= 2  # itself, and nodes that know it
    world.run_for(5)
    assert bob.requests == [(alice.key, bytes((INNER_DHT_KEY,)) + b"hello")] * ways


def test_a_search_that_ended_tells_nothing_and_sends_nothing(town: Town) -> None:
    world, _, alice, bob = town
    alice.dht.search(bob.key, world.now)
    alice.host.plan()
    assert world.run_until(lambda: alice.found, limit=30)
    alice.dht.stop_search(bob.key)
    alice.found.clear()
    world.run_for(130)
    assert alice.found == []
    assert alice.dht.send_request(bob.key, b"\x9c", world.now) == 0


def test_nodes_for_paths_and_for_friends(town: Town) -> None:
    world, nodes, alice, bob = town
    known = {node.key: node.endpoint for node in nodes}
    known |= {one.key: one.host.peer.endpoint for one in (alice, bob)}
    path_nodes = alice.dht.path_nodes(world.now)
    assert len(path_nodes) >= 12
    assert len({node.key for node in path_nodes}) == len(path_nodes)
    assert all(known[node.key] == node.endpoint for node in path_nodes)
    assert alice.dht.path_nodes(world.now) != path_nodes  # another order each time
    close = alice.dht.close_nodes(4)

    def distance(key: bytes) -> int:
        return int.from_bytes(key, "big") ^ int.from_bytes(alice.key, "big")

    assert [node.key for node in close] == sorted((node.key for node in close), key=distance)
    assert close[0].key == min(set(known) - {alice.key}, key=distance)
    assert {node.key for node in path_nodes} <= {node.key for node in alice.dht.nodes_to_save()}


def test_it_seldom_wakes_when_all_is_found(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of thousands on a host: nodes are checked several at a time, though none too late, and
    nobody looks each second whether a hole is to be punched."""
    world, _, alice, bob = town
    alice.dht.search(bob.key, world.now)
    alice.host.plan()
    assert world.run_until(lambda: alice.found, limit=30)
    world.run_for(60)
    wakes: list[float] = []
    run = LightDht.handle_timer

    def noting(self: LightDht, now: float) -> None:
        if self is alice.dht:
            wakes.append(now)
        run(self, now)

    monkeypatch.setattr(LightDht, "handle_timer", noting)
    alice.found.clear()
    world.run_for(120)
    assert len(wakes) < 60
    assert alice.dht.address_of(bob.key, world.now) is not None
    assert len(alice.found) >= 2


def test_it_notices_that_the_network_is_gone_and_comes_back(town: Town) -> None:
    world, nodes, alice, bob = town
    bob.host.leave()
    for node in nodes[1:]:
        node.stop()
    world.watch = lambda source, to, packet: False
    assert world.run_until(lambda: alice.connected[-1] is False, limit=200)
    assert not alice.dht.is_connected(world.now)
    world.watch = None
    assert world.run_until(lambda: alice.connected[-1] is True, limit=200)
    assert alice.connected == [True, False, True]


def test_the_same_requests_at_the_node_itself_are_refused(town: Town) -> None:
    world, nodes, alice, _ = town
    alice.dht.search(nodes[3].key, world.now)
    alice.host.plan()
    assert world.run_until(lambda: alice.found, limit=30)
    alice.dht.send_request(nodes[3].key, b"\x9c", world.now)
    world.run_for(1)
    assert nodes[3].drops()["dht_request_not_served"] >= 1
