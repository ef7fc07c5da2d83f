"""Workers die at random under load: nothing is lost, nothing comes twice, nobody is closed."""

import random

import pytest

from tests.relay.joined import Joined


@pytest.mark.parametrize("seed", range(12))
def test_workers_die_at_random_and_every_frame_arrives_once(seed: int) -> None:
    chance = random.Random(seed)
    shards = chance.choice((1, 2, 3))
    relay = Joined(shards, seed=seed)
    pairs = [
        (relay.confirmed(chance.randrange(shards)), relay.confirmed(chance.randrange(shards)))
        for _ in range(6)
    ]
    ids = [relay.linked(one, other) for one, other in pairs]
    quiet = 0  # a connection in hand at two deaths would be closed, so these keep a distance

    def killer(shard: int, when: str) -> bool:
        nonlocal quiet
        quiet += 1
        if quiet > 60 and chance.random() < 0.2:
            quiet = 0
            return True
        return False

    relay.killer = killer
    sent = [0] * len(pairs)
    got: list[list[int]] = [[] for _ in pairs]
    for _ in range(150):
        for number, ((one, _), (a, _)) in enumerate(zip(pairs, ids, strict=True)):
            for _ in range(chance.randrange(4)):
                size = chance.choice((9, 900))
                one.send(bytes((a,)) + sent[number].to_bytes(4, "big") + bytes(size))
                sent[number] += 1
        for _ in range(chance.randrange(5)):
            relay.sockets()
            for shard in range(shards):
                if chance.random() < 0.7:
                    relay.work(shard)
        relay.now += 0.003
        if quiet > 60 and chance.random() < 0.2:
            shard = chance.randrange(shards)
            quiet = 0
            relay.kill(shard)
            for _ in range(chance.randrange(4)):
                relay.sockets()
                for left in relay.workers:
                    relay.work(left)
            relay.start(shard)
        for number, (_, other) in enumerate(pairs):
            other.pull()
            got[number] += [int.from_bytes(p[1:5], "big") for p in other.take() if p[0] >= 16]
    relay.killer = None
    relay.run()
    relay.wait(1.0)
    for number, (one, other) in enumerate(pairs):
        assert [one.closed, other.closed, len(one.unsent)] == [False, False, 0]
        got[number] += [int.from_bytes(p[1:5], "big") for p in other.take() if p[0] >= 16]
        assert got[number] == list(range(sent[number])), number
    assert relay.hooks.drops["relay_poison"] == 0


def test_mail_without_end_does_not_keep_those_in_doubt_waiting() -> None:
    relay = Joined(2)
    alice, bob = relay.confirmed(0), relay.confirmed(0)
    far, near = relay.confirmed(1), relay.confirmed(0)
    a, b = relay.linked(alice, bob)
    f, n = relay.linked(far, near)
    alice.send(bytes((a,)) + b"in doubt")
    relay.sockets()
    relay.kill(0)
    relay.start(0)
    assert near.connection is not None
    for number in range(20):
        relay.tcp.post_data(near.connection, bytes((n, number)), "full", relay.now)
        relay.work(0)
    assert f == 16
    bob.pull()
    assert bob.take() == [bytes((b,)) + b"in doubt"]
