"""What the two large tables of a node take: cached keys, and announce entries.

Each is filled in a fresh process, with its real class and entries as packets make them, and the
growth of that process's RSS is divided by the number of entries.
"""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from core import endpoint as endpoints
from core.crypto import KeyPair, SharedKeys
from core.entropy import SystemEntropy
from core.onion.announce_store import AnnounceStore
from toxmesh.bench.ring import source_address
from toxmesh.bench.scenarios import Outcome, Place

KEY_BYTES, ENTRY_BYTES = 250, 600  # bars
KEYS, ENTRIES = 250_000, 100_000  # as many as a worker keeps
SHORT_KEYS, SHORT_ENTRIES = 40_000, 40_000
RETURN = 177  # bytes of the third hop's sealed return
LIFE_S = 300.0

Measured = tuple[int, int]  # entries kept, and bytes that they took


def rss() -> int:
    """Returns the resident bytes of this process."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def keys(count: int) -> Measured:
    """Fills the cache of shared keys to its brim."""
    entropy = SystemEntropy()
    cache = SharedKeys(KeyPair.generate(entropy).secret, count)
    cache.get(entropy.bytes(32))
    before = rss()
    while len(cache) < count - 1:
        cache.get(entropy.bytes(32))
    return len(cache), rss() - before


def _entries(count: int, ipv6: bool) -> Measured:
    entropy = SystemEntropy()
    store = AnnounceStore(entropy.bytes(32), count)
    before = rss()
    for i in range(count):
        if ipv6:
            host = f"2001:db8:{i >> 16:x}:{i & 0xFFFF:x}::1"
            source = endpoints.from_text(host, 33445)
        else:
            source = endpoints.udp4(source_address(i % 60_000), 1024 + i % 60_000)
        # in a worker all parts of an entry are slices of one datagram: new objects
        since = i * LIFE_S / (2 * count)
        way, data_key = entropy.bytes(RETURN), entropy.bytes(32)
        store.put(entropy.bytes(32), source, way, data_key, since)
    return len(store), rss() - before


def entries4(count: int) -> Measured:
    """Fills the announce store with clients behind IPv4 hops."""
    return _entries(count, False)


def entries6(count: int) -> Measured:
    """Fills the announce store with clients behind IPv6 hops."""
    return _entries(count, True)


FILL: dict[str, Callable[[int], Measured]] = {
    "keys": keys,
    "entries4": entries4,
    "entries6": entries6,
}


def in_fresh_process(name: str, count: int) -> Measured:
    """Fills a table where nothing else has taken or left memory."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", name, str(count)],
        cwd=Path(__file__).resolve().parents[2], stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    kept, size = map(int, done.stdout.split())
    return kept, size


def memory(place: Place) -> Outcome:
    """Weighs both tables, and every process of a node that has nothing to do."""
    outcome = Outcome("memory", "")
    key_count = SHORT_KEYS if place.short else KEYS
    entry_count = SHORT_ENTRIES if place.short else ENTRIES
    kept, size = in_fresh_process("keys", key_count)
    outcome.at_most("bytes of a cached key", size / kept, KEY_BYTES)
    outcome.figures["keys"] = float(kept)
    for name, fill in (("IPv4", "entries4"), ("IPv6", "entries6")):
        kept, size = in_fresh_process(fill, entry_count)
        outcome.at_most(f"bytes of an announce entry, {name}", size / kept, ENTRY_BYTES)
    outcome.figures["announce entries"] = float(kept)
    with place.start(None, True) as node:
        outcome.node = node.name
        outcome.rss = node.weigh().rss
        outcome.figures["idle node, MiB"] = sum(outcome.rss.values()) / 2**20
    return outcome


if __name__ == "__main__":
    print(*FILL[sys.argv[1]](int(sys.argv[2])))
