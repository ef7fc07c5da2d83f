"""Pieces of memory that may outlive this process, and which of them are whole.

A worker that is killed takes its heap along, but not memory that its supervisor has made. A piece
begins and ends with the same number, and is written from front to end: the one that was in hand
when the writer was killed has two different numbers, and is free for its successor. Between both a
piece may have words that change alone: a word of 8 bytes is written whole or not at all.

Layout: a head of two words (what these bytes are, and how many pieces were ever used), then the
pieces. One whose first number is 0 is free.
"""

import mmap
import struct

WORD = 8  # bytes
_HEAD = 2  # words


class Region:
    """Pieces of one form. A place is the offset of a piece in the memory, in bytes."""

    __slots__ = ("_begin", "_free", "_size", "_used", "capacity", "last_number", "left", "words")

    def __init__(
        self, name: bytes, form: struct.Struct, capacity: int, memory: mmap.mmap, begin: int
    ) -> None:
        """Takes the `size_for(form, capacity)` bytes of memory that begin there.

        `name` has 8 bytes, and is another for another layout. `form` has whole words; its first and
        its last are the number of the piece.
        """
        self.capacity = capacity
        self.words = memoryview(memory).cast("Q")
        """All of the memory; a place is at `place >> 3` of it."""
        self._begin = begin
        self._size = form.size
        self._free: list[int] = []
        head = begin // WORD
        known = int.from_bytes(name, "little")
        if self.words[head] != known:
            self.words[head + 1] = 0  # nothing yet, or of a version with another layout
            self.words[head] = known
        self._used = min(self.words[head + 1], capacity)
        self.left = capacity - self._used
        """How many places are free."""
        self.last_number = 0
        """The greatest at the end of any piece, when they were found."""

    def find(self) -> list[int]:
        """Returns the places of all whole pieces, once, to begin with; all others are free then."""
        words, size = self.words, self._size
        first = self._begin + _HEAD * WORD
        found = []
        for place in range(first, first + size * self._used, size):
            number, last = words[place >> 3], words[(place + size >> 3) - 1]
            self.last_number = max(self.last_number, last)
            if number and number == last:
                found.append(place)
            else:
                self.give_back(place)
        return found

    def take(self) -> int | None:
        """Returns a free place, or None if there is none."""
        if self._free:
            self.left -= 1
            return self._free.pop()
        used = self._used
        if used == self.capacity:
            return None
        place = self._begin + _HEAD * WORD + used * self._size
        self.words[place >> 3] = 0  # whatever stood there in another layout
        self._used = used + 1
        self.left -= 1
        self.words[(self._begin >> 3) + 1] = used + 1
        return place

    def give_back(self, place: int) -> None:
        """Makes a place free."""
        self.words[place >> 3] = 0
        self._free.append(place)
        self.left += 1

    def number(self, place: int) -> int:
        """Returns the number of a piece."""
        return self.words[place >> 3]


def size_for(form: struct.Struct, capacity: int) -> int:
    """Returns the bytes that so many pieces have."""
    return _HEAD * WORD + form.size * capacity
