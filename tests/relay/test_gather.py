"""Clients who talk over two shards are brought together; no frame is lost, doubled or overtaken."""

import random
from collections import Counter

import pytest

from broker import tcp_gather
from tests.relay.joined import End, Joined
from tests.relay.test_worker_death import (
    Death,
    SealWatch,
    assert_data_comes_on_links_that_are_up,
    by_sender,
    tell,
)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame to another shard is a reason to look whether somebody should move."""
    monkeypatch.setattr("broker.tcp_commits.OFTEN", 1)
    monkeypatch.setattr("broker.tcp_gather.OFTEN", 1)
    monkeypatch.setattr("broker.tcp_gather.SELDOM", 1)


def shard_of(end: End) -> int:
    assert end.connection is not None
    return end.connection.shard


def moves(relay: Joined) -> int:
    return relay.tcp.counts["gathered"]


def places(*ends: End) -> set[int]:
    return {shard_of(end) for end in ends}


def talk(relay: Joined, one: End, other: End, ids: tuple[int, int], count: int) -> None:
    """Both send frames, and both see all of them in their order."""
    for number in range(count):
        one.send(bytes((ids[0],)) + number.to_bytes(2, "big"))
        other.send(bytes((ids[1],)) + number.to_bytes(2, "big"))
        if number % 3 == 0:
            relay.run()
    relay.run()
    for end, link in ((one, ids[0]), (other, ids[1])):
        assert end.take() == [bytes((link,)) + number.to_bytes(2, "big") for number in range(count)]


def test_two_who_talk_much_come_into_one_shard_and_stay_there() -> None:
    relay = Joined(2)
    one, other = relay.confirmed(0), relay.confirmed(1)
    ids = relay.linked(one, other)
    talk(relay, one, other, ids, tcp_gather.OFTEN - 1)
    assert places(one, other) == {0, 1}
    assert not moves(relay)
    talk(relay, one, other, ids, 300)
    assert len(places(one, other)) == 1
    assert moves(relay) == 1
    assert sorted(work.population for work in relay.tcp.works.values()) == [0, 2]
    for shard, work in relay.tcp.works.items():
        assert len(relay.workers[shard].sessions) == work.population
    newcomer = relay.confirmed(0)
    relay.linked(newcomer, one)
    for end in (one, other, newcomer):
        end.closed = True
        end.socket.close()
    relay.run()
    assert not relay.tcp.connections
    assert not any(work.population for work in relay.tcp.works.values())


def test_pairs_spread_over_all_shards() -> None:
    relay = Joined(4)
    pairs = [(relay.confirmed(n % 4), relay.confirmed((n + 1) % 4)) for n in range(40)]
    ids = [relay.linked(*pair) for pair in pairs]
    for _ in range(2):
        for pair, link in zip(pairs, ids, strict=True):
            talk(relay, *pair, link, 40)
    assert all(len(places(*pair)) == 1 for pair in pairs)
    populations = [work.population for work in relay.tcp.works.values()]
    assert sum(populations) == 80
    assert max(populations) <= 20 * 1.25 + 8


def test_a_shard_takes_in_no_more_than_its_share(eager: None) -> None:
    relay = Joined(2)
    ends = [relay.confirmed(number % 2) for number in range(60)]
    middle = ends[0]
    for end in ends[1:41]:
        ids = relay.linked(middle, end)
        talk(relay, middle, end, ids, 3)
    for end in ends[1:41]:  # all of them want to be where the one is with whom they talk
        end.send(bytes((16,)) + b"hello")
        relay.run()
    populations = [work.population for work in relay.tcp.works.values()]
    assert sum(populations) == 60
    assert max(populations) <= 30 * 1.25 + 8
    assert not any(end.closed for end in ends)


@pytest.mark.parametrize("places", [(0, 1, 0), (1, 0, 0)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_dies_at_each_point_while_clients_move_and_nobody_notices(
    places: tuple[int, int, int], when: str, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    untouched = Death(-1, when)
    calm, expected = tell(2, places, untouched)
    assert moves(calm) > 0
    for at in range(1, untouched.count + 1):
        watch = SealWatch(monkeypatch)
        relay, story = tell(2, places, Death(at, when))
        for name, packets in story.items():
            assert by_sender(packets) == by_sender(expected[name]), f"{name}, killed at {at}"
            assert_data_comes_on_links_that_are_up(packets)
        watch.assert_unique_on_the_wire(relay.ends)


class Talk:
    """Clients linked at random, who send numbered frames over all of their links."""

    def __init__(self, relay: Joined, chance: random.Random, shards: int, clients: int) -> None:
        self.relay = relay
        self.ends = [relay.confirmed(number % shards) for number in range(clients)]
        self.links: list[tuple[End, int]] = []
        self.receiver: dict[tuple[int, int], int] = {}
        for one, other in self._pairs(chance):
            a, b = relay.linked(one, other)
            for end, link, to, at in ((one, a, other, b), (other, b, one, a)):
                self.receiver[self.ends.index(to), at] = len(self.links)
                self.links.append((end, link))
        self.sent: Counter[int] = Counter()
        self.got: list[list[int]] = [[] for _ in self.links]

    def _pairs(self, chance: random.Random) -> list[tuple[End, End]]:
        every = [(a, b) for i, a in enumerate(self.ends) for b in self.ends[i + 1 :]]
        return chance.sample(every, 2 * len(self.ends))

    def send(self, number: int, size: int) -> None:
        end, link = self.links[number]
        end.send(bytes((link,)) + self.sent[number].to_bytes(4, "big") + bytes(size))
        self.sent[number] += 1

    def read(self) -> None:
        for place, end in enumerate(self.ends):
            end.pull()
            for packet in end.take():
                if packet[0] >= 16:
                    number = self.receiver[place, packet[0]]
                    self.got[number].append(int.from_bytes(packet[1:5], "big"))


@pytest.mark.parametrize("seed", range(20))
def test_clients_move_to_and_fro_while_workers_die_and_every_frame_arrives_once(
    seed: int, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    monkeypatch.setattr("broker.tcp_gather.Gatherer._gain", lambda self, mover, shard: 1)
    monkeypatch.setattr("broker.tcp_gather._FEW", 0)  # never all in one: they go on moving
    monkeypatch.setattr("broker.tcp_gather._MORE", 1.5)
    chance = random.Random(seed)
    shards = chance.choice((2, 3))
    watch = SealWatch(monkeypatch)
    relay = Joined(shards, seed=seed)
    talk = Talk(relay, chance, shards, 7)
    quiet = 0

    def killer(shard: int, when: str) -> bool:
        nonlocal quiet
        quiet += 1
        if quiet > 60 and chance.random() < 0.2:
            quiet = 0
            return True
        return False

    relay.killer = killer if seed % 2 else None
    for _ in range(150):
        for number in range(len(talk.links)):
            for _ in range(chance.randrange(3)):
                talk.send(number, chance.choice((9, 300, 1300)))
        for _ in range(chance.randrange(5)):
            relay.sockets()
            for shard in range(shards):
                if chance.random() < 0.7:
                    relay.work(shard)
        relay.now += 0.003
        for end in talk.ends:
            end.reads = chance.random() < 0.8
        talk.read()
    relay.killer = None
    for end in talk.ends:
        end.reads = True
    relay.run()
    relay.wait(1.0)
    talk.read()
    assert not any(end.closed for end in talk.ends)
    assert moves(relay) > 20
    drops = relay.hooks.drops
    assert not drops["relay_receiver_full"]
    for number, row in enumerate(talk.got):
        assert row == list(range(talk.sent[number])), number
    watch.assert_unique_on_the_wire(talk.ends)
