"""Friend connections among fakes that note what they are told: from a key to a session."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import KeyPair, PublicKey
from core.endpoint import Endpoint, from_text
from core.entropy import SeededEntropy
from core.friend.connections import FriendConnections
from core.friend.peer import State
from core.packets.messenger import ShareRelays
from core.packets.nodes import NodeInfo

ENTROPY = SeededEntropy("friend connections")


def new_key() -> PublicKey:
    """Returns a fresh public key."""
    return KeyPair.generate(ENTROPY).public


FRIEND, DHT_KEY, OTHER_DHT_KEY = new_key(), new_key(), new_key()
PLACE, PLACE2 = from_text("192.0.2.7", 33445), from_text("192.0.2.8", 33446)
PLACE6 = from_text("2001:db8::7", 33445)


def relay(number: int) -> NodeInfo:
    """Returns the relay of this number."""
    key = KeyPair.generate(SeededEntropy(number)).public
    return NodeInfo(key, from_text(f"198.51.100.{number}", 3389), True)


class View(NamedTuple):
    dht_key: PublicKey
    direct: bool
    endpoint: Endpoint | None


class World:
    """All that friend connections talk to, in one."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        """What each part was told, in order."""
        self.events: list[tuple[object, ...]] = []
        self.drops: Counter[str] = Counter()
        self.now = 100.0
        self.session: View | None = None
        self.has_room = True
        self.own_relays: list[NodeInfo] = []
        self.connections = FriendConnections(
            self, self, self, self, SeededEntropy(1), self.drops
        )
        self.connections.listener = self
        self.on_offline: Callable[[PublicKey], None] | None = None
        """What the listener does besides, when a friend goes."""

    def take_said(self) -> list[tuple[object, ...]]:
        """Returns what the parts were told since the last time."""
        said, self.said = self.said, []
        return said

    # Crypto

    def open(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> None:
        if self.session is None or self.session.dht_key != dht_key:
            self.said.append(("open", dht_key))
            self.session = View(dht_key, False, None)

    def close(self, real_key: PublicKey, now: float) -> None:
        self.said.append(("close",))
        self.session = None

    def set_endpoint(self, real_key: PublicKey, endpoint: Endpoint, now: float) -> None:
        self.said.append(("set_endpoint", endpoint))

    def send(self, real_key: PublicKey, data: bytes, now: float) -> int | None:
        if not self.has_room:
            return None
        self.said.append(("send", data))
        return 7

    def send_lossy(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        self.said.append(("send_lossy", data))
        return True

    def room(self, real_key: PublicKey) -> int:
        return 11

    def status(self, real_key: PublicKey) -> View | None:
        return self.session

    # Onion

    def add_friend(self, real_key: PublicKey, now: float) -> None:
        self.said.append(("add_friend",))

    def remove_friend(self, real_key: PublicKey, now: float) -> None:
        self.said.append(("remove_friend",))

    def set_online(self, real_key: PublicKey, online: bool, now: float) -> None:
        self.said.append(("set_online", online))

    def set_dht_key(self, real_key: PublicKey, dht_key: PublicKey | None, now: float) -> None:
        self.said.append(("set_dht_key", dht_key))

    # DHT

    def search(self, dht_key: bytes, now: float) -> bool:
        self.said.append(("search", dht_key))
        return True

    def stop_search(self, dht_key: bytes) -> None:
        self.said.append(("stop_search", dht_key))

    def ask(self, endpoint: Endpoint, key: bytes, target: bytes, now: float) -> None:
        self.said.append(("ask", endpoint, target))

    # Relays

    def add_peer(self, dht_key: PublicKey, now: float) -> None:
        self.said.append(("add_peer", dht_key))

    def remove_peer(self, dht_key: PublicKey, now: float) -> None:
        self.said.append(("remove_peer", dht_key))

    def add_relay_of(
        self, dht_key: PublicKey, endpoint: Endpoint, relay_key: PublicKey, now: float
    ) -> None:
        self.said.append(("add_relay_of", dht_key, endpoint))

    def set_sleeping(self, dht_key: PublicKey, asleep: bool, now: float) -> None:
        self.said.append(("set_sleeping", asleep))

    def relay_works(self, dht_key: PublicKey, now: float) -> None:
        self.said.append(("relay_works", dht_key))

    def relays(self, most: int) -> list[NodeInfo]:
        self.own_relays = self.own_relays[most:] + self.own_relays[:most]
        return self.own_relays[:most]

    # Listener

    def friend_online(self, real_key: PublicKey, now: float) -> None:
        self.events.append(("online", real_key))

    def friend_offline(self, real_key: PublicKey, now: float) -> None:
        self.events.append(("offline", real_key))
        if self.on_offline is not None:
            self.on_offline(real_key)

    def friend_direct(self, real_key: PublicKey, direct: bool, now: float) -> None:
        self.events.append(("direct", direct))

    def friend_packets(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        self.events += [("packet", data) for data in packets]

    def friend_lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        self.events.append(("lossy", data))

    def friend_acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        self.events.append(("acknowledged", number))

    # Time

    def wait(self, seconds: float, alive: bool = False) -> None:
        """Lets time pass with its timers; of an alive friend something comes all the time."""
        end = self.now + seconds
        while (due := self.connections.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            if alive:
                self.connections.lossless(FRIEND, (), self.now)
            self.connections.handle_timer(self.now)
        self.now = end


def found(dht_key: PublicKey = DHT_KEY, nodes: tuple[NodeInfo, ...] = ()) -> World:
    """Returns a world in which the onion has found the friend, and a session is being made."""
    world = World()
    world.connections.add(FRIEND, world.now)
    world.connections.friend_found(FRIEND, dht_key, nodes, world.now)
    world.wait(0)
    return world


def online() -> World:
    """Returns a world in which the friend is online."""
    world = found()
    world.connections.session_up(FRIEND, world.now)
    world.take_said()
    return world


def state(world: World) -> State:
    """Returns how far it is with the friend."""
    status = world.connections.status(FRIEND, world.now)
    assert status is not None
    return status.state


def test_a_friend_is_sought_by_the_onion_first() -> None:
    world = World()
    world.connections.add(FRIEND, world.now)
    assert world.said == [("add_friend",)]
    assert world.connections.next_timer() is None
    assert state(world) is State.SEARCHING


def test_when_its_dht_key_is_found_dht_relays_and_sessions_begin() -> None:
    node = NodeInfo(new_key(), PLACE2)
    world = found(nodes=(relay(1), node))
    assert world.said == [
        ("add_friend",),
        ("search", DHT_KEY),
        ("add_peer", DHT_KEY),
        ("set_dht_key", DHT_KEY),
        ("add_relay_of", DHT_KEY, relay(1).endpoint),
        ("ask", PLACE2, DHT_KEY),
        ("open", DHT_KEY),
        ("add_relay_of", DHT_KEY, relay(1).endpoint),
    ]
    assert state(world) is State.CONNECTING


def test_addresses_that_the_dht_finds_go_to_the_session() -> None:
    world = found()
    world.take_said()
    world.connections.address_found(DHT_KEY, PLACE, world.now)
    world.connections.address_found(OTHER_DHT_KEY, PLACE2, world.now)
    world.connections.address_found(DHT_KEY, PLACE6, world.now)
    assert world.take_said() == [("set_endpoint", PLACE), ("set_endpoint", PLACE6)]


def test_a_session_that_died_before_it_was_up_is_made_again_with_all_that_is_known() -> None:
    world = found(nodes=tuple(relay(number) for number in range(1, 6)))
    world.connections.address_found(DHT_KEY, PLACE, world.now)
    world.take_said()
    world.wait(10)
    assert world.take_said() == []
    world.session = None
    world.wait(2)
    assert world.take_said() == [
        ("open", DHT_KEY),
        ("set_endpoint", PLACE),
        *(("add_relay_of", DHT_KEY, relay(number).endpoint) for number in (5, 4, 3)),
    ]


def test_a_link_through_a_relay_lets_the_session_be_made_at_once() -> None:
    world = found()
    world.session = None
    world.take_said()
    world.connections.relay_link(DHT_KEY, True, world.now)
    world.wait(0)
    assert world.take_said()[0] == ("open", DHT_KEY)
    world.connections.relay_link(OTHER_DHT_KEY, True, world.now)
    world.connections.relay_link(DHT_KEY, False, world.now)
    world.wait(0)
    assert world.take_said() == []


def test_after_122_s_without_word_the_dht_key_is_forgotten() -> None:
    world = found()
    world.wait(121)
    assert state(world) is State.CONNECTING
    world.take_said()
    world.wait(2)
    assert state(world) is State.SEARCHING
    assert world.take_said() == [
        ("stop_search", DHT_KEY),
        ("remove_peer", DHT_KEY),
        ("set_dht_key", None),
        ("close",),
    ]
    assert world.connections.next_timer() is None


@pytest.mark.parametrize("by", ["onion", "dht"])
def test_word_of_a_dht_key_keeps_it(by: str) -> None:
    world = found()
    for _ in range(5):
        world.wait(100)
        if by == "onion":
            world.connections.friend_found(FRIEND, DHT_KEY, (), world.now)
        else:
            world.connections.address_found(DHT_KEY, PLACE, world.now)
    assert state(world) is State.CONNECTING


def test_a_session_brings_the_friend_online_and_ends_the_search() -> None:
    world = found()
    world.take_said()
    world.connections.session_up(FRIEND, world.now)
    assert world.events == [("online", FRIEND)]
    assert world.take_said() == [("set_online", True)]
    assert world.connections.is_online(FRIEND)


def test_alive_is_said_every_14_s() -> None:
    world = online()
    world.wait(144, alive=True)
    assert [row for row in world.take_said() if row == ("send", b"\x10")] == [
        ("send", b"\x10")
    ] * 10


def test_a_friends_word_that_it_is_alive_is_answered_where_ours_is_near() -> None:
    world = online()
    alive = ("send", b"\x10")
    world.take_said()
    while alive not in world.said:  # the first time is drawn by lot
        world.wait(0.1)
    world.take_said()
    answers: list[int] = []
    for pause in (6, 6, 14, 14, 7):
        world.wait(pause)
        assert alive not in world.take_said()  # not by our own timer
        world.connections.lossless(FRIEND, (b"\x10", b"\x10"), world.now)
        answers.append(world.take_said().count(alive))
    assert answers == [0, 1, 1, 1, 0]


def test_alive_is_said_later_where_there_is_no_room() -> None:
    world = online()
    world.has_room = False
    world.wait(15, alive=True)
    world.has_room = True
    world.wait(2, alive=True)
    assert ("send", b"\x10") in world.said


def test_a_friend_that_is_silent_for_32_s_is_offline_and_tried_again() -> None:
    world = online()
    world.wait(31.9)
    assert world.connections.is_online(FRIEND)
    world.take_said()
    world.wait(0.2)
    assert world.events[-1] == ("offline", FRIEND)
    assert world.drops == {"friend_silent": 1}
    assert world.take_said() == [
        ("set_online", False),
        ("set_sleeping", False),
        ("close",),
        ("open", DHT_KEY),
    ]


def test_any_packet_is_a_sign_of_life() -> None:
    world = online()
    for _ in range(4):
        world.wait(30)
        world.connections.lossless(FRIEND, (b"\x40hello",), world.now)
    assert world.connections.is_online(FRIEND)
    assert world.events[1:] == [("packet", b"\x40hello")] * 4


def test_relays_are_shared_at_once_and_every_two_minutes_in_turn() -> None:
    world = online()
    world.own_relays = [relay(number) for number in range(1, 7)]
    world.wait(239, alive=True)
    shared = [
        ShareRelays.decode(row[1]).relays
        for row in world.take_said()
        if row[0] == "send" and isinstance(row[1], bytes) and row[1][0] == 0x11
    ]
    assert shared == [
        (relay(4), relay(5), relay(6)),
        (relay(1), relay(2), relay(3)),
    ]
    assert len(world.connections.relays_to_save(FRIEND)) == 6


def test_without_a_relay_nothing_is_shared_until_there_is_one() -> None:
    world = online()
    world.wait(100, alive=True)
    assert not [row for row in world.take_said() if row[0] == "send" and row[1] != b"\x10"]
    world.own_relays = [relay(1)]
    world.wait(8, alive=True)
    assert ("send", ShareRelays((relay(1),)).encode()) in world.said


def test_relays_of_the_friend_are_used_and_the_last_24_are_kept() -> None:
    world = online()
    for number in range(1, 31):
        packet = ShareRelays((relay(number),)).encode()
        world.connections.lossless(FRIEND, (packet,), world.now)
    assert len(world.take_said()) == 30
    kept = world.connections.relays_to_save(FRIEND)
    assert kept == [relay(number) for number in range(7, 31)]
    world.connections.lossless(FRIEND, (ShareRelays((relay(7),)).encode(),), world.now)
    assert world.connections.relays_to_save(FRIEND)[-1] == relay(7)


def test_relays_that_were_saved_are_there_again() -> None:
    world = World()
    saved = [relay(number) for number in range(1, 5)]
    world.connections.add(FRIEND, world.now, saved)
    world.connections.friend_found(FRIEND, DHT_KEY, (), world.now)
    world.wait(0)
    used = [row[2] for row in world.said if row[0] == "add_relay_of"]
    assert used == [relay(number).endpoint for number in (4, 3, 2)]


def test_lists_of_relays_that_are_none_are_counted() -> None:
    world = online()
    world.connections.lossless(FRIEND, (b"\x11junk",), world.now)
    nowhere = NodeInfo(new_key(), from_text("198.51.100.1", 0), True)
    world.connections.lossless(FRIEND, (ShareRelays((nowhere,)).encode(),), world.now)
    assert world.drops == {"friend_share_relays": 1, "friend_relay_port": 1}
    assert world.said == []


def test_a_friend_that_is_a_relay_itself_is_one_at_its_own_address() -> None:
    world = found()
    world.connections.address_found(DHT_KEY, PLACE, world.now)
    world.take_said()
    itself = NodeInfo(DHT_KEY, from_text("127.0.0.1", 3389), True)
    world.connections.friend_found(FRIEND, DHT_KEY, (itself,), world.now)
    assert world.take_said() == [("add_relay_of", DHT_KEY, from_text("192.0.2.7", 3389))]


def test_a_session_that_is_up_is_told_once_and_names_the_dht_key_where_it_was_forgotten() -> None:
    world = found()
    world.connections.accepts(FRIEND, DHT_KEY, None, world.now)
    world.wait(123)
    assert state(world) is State.SEARCHING
    world.session = View(DHT_KEY, False, None)
    for _ in range(2):
        world.connections.session_up(FRIEND, world.now)
    assert world.events == [("online", FRIEND)]
    status = world.connections.status(FRIEND, world.now)
    assert status is not None
    assert status.dht_key == DHT_KEY


def test_a_listener_may_remove_a_friend_that_begins_anew() -> None:
    world = online()
    world.on_offline = lambda friend: world.connections.remove(friend, world.now)
    world.connections.new_dht_key(FRIEND, OTHER_DHT_KEY, world.now)
    assert world.connections.status(FRIEND, world.now) is None
    assert ("search", OTHER_DHT_KEY) not in world.said
    assert world.connections.next_timer() is None


# The friend begins anew


@pytest.mark.parametrize("by", ["onion", "handshake"])
def test_a_friend_with_another_dht_key_has_begun_anew(by: str) -> None:
    world = online()
    if by == "onion":
        world.connections.friend_found(FRIEND, OTHER_DHT_KEY, (), world.now)
    else:
        world.connections.new_dht_key(FRIEND, OTHER_DHT_KEY, world.now)
    assert world.events[-1] == ("offline", FRIEND)
    world.connections.session_down(FRIEND, world.now)
    assert world.events[1:] == [("offline", FRIEND)]
    world.wait(0)
    assert world.take_said() == [
        ("set_online", False),
        ("set_sleeping", False),
        ("stop_search", DHT_KEY),
        ("remove_peer", DHT_KEY),
        ("search", OTHER_DHT_KEY),
        ("add_peer", OTHER_DHT_KEY),
        ("set_dht_key", OTHER_DHT_KEY),
        ("open", OTHER_DHT_KEY),
    ]
    world.connections.session_up(FRIEND, world.now)
    assert world.events[-1] == ("online", FRIEND)


def test_a_session_that_went_down_is_made_again() -> None:
    world = online()
    world.session = None
    world.connections.session_down(FRIEND, world.now)
    world.connections.session_down(FRIEND, world.now)
    assert world.events[1:] == [("offline", FRIEND)]
    world.wait(0)
    assert ("open", DHT_KEY) in world.said


# Handshakes of the friend


def test_a_friend_that_shakes_hands_first_is_accepted_and_known_by_its_dht_key() -> None:
    world = World()
    world.connections.add(FRIEND, world.now)
    assert world.connections.accepts(FRIEND, DHT_KEY, PLACE, world.now)
    world.session = View(DHT_KEY, True, PLACE)
    world.connections.session_up(FRIEND, world.now)
    assert world.events == [("online", FRIEND), ("direct", True)]
    status = world.connections.status(FRIEND, world.now)
    assert status is not None
    assert status.addresses == (PLACE,)
    assert status.direct
    assert ("search", DHT_KEY) in world.said


def test_strangers_are_refused() -> None:
    world = World()
    assert not world.connections.accepts(FRIEND, DHT_KEY, PLACE, world.now)
    world.connections.friend_found(FRIEND, DHT_KEY, (), world.now)
    world.connections.lossless(FRIEND, (b"\x40hello",), world.now)
    world.connections.lossy(FRIEND, b"\xc8", world.now)
    assert world.said == []
    world.connections.session_up(FRIEND, world.now)
    world.connections.acknowledged(FRIEND, 1, world.now)
    world.connections.session_down(FRIEND, world.now)
    world.connections.direct_changed(FRIEND, True, world.now)
    world.connections.new_dht_key(FRIEND, DHT_KEY, world.now)
    assert world.drops == {"friend_unknown": 5}
    assert world.said == [("close",)]
    assert world.events == []
    assert world.connections.status(FRIEND, world.now) is None
    assert world.connections.relays_to_save(FRIEND) == []


def test_an_address_that_the_session_used_is_preferred_to_the_word_of_the_dht() -> None:
    world = online()
    world.session = View(DHT_KEY, True, PLACE)
    world.connections.direct_changed(FRIEND, True, world.now)
    world.connections.address_found(DHT_KEY, PLACE2, world.now)
    world.connections.address_found(DHT_KEY, PLACE6, world.now)
    assert world.take_said() == [("set_sleeping", True), ("stop_search", DHT_KEY)]
    world.session = None
    world.connections.session_down(FRIEND, world.now)
    world.wait(0)
    said = world.take_said()
    assert ("search", DHT_KEY) in said
    told = [row[1] for row in said if row[0] == "set_endpoint"]
    assert told == [PLACE6, PLACE]
    world.wait(100)
    world.connections.address_found(DHT_KEY, PLACE6, world.now)
    world.wait(23)
    world.connections.address_found(DHT_KEY, PLACE2, world.now)
    assert world.take_said()[-1] == ("set_endpoint", PLACE2)


def test_relays_sleep_while_udp_works() -> None:
    world = online()
    world.connections.direct_changed(FRIEND, True, world.now)
    world.connections.direct_changed(FRIEND, True, world.now)
    world.connections.direct_changed(FRIEND, False, world.now)
    assert world.take_said() == [
        ("set_sleeping", True),
        ("stop_search", DHT_KEY),  # nor is the DHT to look for what is found
        ("set_sleeping", True),
        ("set_sleeping", False),
        ("search", DHT_KEY),
    ]
    assert world.events[1:] == [("direct", True), ("direct", False)]


# Locks and removal


def test_a_connection_lives_as_long_as_somebody_wants_it() -> None:
    world = online()
    world.connections.add(FRIEND, world.now)
    world.connections.remove(FRIEND, world.now)
    assert world.connections.is_online(FRIEND)
    assert world.take_said() == []
    world.connections.remove(FRIEND, world.now)
    assert world.take_said() == [
        ("stop_search", DHT_KEY),
        ("remove_peer", DHT_KEY),
        ("remove_friend",),
        ("close",),
    ]
    world.connections.remove(FRIEND, world.now)
    assert world.connections.next_timer() is None


def test_a_friend_that_names_the_dht_key_of_another_takes_nothing_from_it() -> None:
    world, liar = online(), new_key()
    world.connections.add(liar, world.now)
    world.connections.friend_found(liar, DHT_KEY, (), world.now)
    world.take_said()
    world.connections.remove(liar, world.now)
    said = world.take_said()
    assert ("stop_search", DHT_KEY) in said  # one of two searches
    assert ("remove_peer", DHT_KEY) not in said
    world.connections.address_found(DHT_KEY, PLACE, world.now)
    assert world.take_said() == [("set_endpoint", PLACE)]


def test_relays_hear_of_what_they_must_have_brought_each_thing_once() -> None:
    world = online()
    world.take_said()
    for number in (7, 7, 8):
        world.connections.acknowledged(FRIEND, number, world.now)
    assert world.take_said() == [("relay_works", DHT_KEY)] * 2
    world.connections.direct_changed(FRIEND, True, world.now)
    world.take_said()
    world.connections.acknowledged(FRIEND, 9, world.now)
    assert world.take_said() == []


def test_packets_and_acknowledgements_are_passed_on() -> None:
    world = online()
    assert world.connections.send(FRIEND, b"\x40hi", world.now) == 7
    assert world.connections.send_lossy(FRIEND, b"\xc8", world.now)
    assert world.connections.room(FRIEND) == 11
    world.connections.lossy(FRIEND, b"\xc8hi", world.now)
    world.connections.acknowledged(FRIEND, 7, world.now)
    assert world.events[1:] == [("lossy", b"\xc8hi"), ("acknowledged", 7)]


@given(packets=st.lists(st.binary(min_size=1, max_size=200), max_size=20), seed=st.integers(0, 9))
def test_a_friend_may_send_anything(packets: list[bytes], seed: int) -> None:
    world = online()
    for number, packet in enumerate(packets):
        kind = (0x10, 0x11, packet[0])[(seed + number) % 3]
        world.connections.lossless(FRIEND, (bytes((kind,)) + packet[1:],), world.now)
        world.connections.lossy(FRIEND, packet, world.now)
    assert world.connections.is_online(FRIEND)
    assert len(world.connections.relays_to_save(FRIEND)) <= 24
    assert set(world.drops) <= {"friend_share_relays", "friend_relay_port"}
