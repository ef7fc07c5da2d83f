"""Small pieces of data that clients keep at the nodes near a key of theirs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from core.onion.ordered import OrderedRows

MAX_DATA = 512  # c-toxcore announce.h: MAX_ANNOUNCEMENT_SIZE
DEFAULT_CAPACITY = 10_000  # entries a shard; the reference has 256 a node


class DataEntry(NamedTuple):
    """Stored data, and until when (monotonic seconds)."""

    data: bytes
    until: float


class DataStore:
    """Data announcements by data key, bounded: expired ones go first, then those farthest from us.

    The reference keeps 32 hash buckets of 8 and lets the nearer key win within one.
    """

    __slots__ = ("_by_distance", "_by_time", "_entries", "_own", "capacity", "closed")

    def __init__(self, own_key: bytes, capacity: int = DEFAULT_CAPACITY) -> None:
        self._own = int.from_bytes(own_key, "big")
        self.capacity = capacity
        self._entries: dict[bytes, DataEntry] = {}
        self._by_distance: OrderedRows[int] = OrderedRows()
        self._by_time: OrderedRows[tuple[float, bytes]] = OrderedRows()
        self.closed = False
        """Whether new keys are refused, because the node is drained."""

    def get(self, key: bytes, now: float) -> DataEntry | None:
        """Returns the entry of `key` unless its time is over."""
        entry = self._entries.get(key)
        return None if entry is None or now >= entry.until else entry

    def would_accept(self, key: bytes, now: float) -> bool:
        """Tells whether `put` would store data under `key` now."""
        if self.closed or key in self._entries:
            return key in self._entries
        return (
            len(self._entries) < self.capacity
            or self._by_time.least()[0] <= now
            or self._own ^ int.from_bytes(key, "big") < self._by_distance.greatest()
        )

    def put(self, key: bytes, data: bytes, until: float, now: float) -> bool:
        """Stores data or replaces it; False if the store is full of nearer keys."""
        if not self.would_accept(key, now):
            return False
        if key in self._entries:
            self.delete(key)
        elif len(self._entries) >= self.capacity and not self.expire(now, 1):
            self.delete((self._own ^ self._by_distance.greatest()).to_bytes(32, "big"))
        self._entries[key] = DataEntry(data, until)
        self._by_distance.add(self._own ^ int.from_bytes(key, "big"))
        self._by_time.add((until, key))
        return True

    def prolong(self, key: bytes, until: float) -> None:
        """Gives an entry that is here another end of life."""
        entry = self._entries[key]
        self._by_time.remove((entry.until, key))
        self._by_time.add((until, key))
        self._entries[key] = DataEntry(entry.data, until)

    def next_end(self) -> float | None:
        """Returns when the life of the next entry is over (monotonic seconds); None: no entries."""
        return self._by_time.least()[0] if self._entries else None

    def delete(self, key: bytes) -> None:
        """Forgets an entry that is here."""
        entry = self._entries.pop(key)
        self._by_time.remove((entry.until, key))
        self._by_distance.remove(self._own ^ int.from_bytes(key, "big"))

    def rows(self) -> list[list[Any]]:
        """Returns all entries as plain data for a successor."""
        return [[key, entry.data, entry.until] for key, entry in self._entries.items()]

    def restore(self, rows: Iterable[Sequence[Any]]) -> None:
        """Begins with the entries of a predecessor, of which there are no more than fit."""
        for key, data, until in rows:
            self._entries[key] = DataEntry(data, until)
        own = self._own
        self._by_distance = OrderedRows(own ^ int.from_bytes(key, "big") for key in self._entries)
        self._by_time = OrderedRows((row.until, key) for key, row in self._entries.items())

    def take_out(self, stays: Callable[[bytes], bool]) -> list[list[Any]]:
        """Forgets all entries whose keys do not stay, and returns them as `rows` does."""
        rows = [row for row in self.rows() if not stays(row[0])]
        for row in rows:
            self.delete(row[0])
        return rows

    def put_in(self, rows: Iterable[Sequence[Any]], now: float) -> None:
        """Stores what `take_out` returned elsewhere, unless what is here lasts longer."""
        closed, self.closed = self.closed, False  # they are not new to the node
        for key, data, until in rows:
            known = self._entries.get(key)
            if known is None or known.until < until:
                self.put(key, data, until, now)
        self.closed = closed

    def expire(self, now: float, limit: int) -> int:
        """Forgets up to `limit` entries whose time is over; returns how many these were."""
        count = 0
        while count < limit and self._entries:
            until, key = self._by_time.least()
            if until > now:
                break
            self.delete(key)
            count += 1
        return count

    def __len__(self) -> int:
        return len(self._entries)
