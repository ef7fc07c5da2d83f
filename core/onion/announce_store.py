"""Who announced themselves to this node: the announce entries of one shard."""

from collections import OrderedDict
from typing import NamedTuple

from core.endpoint import Endpoint
from core.onion.ordered import OrderedRows

LIFE_S = 300  # c-toxcore onion_announce.h: ONION_ANNOUNCE_TIMEOUT
DEFAULT_CAPACITY = 100_000  # a shard; the reference has 160 a node


class AnnounceEntry(NamedTuple):
    """How to reach one announced client: by its last hop and the sealed way back from there."""

    source: Endpoint
    onion_return: bytes  # 177 bytes, sealed by the third hop
    data_key: bytes  # 32 bytes: what data for the client is boxed to
    since: float


class AnnounceStore:
    """Announce entries by public key, bounded: expired ones go first, then those farthest from us.

    Clients announce to the nodes nearest to their own key, so what is near our key is most likely
    to be searched here (c-toxcore onion_announce.c: add_to_entries).
    """

    __slots__ = ("_by_distance", "_capacity", "_entries", "_own")

    def __init__(self, own_key: bytes, capacity: int = DEFAULT_CAPACITY) -> None:
        self._own = int.from_bytes(own_key, "big")
        self._capacity = capacity
        self._entries: OrderedDict[bytes, AnnounceEntry] = OrderedDict()  # oldest announce first
        self._by_distance: OrderedRows[int] = OrderedRows()

    def get(self, key: bytes, now: float) -> AnnounceEntry | None:
        """Returns the entry of `key` if it was announced within the last 300 s."""
        entry = self._entries.get(key)
        if entry is None or now - entry.since >= LIFE_S:
            return None
        return entry

    def put(self, key: bytes, entry: AnnounceEntry) -> bool:
        """Stores or refreshes an entry at time `entry.since`; False if all others are nearer."""
        entries = self._entries
        if key in entries:
            entries[key] = entry
            entries.move_to_end(key)
            return True
        if len(entries) >= self._capacity and not self.expire(entry.since, 1):
            distance = self._own ^ int.from_bytes(key, "big")
            farthest = self._by_distance.greatest()
            if distance > farthest:
                return False
            self._forget((self._own ^ farthest).to_bytes(32, "big"))
        entries[key] = entry
        self._by_distance.add(self._own ^ int.from_bytes(key, "big"))
        return True

    def expire(self, now: float, limit: int) -> int:
        """Forgets up to `limit` entries whose life is over; returns how many these were."""
        count = 0
        entries = self._entries
        while count < limit and entries:
            key = next(iter(entries))
            if now - entries[key].since < LIFE_S:
                break
            self._forget(key)
            count += 1
        return count

    def _forget(self, key: bytes) -> None:
        del self._entries[key]
        self._by_distance.remove(self._own ^ int.from_bytes(key, "big"))

    def __len__(self) -> int:
        return len(self._entries)
