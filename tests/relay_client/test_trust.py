"""Relays that say a peer is linked and swallow what is sent to it."""

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.relay_client.connection import RelayConnection
from core.relay_client.peers import DOUBTED_S
from core.relay_client.relays import AVOIDED_S, MAX_DOUBT
from core.relay_client.trust import SILENT_PACKETS, SILENT_S, TRIAL_S, UNCONFIRMED_S
from tests.relay_client.world import Party, World


class Swallower:
    """Makes what a party sends to another one by one relay vanish."""

    def __init__(self, world: World, sender: Party, receiver: Party, place: Endpoint) -> None:
        self.key = world.key(place)
        self.swallowed = 0
        pool = sender.pool
        for relay in pool._relays.values():
            if relay.key == self.key:
                connection = relay.connection
                assert connection is not None
                self.connection = connection
        swallower = self

        class Lying(RelayConnection):
            __slots__ = ()

            def send(self, peer: PublicKey, data: bytes) -> bool:
                swallower.swallowed += 1
                return True

        self.connection.__class__ = Lying


def talk(world: World, alice: Party, bob: Party, seconds: int) -> int:
    """Lets alice send twice a second and bob answer all he gets; returns how much he got."""
    got = 0
    for _ in range(2 * seconds):
        alice.pool.send(bob.key, b"\x1bping", world.now)
        world.run()
        for _data in bob.take():
            got += 1
            bob.pool.send(alice.key, b"\x1bpong", world.now)
        world.wait(0.5)
    return got


def liar(world: World, alice: Party, bob: Party) -> Swallower:
    """Makes the relay that carries alice's data a liar."""
    alice.pool.send(bob.key, b"\x1bfirst", world.now)
    world.run()
    carrier = alice.pool._peers[bob.key].carrier
    bob.take()
    place = next(place for place in world.places if world.key(place) == carrier)
    alice.pool._peers[bob.key].trust.forget()
    return Swallower(world, alice, bob, place)


def pair(relays: int) -> tuple[World, Party, Party]:
    world = World(relays)
    alice, bob = world.party("alice"), world.party("bob")
    world.meet(alice, bob, *world.places)
    return world, alice, bob


def test_data_moves_to_another_relay_when_nothing_comes_back_and_the_first_is_blamed() -> None:
    world, alice, bob = pair(3)
    lying = liar(world, alice, bob)
    got = talk(world, alice, bob, 30)
    assert lying.swallowed <= max(SILENT_PACKETS, 2 * SILENT_S) + 2
    assert got >= 60 - lying.swallowed
    assert alice.drops["relay_client_silent"] == 1
    assert alice.drops["relay_client_swallows"] == 1
    row = next(row for row in alice.pool.status() if row.key == lying.key)
    assert row.doubt == 1
    assert lying.key not in {node.key for node in alice.pool.relays(5)}
    talk(world, alice, bob, int(DOUBTED_S) + 20)
    assert alice.drops["relay_client_silent"] == 1  # another one is carrying, and stays


def test_a_peer_that_is_silent_alone_puts_the_blame_on_no_relay() -> None:
    world, alice, bob = pair(3)
    for _ in range(400):
        alice.pool.send(bob.key, b"\x1bping", world.now)
        world.wait(0.5)
    assert len(bob.take()) == 400
    assert alice.drops["relay_client_silent"] > 3
    assert "relay_client_swallows" not in alice.drops
    assert alice.online() == 3
    assert all(row.doubt == 0 for row in alice.pool.status())


def test_with_one_relay_alone_data_goes_there_whatever_it_does() -> None:
    world, alice, bob = pair(1)
    for _ in range(100):
        assert alice.pool.send(bob.key, b"\x1bping", world.now)
        world.wait(0.5)
    assert len(bob.take()) == 100
    assert alice.drops["relay_client_silent"] > 1


def test_a_relay_that_swallows_again_and_again_is_avoided_for_half_an_hour() -> None:
    world, alice, bob = pair(2)
    lying = liar(world, alice, bob)
    for _ in range(MAX_DOUBT):
        peer = alice.pool._peers[bob.key]
        peer.carrier = lying.key
        peer.ties[lying.key].doubted_until = 0.0
        talk(world, alice, bob, 30)
    assert alice.drops["relay_client_swallows"] == MAX_DOUBT
    assert alice.states()[lying.key] == "avoided"
    assert alice.pool.is_linked(bob.key)
    world.wait(AVOIDED_S - 100)
    assert alice.states()[lying.key] == "avoided"
    world.wait(101)
    assert alice.states()[lying.key] == "connected"


def test_an_answer_that_comes_too_late_blames_nobody() -> None:
    world, alice, bob = pair(2)
    for _ in range(30):
        alice.pool.send(bob.key, b"\x1bping", world.now)
        world.wait(0.5)
    assert alice.drops["relay_client_silent"] == 1
    world.wait(TRIAL_S + 1)
    bob.pool.send(alice.key, b"\x1bat last", world.now)
    world.run()
    assert alice.take() == [b"\x1bat last"]
    assert "relay_client_swallows" not in alice.drops


def test_links_that_come_and_go_blame_nobody() -> None:
    world, alice, bob = pair(2)
    for _ in range(30):
        alice.pool.send(bob.key, b"\x1bping", world.now)
        world.wait(0.5)
    bob.pool.remove_peer(alice.key, world.now)
    world.meet(bob, alice, *world.places)
    alice.pool.send(bob.key, b"\x1bping", world.now)
    bob.pool.send(alice.key, b"\x1bpong", world.now)
    world.run()
    assert alice.take() == [b"\x1bpong"]
    assert "relay_client_swallows" not in alice.drops


def test_a_relay_that_works_again_is_cleared() -> None:
    world, alice, bob = pair(2)
    lying = liar(world, alice, bob)
    talk(world, alice, bob, 20)
    assert max(row.doubt for row in alice.pool.status()) == 1
    peer = alice.pool._peers[bob.key]
    peer.carrier = lying.key
    alice.pool.relay_works(bob.key, world.now)
    assert max(row.doubt for row in alice.pool.status()) == 0


def test_a_relay_that_swallows_one_direction_alone_is_found_by_what_is_not_received() -> None:
    world, alice, bob = pair(3)
    alice.pool.relay_works(bob.key, world.now)  # the owner tells from now on
    lying = liar(world, alice, bob)
    got = 0
    for second in range(40):
        alice.pool.send(bob.key, b"\x1bping", world.now)
        bob.pool.send(alice.key, b"\x1bI hear nothing", world.now)
        world.wait(1)
        for _data in bob.take():
            got += 1
            alice.pool.relay_works(bob.key, world.now)
        assert got or second < UNCONFIRMED_S + 3
    assert lying.swallowed <= UNCONFIRMED_S + 2
    assert got >= 15
    assert alice.drops["relay_client_silent"] == 1
    assert alice.drops["relay_client_swallows"] == 1
    assert next(row.doubt for row in alice.pool.status() if row.key == lying.key) == 1


def test_what_udp_brought_says_nothing_of_relays() -> None:
    world, alice, bob = pair(2)
    lying = liar(world, alice, bob)
    alice.pool.set_sleeping(bob.key, True, world.now)
    alice.pool.relay_works(bob.key, world.now)
    alice.pool.set_sleeping(bob.key, False, world.now)
    talk(world, alice, bob, 20)
    assert alice.drops["relay_client_swallows"] == 1
    assert lying.swallowed > 0
