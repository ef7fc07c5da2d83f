"""Group announces outlive their process, with the times, bounds and budgets that they had."""

import mmap
from collections import Counter

import pytest

from core.endpoint import Endpoint, from_text, pack_compact
from core.onion.group_store import FORM, LIFE_S, MAX_PEERS, GroupStore
from core.onion.lasting_rows import Rows, size_for
from tests.onion.client import group_announce

HOME, HOME6 = from_text("198.51.100.9", 1), from_text("2001:db8::9", 1)
ADDRESS = pack_compact(from_text("198.51.100.1", 33445))
ADDRESS6 = pack_compact(from_text("2001:db8::1", 33445))
RELAY6 = b"\x8a" + ADDRESS6[1:] + b"r" * 32
CAPACITY, BUDGET = 10, 6


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def peer(number: int) -> bytes:
    """An announce, of the largest size for odd numbers and of the least for even ones."""
    if number % 2:
        return group_announce(key(number), ADDRESS6, RELAY6)
    return group_announce(key(number), ADDRESS)


def memory() -> mmap.mmap:
    return mmap.mmap(-1, size_for(FORM, CAPACITY * MAX_PEERS))


def begin(where: mmap.mmap, now: float = 0.0, bad: int = 0) -> GroupStore:
    """Returns the store of a process that begins now, and says how many rows are of no use."""
    store = GroupStore(Counter(), CAPACITY, BUDGET, Rows(FORM, CAPACITY * MAX_PEERS, where))
    assert store.restore(now) == bad
    return store


def put(store: GroupStore, chat: int, number: int, now: float, home: Endpoint = HOME) -> bool:
    return store.put(key(chat), peer(number), home, now)


def chats(store: GroupStore) -> list[int]:
    """Returns the chats, the one announced last first."""
    return [int.from_bytes(row[0], "big") for row in store.latest(100)]


def used(where: mmap.mmap) -> int:
    """Returns how many rows were ever used."""
    return int.from_bytes(where[8:16], "little")


def test_a_successor_finds_every_announce_in_the_order_in_which_they_came() -> None:
    where = memory()
    before = begin(where)
    for chat in range(4):
        for number in range(1, 6):
            put(before, chat, number, 100.0 + number, HOME6 if chat % 2 else HOME)
    put(before, 2, 3, 107.0)  # an old peer of an old chat is the newest now
    after = begin(where, 110.0)
    assert after.latest(100) == before.latest(100)
    assert chats(after)[0] == 2
    for chat in range(4):
        assert after.peers(key(chat), 110.0) == before.peers(key(chat), 110.0)
        assert after.newest(key(chat), key(5), 110.0) == before.newest(key(chat), key(5), 110.0)
    assert after.newest(key(2), key(5), 110.0) == [peer(3), peer(4), peer(2), peer(1)]


def test_chats_end_in_the_successor_when_they_would_have_ended() -> None:
    where = memory()
    before = begin(where)
    put(before, 1, 1, 100.0)
    put(before, 2, 1, 101.0)
    put(before, 1, 2, 110.0)
    after = begin(where, 112.0)
    assert after.newest(key(2), b"", 101.0 + LIFE_S - 0.001) == [peer(1)]
    assert after.newest(key(2), b"", 101.0 + LIFE_S) == []
    after.expire(101.0 + LIFE_S)
    assert chats(after) == [1]
    assert after.peers(key(1), 110.0 + LIFE_S - 0.001) == [peer(2), peer(1)]  # the older one too
    after.expire(110.0 + LIFE_S)
    assert chats(after) == []


def test_chats_that_ended_meanwhile_are_not_found() -> None:
    where = memory()
    before = begin(where)
    put(before, 1, 1, 100.0)
    put(before, 2, 1, 105.0)
    after = begin(where, 100.0 + LIFE_S)
    assert chats(after) == [2]
    assert chats(begin(where, 105.0 + LIFE_S)) == []


def test_budgets_of_prefixes_hold_in_the_successor() -> None:
    where = memory()
    before = begin(where)
    for chat in range(BUDGET):
        assert put(before, chat, 1, 100.0 + chat)
    put(before, 0, 2, 120.0, HOME6)  # who comes later has not opened it
    after = begin(where, 121.0)
    assert after.fullest() == BUDGET
    assert not put(after, 20, 1, 121.0)
    assert after.drops == {"group_budget": 1}
    assert put(after, 21, 1, 121.0, HOME6)
    after.expire(101.0 + LIFE_S)  # the second has ended, and the first, later announced, has not
    assert after.fullest() == BUDGET - 1
    assert put(after, 20, 1, 101.0 + LIFE_S)


def test_a_chat_keeps_its_sixteen_newest_peers_and_no_row_more() -> None:
    where = memory()
    store = begin(where)
    for number in range(1, 61):
        put(store, 1, number, 100.0)
        if number % 7 == 0:
            store = begin(where, 100.0)
    assert used(where) == MAX_PEERS
    found = begin(where, 101.0).peers(key(1), 101.0)
    assert found == [peer(number) for number in range(60, 60 - MAX_PEERS, -1)]


def test_a_full_store_stays_within_its_rows_through_many_lives() -> None:
    where = memory()
    for life in range(8):
        now = 100.0 + 10.0 * life
        store = begin(where, now)
        for chat in range(100 * life, 100 * life + CAPACITY + 3):
            for number in range(MAX_PEERS + 2):
                home = from_text(f"203.0.{chat % 250}.1", 1)
                assert put(store, chat, number, now + chat / 1000, home)
        assert len(store) == CAPACITY
        assert used(where) == CAPACITY * MAX_PEERS
        after = begin(where, now + 1)
        assert after.latest(100) == store.latest(100)
        assert chats(after) == [*range(100 * life + CAPACITY + 2, 100 * life + 2, -1)]


def test_a_chat_that_made_room_for_another_is_not_found_again() -> None:
    where = memory()
    store = begin(where)
    for chat in range(CAPACITY + 1):
        put(store, chat, 1, 100.0 + chat, from_text(f"203.0.113.{chat}", 1))
        store.budget = 100
    assert store.drops == {"group_chats_full": 1}
    assert chats(begin(where, 111.0)) == [*range(CAPACITY, 0, -1)]


def test_an_announce_that_was_being_written_is_missing_and_its_chat_is_as_old_as_the_one_before(
) -> None:
    where = memory()
    store = begin(where)
    put(store, 1, 1, 100.0)
    put(store, 1, 2, 110.0)
    row = FORM.row
    where[2 * row + 60 : 3 * row] = bytes(row - 60)
    after = begin(where, 112.0, bad=1)
    assert after.peers(key(1), 112.0) == [peer(1)]
    assert after.newest(key(1), b"", 100.0 + LIFE_S) == []
    begin(where, 113.0)  # counted once


@pytest.mark.parametrize(
    ("start", "wrong"),
    [
        (40, b"\xff" * 8),  # a time that is no number
        (40, b"\x00" * 6 + b"\xf0\x7f"),  # at infinity
        (FORM.size_at, bytes((33,))),  # less than any announce has
        (FORM.size_at, bytes((105,))),  # more
    ],
)
def test_a_row_of_wrong_bytes_is_passed_over_and_counted(start: int, wrong: bytes) -> None:
    where = memory()
    store = begin(where)
    put(store, 1, 1, 100.0)
    put(store, 2, 1, 100.0)
    at = FORM.row + start
    where[at : at + len(wrong)] = wrong
    assert chats(begin(where, 101.0, bad=1)) == [2]


def test_chats_of_another_shard_are_found_in_the_order_of_their_announces() -> None:
    other = begin(memory())
    put(other, 1, 1, 100.0)
    put(other, 1, 2, 104.0)
    put(other, 3, 1, 108.0)
    where = memory()
    store = begin(where)
    put(store, 2, 1, 106.0)
    store.put_in(other.take_out(lambda chat_id: False))
    for found in (store, begin(where, 110.0)):
        assert chats(found) == [3, 2, 1]
        assert found.peers(key(1), 110.0) == [peer(2), peer(1)]
        assert found.fullest() == 3
        assert found.newest(key(1), b"", 104.0 + LIFE_S) == []


def test_limits_follow_as_far_as_there_is_memory() -> None:
    store = begin(memory())
    store.capacity = 1_000_000
    assert store.capacity == CAPACITY
    store.capacity = 3
    assert store.capacity == 3
