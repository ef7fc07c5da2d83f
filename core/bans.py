"""Whom the operator has shut out: prefixes of addresses, and keys.

Every process that takes datagrams or streams has a copy, which the supervisor keeps alike. Without
bans a batch of datagrams costs one look at an empty set. With them a datagram costs one look into a
dictionary of sources seen of late, and a source's first one a look into a set for each length of
prefix that there is. A banned key is looked for only where its combined key would be computed: a
key at hand is never a banned one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from core.crypto import SharedKeys
from core.endpoint import SOCKADDR4_SIZE, Endpoint

_KNOWN = 16_384  # sources: 2 MiB at most


class News(NamedTuple):
    """What a change has shut out that was not shut out before."""

    prefixes: bool
    keys: tuple[bytes, ...]


class Bans:
    """Prefixes as numbers by family and length, keys as they are; `prefixes` is empty for none."""

    __slots__ = ("_cache", "_four", "_known", "_six", "keys", "prefixes")

    def __init__(self, cache: SharedKeys | None = None) -> None:
        """`cache`: combined keys of this process, which must not keep those of banned keys."""
        self.keys: set[bytes] = set()
        self.prefixes: set[tuple[bytes, int]] = set()
        """First address and length in bits of each."""
        self._four: dict[int, set[int]] = {}  # by how many bits are left out
        self._six: dict[int, set[int]] = {}
        self._known: dict[bytes, bool] = {}  # sources that were looked up
        self._cache = cache
        if cache is not None:
            cache.banned = self.keys

    def learn(self, body: Mapping[str, Any]) -> News:
        """Takes a change, or with `whole` all that there is, from the supervisor."""
        before = frozenset(self.prefixes) if body["whole"] else frozenset()
        known = frozenset(self.keys) if body["whole"] else frozenset()
        if body["whole"]:
            self.prefixes.clear()
            self._four.clear()
            self._six.clear()
            self.keys.clear()
        for row in body["remove"]:
            self._remove(bytes(row[0]), int(row[1]))
        self._known.clear()
        added = False
        for row in body["add"]:
            prefix = (bytes(row[0]), int(row[1]))
            added = added or prefix not in before
            self._add(*prefix)
        self.keys.difference_update(body["remove_keys"])
        keys = tuple(bytes(key) for key in body["add_keys"])
        self.keys.update(keys)
        if self._cache is not None:
            for key in keys:
                self._cache.forget(key)
        return News(added, tuple(key for key in keys if key not in known))

    def _table(self, address: bytes) -> dict[int, set[int]]:
        return self._four if len(address) == 4 else self._six

    def _add(self, address: bytes, bits: int) -> None:
        self.prefixes.add((address, bits))
        left_out = 8 * len(address) - bits
        number = int.from_bytes(address, "big") >> left_out
        self._table(address).setdefault(left_out, set()).add(number)

    def _remove(self, address: bytes, bits: int) -> None:
        if (address, bits) not in self.prefixes:
            return
        self.prefixes.discard((address, bits))
        left_out = 8 * len(address) - bits
        table = self._table(address)
        rows = table[left_out]
        rows.discard(int.from_bytes(address, "big") >> left_out)
        if not rows:
            del table[left_out]

    def covers(self, source: Endpoint) -> bool:
        """Tells whether an address is in a banned prefix."""
        if len(source) == SOCKADDR4_SIZE:
            number = int.from_bytes(source[4:8], "big")
            table = self._four
        else:
            number = int.from_bytes(source[8:24], "big")
            table = self._six
        for left_out, rows in table.items():  # noqa: SIM110 - any() with a generator costs twice
            if number >> left_out in rows:
                return True
        return False

    def admit(
        self, packets: Sequence[bytes], sources: Sequence[bytes], drops: Counter[str]
    ) -> tuple[Sequence[bytes], Sequence[Any]]:
        """Returns a batch without the datagrams from banned prefixes, which are counted."""
        known, look = self._known, self._look
        shut_out = [known[source] if source in known else look(source) for source in sources]
        if True not in shut_out:
            return packets, sources
        drops["banned:prefix"] += shut_out.count(True)
        return _others(packets, shut_out), _others(sources, shut_out)

    def _look(self, source: bytes) -> bool:
        """Looks a source up, and keeps what was found for its next datagram."""
        if len(self._known) >= _KNOWN:
            self._known.clear()
        found = self._known[source] = self.covers(Endpoint(source))
        return found


def _others(rows: Iterable[bytes], shut_out: Iterable[bool]) -> list[bytes]:
    return [row for row, is_out in zip(rows, shut_out, strict=True) if not is_out]
