"""Announce entries outlive their process: what a successor finds in the memory of its place."""

import mmap
from collections.abc import Callable

import pytest

from core.crypto import KeyPair, SecretKey
from core.endpoint import Endpoint, from_text, pack_compact
from core.entropy import SeededEntropy
from core.link import handover
from core.module import Collected, Context
from core.onion import OnionModule
from core.onion.announce_rows import ROW, size_for
from core.onion.announce_store import DATA_KEY, LIFE_S, ONION_RETURN, SOURCE, AnnounceStore, Kept
from core.onion.group_store import DEFAULT_BUDGET
from core.onion.group_store import LIFE_S as GROUP_LIFE_S
from tests.onion.client import group_announce
from tests.onion.node import START

OWN = bytes(32)
HOP4, HOP6 = from_text("198.51.100.1", 33445), from_text("2001:db8::1", 33445)
CAPACITY = 40


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def way(number: int) -> bytes:
    return bytes([number]) * 177


def memory() -> mmap.mmap:
    return mmap.mmap(-1, size_for(CAPACITY))


def begin(where: mmap.mmap, now: float = 0.0, bad: int = 0) -> AnnounceStore:
    """Returns the store of a process that begins now, and says how many rows are of no use."""
    store = AnnounceStore(OWN, CAPACITY, where)
    assert store.restore(now) == bad
    return store


def put(store: AnnounceStore, number: int, now: float, hop: Endpoint = HOP4) -> Kept:
    return store.put(key(number), hop, way(number), key(number + 1000), now)


def stored(store: AnnounceStore, now: float) -> list[int]:
    return [number for number in range(200) if store.get(key(number), now) is not None]


def test_a_successor_finds_every_entry_as_it_was() -> None:
    where = memory()
    before = begin(where)
    for number in range(1, 11):
        put(before, number, 100.0 + number, HOP6 if number % 2 else HOP4)
    put(before, 3, 150.0, HOP4)  # a client whose last hop is now another
    after = begin(where, 200.0)
    assert len(after) == 10
    for number in range(1, 11):
        entry = after.get(key(number), 200.0)
        assert entry == before.get(key(number), 200.0)
        assert entry is not None
        assert entry[ONION_RETURN] == way(number)
        assert entry[DATA_KEY] == key(number + 1000)
        assert entry[SOURCE] == (HOP6 if number % 2 and number != 3 else HOP4)


def test_entries_end_in_the_successor_when_they_would_have_ended() -> None:
    where = memory()
    before = begin(where)
    put(before, 1, 100.0)
    put(before, 2, 110.0)
    put(before, 1, 120.0)  # refreshed, so that the second is the older
    after = begin(where, 130.0)
    assert after.get(key(2), 110.0 + LIFE_S - 0.001) is not None
    assert after.get(key(2), 110.0 + LIFE_S) is None
    assert after.expire(110.0 + LIFE_S, 10) == 1
    assert stored(after, 110.0 + LIFE_S) == [1]
    assert after.expire(120.0 + LIFE_S, 10) == 1
    assert len(after) == 0


def test_what_ended_meanwhile_is_not_found_and_its_rows_are_used_again() -> None:
    where = memory()
    before = begin(where)
    for number in range(CAPACITY):
        put(before, number, 100.0)
    after = begin(where, 100.0 + LIFE_S)
    assert len(after) == 0
    for number in range(100, 100 + CAPACITY):
        assert put(after, number, 500.0) is Kept.NEW
    assert stored(begin(where, 501.0), 501.0) == list(range(100, 100 + CAPACITY))


def test_a_full_store_stays_within_its_rows_through_many_lives() -> None:
    where = memory()
    for life in range(10):
        now = 10.0 * life
        store = begin(where, now)
        for number in range(150 - 15 * life, 200 - 15 * life):
            put(store, number, now)  # nearer than all before: the farthest go
        assert len(store) == CAPACITY
    assert stored(begin(where, 100.0), 100.0) == stored(store, 100.0) == list(range(15, 55))


@pytest.mark.parametrize("size", [1, 8, 9, 40, 48, 200, ROW - 8])
def test_a_row_that_was_in_hand_at_the_death_is_passed_over_wherever_it_was_cut(
    size: int,
) -> None:
    where = memory()
    store = begin(where)
    for number in range(1, 6):
        put(store, number, 100.0)
    place = ROW * 2  # the second row that was written
    where[place + size : place + ROW] = bytes(ROW - size)  # where nothing had stood before
    after = begin(where, 102.0, bad=1)
    assert stored(after, 102.0) == [1, 3, 4, 5]
    assert stored(begin(where, 103.0), 103.0) == [1, 3, 4, 5]  # counted once
    for number in range(50, 50 + CAPACITY - 4):
        assert put(after, number, 104.0) is Kept.NEW  # its row is of use again


@pytest.mark.parametrize("size", [8, 40, 48, 200, ROW - 9])
def test_a_refresh_that_was_cut_leaves_no_mixture_of_two_announces(size: int) -> None:
    where = memory()
    store = begin(where)
    put(store, 1, 100.0)
    old = where[ROW : 2 * ROW]
    put(store, 1, 101.0, HOP6)
    new = where[ROW : 2 * ROW]
    where[ROW : 2 * ROW] = new[:size] + old[size:]
    assert stored(begin(where, 102.0, bad=1), 102.0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda row: row[:40] + b"\xff" * 8 + row[48:],  # not a number
        lambda row: row[:40] + b"\x00" * 6 + b"\xf0\x7f" + row[48:],  # at infinity
        lambda row: row[: ROW - 9] + b"\x07" + row[ROW - 8 :],  # 7 bytes
        lambda row: b"\xff" * ROW,
    ],
)
def test_a_row_of_wrong_bytes_is_passed_over_and_counted(
    wrong: Callable[[bytes], bytes],
) -> None:
    where = memory()
    store = begin(where)
    put(store, 1, 100.0)
    put(store, 2, 100.0)
    where[ROW : 2 * ROW] = wrong(where[ROW : 2 * ROW])
    assert stored(begin(where, 102.0, bad=1), 102.0) == [2]


def test_memory_of_another_layout_is_begun_anew() -> None:
    where = memory()
    for number in range(1, 6):
        put(begin(where, 100.0), number, 100.0)
    where[:8] = b"announc9"
    after = begin(where, 101.0)
    assert len(after) == 0
    put(after, 9, 102.0)
    assert stored(begin(where, 103.0), 103.0) == [9]


def test_a_count_of_rows_that_cannot_be_is_no_reason_to_read_beyond_the_end() -> None:
    where = memory()
    put(begin(where), 1, 100.0)
    where[8:16] = b"\xff" * 8
    assert stored(begin(where, 101.0), 101.0) == [1]


def shard(where: mmap.mmap | None, out: Collected) -> OnionModule:
    entropy = SeededEntropy("the node")
    keys = KeyPair.generate(entropy)
    context = Context(keys, SecretKey(entropy.bytes(32)), entropy, out, started=START)
    context.lasting = None if where is None else lambda size: where
    return OnionModule(context, announce_capacity=CAPACITY)


def test_a_module_counts_what_was_torn_and_says_what_it_took_over() -> None:
    where = memory()
    first = shard(where, Collected())
    first.handle_topology(START)
    for number in range(1, 6):
        put(first.announces.entries, number, START)
    where[ROW * 3 + 8] ^= 1
    where[ROW * 3] ^= 1
    out = Collected()
    second = shard(where, out)
    assert second.snapshot()["announce_entries"] == 0  # the first may still write
    put(first.announces.entries, 6, START + 1)
    second.handle_topology(START + 2)
    second.handle_topology(START + 3)  # others were replaced: no reason to begin again
    assert out.drops == {"announce_torn": 1}
    assert second.snapshot()["announce_entries"] == 5
    assert second.snapshot()["announces_taken_over"] == 5
    assert stored(second.announces.entries, START + 3) == [1, 2, 4, 5, 6]


def test_groups_and_data_are_handed_over_with_their_times_and_budgets() -> None:
    first = shard(memory(), Collected())
    home = from_text("198.51.100.9", 1)
    groups, data = first.announces.groups, first.data.store
    for chat in range(20):
        for peer in range(3):
            announce = group_announce(key(peer), pack_compact(HOP4))
            assert groups.put(key(chat), announce, home, START + chat)
    assert data.put(b"d" * 32, b"content", START + 100.0, START)
    assert data.put(b"e" * 32, b"other", START + 50.0, START)
    descriptor = handover.put(first.hand_over())
    assert first.next_timer() is None  # it neither forgets nor tells any more

    out = Collected()
    second = shard(None, out)
    second.take_over(handover.take(descriptor), START + 21.0)
    taken = second.announces.groups
    assert len(taken) == 20
    for chat in range(20):
        assert taken.newest(key(chat), key(0), START + 21) == groups.newest(
            key(chat), key(0), START + 21
        )
    taken.expire(START + GROUP_LIFE_S + 4.5)
    assert len(taken) == 15
    for chat in range(100, 100 + DEFAULT_BUDGET):
        taken.put(key(chat), group_announce(key(1), pack_compact(HOP4)), home, START + 21)
    assert out.drops == {"group_budget": 15}
    store = second.data.store
    assert store.get(b"e" * 32, START + 49.9) == data.get(b"e" * 32, START + 49.9)
    assert store.expire(START + 50.0, 10) == 1
    assert store.get(b"d" * 32, START + 99.9) is not None
    assert store.expire(START + 100.0, 10) == 1


def test_a_state_of_another_form_is_left_alone() -> None:
    out = Collected()
    second = shard(None, out)
    second.take_over({"form": 99, "whatever": 1}, START)
    assert (len(second.announces.groups), len(second.data.store)) == (0, 0)
