"""Prints what the stores of an onion shard cost, in nanoseconds of CPU, without packets and boxes.

    python -m tests.onion.bench_stores [ENTRIES]

Each store is given ENTRIES (10,000 unless told) new keys, then the same again, and is asked for
them; the figure is the best of seven rounds, each with a store of its own.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable

from core.endpoint import from_text, pack_compact, udp4
from core.entropy import SeededEntropy
from core.onion.announce_store import AnnounceStore
from core.onion.data_store import DataStore
from core.onion.group_store import GroupStore

NOW = 100_000.0
PEERS = 4  # of a chat
ROUNDS = 7
Step = tuple[str, Callable[[], None]]


def announces(keys: list[bytes], own: bytes) -> list[Step]:
    """Clients behind IPv4 hops."""
    store = AnnounceStore(own)
    hop, way, data_key = from_text("198.51.100.1", 33445), bytes(177), bytes(32)

    def put() -> None:
        for key in keys:
            store.put(key, hop, way, data_key, NOW)

    def get() -> None:
        for key in keys:
            store.get(key, NOW)

    return [("announce, new", put), ("announce, refreshed", put), ("announce, found", get)]


def groups(keys: list[bytes], own: bytes) -> list[Step]:
    """Chats of four peers, each opened from another network."""
    store = GroupStore(Counter())
    relay = b"\x82" + pack_compact(from_text("198.51.100.7", 4444))[1:] + bytes(32)
    rows = []
    for number, chat in enumerate(keys):
        source = udp4((number % 2500 << 8).to_bytes(4, "big"), 33445)
        rows.append((keys[number - number % PEERS], chat + b"\x00\x01" + relay, source))

    def put() -> None:
        for chat, announce, source in rows:
            store.put(chat, announce, source, NOW)

    def get() -> None:
        for chat, announce, _ in rows:
            store.newest(chat, announce[:32], NOW)

    return [("group, new peer", put), ("group, again", put), ("group, asked for", get)]


def data(keys: list[bytes], own: bytes) -> list[Step]:
    """Entries of 200 bytes."""
    store = DataStore(own)
    content = bytes(200)

    def put() -> None:
        for key in keys:
            store.put(key, content, NOW + 900, NOW)

    def prolong() -> None:
        for key in keys:
            store.prolong(key, NOW + 901)

    def get() -> None:
        for key in keys:
            store.get(key, NOW)

    return [
        ("data, new", put),
        ("data, again", put),
        ("data, prolonged", prolong),
        ("data, found", get),
    ]


def main() -> None:
    """Measures and prints a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    entropy = SeededEntropy("stores")
    keys, own = [entropy.bytes(32) for _ in range(count)], entropy.bytes(32)
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for make in (announces, groups, data):
            for name, step in make(keys, own):
                start = time.process_time()
                step()
                spent = (time.process_time() - start) / count
                best[name] = min(spent, best.get(name, spent))
    for name, spent in best.items():
        print(f"{name:24}{spent * 1e9:8.0f} ns")


if __name__ == "__main__":
    main()
