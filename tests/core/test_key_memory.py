"""What a remembered key costs, so that the capacity's memory can be counted on."""

import tracemalloc

import pytest

from core import crypto
from core.crypto import SecretKey, SharedKey, SharedKeys
from core.entropy import SeededEntropy

pytestmark = pytest.mark.no_cover  # five times as long with it, and its own memory beside
BAR = 250  # bytes a key


@pytest.mark.parametrize("count", [90_000, 250_000, 330_000])
def test_a_cached_key_takes_at_most_250_bytes(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # 90,000: just after the table has grown; 330,000: an old generation beside a growing one
    entropy = SeededEntropy(count)
    monkeypatch.setattr(crypto, "_agree", lambda secret, public: SharedKey(entropy.bytes(32)))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = SharedKeys(SecretKey(bytes(32)))
        for _ in range(count):
            cache.get(entropy.bytes(32))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) <= 250_000
    assert (after - before) / len(cache) <= BAR


def test_keys_that_are_used_again_and_again_take_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    entropy = SeededEntropy("busy")
    monkeypatch.setattr(crypto, "_agree", lambda secret, public: SharedKey(entropy.bytes(32)))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = SharedKeys(SecretKey(bytes(32)), capacity=40_000)
        busy = [entropy.bytes(32) for _ in range(10_000)]
        own, _ = tracemalloc.get_traced_memory()
        for _ in range(6):
            for public in busy:
                cache.get(bytes(bytearray(public)))  # as a slice of a packet: never the same object
            for _ in range(9_000):
                cache.get(entropy.bytes(32))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.misses == 10_000 + 6 * 9_000  # the busy ones were never forgotten
    assert (after - own) / len(cache) <= BAR
    assert own > before
