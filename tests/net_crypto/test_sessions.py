"""Two identities find each other's session: handshake, data, end."""

from collections.abc import Callable

import pytest

from tests.net_crypto.world import Person, Stream, World


def pair(world: World) -> tuple[Person, Person]:
    """Two people with a session that is up on both sides."""
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 10)
    return alice, bob


def test_one_side_begins_and_both_are_up_within_three_round_trips() -> None:
    world = World()
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob)
    assert world.run_until(lambda: alice.up and bob.up, 0.14)
    assert bob.asked == [(alice.real.public, alice.dht.public)]
    assert (alice.up, bob.up) == ([bob.real.public], [alice.real.public])
    world.run_for(30)
    assert (alice.down, bob.down) == ([], [])
    assert len(alice.up) == len(bob.up) == 1


def test_both_sides_begin_at_once_and_have_one_session() -> None:
    world = World()
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob)
    bob.open(alice)
    assert world.run_until(lambda: alice.up and bob.up, 0.2)
    alice.send(bob, b"\x40hello")
    bob.send(alice, b"\x40you too")
    world.run_for(5)
    assert (bob.taken, alice.taken) == ([b"\x40hello"], [b"\x40you too"])
    assert (alice.down, bob.down) == ([], [])
    assert not alice.asked
    assert not bob.asked


@pytest.mark.parametrize("seed", range(20))
def test_a_handshake_comes_through_heavy_loss_and_disorder(seed: int) -> None:
    world = World(seed, loss=0.3, duplication=0.2, delay=(0.02, 0.3))
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob)
    if seed % 2:
        bob.open(alice)

    def again() -> bool:  # as friend connections do
        if len(alice.crypto) == 0:
            alice.open(bob)
        return alice.sees(bob) and bob.sees(alice)

    assert world.run_until(again, 30)
    for number in range(20):
        alice.send(bob, b"\x40" + bytes((number,)))
        bob.send(alice, b"\x41" + bytes((number,)))
    expected = [bytes((number,)) for number in range(20)]
    assert world.run_until(lambda: len(bob.taken) == len(alice.taken) == 20, 60)
    assert [data[1:] for data in bob.taken] == [data[1:] for data in alice.taken] == expected


def test_eight_cookie_requests_a_second_apart_and_then_it_is_over() -> None:
    world = World()
    alice, bob = world.add("alice"), world.add("bob")
    times: list[float] = []

    def watch(way: str, sender: Person, packet: bytes) -> bool:
        times.append(world.now)
        return False

    world.watch = watch
    alice.open(bob)
    world.run_for(60)
    assert [round(time - 100, 3) for time in times] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert alice.down == [bob.real.public]
    assert alice.crypto.next_timer() is None


def test_whom_the_listener_does_not_accept_has_no_session() -> None:
    world = World()
    alice, bob = world.add("alice"), world.add("bob")
    bob.accept = False
    alice.open(bob)
    world.run_for(12)
    assert alice.down == [bob.real.public]
    assert len(bob.crypto) == 0
    assert bob.drops["crypto_refused"] == 8


def test_messages_go_both_ways_in_order_with_their_numbers() -> None:
    world = World(3, delay=(0.01, 0.05))
    alice, bob = pair(world)
    numbers = [alice.send(bob, b"\x40" + str(i).encode()) for i in range(1000)]
    assert numbers == list(range(1000))
    assert world.run_until(lambda: alice.acknowledged_to == 999, 20)
    assert bob.taken == [b"\x40" + str(i).encode() for i in range(1000)]


def test_lossy_data_goes_at_once_and_is_taken_once() -> None:
    world = World(4, duplication=1.0)
    alice, bob = pair(world)
    assert alice.crypto.send_lossy(bob.real.public, b"\xc8sound", world.now)
    world.run_for(1)
    assert bob.lossy_taken == [b"\xc8sound"]
    assert bob.drops["crypto_replay"] > 0


def test_a_kill_ends_the_session_on_both_sides() -> None:
    world = World()
    alice, bob = pair(world)
    alice.crypto.close(bob.real.public, world.now)
    world.run_for(1)
    assert (alice.down, bob.down) == ([], [alice.real.public])
    assert len(alice.crypto) == len(bob.crypto) == 0
    assert alice.send(bob, b"\x40x") is None
    assert alice.crypto.status(bob.real.public) is None
    assert alice.crypto.room(bob.real.public) == 0
    assert not alice.crypto.send_lossy(bob.real.public, b"\xc8", world.now)


def test_a_peer_that_restarted_is_up_again_at_once_with_another_dht_key() -> None:
    world = World()
    alice, bob = pair(world)
    reborn = Person(world, "bob again", 2, real=bob.real)
    world.people[1] = reborn
    world.at_endpoint[reborn.endpoint] = reborn
    reborn.open(alice)
    assert world.run_until(lambda: reborn.sees(alice) and len(alice.up) == 2, 1)
    assert alice.new_keys == [reborn.dht.public]
    assert alice.down == [bob.real.public]
    alice.send(reborn, b"\x40hello again")
    world.run_for(1)
    assert reborn.taken == [b"\x40hello again"]


def test_a_peer_that_lost_only_the_session_replaces_it() -> None:
    world = World()
    alice, bob = pair(world)
    world.watch = lambda way, sender, packet: False  # the kill is lost
    bob.crypto.close(alice.real.public, world.now)
    world.watch = None
    world.run_for(1)
    bob.open(alice)
    assert world.run_until(lambda: len(alice.up) == 2 and len(bob.up) == 2, 1)
    assert alice.down == [bob.real.public]
    assert alice.new_keys == []


def test_opening_with_another_dht_key_kills_and_begins_anew() -> None:
    world = World()
    alice, bob = pair(world)
    other = world.add("other")
    alice.crypto.open(bob.real.public, other.dht.public, world.now)
    assert alice.down == [bob.real.public]
    world.run_for(0.5)
    assert bob.down == [alice.real.public]
    status = alice.crypto.status(bob.real.public)
    assert status is not None
    assert status.dht_key == other.dht.public
    alice.crypto.open(bob.real.public, other.dht.public, world.now)  # the same: nothing happens
    assert alice.down == [bob.real.public]


def test_an_idle_session_costs_a_packet_each_few_seconds() -> None:
    world = World()
    alice, bob = pair(world)
    world.run_for(10)
    world.kinds.clear()
    alice.wakes = bob.wakes = 0
    world.run_for(375)
    assert sum(world.kinds.values()) <= 2 * 105
    assert alice.wakes <= 106
    assert alice.directs == [True]
    assert bob.directs == [True]


def test_who_hears_the_peer_says_its_own_in_the_same_turn_if_that_is_near() -> None:
    world = World()
    alice, bob = pair(world)
    world.run_for(10)
    world.kinds.clear()
    assert world.run_until(lambda: world.kinds, 10)
    world.run_for(3)
    alice.crypto.send_lossy(bob.real.public, b"\xc8before both are due", world.now)
    world.run_for(5)
    world.kinds.clear()
    alice.wakes = bob.wakes = 0
    world.run_for(375)
    assert sum(world.kinds.values()) <= 2 * 105
    assert alice.wakes + bob.wakes <= 105  # one of them is woken, and the other answers


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.3])
def test_a_stream_arrives_exactly_whatever_the_network_does(loss: float) -> None:
    world = World(7, loss=loss, duplication=0.05, delay=(0.02, 0.3))
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob)
    bob.open(alice)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 30)
    stream = Stream(alice, bob, 2000)
    stream.feed()
    assert world.run_until(stream.arrived, 120)
    assert stream.exact()
    assert len(bob.taken) == 2000


def together(alice: Person, bob: Person, act: Callable[[], object]) -> list[bytes]:
    """Keeps the data packets that Alice sends meanwhile from the network, and returns them."""
    world, kept = alice.world, list[bytes]()

    def keep(way: str, sender: Person, packet: bytes) -> bool:
        if sender is alice:
            kept.append(packet)
        return sender is not alice

    before, world.watch = world.watch, keep
    act()
    world.watch = before
    return kept


def lossy(alice: Person, bob: Person) -> bool:
    return alice.crypto.send_lossy(bob.real.public, b"\xc8two", alice.world.now)


def test_packets_that_come_together_are_handed_upward_together() -> None:
    world = World()
    alice, bob = pair(world)
    runs: list[list[bytes]] = []
    bob.on_run = lambda packets: runs.append(list(packets))
    sent = together(alice, bob, lambda: [alice.send(bob, bytes((0x40, n))) for n in range(4)])
    first, second, third, last = sent
    bob.crypto.handle_data((second, b"\x1b", first, third, first), alice.endpoint, world.now)
    assert runs == [[b"\x40\x00", b"\x40\x01", b"\x40\x02"]]
    assert bob.drops == {"wire:CryptoData": 1, "crypto_data_repeated": 1}
    bob.crypto.handle_data((last,), alice.endpoint, world.now)
    assert runs[1:] == [[b"\x40\x03"]]


def test_what_came_with_a_kill_is_handed_upward_before_the_session_ends() -> None:
    world = World()
    alice, bob = pair(world)

    def act() -> None:
        alice.send(bob, b"\x40last words")
        alice.crypto.close(bob.real.public, world.now)

    sent = together(alice, bob, act)
    assert len(sent) == 2
    bob.crypto.handle_data((*sent, sent[0]), alice.endpoint, world.now)
    assert bob.taken == [b"\x40last words"]
    assert bob.down == [alice.real.public]
    assert bob.drops["crypto_data_unknown"] == 1  # nothing is taken behind a kill


def test_a_listener_may_end_the_session_by_what_came_first() -> None:
    world = World()
    alice, bob = pair(world)
    bob.on_run = lambda packets: bob.crypto.close(alice.real.public, world.now)
    sent = together(alice, bob, lambda: [alice.send(bob, b"\x40one"), lossy(alice, bob)])
    assert len(sent) == 2
    bob.crypto.handle_data((*sent, sent[1]), alice.endpoint, world.now)
    assert bob.taken == [b"\x40one"]
    assert not bob.lossy_taken
    assert len(bob.crypto) == 0
    assert not bob.down
