"""Datagrams with new keys: how many may wait, whose they are, and in which order they leave."""

from collections import Counter

from core.endpoint import Endpoint, from_text
from core.misses import CAPACITY, SHARE, Misses

KEY = bytes(32)


def source(prefix: int, host: int = 1) -> Endpoint:
    return from_text(f"30.{prefix >> 8}.{prefix & 255}.{host}", 33445)


def test_they_leave_in_the_order_in_which_they_came() -> None:
    misses = Misses(Counter())
    rows = [(number % 3, source(number), b"packet %d" % number, KEY) for number in range(10)]
    assert all(misses.put(*row) for row in rows)
    assert [row[:4] for row in misses.take(4)] == rows[:4]
    assert len(misses) == 6
    assert [row[:4] for row in misses.take(100)] == rows[4:]
    assert misses.take(1) == []


def test_a_flood_from_one_prefix_fills_its_own_share_alone() -> None:
    drops: Counter[str] = Counter()
    misses = Misses(drops)
    kept = sum(misses.put(0, source(1, number % 250), b"flood", KEY) for number in range(20_000))
    assert kept == SHARE == len(misses)
    assert drops == {"new_key:prefix": 20_000 - SHARE}
    assert misses.put(0, source(2), b"somebody else", KEY)
    assert misses.put(0, from_text("2001:db8::1", 1), b"and one more", KEY)
    # as places become free, they are filled again
    misses.take(10)
    assert sum(misses.put(0, source(1), b"flood", KEY) for _ in range(20)) == 10


def test_the_share_of_ipv6_is_counted_by_the_64() -> None:
    misses = Misses(Counter())
    addresses = [from_text(f"2001:db8::{number:x}", 1) for number in range(1, 100)]
    assert sum(misses.put(0, address, b"flood", KEY) for address in addresses) == SHARE
    assert misses.put(0, from_text("2001:db8:0:1::1", 1), b"another network", KEY)


def test_no_more_wait_than_there_are_places_and_each_refusal_is_counted() -> None:
    drops: Counter[str] = Counter()
    misses = Misses(drops)
    kept = sum(misses.put(0, source(number), b"new", KEY) for number in range(5000))
    assert kept == CAPACITY == len(misses)
    assert drops == {"new_key:all": 5000 - CAPACITY}


def test_nothing_is_remembered_of_prefixes_that_have_no_place() -> None:
    misses = Misses(Counter(), capacity=10, share=2)
    for number in range(1000):
        misses.put(0, source(number), b"new", KEY)
        misses.put(0, source(number), b"new", KEY)
        misses.take(2)
    assert (len(misses), misses._taken) == (0, {})
