"""Bounds of a process: told as a whole, taken back as a whole, and put to use where they stand."""

from collections import Counter
from typing import Any

from broker.info import REQUEST_SIZE, BootstrapInfo
from broker.queues import WaitingQueue
from core.bounds import Bound, Bounds, of_attribute
from core.crypto import KeyPair, SharedKeys
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.misses import Misses
from core.onion.announce_store import AnnounceStore
from core.onion.group_store import GroupStore


class Thing:
    """Something with a bound."""

    most = 10


def test_what_is_laid_down_holds_and_all_else_is_the_default() -> None:
    thing, other, told = Thing(), Thing(), []
    rows = Bounds(
        [
            of_attribute("thing", thing, "most", lambda: 3, lambda: told.append(thing.most)),
            of_attribute("other", other, "most"),
            Bound("fixed", lambda: 7, lambda: 7),
        ]
    )
    rows.learn({"thing": 4, "fixed": 1, "unknown": 2})
    assert (thing.most, other.most) == (4, 10)
    assert rows.show() == {
        "thing": {"value": 4, "default": 10, "use": 3},
        "other": {"value": 10, "default": 10, "use": None},
        "fixed": {"value": 7, "default": 7, "use": None},
    }
    rows.learn({"thing": 4, "other": 5})
    rows.learn({"other": 5})
    assert (thing.most, other.most) == (10, 5)
    assert told == [4, 10]  # and nothing is set again that holds already


def test_what_comes_later_follows_too() -> None:
    rows, thing = Bounds(), Thing()
    rows.learn({"thing": 4})
    rows.add([of_attribute("thing", thing, "most")])
    assert thing.most == 4


def test_waiting_datagrams_of_new_senders_follow() -> None:
    drops: Counter[str] = Counter()
    misses = Misses(drops)
    misses.capacity, misses.share = 3, 2
    ends = [from_text(f"192.0.2.{n}", 1) for n in (1, 2, 3)]
    ends += [from_text(f"198.51.100.{n}", 1) for n in (1, 2)]
    kept = [misses.put(0, end, b"x", bytes(32)) for end in ends]
    assert kept == [True, True, False, True, False]
    assert drops == {"new_key:prefix": 1, "new_key:all": 1}
    assert misses.fullest() == 2


def test_combined_keys_follow() -> None:
    entropy = SeededEntropy("bounds")
    cache = SharedKeys(KeyPair.generate(entropy).secret, 100)
    keys = [KeyPair.generate(entropy).public for _ in range(40)]
    for key in keys:
        cache.get(key)
    cache.capacity = 10
    for key in [*keys[:20], KeyPair.generate(entropy).public]:
        cache.get(key)
    for key in keys[:5]:
        cache.get(key)
    assert cache.capacity == 10
    assert len(cache) <= 10


def test_bootstrap_info_follows() -> None:
    drops: Counter[str] = Counter()
    info = BootstrapInfo(1, "", drops)
    info.per_prefix, info.prefixes = 2, 1
    one, other = from_text("192.0.2.1", 1), from_text("198.51.100.1", 1)
    answers = [info.answer(REQUEST_SIZE, end, 5.0) for end in (one, one, one, other)]
    assert [row is not None for row in answers] == [True, True, False, False]
    assert drops == {"budget:0xf0": 2}
    assert (info.fullest(), info.count()) == (2, 1)


def test_a_queue_follows() -> None:
    drops: Counter[str] = Counter()
    queue = WaitingQueue(drops)
    for number in range(500):
        queue.put(0, b"", bytes((2, number & 0xFF)))
    queue.resize(256)
    queue.put(0, b"", b"\x02")
    assert len(queue) == 256
    assert drops == {"queue_full:query": 245}


def test_announces_follow_as_far_as_there_is_memory() -> None:
    store = AnnounceStore(bytes(32), 50)
    store.capacity = 1_000_000
    assert store.capacity == 50
    store.capacity = 20
    assert store.capacity == 20


def test_group_chats_follow() -> None:
    drops: Counter[str] = Counter()
    store = GroupStore(drops)
    store.budget, store.capacity = 2, 3
    made: list[Any] = []
    for number in range(3):
        end = from_text("192.0.2.1", 1)
        made.append(store.put(bytes((number,)) * 32, bytes(40), end, 1.0))
    for number in range(3, 6):
        store.put(bytes((number,)) * 32, bytes(40), from_text(f"198.51.{number}.1", 1), 1.0)
    assert made == [True, True, False]
    assert len(store) == 3
    assert store.fullest() <= 2
    assert drops == {"group_budget": 1, "group_chats_full": 2}
