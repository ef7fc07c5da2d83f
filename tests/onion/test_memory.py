"""What an announce entry costs, so that the store's memory can be counted on."""

import tracemalloc

import pytest

from core.endpoint import from_text, with_port
from core.entropy import SeededEntropy
from core.onion.announce_store import (
    DATA_KEY,
    FORM,
    HEAD,
    ONION_RETURN,
    SOURCE,
    AnnounceStore,
)

pytestmark = pytest.mark.no_cover  # four times as long with it, and its own memory beside
BAR = 600  # bytes an entry, with everything that finds and orders it
COUNT = 100_000


@pytest.mark.parametrize("host", ["198.51.100.1", "2001:db8::1"])
def test_an_announce_entry_takes_at_most_600_bytes(host: str) -> None:
    entropy, home = SeededEntropy(host), from_text(host, 33445)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        store = AnnounceStore(entropy.bytes(32), COUNT)
        for number in range(COUNT + 1000):  # some of them push others out
            source = with_port(home, 1 + number % 60_000)
            way, data_key = entropy.bytes(177), entropy.bytes(32)
            store.put(entropy.bytes(32), source, way, data_key, number * 0.001)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(store) == COUNT
    assert FORM.row + (after - before) / COUNT <= BAR  # rows are mapped, and not traced


def test_entries_that_are_refreshed_take_no_more() -> None:
    entropy = SeededEntropy("refreshed")
    keys = [entropy.bytes(32) for _ in range(10_000)]
    source = from_text("198.51.100.1", 33445)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        store = AnnounceStore(entropy.bytes(32))
        for turn in range(5):
            for key in keys:
                way, data_key = entropy.bytes(177), entropy.bytes(32)
                store.put(bytes(bytearray(key)), source, way, data_key, turn)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(store) == len(keys)
    assert FORM.row + (after - before) / len(keys) <= BAR


@pytest.mark.parametrize("host", ["198.51.100.1", "2001:db8::1"])
def test_an_entry_gives_back_what_was_put_into_it(host: str) -> None:
    source, way, data_key = from_text(host, 33445), bytes(range(177)), b"d" * 32
    store = AnnounceStore(bytes(32))
    assert store.put(b"k" * 32, source, way, data_key, 12345.678901)
    entry = store.get(b"k" * 32, 12645.6789)
    assert entry is not None
    assert (entry[SOURCE], entry[ONION_RETURN], entry[DATA_KEY]) == (source, way, data_key)
    assert entry[HEAD] == b"\x8c" + way + b"\x86"
    assert len(entry) == 219 + len(source)
    assert store.get(b"k" * 32, 12645.678902) is None
