"""Which of the nodes that ask us a shard proposes to dht.0, and how often."""

import random

from core.dht.candidates import CANDIDATE_INTERVAL_S, MAX_CANDIDATES, REPEAT_S, Proposals
from core.endpoint import Endpoint
from core.messages import Candidate
from tests.dht.actors import keeper_of, module_of, public
from tests.simulation import World


def _key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_key_is_proposed_once_however_often_it_asks() -> None:
    proposals = Proposals()
    assert proposals.admit(_key(1), 100.0)
    assert not any(proposals.admit(_key(1), 100.0 + step / 10) for step in range(50))


def test_a_node_whose_ping_was_lost_is_proposed_again_soon() -> None:
    proposals = Proposals()
    assert proposals.admit(_key(1), 100.0)
    assert proposals.admit(_key(1), 100.0 + 2 * REPEAT_S)


def test_a_flood_of_keys_is_proposed_at_a_bounded_pace_and_forgotten() -> None:
    proposals = Proposals()
    for step in range(10):
        now = 100.0 + step * CANDIDATE_INTERVAL_S
        admitted = sum(proposals.admit(_key(1000 * step + i), now) for i in range(1000))
        assert admitted == MAX_CANDIDATES
    kept = len(proposals._young) + len(proposals._old)
    assert kept <= 2 * MAX_CANDIDATES * (1 + REPEAT_S / CANDIDATE_INTERVAL_S)
    proposals.tidy(now)
    assert not proposals.admit(_key(9000), now + 1)
    proposals.tidy(now + 2 * REPEAT_S)
    assert not proposals._young
    assert not proposals._old


def test_whoever_is_not_looked_at_while_it_is_closed_would_not_have_been_admitted() -> None:
    chance = random.Random(3)
    asked, passed_over = Proposals(), Proposals()
    now, closed = 100.0, 0
    for _ in range(20_000):
        now += chance.choice((0.0, 0.001, 0.02))
        key = _key(chance.randrange(300))
        is_closed = now < passed_over.closed_until
        closed += is_closed
        assert asked.admit(key, now) == (not is_closed and passed_over.admit(key, now))
    assert 2000 < closed < 18_000


def test_the_table_keeps_32_candidates_of_all_shards_the_nearest_and_counts_the_rest() -> None:
    world = World()
    node = world.add_node("node")
    asked: set[Endpoint] = set()

    def watch(source: Endpoint, to: Endpoint, packet: bytes) -> bool:
        asked.add(to)
        return True

    world.watch = watch
    keys = [random.Random(number).randbytes(32) for number in range(100)]
    for number, key in enumerate(keys):
        module_of(node).handle_message(Candidate(key, public(number)), world.now)
    own = int.from_bytes(node.key, "big")
    nearest = sorted(keys, key=lambda key: int.from_bytes(key, "big") ^ own)[:MAX_CANDIDATES]
    node.wake("dht")
    world.run_for(CANDIDATE_INTERVAL_S + 0.1)
    assert asked == {public(keys.index(key)) for key in nearest}
    assert MAX_CANDIDATES <= 100 - node.drops()["dht_candidate_too_many"] < 100
    assert not keeper_of(node).close.by_key
