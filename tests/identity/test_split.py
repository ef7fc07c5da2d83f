"""An identity in two processes, either of which dies at any moment: nothing is lost or doubled."""

import random

import pytest

from core.crypto import KeyPair
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.identity.far_carrier import LOSSY_TAKEN, LOSSY_WINDOW
from core.identity.messages import LinkLost, LossyTaken
from core.messenger.events import (
    Connection,
    Control,
    CustomPacket,
    FileChunk,
    FileChunkWanted,
    FileEnded,
    FriendRequest,
    MessageKind,
    Outcome,
    Receipt,
)
from core.net_crypto.lasting import SessionMemory
from core.packets.nodes import NodeInfo
from tests.identity.people import Person
from tests.identity.split import Split
from tests.simulation import Node, World

TEXTS = 120  # each way


@pytest.fixture
def town() -> tuple[World, list[Node]]:
    """A network of 24 nodes that keep announcements."""
    return make_town(3)


def make_town(seed: int, loss: float = 0.0) -> tuple[World, list[Node]]:
    world = World(seed=seed, roles={"dht": 1, "onion": 1}, loss=loss, reordering=loss)
    first = world.add_node()
    nodes = [first, *(world.add_node(bootstrap=[first]) for _ in range(23))]
    world.run_for(60)
    return world, nodes


def meet(world: World, nodes: list[Node]) -> tuple[Split, Person]:
    """Alice, in two processes, and Bob, in one, are friends and online."""
    alice, bob = Split(world, "alice", nodes[:2]), Person(world, "bob", nodes[2:4])
    bob.engine.messenger.add_friend_by_key(alice.key, world.now)
    bob.host.plan()
    alice.befriend(bob.key)
    assert world.run_until(
        lambda: alice.is_with(bob.key) and bob.connections(alice.key), limit=120
    ), "they find each other"
    return alice, bob


class Chatter:
    """Both write to each other now and then."""

    def __init__(self, world: World, alice: Split, bob: Person, pause_s: float = 0.1) -> None:
        self.world, self.alice, self.bob, self.pause_s = world, alice, bob, pause_s
        self.written = 0
        self.sent: list[str] = []
        world.at(world.now, self._write)

    def _write(self) -> None:
        if self.written == TEXTS:
            return
        self.written += 1
        text = f"text {self.written}"
        self.alice.write(self.bob.key, text)
        messenger = self.bob.engine.messenger
        messenger.send_message(self.alice.key, MessageKind.NORMAL, text, self.world.now)
        self.bob.host.plan()
        self.world.at(self.world.now + self.pause_s, self._write)

    def is_over(self) -> bool:
        """Tells whether all has arrived, as far as its senders know."""
        return (
            self.written == TEXTS
            and not self.alice.disk.letters
            and len(self.alice.disk.texts) >= TEXTS
        )

    def check(self) -> None:
        """All arrived once, in order."""
        wanted = [f"text {number + 1}" for number in range(TEXTS)]
        assert self.bob.texts() == wanted
        assert self.alice.disk.texts == wanted


def test_halves_in_two_processes_talk_as_one(town: tuple[World, list[Node]]) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    talk = Chatter(world, alice, bob)
    assert world.run_until(talk.is_over, limit=60)
    talk.check()
    assert not alice.deaths


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
@pytest.mark.parametrize("side", ["near", "far", "either", "both"])
def test_a_half_may_die_at_any_moment(side: str, seed: int) -> None:
    world, nodes = make_town(20 + seed, 0.05 if seed % 2 else 0.0)
    alice, bob = meet(world, nodes)
    talk = Chatter(world, alice, bob)
    chance = random.Random(f"{seed}/{side}")
    ups = len(bob.connections(alice.key))

    def kill() -> None:
        near = side == "near" or (side == "either" and chance.random() < 0.5)
        for one in (True, False) if side == "both" else (near,):
            alice.kill(one, chance.randrange(12))
        if not talk.is_over():
            world.at(world.now + chance.uniform(0.5, 2.5), kill)

    world.at(world.now + 0.3, kill)
    assert world.run_until(talk.is_over, limit=120), (alice.deaths, alice.near.drops)
    talk.check()
    assert sum(alice.deaths.values()) >= 5
    assert len(bob.connections(alice.key)) == ups, "the session lived on"


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 16))]
)
def test_a_half_may_die_at_any_line(seed: int) -> None:
    world, nodes = make_town(500 + seed, 0.05 if seed % 2 else 0.0)
    alice, bob = meet(world, nodes)
    talk = Chatter(world, alice, bob, 0.03)
    chance = random.Random(seed)

    def kill() -> None:
        alice.kill_in_lines(chance.random() < 0.6, chance.randrange(1, 3000))
        if not talk.is_over():
            world.at(world.now + chance.uniform(0.05, 0.4), kill)

    world.at(world.now + 0.3, kill)
    assert world.run_until(talk.is_over, limit=120)
    talk.check()
    assert sum(alice.deaths.values()) >= 5
    assert Connection.NONE not in bob.connections(alice.key), "the session lived on"


def say(world: World, bob: Person, alice: Split, text: str) -> None:
    """Bob writes to Alice."""
    bob.engine.messenger.send_message(alice.key, MessageKind.NORMAL, text, world.now)
    bob.host.plan()


@pytest.mark.parametrize("near_dies", [False, True])
def test_what_came_before_a_session_ended_is_not_lost_with_it(
    town: tuple[World, list[Node]], near_dies: bool
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    alice.write(bob.key, "before")
    assert world.run_until(lambda: not alice.disk.letters, every=0.05)
    alice.stop_far()
    for number in range(100):  # more than are on their way at once
        say(world, bob, alice, f"late {number}")
    assert world.run_until(lambda: len(bob.told(Receipt)) == 100), "Bob takes them for delivered"
    bob.engine.shut_down(world.now)
    bob.host.leave()
    world.run_for(5)
    if near_dies:
        alice.replace(alice.near)
        world.run_for(1)
    alice.begin_far()
    world.run_for(10)
    assert alice.disk.texts == [f"late {number}" for number in range(100)]
    assert not alice.is_with(bob.key)
    assert alice.near.desk.carriers[alice.key]._lasting.ended() == [], "nothing is kept of it"


def test_a_letter_that_arrived_before_a_session_ended_is_not_sent_again(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    alice.write(bob.key, "once")
    alice.stop_far()
    assert world.run_until(bob.texts, every=0.01)
    world.run_for(1)
    assert alice.disk.letters, "nobody has told the messenger"
    bob.engine.shut_down(world.now)
    bob.host.plan()
    world.run_for(1)
    alice.replace(alice.near)
    world.run_for(1)
    alice.begin_far()
    assert world.run_until(lambda: not alice.disk.letters)
    assert world.run_until(lambda: alice.is_with(bob.key), limit=120)
    world.run_for(5)
    assert bob.texts() == ["once"]


def test_friend_requests_go_both_ways(town: tuple[World, list[Node]]) -> None:
    world, nodes = town
    alice, bob = Split(world, "alice", nodes[:2]), Person(world, "bob", nodes[2:4])
    carol = Person(world, "carol", nodes[4:6])
    assert world.run_until(
        lambda: alice.far.engine.connected and bob.engine.connected and carol.engine.connected,
        limit=120,
    )
    alice.far.engine.messenger.add_friend(bob.profile.tox_id, "it is Alice", world.now)
    alice.far.plan()
    carol.engine.messenger.add_friend(alice.profile.tox_id, "it is Carol", world.now)
    carol.host.plan()
    assert world.run_until(bob.requests, limit=120)
    assert world.run_until(
        lambda: [e for e in alice.far.events if isinstance(e, FriendRequest)], limit=120
    )
    asked = [event for event in alice.far.events if isinstance(event, FriendRequest)]
    assert [(event.friend, event.text) for event in asked] == [(carol.key, "it is Carol")]
    assert [(event.friend, event.text) for event in bob.requests()] == [(alice.key, "it is Alice")]
    bob.engine.messenger.add_friend_by_key(alice.key, world.now)
    bob.host.plan()
    alice.befriend(carol.key)
    assert world.run_until(lambda: alice.is_with(bob.key) and alice.is_with(carol.key), limit=120)


def test_a_friend_that_is_removed_sees_it_and_nothing_is_kept(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    alice.far.engine.messenger.remove_friend(bob.key, world.now)
    alice.far.engine.settle(world.now)
    assert world.run_until(lambda: bob.connections(alice.key)[-1] is Connection.NONE, limit=10)
    desk = alice.near.desk.carriers[alice.key]
    assert desk._queues == {}
    assert desk._lasting.ended() == []
    assert desk.carrier.friends.real_keys() == []


def test_a_lost_message_ends_the_link_and_the_next_one_loses_nothing(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    chance = random.Random(5)
    alice.lose = lambda message: chance.random() < 0.02
    talk = Chatter(world, alice, bob)
    assert world.run_until(talk.is_over, limit=120)
    talk.check()
    assert alice.near.drops["identity_link_gap"] + alice.far.engine.drops["identity_link_gap"] > 3
    assert not alice.deaths
    assert Connection.NONE not in bob.connections(alice.key)


def test_nodes_that_are_found_while_no_link_stands_are_used_all_the_same(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = Split(world, "alice", []), Person(world, "bob", nodes[2:4])
    bob.engine.messenger.add_friend_by_key(alice.key, world.now)
    bob.host.plan()
    alice.befriend(bob.key)
    world.run_for(0.1)
    alice.near.desk.messenger_gone(world.now)  # as at the start, where both processes are new
    found = [NodeInfo(node.keys.public, node.endpoint) for node in nodes[:2]]
    alice.far.engine.bootstrap(found, world.now)  # before it hears of that
    assert world.run_until(lambda: alice.is_with(bob.key), limit=60)
    assert alice.near.drops["identity_old_link"] == 1


def test_an_identity_without_a_port_says_so_and_comes_later(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice = Split(world, "alice", nodes[:2])
    alice.port_is_taken = True
    world.run_for(5)
    assert alice.far.engine.refused == "port 33445 is taken"
    assert not alice.near.has_place
    alice.port_is_taken = False
    assert world.run_until(lambda: alice.far.engine.connected, limit=120)
    assert alice.far.engine.refused == ""
    assert alice.far.engine.port == 33445
    assert world.run_until(lambda: alice.far.engine.profile(world.now).dht_nodes, limit=60)


def test_an_identity_that_goes_offline_is_seen_to_go_and_nothing_is_kept(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    alice.far.engine.shut_down(world.now)
    assert world.run_until(lambda: bob.connections(alice.key)[-1] is Connection.NONE, limit=5)
    assert not alice.near.has_place
    assert alice.near.desk.carriers == {}
    assert SessionMemory(alice.lasting, 4, 16, 4096).identities() == []


def test_a_carrier_that_nobody_asks_for_is_ended(town: tuple[World, list[Node]]) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    alice.stop_far()
    began = world.now
    alice.near.desk.messenger_gone(began)
    world.run_for(200)
    assert bob.is_with_key(alice.key), "the session lives on"
    desk = alice.near.desk
    while desk.carriers:
        due = desk.next_timer()
        assert due is not None
        world.run_for(max(0.0, due - world.now))
        desk.handle_timer(world.now)
    assert world.now - began == 300
    assert alice.near.drops["identity_alone"] == 1
    assert world.run_until(lambda: not bob.is_with_key(alice.key), limit=5)


def test_what_a_successor_finds_and_nobody_asks_for_is_forgotten(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, _ = meet(world, nodes)
    alice.stop_far()
    alice.replace(alice.near)
    desk = alice.near.desk
    desk.handle_timer(world.now + 299)
    assert SessionMemory(alice.lasting, 4, 16, 4096).identities() == [alice.key]
    desk.handle_timer(world.now + 300)
    assert SessionMemory(alice.lasting, 4, 16, 4096).identities() == []
    assert desk.next_timer() is None


def test_other_options_make_another_carrier(town: tuple[World, list[Node]]) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    before = alice.near.carrier
    alice.hosts = ("192.0.2.1",)
    alice.replace(alice.far)
    world.run_for(1)
    assert alice.near.carrier is not before
    assert world.run_until(lambda: alice.is_with(bob.key), limit=120)


def test_files_of_a_messenger_that_died_are_cancelled(town: tuple[World, list[Node]]) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    messenger = alice.far.engine.messenger
    messenger.send_file(bob.key, 0, 1000, None, "ours", world.now)
    alice.far.engine.settle(world.now)
    theirs = bob.engine.messenger.send_file(alice.key, 0, 1000, None, "theirs", world.now)
    bob.host.plan()
    assert world.run_until(lambda: messenger.transfers(bob.key)[1:], every=0.05)
    assert world.run_until(lambda: bob.engine.messenger.transfers(alice.key)[1:], every=0.05)
    world.run_for(1)
    alice.replace(alice.near)  # its successor learns of them from the messenger
    world.run_for(1)
    assert not bob.told(FileEnded)
    alice.replace(alice.far)
    world.run_for(1)
    ended = [event for event in bob.events if isinstance(event, FileEnded)]
    assert {event.number for event in ended} == {256, theirs}
    assert {event.outcome for event in ended} == {Outcome.CANCELLED}
    assert alice.far.engine.messenger.transfers(bob.key) == []
    assert Connection.NONE not in bob.connections(alice.key)


def give_chunks(alice: Split, bob: Person, data: bytes, seen: int) -> int:
    """Alice gives what she was asked for in her events behind the first `seen`."""
    events, messenger = alice.far.events, alice.far.engine.messenger
    while seen < len(events):
        event, seen = events[seen], seen + 1
        if isinstance(event, FileChunkWanted):
            part = data[event.position : event.position + event.size]
            messenger.file_chunk(bob.key, event.number, event.position, part, alice.world.now)
    alice.far.engine.settle(alice.world.now)
    return seen


@pytest.mark.parametrize("kills", [False, True])
def test_files_go_on_when_the_carrier_dies(town: tuple[World, list[Node]], kills: bool) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    data = bytes(range(256)) * 8000  # 2 MB
    messenger = alice.far.engine.messenger
    ours = messenger.send_file(bob.key, 0, len(data), None, "ours", world.now)
    alice.far.engine.settle(world.now)
    theirs = bob.engine.messenger.send_file(alice.key, 0, len(data), None, "theirs", world.now)
    bob.host.plan()
    assert world.run_until(lambda: messenger.transfers(bob.key)[1:], every=0.05)
    assert world.run_until(lambda: bob.engine.messenger.transfers(alice.key)[1:], every=0.05)
    bob.engine.messenger.file_control(alice.key, 256, Control.RESUME, world.now)
    messenger.file_control(bob.key, 256, Control.RESUME, world.now)
    alice.far.engine.settle(world.now)
    chance = random.Random(1)
    seen = asked = turns = 0
    end = world.now + 120
    while len(alice.ended()) + len(bob.told(FileEnded)) < 4 and world.now < end:
        seen = give_chunks(alice, bob, data, seen)
        while asked < len(bob.events):
            event, asked = bob.events[asked], asked + 1
            if isinstance(event, FileChunkWanted):
                part = data[event.position : event.position + event.size]
                bob.engine.messenger.file_chunk(
                    alice.key, theirs, event.position, part, world.now
                )
        bob.host.plan()
        world.run_for(0.02)
        turns += 1
        if kills and turns % 12 == 0:
            alice.kill(True, chance.randrange(30))
    for events, number in ((alice.far.events, 256), (bob.events, 256)):
        chunks = [event for event in events if isinstance(event, FileChunk)]
        assert {chunk.number for chunk in chunks} == {number}
        assert b"".join(chunk.data for chunk in chunks) == data
    bobs = [event for event in bob.events if isinstance(event, FileEnded)]
    assert {event.outcome for event in (*alice.ended(), *bobs)} == {Outcome.COMPLETE}
    assert {event.number for event in alice.ended()} == {ours, 256}
    assert (alice.deaths["near"] > 3) is kills
    passed = alice.near.desk.carriers[alice.key]._queues[bob.key][-1].passed
    assert passed is not None
    assert (passed.incoming, passed.outgoing) == (0, 0), "there is nothing to cancel"


def test_packets_that_may_be_lost_pass_and_a_flood_of_them_is_bounded(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    for number in range(200):
        alice.far.engine.messenger.send_custom(bob.key, bytes((200, number)), world.now)
        bob.engine.messenger.send_custom(alice.key, bytes((200, number)), world.now)
        bob.host.plan()
        world.run_for(0.01)
    world.run_for(1)
    for person in (alice.far.events, bob.events):
        came = [event.data[1] for event in person if isinstance(event, CustomPacket)]
        assert sorted(came) == list(range(200))
    for number in range(200):  # in one moment
        alice.far.engine.messenger.send_custom(bob.key, bytes((201, number)), world.now)
    world.run_for(1)
    flood = [e for e in bob.events if isinstance(e, CustomPacket) and e.data[0] == 201]
    assert LOSSY_WINDOW - LOSSY_TAKEN < len(flood) <= LOSSY_WINDOW
    alice.lose = lambda message: isinstance(message, LossyTaken)  # as if it were slow
    for number in range(200):
        bob.engine.messenger.send_custom(alice.key, bytes((201, number)), world.now)
        bob.host.plan()
        world.run_for(0.01)
    assert alice.near.drops["identity_lossy_full"] > 0


def test_an_identity_for_which_there_is_no_room_lives_but_not_on(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    before = alice.near.carrier.dht_key
    memory = SessionMemory(None, identities=1, sessions=1, packets=64)
    other = KeyPair.generate(SeededEntropy("another identity"))
    assert memory.keep_identity(other.public, other.secret, 33446)
    alice.near.desk._kept = memory
    alice.hosts = ("192.0.2.1",)  # so that there is another carrier
    alice.replace(alice.far)
    world.run_for(1)
    assert alice.near.carrier.dht_key != before
    assert alice.near.drops["identity_not_kept"] == 1
    assert memory.identities() == [other.public]
    assert world.run_until(lambda: alice.is_with(bob.key), limit=120)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_both_friends_may_be_in_two_processes_that_die(seed: int) -> None:
    world, nodes = make_town(60 + seed, 0.05)
    alice, bob = Split(world, "alice", nodes[:2]), Split(world, "bob", nodes[2:4])
    alice.befriend(bob.key)
    bob.befriend(alice.key)
    assert world.run_until(lambda: alice.is_with(bob.key) and bob.is_with(alice.key), limit=120)
    wanted = [f"text {number}" for number in range(TEXTS)]
    for text in wanted:
        alice.write(bob.key, text)
        bob.write(alice.key, text)
    chance = random.Random(seed)

    def is_over() -> bool:
        return not (alice.disk.letters or bob.disk.letters)

    def kill() -> None:
        chance.choice((alice, bob)).kill(chance.random() < 0.5, chance.randrange(12))
        if not is_over():
            world.at(world.now + chance.uniform(0.05, 0.5), kill)

    world.at(world.now + 0.1, kill)
    assert world.run_until(is_over, limit=120)
    assert bob.disk.texts == wanted
    assert alice.disk.texts == wanted
    assert sum(alice.deaths.values()) > 3
    assert sum(bob.deaths.values()) > 3


def test_a_successor_looks_for_a_friend_at_its_relays(town: tuple[World, list[Node]]) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    relay = NodeInfo(nodes[5].keys.public, from_text("192.0.2.7", 443), True)
    alice.near.carrier.friends.friend_found(bob.key, bob.engine.dht_key, [relay], world.now)
    alice.near.plan()
    world.run_for(1)
    for _ in range(2):
        alice.replace(alice.near)
        world.run_for(1)
        friends = alice.near.carrier.friends
        assert friends.relays_to_save(bob.key) == [relay]
    assert relay.endpoint in alice.near.dialled
    alice.replace(alice.far)
    world.run_for(1)
    alice.replace(alice.near)
    world.run_for(1)
    assert alice.near.carrier.friends.relays_to_save(bob.key) == [relay], "the messenger knew it"
    assert Connection.NONE not in bob.connections(alice.key)


def test_a_far_half_that_does_not_hear_the_end_of_its_link_is_told_again(
    town: tuple[World, list[Node]],
) -> None:
    world, nodes = town
    alice, bob = meet(world, nodes)
    desk = alice.near.desk
    alice.lose = lambda message: isinstance(message, LinkLost)
    desk.messenger_gone(world.now)
    world.run_for(1)
    assert desk.carriers[alice.key].link is None
    alice.lose = None
    assert desk.next_timer() == world.now - 1 + 5.0
    world.run_for(4)
    desk.handle_timer(world.now)
    world.run_for(1)
    assert desk.carriers[alice.key].link is not None
    world.run_for(4)
    desk.handle_timer(world.now)
    assert desk.next_timer() is None
    say(world, bob, alice, "hello")
    assert world.run_until(lambda: alice.disk.texts == ["hello"], limit=5)
