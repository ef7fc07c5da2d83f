"""Announce entries outlive their process: what a successor finds in the memory of its place."""

import mmap
from collections.abc import Callable

import pytest

from core.endpoint import Endpoint, from_text
from core.onion.announce_store import (
    DATA_KEY,
    FORM,
    LIFE_S,
    ONION_RETURN,
    SOURCE,
    AnnounceStore,
    Kept,
)
from core.onion.lasting_rows import Rows, size_for

OWN = bytes(32)
HOP4, HOP6 = from_text("198.51.100.1", 33445), from_text("2001:db8::1", 33445)
CAPACITY = 40
ROW = FORM.row


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def way(number: int) -> bytes:
    return bytes([number]) * 177


def memory() -> mmap.mmap:
    return mmap.mmap(-1, size_for(FORM, CAPACITY))


def begin(where: mmap.mmap, now: float = 0.0, bad: int = 0) -> AnnounceStore:
    """Returns the store of a process that begins now, and says how many rows are of no use."""
    store = AnnounceStore(OWN, CAPACITY, Rows(FORM, CAPACITY, where))
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


def test_entries_that_came_from_another_shard_are_in_the_order_of_their_announces() -> None:
    where = memory()
    other = begin(memory())
    put(other, 1, 100.0)
    store = begin(where)
    put(store, 2, 200.0)
    store.put_in(other.take_out(lambda key: False))
    after = begin(where, 300.0)
    assert after.expire(100.0 + LIFE_S, 1) == 1
    assert stored(after, 100.0 + LIFE_S) == [2]


def test_entries_that_others_pushed_out_are_not_found_again() -> None:
    where = memory()
    store = begin(where)
    for number in range(100, 100 + CAPACITY):
        put(store, number, 100.0)
    store.capacity = 10
    put(store, 1, 100.0)
    assert len(store) == CAPACITY
    assert stored(begin(where, 101.0), 101.0) == [1, *range(100, 100 + CAPACITY - 1)]


def test_stores_that_share_their_rows_take_from_each_other_what_is_free_and_no_more() -> None:
    rows = Rows(FORM, 6)
    one, two = (AnnounceStore(own, CAPACITY, rows) for own in (OWN, b"\xff" * 32))
    for number in range(5):
        assert put(one, number, 0.0) is Kept.NEW
    assert put(two, 100, 0.0) is Kept.NEW
    assert put(two, 101, 1.0) is Kept.NEW  # in place of its own one, which is farther
    assert two.get(key(100), 1.0) is None
    assert put(one, 200, 1.0) is Kept.REFUSED
    assert [one.get(key(number), 1.0) is not None for number in range(5)] == [True] * 5
    one.clear()
    assert put(two, 102, 2.0) is Kept.NEW
    assert len(two) == 2
    two.clear()
    empty = AnnounceStore(OWN, CAPACITY, Rows(FORM, 0))
    assert put(empty, 1, 0.0) is Kept.REFUSED
