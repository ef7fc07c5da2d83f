"""How large the filters of announces are, how many keys too many they name, and what they cost."""

from collections.abc import Iterable

from core.entropy import SeededEntropy
from core.messages import AnnounceAsked, KeysStored
from core.onion import OnionModule
from core.onion.announce_filters import REBUILD_S, TELL_INTERVAL_S
from core.onion.announce_store import LIFE_S as ENTRY_LIFE_S
from core.onion.announce_store import Kept
from tests.onion.test_announce import HOP
from tests.onion.test_announce_filters import Town


def store(module: OnionModule, keys: Iterable[bytes], now: float) -> None:
    """Has a shard store keys in one turn, without the packets of an announce."""
    announces = module.announces
    for each in keys:
        if announces.entries.put(each, HOP, bytes(177), bytes(32), now) is Kept.NEW:
            announces.own_filter.add(each)


def test_what_one_turn_stores_is_told_together() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    town.seen.clear()
    module, others = town.node.shards[0], town.node.shards[1].announces.others
    keys = [number.to_bytes(32, "big") for number in range(450)]
    store(module, keys, town.now)
    assert module.next_timer() == 0.0
    town.node.settle(town.now)
    told = town.told(KeysStored)
    assert [len(row.fingerprints) // 8 for row in told] == [200, 200, 50]
    assert all(others.may_have(0, each, town.now) for each in keys)
    store(module, keys, town.now)
    town.node.settle(town.now)
    assert town.told(KeysStored) == []


def test_what_is_gone_leaves_the_filters_within_two_minutes() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    talk = town.owned(1)[0]
    talk.announce(town.now)
    town.pass_time(ENTRY_LIFE_S, 0.5)
    town.seen.clear()
    assert town.search(talk, 0).is_stored == 0
    assert len(town.told(AnnounceAsked)) == 1
    town.pass_time(2 * REBUILD_S, 0.5)
    town.seen.clear()
    assert town.search(talk, 0).is_stored == 0
    assert town.told(AnnounceAsked) == []


def test_filters_grow_with_the_store_and_hide_nothing_meanwhile() -> None:
    town = Town(2)
    town.pass_time(TELL_INTERVAL_S)
    module, others = town.node.shards[1], town.node.shards[0].announces.others
    entropy = SeededEntropy("growing")
    keys: list[bytes] = []
    for _ in range(60):
        new = [entropy.bytes(32) for _ in range(100)]
        keys += new
        store(module, new, town.now)
        town.node.settle(town.now)
        assert all(others.may_have(1, each, town.now) for each in keys)
        town.pass_time(0.2, 0.01)
    town.pass_time(3 * TELL_INTERVAL_S, 0.01)
    assert all(others.may_have(1, each, town.now) for each in keys)
    absent = [entropy.bytes(32) for _ in range(20_000)]
    assert sum(others.may_have(1, each, town.now) for each in absent) <= 20_000 * 0.006
    size = module.snapshot()["announce_filter_bytes"]
    assert 16 <= size * 8 / len(keys) <= 64
    assert town.node.shards[0].snapshot()["other_filters_bytes"] == size


def test_a_stream_of_new_keys_into_a_full_store_keeps_the_filter_small() -> None:
    town = Town(2, capacity=600)
    town.pass_time(TELL_INTERVAL_S)
    module, others = town.node.shards[1], town.node.shards[0].announces.others
    own = int.from_bytes(town.node.keys.public, "big")
    entropy = SeededEntropy("stream")
    far = sorted((entropy.bytes(32) for _ in range(20_000)), key=lambda each: -_away(own, each))
    for start in range(0, len(far), 500):  # each nearer than all before: each is stored
        store(module, far[start : start + 500], town.now)
        town.pass_time(0.5, 0.01)
    assert len(module.announces.entries) == 600
    town.pass_time(3 * TELL_INTERVAL_S, 0.01)
    assert module.snapshot()["announce_filter_bytes"] <= 8 * 600
    assert all(others.may_have(1, each, town.now) for each in far[-600:])
    gone = far[:-2000]
    assert sum(others.may_have(1, each, town.now) for each in gone) <= len(gone) * 0.03


def _away(own: int, each: bytes) -> int:
    return own ^ int.from_bytes(each, "big")


def test_a_turn_adds_one_block_of_a_large_store_to_a_new_filter() -> None:
    town = Town(2)
    module = town.node.shards[1]
    entropy = SeededEntropy("large")
    keys = [entropy.bytes(32) for _ in range(20_000)]
    store(module, keys, town.now)
    own = module.announces.own_filter
    town.pass_time(TELL_INTERVAL_S, 0.001)
    most = turns = 0
    while own._new is not None:
        before = own._new.added
        now = max(town.now, own.next_timer())
        own.handle_timer(now)
        town.now = now
        most = max(most, own._new.added - before if own._new is not None else 0)
        turns += 1
        assert turns < 100
    assert 0 < most < 1024
    assert turns >= 20
    assert module.snapshot()["announce_filter_keys"] == 20_000
