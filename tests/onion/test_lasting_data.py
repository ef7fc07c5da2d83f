"""Data announcements outlive their process, with the ends of life that they had."""

import mmap

import pytest

from core.onion.data_store import FORM, MAX_DATA, MAX_LIFE_S, DataEntry, DataStore
from core.onion.lasting_rows import Rows, size_for

OWN = bytes(32)
CAPACITY = 20


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def memory() -> mmap.mmap:
    return mmap.mmap(-1, size_for(FORM, CAPACITY))


def begin(where: mmap.mmap, now: float = 0.0, bad: int = 0) -> DataStore:
    """Returns the store of a process that begins now, and says how many rows are of no use."""
    store = DataStore(OWN, CAPACITY, Rows(FORM, CAPACITY, where))
    assert store.restore(now) == bad
    return store


def stored(store: DataStore, now: float) -> list[int]:
    return [number for number in range(300) if store.get(key(number), now) is not None]


def used(where: mmap.mmap) -> int:
    """Returns how many rows were ever used."""
    return int.from_bytes(where[8:16], "little")


def test_a_successor_finds_data_of_every_size_and_when_it_ends() -> None:
    where = memory()
    before = begin(where)
    sizes = [0, 1, 255, 256, 511, MAX_DATA]
    for number, size in enumerate(sizes):
        assert before.put(key(number), b"other" * 20, 200.0, 100.0)  # which is replaced
        assert before.put(key(number), b"\xff" * size, 150.0 + number, 100.0)
    after = begin(where, 110.0)
    for number, size in enumerate(sizes):
        end = 150.0 + number
        assert after.get(key(number), end - 0.001) == DataEntry(b"\xff" * size, end)
        assert after.get(key(number), end) is None
    assert after.next_end() == before.next_end() == 150.0
    assert after.expire(152.0, 100) == 3
    assert stored(after, 152.0) == stored(begin(where, 152.0), 152.0) == [3, 4, 5]


@pytest.mark.parametrize("until", [120.0, 500.0])
def test_an_end_of_life_that_was_changed_is_the_one_that_counts(until: float) -> None:
    where = memory()
    before = begin(where)
    before.put(key(1), b"content", 300.0, 100.0)
    before.prolong(key(1), until)
    after = begin(where, 110.0)
    assert after.get(key(1), until - 0.001) == DataEntry(b"content", until)
    assert after.next_end() == until
    assert stored(begin(where, until), until) == []


def test_data_that_was_deleted_is_not_found_again() -> None:
    where = memory()
    before = begin(where)
    for number in range(1, 6):
        before.put(key(number), b"content", 300.0, 100.0)
    before.delete(key(3))
    assert stored(begin(where, 110.0), 110.0) == [1, 2, 4, 5]


def test_a_full_store_keeps_the_nearest_and_stays_within_its_rows_through_many_lives() -> None:
    where = memory()
    for life in range(8):
        now = 100.0 + life
        store = begin(where, now)
        for number in range(200 - 20 * life, 250 - 20 * life):
            store.put(key(number), b"content", now + 100, now)
        least = 200 - 20 * life
        assert stored(store, now) == stored(begin(where, now), now) == [*range(least, least + 20)]
        assert used(where) == CAPACITY
    again = begin(where, 110.0)
    assert not again.put(key(299), b"content", 200.0, 110.0)  # all others are nearer
    assert again.put(key(1), b"content", 200.0, 110.0)
    assert len(again) == CAPACITY


@pytest.mark.parametrize(
    ("start", "wrong"),
    [
        (40, b"\xff" * 8),  # an end that is no number
        (40, b"\x00" * 6 + b"\xf0\x7f"),  # at infinity
        (FORM.size_at, (MAX_DATA + 1).to_bytes(2, "little")),
    ],
)
def test_a_row_of_wrong_bytes_is_passed_over_and_counted(start: int, wrong: bytes) -> None:
    where = memory()
    store = begin(where)
    store.put(key(1), b"content", 300.0, 100.0)
    store.put(key(2), b"content", 300.0, 100.0)
    at = FORM.row + start
    where[at : at + len(wrong)] = wrong
    assert stored(begin(where, 101.0, bad=1), 101.0) == [2]
    assert stored(begin(where, 101.0), 101.0) == [2]  # counted once


def test_nothing_lives_longer_than_anybody_is_granted() -> None:
    where = memory()
    store = begin(where)
    store.put(key(1), b"content", 100.0 + MAX_LIFE_S, 100.0)
    assert stored(begin(where, 100.0), 100.0) == [1]
    assert stored(begin(where, 99.0, bad=1), 99.0) == []


def test_what_comes_from_another_shard_is_found_and_the_longer_life_wins() -> None:
    other = begin(memory())
    for number in (1, 2):
        other.put(key(number), b"theirs", 200.0, 100.0)
    where = memory()
    store = begin(where)
    store.put(key(1), b"ours", 150.0, 100.0)
    store.put(key(2), b"ours", 250.0, 100.0)
    store.put_in(other.take_out(lambda number: False), 101.0)
    after = begin(where, 102.0)
    assert after.get(key(1), 102.0) == DataEntry(b"theirs", 200.0)
    assert after.get(key(2), 102.0) == DataEntry(b"ours", 250.0)


def test_limits_follow_as_far_as_there_is_memory() -> None:
    store = begin(memory())
    store.capacity = 1_000_000
    assert store.capacity == CAPACITY
    store.capacity = 3
    assert store.capacity == 3


def test_rows_that_nobody_needs_have_no_memory() -> None:
    store = DataStore(OWN, CAPACITY)
    assert store.get(key(1), 100.0) is None
    assert store.would_accept(key(1), 100.0)
    assert store.expire(100.0, 10) == 0
    assert store._rows._memory is None
    assert store.put(key(1), b"some", 200.0, 100.0)
    assert store._rows._memory is not None
    assert store.get(key(1), 101.0) == DataEntry(b"some", 200.0)
