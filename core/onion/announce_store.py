"""Who announced themselves to this node: the announce entries of one shard."""

import struct
from collections import OrderedDict
from enum import IntEnum

from core.endpoint import Endpoint
from core.onion.ordered import OrderedRows

LIFE_S = 300  # c-toxcore onion_announce.h: ONION_ANNOUNCE_TIMEOUT
DEFAULT_CAPACITY = 100_000  # a shard; the reference has 160 a node

# An entry is one value of 235 or 247 bytes; a tuple of its parts would take twice the memory, and
# the collector of cycles would have to look at each. `entry[SOURCE]` reads a part.
DATA_KEY = slice(8, 40)  # what data for the client is boxed to
HEAD = slice(40, 219)  # what data for the client begins with: 8c, onion return, 86
ONION_RETURN = slice(41, 218)  # the way back to the client, sealed by the last hop
SOURCE = slice(219, None)  # Endpoint of the last hop
_ONION_RESPONSE_3 = b"\x8c"
_DATA_RESPONSE = b"\x86"
_SINCE = struct.Struct("=d")  # when the client announced itself, at the start
_since_of = _SINCE.unpack_from


def pack_entry(source: Endpoint, onion_return: bytes, data_key: bytes, since: float) -> bytes:
    """Returns the entry of a client that announced itself from `source` at `since` seconds.

    `onion_return` has 177 bytes, `data_key` 32.
    """
    return b"".join(
        (_SINCE.pack(since), data_key, _ONION_RESPONSE_3, onion_return, _DATA_RESPONSE, source)
    )


def announced_at(entry: bytes) -> float:
    """Returns when the client of an entry announced itself last (monotonic seconds)."""
    since: float = _since_of(entry)[0]
    return since


class Kept(IntEnum):
    """What became of an announce; false if it was not stored."""

    REFUSED = 0  # all others are nearer
    REFRESHED = 1  # the key was stored already
    NEW = 2


class AnnounceStore:
    """Announce entries by public key, bounded: expired ones go first, then those farthest from us.

    Clients announce to the nodes nearest to their own key, so what is near our key is most likely
    to be searched here (c-toxcore onion_announce.c: add_to_entries).

    Kept by distance instead of key, which says the same, so that one number for each entry serves
    for finding it and for the order: some 460 bytes an entry (`tests.onion.test_memory`).
    """

    __slots__ = ("_by_distance", "_capacity", "_entries", "_own")

    def __init__(self, own_key: bytes, capacity: int = DEFAULT_CAPACITY) -> None:
        self._own = int.from_bytes(own_key, "big")
        self._capacity = capacity
        self._entries: OrderedDict[int, bytes] = OrderedDict()  # oldest announce first
        self._by_distance: OrderedRows[int] = OrderedRows()

    def get(self, key: bytes, now: float) -> bytes | None:
        """Returns the entry of `key` if it was announced within the last 300 s."""
        entry = self._entries.get(self._own ^ int.from_bytes(key, "big"))
        if entry is None or now - _since_of(entry)[0] >= LIFE_S:
            return None
        return entry

    def put(self, key: bytes, entry: bytes, now: float) -> Kept:
        """Stores or refreshes an entry packed `now`, unless all others are nearer."""
        entries = self._entries
        distance = self._own ^ int.from_bytes(key, "big")
        if distance in entries:
            entries[distance] = entry
            entries.move_to_end(distance)
            return Kept.REFRESHED
        if len(entries) >= self._capacity and not self.expire(now, 1):
            farthest = self._by_distance.greatest()
            if distance > farthest:
                return Kept.REFUSED
            self._forget(farthest)
        entries[distance] = entry
        self._by_distance.add(distance)
        return Kept.NEW

    def expire(self, now: float, limit: int) -> int:
        """Forgets up to `limit` entries whose life is over; returns how many these were."""
        count = 0
        entries = self._entries
        while count < limit and entries:
            distance = next(iter(entries))
            if now - _since_of(entries[distance])[0] < LIFE_S:
                break
            self._forget(distance)
            count += 1
        return count

    def some_after(self, distance: int) -> tuple[int, list[int]]:
        """Returns some keys (as numbers) that are stored, the nearest first of those farther than
        `distance` from our own, and the distance of the last; none only if there are no more."""
        found = self._by_distance.some_after(distance)
        own = self._own
        return (found[-1] if found else distance), [own ^ row for row in found]

    @property
    def capacity(self) -> int:
        """How many entries there may be."""
        return self._capacity

    def ages(self, now: float) -> tuple[float, float]:
        """Returns for how many seconds the oldest and the newest entry have been here; or zeros."""
        if not self._entries:
            return 0.0, 0.0
        oldest, newest = next(iter(self._entries)), next(reversed(self._entries))
        since = [_since_of(self._entries[row])[0] for row in (oldest, newest)]
        return now - since[0], now - since[1]

    def nearest(self) -> int | None:
        """Returns the distance between our key and the nearest one that is stored."""
        return self._by_distance.least() if self._entries else None

    def sample(self, most: int) -> list[tuple[int, float, Endpoint]]:
        """Returns distance, time of the announce and last hop of entries from all over the store.

        At most `most`, which is what this costs; all entries if there are not more.
        """
        entries = self._entries
        return [
            (row, _since_of(entries[row])[0], Endpoint(entries[row][SOURCE]))
            for row in self._by_distance.sample(most)
        ]

    def _forget(self, distance: int) -> None:
        del self._entries[distance]
        self._by_distance.remove(distance)

    def __len__(self) -> int:
        return len(self._entries)
