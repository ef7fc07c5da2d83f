"""Whole networks on simulated time: bootstrapping, lookups, shards and repeatability."""

import random
from collections import Counter

import pytest

from core.dht import DhtModule
from tests.simulation import Node, World

pytestmark = pytest.mark.no_cover  # three times as long with it; smaller tests run the same lines


def dht(node: Node) -> DhtModule:
    """Returns the module of a node's dht shard 0."""
    module = node.modules["dht"][0]
    assert isinstance(module, DhtModule)
    return module


def nearest_in_world(world: World, target: bytes, but: Node) -> bytes:
    """Returns the key that is truly nearest to `target` among all other nodes."""
    number = int.from_bytes(target, "big")
    keys = (node.key for node in world.nodes if node is not but)
    return min(keys, key=lambda key: int.from_bytes(key, "big") ^ number)


def nearest_found(node: Node, target: bytes) -> bytes:
    """Returns the nearest key that a node's search for `target` has in its client list."""
    keeper = dht(node).keeper
    assert keeper is not None
    clients = keeper.searches[target].clients
    number = int.from_bytes(target, "big")
    return min((client.key for client in clients), key=lambda k: int.from_bytes(k, "big") ^ number)


def look_up(world: World, count: int, limit: float) -> int:
    """Has `count` random nodes search random keys; returns how many found the nearest of all."""
    chance = random.Random(f"{world.seed}/lookups")
    searches = []
    for _ in range(count):
        node = chance.choice(world.nodes)
        target = chance.randbytes(32)
        keeper = dht(node).keeper
        assert keeper is not None
        assert keeper.add_search(target, world.now)
        node.wake("dht")
        searches.append((node, target, nearest_in_world(world, target, node)))

    def found() -> int:
        return sum(
            bool(dht(node).keeper.searches[target].clients)  # type: ignore[union-attr]  # shard 0
            and nearest_found(node, target) == nearest
            for node, target, nearest in searches
        )

    world.run_until(lambda: found() == count, limit=limit)
    return found()


@pytest.mark.parametrize("nodes", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_nodes_bootstrap_from_one_and_every_lookup_ends_at_the_nearest_node(nodes: int) -> None:
    world = World(seed=1)
    first = world.add_node()
    for _ in range(nodes - 1):
        world.add_node(bootstrap=[first])
    world.run_for(40.0)
    assert all(len(dht(node).snapshot_of_table.rows) >= 16 for node in world.nodes)
    assert look_up(world, 200, limit=30.0) == 200


def test_lookups_survive_loss_duplication_and_reordering() -> None:
    world = World(seed=2, loss=0.05, duplication=0.05, reordering=0.2)
    first = world.add_node()
    for _ in range(79):
        world.add_node(bootstrap=[first])
    world.run_for(100.0)
    assert look_up(world, 40, limit=60.0) == 40
    assert world.drops["loss"] > 100


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    def trace(seed: int) -> str:
        world = World(seed=seed, loss=0.02, duplication=0.02, reordering=0.1)
        first = world.add_node()
        for _ in range(9):
            world.add_node(bootstrap=[first], roles={"dht": 2})
        world.run_for(60.0)
        return world.trace_hash()

    assert trace(5) == trace(5)
    assert trace(5) != trace(6)


def answers_of(shards: int) -> tuple[list[bytes], dict[str, list[bytes]]]:
    """Builds a network around a node of so many shards, asks it much, returns opened answers."""
    world = World(seed=9, real_frames=True)
    first = world.add_node("first", roles={"dht": shards})
    for number in range(40):  # one after the other: shards propose 32 candidates each in 2 s
        world.add_node(f"other{number}", bootstrap=[first])
        world.run_for(0.5)
    world.run_for(90.0)
    chance = random.Random(4)
    answers = []
    for number in range(64):  # peers with different keys: they go to different shards
        peer = world.add_peer(f"peer{number}")
        target = chance.randbytes(32) if number % 4 else first.key
        peer.send(first.endpoint, peer.sealed(0x02, first.key, target + b"asked-%02d" % number))
        peer.send(first.endpoint, peer.sealed(0x00, first.key, b"\x00" + b"ping-%03d" % number))
        world.run_for(0.2)
        answers += sorted(peer.opened(0x01, 0x04))
    module = dht(first)
    served = {
        str(shard): sorted(each.snapshot_of_table.rows)  # type: ignore[attr-defined]  # DhtModule
        for shard, each in enumerate(first.modules["dht"])
    }
    assert module.keeper is not None
    return answers, served


def test_one_two_and_four_shards_give_the_same_answers() -> None:
    one, _ = answers_of(1)
    two, tables_of_two = answers_of(2)
    four, tables_of_four = answers_of(4)
    assert len(one) == 128
    assert one == two == four
    assert tables_of_two["0"] == tables_of_two["1"]
    assert len({tuple(rows) for rows in tables_of_four.values()}) == 1
    counts = Counter(text[0] for text in one if len(text) > 9)
    assert counts[4] == 64


def test_a_network_of_shards_bootstraps_too() -> None:
    world = World(seed=3, roles={"dht": 4}, loss=0.02, message_delay_s=0.001)
    first = world.add_node()
    for _ in range(19):
        world.add_node(bootstrap=[first])
    world.run_for(120.0)
    for node in world.nodes:
        for shard in node.modules["dht"]:
            assert isinstance(shard, DhtModule)
            assert len(shard.snapshot_of_table.rows) >= 12
    assert look_up(world, 20, limit=30.0) == 20


def test_a_dead_node_is_forgotten_by_all_after_122_seconds_and_stays_so() -> None:
    world = World(seed=4, roles={"dht": 2})
    first = world.add_node()
    others = [world.add_node(bootstrap=[first]) for _ in range(9)]
    world.run_for(60.0)
    gone = others[3]
    assert all(gone.key in dht(node).snapshot_of_table.rows for node in others if node is not gone)
    gone.stop()
    world.run_for(125.0)
    for node in world.nodes:
        if node is not gone:
            for shard in node.modules["dht"]:
                assert isinstance(shard, DhtModule)
                assert gone.key not in shard.snapshot_of_table.rows


def test_messages_between_shards_survive_the_frames_that_workers_use() -> None:
    world = World(seed=8, real_frames=True, roles={"dht": 2})
    first = world.add_node()
    other = world.add_node(bootstrap=[first])
    assert world.run_until(
        lambda: all(
            other.key in shard.snapshot_of_table.rows  # type: ignore[attr-defined]  # DhtModule
            for shard in first.modules["dht"]
        )
    )
