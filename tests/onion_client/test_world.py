"""People find each other among real onion nodes on made-up time."""

import pytest

from tests.onion_client.people import Person, Town


def two(town: Town, **options: bool) -> tuple[Person, Person]:
    """Returns two friends."""
    alice, bob = town.person("alice", **options), town.person("bob", **options)
    alice.befriend(bob)
    bob.befriend(alice)
    return alice, bob


def met(town: Town, *pairs: tuple[Person, Person], limit: float = 60.0) -> bool:
    """Waits until each of each pair has heard the other's DHT key."""
    return town.until(lambda: all(a.knows(b) and b.knows(a) for a, b in pairs), limit)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_friends_learn_each_other_s_dht_key_within_half_a_minute(seed: int) -> None:
    town = Town(seed=seed)
    alice, bob = two(town)
    assert met(town, (alice, bob), limit=30)
    assert bob.found[0] == (alice.key, alice.dht.public, tuple(alice.own))
    assert alice.connections == [True]
    assert set(alice.drops) <= {"onion_client_copy"}


def test_a_friend_request_reaches_somebody_who_has_not_added_us() -> None:
    town = Town()
    alice, bob = town.person("alice"), town.person("bob")
    alice.befriend(bob)
    assert alice.client.send(bob.key, b"\x20nospHello Bob", town.world.now) == 0  # not found yet
    assert town.until(lambda: alice.client.send(bob.key, b"\x20nospHello Bob", town.world.now), 60)
    town.world.run_for(2)
    assert (alice.key, b"\x20nospHello Bob") in bob.heard
    assert not bob.found  # a stranger's DHT key is not told
    assert bob.drops["onion_client_stranger"] > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_with_a_tenth_of_all_packets_lost_they_still_find_each_other(seed: int) -> None:
    town = Town(seed=seed, loss=0.1)
    alice, bob = two(town)
    assert met(town, (alice, bob), limit=120)
    town.world.run_for(300)
    assert alice.connections == [True]  # and stay announced
    assert alice.client.status(town.world.now).announced >= 6


def test_half_of_the_nodes_die_and_both_stay_or_become_announced_and_find_each_other() -> None:
    town = Town(40)
    alice, bob = two(town)
    assert met(town, (alice, bob))
    for node in town.nodes[1::2]:
        node.stop()
    dead = {node.key for node in town.nodes[1::2]}
    for person in (alice, bob):
        person.known = [info for info in person.known if bytes(info.key) not in dead]
        person.found.clear()
    town.world.run_for(180)  # until the nodes themselves name the dead no more
    bob.stop()
    again = town.person("bob")
    again.befriend(alice)
    assert met(town, (alice, again), limit=180)
    assert alice.client.is_announced(town.world.now)


@pytest.mark.parametrize(("good", "idle"), [(20, 20), (10, 40)])
def test_among_nodes_of_the_dht_that_do_no_onion_they_still_find_each_other(
    good: int, idle: int
) -> None:
    town = Town(good, idle=idle)
    alice, bob = two(town)
    for person in (alice, bob):
        for node in town.nodes[:2]:  # that were given, as every program has some
            person.client.add_bootstrap(node.endpoint, town.world.keys(node.name).public)
    assert met(town, (alice, bob), limit=180)


def test_a_friend_who_begins_anew_is_found_under_its_new_dht_key() -> None:
    town = Town()
    alice, bob = two(town)
    assert met(town, (alice, bob))
    alice.online(bob, True)
    bob.online(alice, True)
    town.world.run_for(600)
    bob.stop()
    again = town.person("bob")
    assert again.dht.public != bob.dht.public
    again.befriend(alice)
    alice.online(bob, False)
    assert met(town, (alice, again), limit=60)


def test_the_dht_key_comes_by_a_dht_request_too() -> None:
    town = Town()
    alice, bob = two(town)
    assert met(town, (alice, bob))
    alice.found.clear()
    alice.reachable = True
    town.world.run_for(25)
    assert alice.drops["onion_client_copy"] > 0
    assert (bob.key, bob.dht.public, tuple(bob.own)) in alice.found


def test_who_has_relays_alone_finds_a_friend_who_has_udp_and_one_who_has_not() -> None:
    town = Town()
    relays = [town.relay(node) for node in town.nodes[:3]]
    alice, bob = two(town, udp=False)
    carol = town.person("carol")
    alice.befriend(carol)
    carol.befriend(alice)
    for person in (alice, bob):
        person.relays = relays
        person.known = []
        for node in town.nodes[5:9]:  # as bootstrap nodes of a profile
            person.client.add_bootstrap(node.endpoint, person.town.world.keys(node.name).public)
    assert met(town, (alice, bob), (alice, carol), limit=60)
    assert alice.drops["onion_client_relay_refused"] == 0
    assert sum(len(relay.taken) for relay in relays) > 50


def test_relays_go_and_others_take_over() -> None:
    town = Town()
    relays = [town.relay(node) for node in town.nodes[:2]]
    alice = town.person("alice", udp=False)
    alice.relays = relays
    assert town.until(lambda: alice.client.is_announced(town.world.now), 30)
    relays[0].up = False
    taken = len(relays[1].taken)
    town.world.run_for(200)
    assert alice.client.is_announced(town.world.now)
    assert len(relays[1].taken) > taken + 5
    relays[1].up = False
    assert town.until(lambda: not alice.client.is_announced(town.world.now), 120)
    relays[1].up = True
    assert town.until(lambda: alice.client.is_announced(town.world.now), 60)
    assert alice.connections == [True, False, True]


def test_a_network_of_one_node_is_enough() -> None:
    town = Town(1)
    alice, bob = two(town)
    assert met(town, (alice, bob), limit=30)


def test_the_network_goes_away_and_comes_back_and_friends_are_sought_as_if_new() -> None:
    town = Town(14)
    alice, bob = two(town)
    assert met(town, (alice, bob))
    town.world.run_for(100)
    town.world.watch = lambda source, to, packet: source != alice.host.peer.endpoint
    assert town.until(lambda: not alice.client.is_announced(town.world.now), 100)
    assert alice.connections == [True, False]
    town.world.run_for(600)
    sent = town.world.kinds[0x80]
    town.world.run_for(60)
    assert town.world.kinds[0x80] - sent < 120  # no storm while nothing works
    town.world.watch = None
    assert town.until(lambda: alice.client.is_announced(town.world.now), 40)
    search = alice.client.search_status(bob.key, town.world.now)
    assert search is not None
    assert search.interval_s == 3.0


def test_whoever_is_idle_costs_one_packet_in_five_seconds_and_no_more_wakes_than_that() -> None:
    town = Town(14)
    alice, bob = two(town)
    assert met(town, (alice, bob))
    alice.online(bob, True)
    bob.online(alice, True)
    town.world.run_for(300)
    sent, wakes = town.world.kinds[0x80], alice.wakes
    town.world.run_for(600)
    assert (town.world.kinds[0x80] - sent) / 2 < 120
    assert alice.wakes - wakes < 150


def test_a_friend_who_is_never_there_costs_ever_less() -> None:
    town = Town(12)
    alice = town.person("alice")
    nobody = town.person("nobody")
    nobody.stop()
    alice.befriend(nobody)
    town.world.run_for(60)
    search = alice.client.search_status(nobody.key, town.world.now)
    assert search is not None
    assert (search.live, search.storing) == (8, 0)
    town.world.run_for(3600)
    search = alice.client.search_status(nobody.key, town.world.now)
    assert search is not None
    assert search.interval_s >= 1024
    sent = town.world.kinds[0x80]
    town.world.run_for(600)
    assert town.world.kinds[0x80] - sent < 180


def test_the_same_world_gives_the_same_trace() -> None:
    def story() -> str:
        town = Town(12, seed=5, loss=0.05)
        alice, bob = two(town)
        met(town, (alice, bob))
        return town.world.trace_hash()

    assert story() == story()
