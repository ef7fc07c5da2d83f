"""Entries of a store as rows of memory that may outlive this process.

A worker that is killed takes its heap along, but not memory that its supervisor has made. So the
entries of a store stand there and nowhere else, and whoever maps the same memory next finds them.
A row begins and ends with the number of its writing, and is written from front to end: the one that
was in hand when the writer was killed has two different numbers, and is passed over.

Layout: the stores of a shard behind one another. Each has one row of head (what these bytes are,
and how many rows were ever used), then its rows: number of the writing, key of 32 bytes, a time in
monotonic seconds, what the store keeps besides, its size, the number again. A row whose first
number is 0 is free.
"""

import mmap
import struct
from collections.abc import Callable, Container
from typing import NamedTuple

TIME = 40  # where the time stands in a row
CONTENT = 48  # where begins what a store keeps besides
_FORM_WORD, _USED_WORD = 0, 1

time_at = struct.Struct("=d").unpack_from
"""time_at(memory, place + TIME) returns the time of a row, in a tuple."""


class RowForm:
    """What the rows of one store are made of."""

    __slots__ = ("name", "read", "row", "size_at", "sizes", "write")

    def __init__(self, name: bytes, content: str, sizes: Container[int]) -> None:
        """`name` has 8 bytes, and is another for another layout. `content` is a format of `struct`
        that ends with the size, which is one of `sizes`; with it a row has whole words of 8 bytes.
        """
        written = struct.Struct(f"=Q32sd{content}Q")
        last = content[-1]
        self.name = int.from_bytes(name, "little")
        self.row = written.size
        self.size_at = self.row - 8 - struct.calcsize(f"={last}")
        self.sizes = sizes
        self.write = written.pack_into
        """write(memory, place, number, key, time, ..., size, number)"""
        self.read = struct.Struct(f"=Q32sd{self.size_at - CONTENT}x{last}Q")


class Found(NamedTuple):
    """A whole row."""

    time: float
    number: int  # of its writing
    place: int
    key: bytes


class Rows:
    """The rows of one store. A place is the offset of a row in bytes; whoever has a place reads and
    writes it in `memory`."""

    __slots__ = ("_begin", "_form", "_free", "_memory", "_used", "_words_of", "capacity")

    def __init__(
        self, form: RowForm, capacity: int, memory: mmap.mmap | None = None, begin: int = 0
    ) -> None:
        """Takes the `size_for(form, capacity)` bytes of memory that begin there, or makes some that
        die with the process."""
        self._form = form
        self._begin = begin
        self._memory = memory
        self._words_of: memoryview | None = None
        self.capacity = capacity
        self._free: list[int] = []
        self._used = 0

    @property
    def memory(self) -> mmap.mmap:
        """In which the rows are; memory of its own is mapped when it is needed first."""
        if self._memory is None:
            self._memory = mmap.mmap(-1, size_for(self._form, self.capacity))
        return self._memory

    @property
    def _words(self) -> memoryview:
        words = self._words_of
        if words is None:
            end = self._begin + size_for(self._form, self.capacity)
            words = self._words_of = memoryview(self.memory)[self._begin : end].cast("Q")
        return words

    def find(self, after: float, until: float) -> tuple[list[Found], int]:
        """Begins anew: returns the rows whose time is later than `after`, in the order of their
        times and writing, and how many were torn or wrong (these are counted once).

        No time is later than `until`. All other rows are free then.
        """
        words, form = self._words, self._form
        if words[_FORM_WORD] != form.name:
            words[_USED_WORD] = 0  # nothing yet, or of a version with another layout
            words[_FORM_WORD] = form.name
        self._used = min(words[_USED_WORD], self.capacity)
        self._free = []
        sizes, row = form.sizes, form.row
        found: list[Found] = []
        bad = 0
        first = self._begin + row
        end = first + row * self._used
        others: list[int] = []
        with memoryview(self.memory) as view, view[first:end] as rows:
            for place, (front, key, when, size, number) in zip(
                range(first, end, row), form.read.iter_unpack(rows), strict=True
            ):
                if front == number and size in sizes and when <= until:
                    if front and when > after:
                        found.append(Found(when, number, place, key))
                        continue
                elif front:
                    bad += 1
                others.append(place)
        for place in others:
            self.give_back(place)
        found.sort()
        return found, bad

    def has_room(self) -> bool:
        """Tells whether there is a place for another entry: several stores may share the rows."""
        return bool(self._free) or self._used < self.capacity

    def take(self) -> int:
        """Returns a place for a new entry. The caller has no more of them than the capacity."""
        if self._free:
            return self._free.pop()
        self._used += 1
        offset = self._form.row * self._used
        self._words[offset >> 3] = 0  # whatever stood there in another layout
        self._words[_USED_WORD] = self._used
        return self._begin + offset

    def give_back(self, place: int) -> None:
        """Lets a row be written anew, and a successor not find it."""
        self._words[place - self._begin >> 3] = 0
        self._free.append(place)

    def leave(self, place: int) -> None:
        """Lets a row be written anew, but a successor find it until then or until `wipe`."""
        self._free.append(place)

    def wipe(self) -> None:
        """Lets a successor find nothing in rows that are free: 10 ms for 100,000 of them."""
        words, begin = self._words, self._begin
        for place in self._free:
            words[place - begin >> 3] = 0


def size_for(form: RowForm, capacity: int) -> int:
    """Returns the bytes that memory for so many rows has."""
    return form.row * (capacity + 1)


def divide(
    lasting: Callable[[int], mmap.mmap], *wanted: tuple[RowForm, int]
) -> tuple[Rows, ...]:
    """Returns rows for several stores, of a form and capacity each, in one piece of memory.

    `lasting` gives so many bytes that outlive the process. Who comes first stands first: its rows
    stay where they are in versions that want more for others.
    """
    memory = lasting(sum(size_for(form, capacity) for form, capacity in wanted))
    rows, begin = [], 0
    for form, capacity in wanted:
        rows.append(Rows(form, capacity, memory, begin))
        begin += size_for(form, capacity)
    return tuple(rows)
