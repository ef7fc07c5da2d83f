"""Two whole identities without onion and DHT, over a network in made-up time that loses, repeats
and reorders packets, is cut, and comes back."""

import pytest

from core.messenger import events
from core.messenger.events import Connection, Outcome
from tests.messenger.chatter import add, content, friends
from tests.net_crypto.world import World


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.3])
def test_files_and_messages_arrive_over_a_network_that_loses_and_reorders(loss: float) -> None:
    world = World(1, delay=(0.01, 0.06), loss=loss, duplication=loss / 2, bandwidth=2000)
    alice, bob = friends(world)
    data = content(200_000)
    alice.offers(bob, data)
    bob.offers(alice, data[::-1])
    numbers = []
    for number in range(50):
        numbers.append(alice.says(bob, f"{number}"))
        world.run_for(0.05)
    both = (alice, bob)
    assert world.run_until(lambda: all(len(one.told(events.FileEnded)) == 2 for one in both), 300)
    assert world.run_until(lambda: len(alice.told(events.Receipt)) == 50)
    assert [one.message for one in alice.told(events.Receipt)] == numbers
    assert [one.text for one in bob.told(events.Message)] == [str(n) for n in range(50)]
    assert bob.received == {256: data}
    assert alice.received == {256: data[::-1]}
    ends = {end.outcome for one in both for end in one.told(events.FileEnded)}
    assert ends == {Outcome.COMPLETE}
    assert len(alice.told(events.ConnectionChanged)) <= 2  # by relay for a moment, at most


def test_a_file_goes_on_by_relay_when_udp_is_cut_and_back() -> None:
    world = World(2, bandwidth=500)
    world.relay = True
    alice, bob = friends(world)
    data = content(8_000_000)
    alice.offers(bob, data)
    world.run_for(3)
    assert 0 < len(bob.received[256]) < len(data)
    world.udp = False
    assert world.run_until(lambda: alice.reaches(bob) is Connection.RELAY)
    had = len(bob.received[256])
    assert world.run_until(lambda: len(bob.received[256]) > had)
    world.udp = True
    assert world.run_until(lambda: alice.reaches(bob) is Connection.DIRECT)
    assert world.run_until(lambda: bob.told(events.FileEnded), 200)
    assert bob.received == {256: data}
    assert all(one.online for one in alice.told(events.ConnectionChanged))


def test_friends_part_when_all_is_cut_and_meet_when_it_is_back() -> None:
    world = World(3, bandwidth=500)
    alice, bob = friends(world)
    alice.offers(bob, content(5_000_000))
    world.run_for(1)
    world.udp = False
    lost = alice.says(bob, "nobody hears this")
    assert world.run_until(lambda: alice.reaches(bob) is bob.reaches(alice) is Connection.NONE)
    assert alice.told(events.Unconfirmed) == [events.Unconfirmed(bob.key, (lost,))]
    for one in (alice, bob):
        assert [end.outcome for end in one.told(events.FileEnded)] == [Outcome.BROKEN]
    world.run_for(20)
    world.udp = True
    assert world.run_until(lambda: alice.reaches(bob) is bob.reaches(alice) is Connection.DIRECT)
    alice.says(bob, "again")
    assert world.run_until(lambda: bob.told(events.Message))
    assert [one.text for one in bob.told(events.Message)] == ["again"]


@pytest.mark.parametrize("who", ["handshake", "onion"])
def test_a_friend_that_restarts_with_another_dht_key_is_back_soon(who: str) -> None:
    world = World(4)
    alice, bob = friends(world)
    world.people.remove(bob)
    del world.at_endpoint[bob.endpoint]
    again = add(world, "bob again", bob.real)
    if who == "handshake":
        again.finds(alice)
    else:
        again.messenger.add_friend_by_key(alice.key, world.now)
        alice.finds(again)
    assert world.run_until(lambda: again.messenger.friend(alice.key).connection.value == "direct")
    assert world.run_until(lambda: alice.reaches(again) is Connection.DIRECT, 10)
    states = [one.online for one in alice.told(events.ConnectionChanged)]
    assert False in states
    assert states[-1]
    again.says(alice, "I am back")
    assert world.run_until(lambda: alice.told(events.Message))


def test_idle_friends_wake_seldom_and_stay_online() -> None:
    world = World(5)
    alice, bob = friends(world)
    world.run_for(10)
    alice.wakes = bob.wakes = 0
    world.run_for(600)
    assert alice.reaches(bob) is bob.reaches(alice) is Connection.DIRECT
    assert len(alice.told(events.ConnectionChanged)) <= 2
    assert alice.wakes < 600  # once in two seconds or so
