"""A filter of keys: never wrong about what was added, seldom about anything else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import SecretKey
from core.entropy import SeededEntropy
from core.onion.key_filter import (
    MAX_SIZE,
    MIN_SIZE,
    KeyFilter,
    fingerprint,
    multiplier,
    pack,
    unpack,
)

FACTOR = multiplier(SecretKey(bytes(range(32))), "test")


def mark(key: bytes, factor: int = FACTOR) -> int:
    """Returns the fingerprint of a key."""
    return fingerprint(int.from_bytes(key, "big"), factor)


def share(field: KeyFilter, keys: list[bytes]) -> float:
    """Returns which part of these keys may be in a filter."""
    return sum(field.may_have(mark(key)) for key in keys) / len(keys)


def stated(bits: int, count: int) -> float:
    """The false positives that three places a key lead to."""
    return float((1 - math.exp(-3 * count / bits)) ** 3)


def test_the_figures_in_the_docstring_follow_from_its_formula() -> None:
    assert round(stated(32, 1), 4) == 0.0007
    assert round(stated(16, 1), 3) == 0.005
    assert round(stated(MAX_SIZE * 8, 100_000), 4) == 0.0024


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=50))
def test_a_key_that_was_added_is_never_called_absent(keys: list[bytes]) -> None:
    field = KeyFilter.for_keys(len(keys))
    assert not any(field.may_have(mark(key)) for key in keys)
    for key in keys:
        field.add(mark(key))
    assert all(field.may_have(mark(key)) for key in keys)
    assert field.added == len(keys)
    copy = KeyFilter(bytearray(bytes(field.bits)))
    assert all(copy.may_have(mark(key)) for key in keys)


@pytest.mark.parametrize("count", [512, 5000, 65_536, 100_000])
def test_false_positives_are_as_seldom_as_stated(count: int) -> None:
    chance = SeededEntropy(f"filter {count}")
    field = KeyFilter.for_keys(count)
    for _ in range(count):
        field.add(mark(chance.bytes(32)))
    absent = [chance.bytes(32) for _ in range(50_000)]
    assert share(field, absent) <= stated(len(field.bits) * 8, count) * 1.3 + 0.0003
    assert stated(len(field.bits) * 8, count) <= 0.0025


def test_keys_that_look_alike_are_told_apart_like_others() -> None:
    home = SeededEntropy("alike").bytes(32)
    number = int.from_bytes(home, "big")
    field = KeyFilter.for_keys(500)
    for low in range(500):
        field.add(mark((number ^ low << 8).to_bytes(32, "big")))
    absent = [(number ^ low << 8).to_bytes(32, "big") for low in range(1000, 40_000)]
    absent += [(number ^ 1 << bit).to_bytes(32, "big") for bit in range(20, 250)]
    assert share(field, absent) <= 0.005


def test_who_knows_another_secret_cannot_choose_keys_that_collide() -> None:
    chance = SeededEntropy("stranger")
    theirs = multiplier(SecretKey(chance.bytes(32)), "test")
    victim, mask = chance.bytes(32), MIN_SIZE * 8 - 1
    wanted = mark(victim, theirs) & mask
    chosen: list[bytes] = []
    while len(chosen) < 40:  # the first of the victim's places, by a secret that is not ours
        key = chance.bytes(32)
        if mark(key, theirs) & mask == wanted:
            chosen.append(key)
    assert sum(mark(key) & mask == mark(victim) & mask for key in chosen) <= 1
    assert multiplier(SecretKey(bytes(range(32))), "other") != FACTOR
    assert FACTOR & 1


def test_a_field_follows_its_keys_within_bounds() -> None:
    sizes = {count: len(KeyFilter.for_keys(count).bits) for count in (0, 1, 256, 257, 10_000)}
    assert sizes == {0: 1024, 1: 1024, 256: 1024, 257: 2048, 10_000: 65_536}
    assert KeyFilter.for_keys(10_000).room == 32_768
    assert len(KeyFilter.for_keys(10_000_000).bits) == MAX_SIZE
    for size in (0, 1, 512, MIN_SIZE + 1, MIN_SIZE * 3, MAX_SIZE * 2):
        with pytest.raises(ValueError, match="no filter has"):
            KeyFilter(bytearray(size))


def test_fingerprints_travel_as_8_bytes_each() -> None:
    marks = [mark(bytes([number]) * 32) for number in range(100)]
    assert len(set(marks)) == 100
    assert len(pack(marks)) == 800
    assert list(unpack(pack(marks))) == marks
    assert unpack(b"") == ()
    with pytest.raises(ValueError, match="whole"):
        unpack(bytes(9))
