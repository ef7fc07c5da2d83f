"""Announce entries as rows of memory that may outlive this process.

A worker that is killed takes its heap along, but not memory that its supervisor has made. So the
entries stand there and nowhere else, and whoever maps the same memory next finds them. A row begins
and ends with the number of its writing, and is written from front to end: the one that was in hand
when the writer was killed has two numbers, and is passed over.

Layout: one row of head (what these bytes are, and how many rows were ever used), then rows of 296
bytes, in which the entry is what lies between the key and the size.
"""

import mmap
import struct
from typing import NamedTuple

_WRITTEN = struct.Struct("=Q 32s d 32s c177sc 28s B Q")
"""Number of the writing; key; when it was announced; data key; 8c, onion return, 86 (what data for
the client begins with); source; size of the entry; number of the writing."""

ROW = _WRITTEN.size
ENTRY = 40  # where the entry begins in a row
SIZE = ROW - 9  # where its size stands
_SIZES = (0, 235, 247)  # a row that was never written; by the family of the source
_FORM = int.from_bytes(b"announc1", "little")  # another number for another layout
_FORM_WORD, _USED_WORD = 0, 1
_READ = struct.Struct(f"=Q32sd{ROW - 57}xBQ")

write_row = _WRITTEN.pack_into
since_of = struct.Struct("=d").unpack_from


class Found(NamedTuple):
    """A whole row."""

    number: int  # of its writing
    place: int
    key: bytes


def size_for(capacity: int) -> int:
    """Returns the bytes that memory for `capacity` entries has."""
    return ROW * (capacity + 1)


class AnnounceRows:
    """The rows of one shard. A place is the offset of a row in bytes; whoever has a place reads and
    writes it in `memory`."""

    __slots__ = ("_free", "_used", "_words", "capacity", "memory")

    def __init__(self, capacity: int, memory: mmap.mmap | None = None) -> None:
        """Takes memory of `size_for(capacity)` bytes, or makes some that dies with the process."""
        self.memory = mmap.mmap(-1, size_for(capacity)) if memory is None else memory
        self._words = memoryview(self.memory)[:16].cast("Q")
        self.capacity = capacity
        self._free: list[int] = []
        self._used = 0
        if memory is None:
            self._words[_FORM_WORD] = _FORM

    def find(self, now: float, life_s: float) -> tuple[list[Found], int]:
        """Begins anew: returns the rows that were announced within `life_s`, in the order in which
        they were written, and how many were torn or wrong (these are counted once).

        All other rows are free then.
        """
        words = self._words
        if words[_FORM_WORD] != _FORM:
            words[_USED_WORD] = 0  # nothing yet, or of a version with another layout
            words[_FORM_WORD] = _FORM
        self._used = min(words[_USED_WORD], self.capacity)
        self._free = []
        found: list[Found] = []
        bad: list[int] = []
        end = ROW * (self._used + 1)
        with memoryview(self.memory) as view, view[ROW:end] as rows:
            for place, (front, key, since, size, number) in zip(
                range(ROW, end, ROW), _READ.iter_unpack(rows), strict=True
            ):
                if front != number or size not in _SIZES or not 0.0 <= since <= now:
                    bad.append(place)
                elif number and now - since < life_s:
                    found.append(Found(number, place, key))
                    continue
                self._free.append(place)
        for place in bad:
            self.memory[place : place + ROW] = bytes(ROW)
        found.sort()
        return found, len(bad)

    def take(self) -> int:
        """Returns a place for a new entry. The caller has no more of them than the capacity."""
        if self._free:
            return self._free.pop()
        self._used += 1
        self._words[_USED_WORD] = self._used
        return ROW * self._used

    def give_back(self, place: int) -> None:
        """Lets a row be written anew. Until then it is found again unless its time is over."""
        self._free.append(place)
