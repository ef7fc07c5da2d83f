"""Whole identities in a made-up network: they find each other and talk."""

from functools import partial

import pytest

from core.endpoint import Endpoint
from core.messenger.events import MessageKind, Receipt
from tests.identity.people import Person
from tests.simulation import Node, World

Town = tuple[World, list[Node]]


@pytest.fixture
def town() -> Town:
    """A network of 24 nodes that keep announcements."""
    world = World(seed=11, roles={"dht": 1, "onion": 1})
    first = world.add_node()
    nodes = [first, *(world.add_node(bootstrap=[first]) for _ in range(23))]
    world.run_for(60)
    return world, nodes


def become_friends(world: World, one: Person, other: Person) -> None:
    """One asks the other, who accepts; both see each other online."""
    one.engine.messenger.add_friend(other.profile.tox_id, "it is me", world.now)
    one.host.plan()
    assert world.run_until(other.requests, limit=120), "the request arrives"
    assert [(row.friend, row.text) for row in other.requests()] == [(one.key, "it is me")]
    other.engine.messenger.add_friend_by_key(one.key, world.now)
    other.host.plan()
    assert world.run_until(lambda: one.is_with(other) and other.is_with(one), limit=120)


def test_strangers_become_friends_and_talk(town: Town) -> None:
    world, nodes = town
    alice, bob = Person(world, "alice", nodes[:2]), Person(world, "bob", nodes[2:4])
    assert world.run_until(
        lambda: alice.engine.connected and bob.engine.connected, limit=90
    ), "both are announced"
    become_friends(world, alice, bob)
    for number in range(20):
        for one, other in ((alice, bob), (bob, alice)):
            one.engine.messenger.send_message(
                other.key, MessageKind.NORMAL, f"{one.name} {number}", world.now
            )
            one.host.plan()
    assert world.run_until(lambda: len(alice.told(Receipt)) == len(bob.told(Receipt)) == 20)
    assert bob.texts() == [f"alice {number}" for number in range(20)]
    assert alice.texts() == [f"bob {number}" for number in range(20)]


@pytest.mark.parametrize("restarted", ["alice", "both"])
def test_friends_come_back_by_one_node_though_all_else_that_they_know_is_gone(
    restarted: str,
) -> None:
    """Each other's old DHT keys are among what they saved and among their path nodes."""
    world = World(seed=3, roles={"dht": 1, "onion": 1})
    lone = world.add_node()
    world.run_for(20)
    alice, bob = Person(world, "alice", [lone]), Person(world, "bob", [lone])
    become_friends(world, alice, bob)
    for again in range(5):
        world.run_for(60)
        for person in (alice, bob) if restarted == "both" else (alice,):
            person.engine.shut_down(world.now)
            person.host.leave()
        world.run_for(10)
        alice = Person(world, f"alice {again}", [lone], alice.engine.profile(world.now))
        if restarted == "both":
            bob = Person(world, f"bob {again}", [lone], bob.engine.profile(world.now))
        assert world.run_until(partial(alice.is_with, bob), limit=90), again


def rough_town(shards: int, loss: float) -> Town:
    """Returns twelve nodes of so many shards of each role, in a bad network."""
    world = World(
        12,
        latency=(0.02, 0.3),
        loss=loss,
        duplication=0.1,
        reordering=0.1,
        real_frames=True,
        roles={"dht": shards, "onion": shards},
    )
    first = world.add_node()
    nodes = [first, *(world.add_node(bootstrap=[first]) for _ in range(11))]
    world.run_for(60)
    return world, nodes


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.2])
def test_strangers_become_friends_over_a_bad_network(loss: float) -> None:
    world, nodes = rough_town(1, loss)
    alice, bob = Person(world, "alice", nodes[:2]), Person(world, "bob", nodes[2:4])
    assert world.run_until(lambda: alice.engine.connected and bob.engine.connected, limit=180)
    become_friends(world, alice, bob)


def story(shards: int) -> list[object]:
    """Has strangers become friends, and returns what both were told, and when they sent packets of
    which kind and size to whom: what nodes sealed for themselves comes back as it was."""
    world, nodes = rough_town(shards, 0.05)
    alice, bob = Person(world, "alice", nodes[:2]), Person(world, "bob", nodes[2:4])
    sent: list[tuple[float, Endpoint, Endpoint, int, int]] = []
    homes = {person.host.peer.endpoint for person in (alice, bob)}

    def watch(source: Endpoint, destination: Endpoint, packet: bytes) -> bool:
        if source in homes:
            sent.append((world.now, source, destination, packet[0], len(packet)))
        return True

    world.watch = watch
    assert world.run_until(lambda: alice.engine.connected and bob.engine.connected, limit=120)
    become_friends(world, alice, bob)
    return [*sent, *alice.events, *bob.events, alice.engine.drops, bob.engine.drops]


@pytest.mark.parametrize("shards", [2, 4])
def test_identities_see_no_difference_between_nodes_of_one_shard_and_of_several(
    shards: int,
) -> None:
    assert story(shards) == story(1)


def test_what_is_for_no_identity_is_counted(town: Town) -> None:
    world, nodes = town
    alice = Person(world, "alice", nodes[:2])
    engine, source = alice.engine, nodes[0].endpoint
    engine.handle_packets((b"\x5a" + bytes(200), b"\xf0" + bytes(77)), (source, source), world.now)
    assert engine.drops["identity_kind"] == 2
    engine.dht_request(nodes[0].key, b"\x20hello", source, world.now)
    assert engine.drops["identity_dht_request"] == 1
    engine.onion_data(nodes[0].keys.public, b"\x21hello", world.now)
    assert engine.drops["identity_onion_data"] == 1
    assert alice.events == []


def test_one_bad_datagram_loses_none_behind_it(town: Town) -> None:
    world, nodes = town
    alice = Person(world, "alice", nodes[:2])
    source = nodes[0].endpoint
    bad = (b"\x02", b"\x1b", b"\x18" * 30, b"\x84", b"\x80")
    ping = b"\x00" + bytes(81)
    alice.engine.handle_packets((*bad, ping), (source,) * 6, world.now)
    assert sum(alice.engine.drops.values()) == 6
    assert alice.engine.drops["dht_weak_key"] == 1  # the last one
