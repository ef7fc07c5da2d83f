"""Searches for keys that another shard surely has not stored are answered where they arrive."""

import random
from collections import Counter
from typing import Any

import pytest

from core.messages import AnnounceAsked, KeysStored, Message, StoredFilter
from core.module import ProtocolViolation
from core.onion.announce_filters import LIFE_S, REBUILD_S, TELL_INTERVAL_S
from core.onion.announce_store import LIFE_S as ENTRY_LIFE_S
from core.onion.key_filter import MAX_SIZE, MIN_SIZE
from core.slots import SlotTable
from tests.onion.client import AnnounceAnswer, Client, group_announce
from tests.onion.node import START, Node, address
from tests.onion.test_announce import HOP, Talk, rows
from tests.onion.test_groups import FOUR
from tests.simulation import Node as SimulatedNode
from tests.simulation import Peer as SimulatedPeer
from tests.simulation import World
from tests.simulation.test_shards import announce_answer, announce_request

KEYS = 24


class Town:
    """A node of several shards, and clients by the shard that owns their key."""

    def __init__(self, shards: int = 2, count: int = KEYS, capacity: int = 100_000) -> None:
        self.node = Node(
            "n", address(0), shards, known=rows(9), announce_capacity=capacity
        )
        self.talks = [Talk(self.node, Client(f"client {number}")) for number in range(count)]
        self.seen: list[tuple[int, int, Message]] = []
        self.lost = False
        """Whether what shards tell each other is lost."""
        self.node.watch = self._watch
        self.now = START
        self.pass_time(0.0)

    def _watch(self, teller: int, shard: int, message: Message) -> bool:
        self.seen.append((teller, shard, message))
        return not self.lost or isinstance(message, AnnounceAsked)

    def owned(self, shard: int) -> list[Talk]:
        """Clients whose key belongs to a shard."""
        return [talk for talk in self.talks if self.node.table.shard_of(key(talk)) == shard]

    def seeker(self, shard: int) -> Talk:
        """A client whose searches arrive at a shard."""
        for talk in self.talks:
            if self.node.table.shard_of(talk.client.dht.public) == shard:
                return talk
        raise AssertionError("too few clients")

    def search(self, wanted: Talk, by: int) -> AnnounceAnswer:
        """Searches for a client's key by way of a shard."""
        return self.seeker(by).search(key(wanted), self.now)

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Lets time pass; workers' turns come every `step` seconds."""
        end = self.now + seconds
        while True:
            self.node.timer(self.now)
            self.node.settle(self.now)
            if self.now >= end:
                return
            self.now = min(end, self.now + step)

    def told(self, kind: type) -> list[Any]:
        """Messages of a class that shards were told, and forgets all."""
        found = [message for _, _, message in self.seen if isinstance(message, kind)]
        self.seen.clear()
        return found

    def counts(self) -> Counter[str]:
        """What all shards have counted."""
        total: Counter[str] = Counter()
        for module in self.node.shards:
            total.update(module.snapshot())
        return total


def key(talk: Talk) -> bytes:
    """The key that a client announces."""
    return talk.client.real.public


# Answers


@pytest.mark.parametrize("shards", [2, 4, 8])
def test_a_search_for_nothing_is_answered_where_it_arrives_as_the_owner_would(shards: int) -> None:
    town, whole = Town(shards), Town(1)
    town.pass_time(TELL_INTERVAL_S)
    town.seen.clear()
    for number, talk in enumerate(town.talks):
        answer = talk.search(key(talk)[::-1], town.now)
        assert answer == whole.talks[number].search(key(talk)[::-1], town.now)
        assert answer.is_stored == 0
        assert len(answer.rest) == 4 * 51
    assert town.told(AnnounceAsked) == []
    counts = town.counts()
    assert counts["searches_spared"] + counts["searches_blind"] <= KEYS
    assert counts["searches_spared"] >= KEYS * (shards - 1) / shards / 2
    assert (counts["searches_crossed"], counts["searches_blind"]) == (0, 0)


@pytest.mark.parametrize("shards", [2, 4])
def test_a_key_is_found_by_every_shard_as_soon_as_it_was_told(shards: int) -> None:
    town = Town(shards)
    town.pass_time(TELL_INTERVAL_S)
    for owner in range(shards):
        for talk in town.owned(owner):
            assert talk.announce(town.now).is_stored == 2
            for by in range(shards):
                answer = town.search(talk, by)
                assert (answer.is_stored, answer.payload) == (1, talk.client.data.public)
    assert town.counts()["searches_crossed"] == KEYS * (shards - 1)
    assert town.counts()["searches_in_vain"] == 0


def test_a_search_in_an_87_is_spared_too_and_group_announces_go_to_the_chat_s_owner() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    seeker, absent, stored = town.seeker(0), town.owned(1)[0], town.owned(1)[1]
    stored.announce(town.now)
    town.seen.clear()
    answer = seeker.ask(key(absent), now=town.now, requester="temporary", group=b"")
    assert (answer.is_stored, answer.rest[0]) == (0, 4)
    assert town.told(AnnounceAsked) == []
    found = seeker.ask(key(stored), now=town.now, requester="temporary", group=b"")
    assert found.is_stored == 1
    assert len(town.told(AnnounceAsked)) == 1
    # the chat id belongs to shard 1, the searched key to shard 0: one step instead of two
    chat = bytes(8) + b"\x01" + bytes(23)
    mine, there = town.owned(0)[0], town.owned(0)[1]
    there.announce(town.now)
    town.seen.clear()
    group = chat + group_announce(b"p" * 32, FOUR)
    answer = seeker.ask(key(mine), now=town.now, requester="temporary", group=group)
    assert answer.is_stored == 0
    assert len(town.told(AnnounceAsked)) == 1
    answer = seeker.ask(key(there), now=town.now, requester="temporary", group=group)
    assert answer.is_stored == 1
    assert len(town.told(AnnounceAsked)) == 2
    assert [len(module.announces.groups) for module in town.node.shards] == [0, 1]


def test_an_announce_always_goes_to_its_owner() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    talk = town.owned(1)[0]
    first = talk.ask(key(talk), data_key=talk.client.data.public, now=town.now)
    request = talk.client.announce_request(
        town.node.keys.public, talk.client.real, key(talk), first.payload, talk.client.data.public
    )
    # it arrives at the wrong shard, as it does while a table changes
    town.node.shards[0].handle_packet(request + talk.tail, HOP, town.now)
    assert len(town.node.settle(town.now)) == 1
    assert [len(module.announces.entries) for module in town.node.shards] == [0, 1]


# What is told


def test_refreshes_tell_nothing() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    one = town.owned(1)[0]
    one.announce(town.now)
    town.seen.clear()
    for _ in range(5):
        one.announce(town.now)
    assert town.told(KeysStored) == []


def test_a_shard_says_once_a_second_that_it_is_there() -> None:
    town = Town(4)
    town.pass_time(TELL_INTERVAL_S)
    town.seen.clear()
    town.pass_time(10.0)
    told = town.told(KeysStored)
    assert len(told) == 10 * 4 * 3
    assert all(row.fingerprints == b"" for row in told)


def test_a_shard_that_is_alone_tells_nothing_and_keeps_no_filter() -> None:
    town = Town(1)
    for talk in town.talks:
        talk.announce(town.now)
    town.pass_time(5.0)
    assert town.seen == []
    assert town.counts()["announce_filter_bytes"] == 0


def test_a_new_table_with_more_shards_or_fewer() -> None:
    town = Town(2)
    for module in town.node.shards:
        module.context.slots["onion"] = SlotTable(1, (0,) * 256)
    town.pass_time(LIFE_S + TELL_INTERVAL_S)
    counts = town.counts()
    assert (counts["other_filters"], counts["other_filters_bytes"]) == (0, 0)
    assert town.node.shards[0].snapshot()["announce_filter_bytes"] == 0
    for talk in town.owned(0):
        talk.announce(town.now)
    for module in town.node.shards:
        module.context.slots["onion"] = town.node.table
    town.pass_time(3 * TELL_INTERVAL_S)
    assert town.counts()["other_filters"] == 2
    for talk in town.owned(0):
        assert town.search(talk, 1).is_stored == 1
    assert town.counts()["searches_in_vain"] == 0


def test_which_filter_counts_follows_the_table_of_the_moment() -> None:
    """Answers are those of shards that know nothing of each other, whatever the tables say."""
    answers = []
    for lost in (False, True):
        town = Town(2)
        town.lost = lost
        town.pass_time(LIFE_S + 1)
        talks = town.owned(1)
        for talk in talks[:3]:
            talk.announce(town.now)
        # all of shard 1's keys now belong to shard 0, and the other way round; entries stay
        swapped = SlotTable(1, tuple(1 - shard for shard in town.node.table.shards))
        said = []
        for count in (1, 2):
            for module in town.node.shards[:count]:
                module.context.slots["onion"] = swapped
            said += [town.search(talk, by).is_stored for talk in talks[:4] for by in (0, 1)]
        town.node.table = swapped
        talks[0].announce(town.now)
        said += [town.search(talk, by).is_stored for talk in talks[:4] for by in (0, 1)]
        answers.append(said)
    assert answers[0] == answers[1]
    assert answers[0][-8:] == [1, 1, 0, 0, 0, 0, 0, 0]


# Faults


def test_a_shard_without_a_filter_passes_searches_on() -> None:
    town = Town(2)
    town.lost = True
    town.pass_time(LIFE_S)
    talk, absent = town.owned(1)[:2]
    talk.announce(town.now)
    assert town.search(talk, 0).is_stored == 1
    assert town.search(absent, 0).is_stored == 0
    counts = town.counts()
    assert (counts["searches_blind"], counts["searches_in_vain"]) == (2, 1)
    assert counts["other_filters"] == 0


def test_a_message_that_is_lost_is_missed_at_the_next_one() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    talk = town.owned(1)[0]
    town.lost = True
    talk.announce(town.now)
    assert town.search(talk, 0).is_stored == 0  # wrong, for now
    town.lost = False
    town.pass_time(TELL_INTERVAL_S)
    town.seen.clear()
    assert town.search(talk, 0).is_stored == 1
    # and the whole filter has come besides
    assert town.counts()["other_filters"] == 2
    assert town.search(town.owned(1)[1], 0).is_stored == 0
    assert len(town.told(AnnounceAsked)) == 1


def test_whatever_is_lost_a_stored_key_is_called_absent_for_3_seconds_at_most() -> None:
    town = Town(2)
    town.pass_time(5 * TELL_INTERVAL_S)
    talk = town.owned(1)[0]
    town.lost = True
    talk.announce(town.now)
    said = []
    for tenth in range(40):
        said.append((tenth / 10, town.search(talk, 0).is_stored))
        town.pass_time(0.1)
    wrong = [after for after, state in said if state == 0]
    assert 0 < max(wrong) < LIFE_S
    assert [state for after, state in said if after >= LIFE_S] == [1] * 10
    assert town.counts()["searches_in_vain"] == 0


def test_an_owner_that_began_anew_is_believed_at_once_and_its_predecessor_no_more() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    gone, new = town.owned(1)[:2]
    gone.announce(town.now)
    town.pass_time(0.5)
    town.node.restart(1)
    assert town.search(gone, 0).is_stored == 0  # the owner has lost it: it crosses, and says so
    assert town.counts()["searches_in_vain"] == 1
    new.announce(town.now)
    assert town.search(new, 0).is_stored == 1
    town.pass_time(2 * TELL_INTERVAL_S)
    town.seen.clear()
    assert town.search(gone, 0).is_stored == 0
    assert town.told(AnnounceAsked) == []
    assert town.search(new, 0).is_stored == 1


def test_a_shard_that_began_anew_has_the_others_filters_within_a_second() -> None:
    town = Town(3)
    town.pass_time(TELL_INTERVAL_S)
    talk, absent = town.owned(1)[:2]
    talk.announce(town.now)
    town.pass_time(0.5)
    town.node.restart(0)
    assert town.search(talk, 0).is_stored == 1
    assert town.node.shards[0].snapshot()["searches_blind"] == 1
    town.pass_time(TELL_INTERVAL_S)
    assert town.node.shards[0].snapshot()["other_filters"] == 2
    assert town.search(talk, 0).is_stored == 1
    assert town.search(absent, 0).is_stored == 0
    counts = town.node.shards[0].snapshot()
    assert (counts["searches_spared"], counts["searches_crossed"]) == (1, 1)


@pytest.mark.parametrize("seed", range(6))
def test_no_mixture_of_losses_and_restarts_hides_a_key_for_long(seed: int) -> None:
    chance = random.Random(f"filters {seed}")
    town = Town(3)
    losing = seed % 2 == 1
    since: dict[int, float] = {}  # number of a client: when its entry came to be
    said: Counter[str] = Counter()
    for _ in range(2000):
        dice = chance.random()
        number = chance.randrange(KEYS)
        talk = town.talks[number]
        owner = town.node.table.shard_of(key(talk))
        there = town.node.shards[owner].announces.entries.get(key(talk), town.now) is not None
        if dice < 0.1:
            assert talk.announce(town.now).is_stored == 2
            if not there:
                since[number] = town.now
        elif dice < 0.11:
            town.node.restart(chance.randrange(3))
        elif dice < 0.15:
            town.lost = losing and chance.random() < 0.5
        elif dice < 0.4:
            town.pass_time(chance.choice((0.001, 0.01, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 3.5, 40.0)))
        else:
            by = chance.randrange(3)
            spared = town.node.shards[by].announces.others.spared
            state = town.search(talk, by).is_stored
            said["spared"] += town.node.shards[by].announces.others.spared - spared
            said["found"] += state
            if there and not state:
                said["hidden"] += 1
                assert town.now - since[number] < LIFE_S
            else:
                assert state == there
    assert min(said["spared"], said["found"]) > 100
    assert losing or not said["hidden"]


def test_a_rebuilt_filter_that_does_not_come_leaves_the_old_one_good() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    talk = town.owned(1)[0]
    talk.announce(town.now)
    module = town.node.shards[1]
    before = town.node.shards[0].announces.others._others[1].built
    town.node.watch = lambda _, __, message: not isinstance(message, StoredFilter)
    town.pass_time(ENTRY_LIFE_S + REBUILD_S, 0.5)
    assert module.announces.own_filter.snapshot()["announce_filter_built"] > before
    assert town.node.shards[0].announces.others._others[1].built == before
    late = town.owned(1)[1]
    late.announce(town.now)
    assert town.search(late, 0).is_stored == 1


def test_a_filter_that_nobody_asked_for_or_that_is_none_is_refused() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    module, box = town.node.shards[0], town.node.boxes[0]
    good = StoredFilter(1, START, 1, town.now, 1, bytes(MIN_SIZE))
    stored = KeysStored(1, START, 2, town.now, 1, b"")
    for refused in (
        good._replace(shard=0),
        good._replace(shard=7),
        good._replace(bits=b""),
        good._replace(bits=bytes(MIN_SIZE + 1)),
        good._replace(bits=bytes(MAX_SIZE * 2)),
    ):
        with pytest.raises(ProtocolViolation, match="onion_message"):
            module.handle_message(refused, town.now)
    module.handle_message(good, town.now)
    with pytest.raises(ProtocolViolation, match="onion_message"):
        module.handle_message(stored._replace(fingerprints=bytes(9)), town.now)
    assert list(module.announces.others._others) == [1]
    module.handle_message(stored._replace(shard=7), town.now)  # of a topology that is gone
    assert box.told == []


# Delays


def moment(world: World, node: SimulatedNode, wanted: SimulatedPeer, after: float) -> int:
    """Has a client announce at the node's shard 1, and another one search for it by way of shard 0,
    so that it arrives `after` seconds later; returns what the search is told."""
    ask = announce_request(wanted, node, bytes(32), wanted.key, wanted.key, 1)
    wanted.send(node.endpoint, ask)
    world.run_for(1.0)
    ping_id = announce_answer(wanted, node)[9:41]
    proof = announce_request(wanted, node, ping_id, wanted.key, wanted.key, 2)
    seeker = by_shard(world, node, 0, f"seeker {after}")
    wanted.send(node.endpoint, proof)
    world.run_for(after)
    seeker.send(node.endpoint, announce_request(seeker, node, bytes(32), wanted.key, bytes(32), 3))
    world.run_for(1.0)
    assert announce_answer(wanted, node)[8] == 2
    return announce_answer(seeker, node)[8]


def by_shard(world: World, node: SimulatedNode, shard: int, name: str) -> SimulatedPeer:
    """Adds a client whose key belongs to a shard."""
    names = (f"{name} {number}" for number in range(100))
    name = next(each for each in names if world.keys(each).public[8] % 2 == shard)
    return world.add_peer(name)


@pytest.mark.parametrize("delay", [0.0, 0.002])
def test_a_key_is_found_as_late_as_messages_are_and_no_later(delay: float) -> None:
    world = World(
        seed=5, latency=(0.02, 0.02), roles={"dht": 1, "onion": 2}, message_delay_s=delay,
        real_frames=True,
    )
    node = world.add_node("node")
    world.run_for(5.0)
    seen = [
        moment(world, node, by_shard(world, node, 1, f"wanted {after}"), after)
        for after in (0.000001, 0.0005, 0.0015, 0.0025, 0.5)
    ]
    assert seen == ([1, 1, 1, 1, 1] if delay == 0.0 else [0, 0, 0, 1, 1])
    onion: Any = node.modules["onion"][0]
    assert onion.announces.others.blind == 0
