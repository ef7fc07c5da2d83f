"""Small pieces of data that clients keep at the nodes near a key of theirs."""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from core.onion.lasting_rows import CONTENT, RowForm, Rows
from core.onion.ordered import OrderedRows

MAX_DATA = 512  # c-toxcore announce.h: MAX_ANNOUNCEMENT_SIZE
MAX_LIFE_S = 900  # c-toxcore announce.h: MAX_MAX_ANNOUNCEMENT_TIMEOUT
DEFAULT_CAPACITY = 10_000  # entries a shard; the reference has 256 a node
MOST = 100_000  # that an operator may allow

FORM = RowForm(b"data--01", f"{MAX_DATA}s6xH", range(MAX_DATA + 1))
"""The time of a row is the end of its life. What follows: data; its size."""
_write_row = FORM.write
_size = struct.Struct("=H").unpack_from


class DataEntry(NamedTuple):
    """Stored data, and until when (monotonic seconds)."""

    data: bytes
    until: float


class _Stored(NamedTuple):
    """Where data stands in memory, its size, and until when."""

    start: int
    size: int
    until: float


class DataStore:
    """Data announcements by data key, bounded: expired ones go first, then those farthest from us.

    The reference keeps 32 hash buckets of 8 and lets the nearer key win within one.
    """

    __slots__ = (
        "_by_distance",
        "_by_time",
        "_capacity",
        "_entries",
        "_number",
        "_own",
        "_rows",
        "closed",
    )

    def __init__(
        self, own_key: bytes, capacity: int = DEFAULT_CAPACITY, rows: Rows | None = None
    ) -> None:
        """`rows` may have entries of a predecessor: `restore` takes them up, before anything is
        stored."""
        self._own = int.from_bytes(own_key, "big")
        self._capacity = capacity
        self._rows = Rows(FORM, capacity) if rows is None else rows
        self._number = 0  # of the last writing of a row
        self._entries: dict[bytes, _Stored] = {}
        self._by_distance: OrderedRows[int] = OrderedRows()
        self._by_time: OrderedRows[tuple[float, bytes]] = OrderedRows()
        self.closed = False
        """Whether new keys are refused, because the node is drained."""

    def restore(self, now: float) -> int:
        """Begins with what stands in the memory; returns how many rows of it were of no use."""
        found, bad = self._rows.find(now, now + MAX_LIFE_S)
        entries = self._entries
        entries.clear()
        for row in sorted(found, key=lambda row: row.number):
            older = entries.get(row.key)
            if older is not None:
                self._rows.give_back(older.start - CONTENT)
            size = _size(self._rows.memory, row.place + FORM.size_at)[0]
            entries[row.key] = _Stored(row.place + CONTENT, size, row.time)
            self._number = row.number
        own = self._own
        self._by_distance = OrderedRows(own ^ int.from_bytes(key, "big") for key in entries)
        self._by_time = OrderedRows((row.until, key) for key, row in entries.items())
        return bad

    def get(self, key: bytes, now: float) -> DataEntry | None:
        """Returns the entry of `key` unless its time is over."""
        entry = self._entries.get(key)
        if entry is None or now >= entry.until:
            return None
        start, size, until = entry
        return DataEntry(self._rows.memory[start : start + size], until)

    def would_accept(self, key: bytes, now: float) -> bool:
        """Tells whether `put` would store data under `key` now."""
        if self.closed or key in self._entries:
            return key in self._entries
        return (
            len(self._entries) < self._capacity
            or self._by_time.least()[0] <= now
            or self._own ^ int.from_bytes(key, "big") < self._by_distance.greatest()
        )

    def put(self, key: bytes, data: bytes, until: float, now: float) -> bool:
        """Stores data or replaces it; False if the store is full of nearer keys."""
        if not self.would_accept(key, now):
            return False
        entry = self._entries.get(key)
        if entry is not None:
            place = entry.start - CONTENT
            self._by_time.remove((entry.until, key))
        else:
            if len(self._entries) >= self._capacity and not self.expire(now, 1):
                self.delete((self._own ^ self._by_distance.greatest()).to_bytes(32, "big"))
            place = self._rows.take()
            self._by_distance.add(self._own ^ int.from_bytes(key, "big"))
        self._write(place, key, data, until)
        return True

    def prolong(self, key: bytes, until: float) -> None:
        """Gives an entry that is here another end of life."""
        entry = self._entries[key]
        self._by_time.remove((entry.until, key))
        self._write(entry.start - CONTENT, key, self._read(entry), until)

    def _write(self, place: int, key: bytes, data: bytes, until: float) -> None:
        self._number = number = self._number + 1
        size = len(data)
        _write_row(self._rows.memory, place, number, key, until, data, size, number)
        self._entries[key] = _Stored(place + CONTENT, size, until)
        self._by_time.add((until, key))

    def _read(self, entry: _Stored) -> bytes:
        return self._rows.memory[entry.start : entry.start + entry.size]

    def next_end(self) -> float | None:
        """Returns when the life of the next entry is over (monotonic seconds); None: no entries."""
        return self._by_time.least()[0] if self._entries else None

    def delete(self, key: bytes) -> None:
        """Forgets an entry that is here."""
        self._rows.give_back(self._drop(key))

    def _drop(self, key: bytes) -> int:
        """Takes an entry out of the index; returns its place."""
        entry = self._entries.pop(key)
        self._by_time.remove((entry.until, key))
        self._by_distance.remove(self._own ^ int.from_bytes(key, "big"))
        return entry.start - CONTENT

    def take_out(self, stays: Callable[[bytes], bool]) -> list[list[Any]]:
        """Forgets all entries whose keys do not stay, and returns key, data and end of life of
        each. Until `wipe` a successor finds them as if they had stayed."""
        rows: list[list[Any]] = []
        for key, entry in list(self._entries.items()):
            if not stays(key):
                rows.append([key, self._read(entry), entry.until])
                self._rows.leave(self._drop(key))
        return rows

    def wipe(self) -> None:
        """Lets no successor find what was taken out."""
        self._rows.wipe()

    def put_in(self, rows: Iterable[Sequence[Any]], now: float) -> None:
        """Stores what `take_out` returned elsewhere, unless what is here lasts longer."""
        closed, self.closed = self.closed, False  # they are not new to the node
        for key, data, until in rows:
            known = self._entries.get(key)
            if known is None or known.until < until:
                self.put(key, data, until, now)
        self.closed = closed

    @property
    def capacity(self) -> int:
        """How many entries there may be."""
        return self._capacity

    @capacity.setter
    def capacity(self, value: int) -> None:
        """Sets it, to at most what there is memory for; what is too many goes by its time."""
        self._capacity = min(value, self._rows.capacity)

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
