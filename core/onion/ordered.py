"""An ordered set for bounded stores: cheap to add, to remove, and to ask for its greatest."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Generic, TypeVar

Row = TypeVar("Row", int, tuple[float, bytes])

_BLOCK = 512  # rows; a block is split at twice this size


class OrderedRows(Generic[Row]):
    """Distinct rows in ascending order, kept in short blocks: no step touches more than one block.

    Adding to one long sorted list would move half of it each time: 20 us at 100,000 rows, where a
    block costs 1 us.
    """

    __slots__ = ("_blocks", "_count", "_greatest")

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Begins with these rows, which may come in any order."""
        first: list[Row] = sorted(rows)
        starts = range(0, len(first), _BLOCK)
        self._blocks: list[list[Row]] = [first[start : start + _BLOCK] for start in starts]
        self._greatest: list[Row] = [block[-1] for block in self._blocks]
        self._count = len(first)

    def add(self, row: Row) -> None:
        """Puts in a row that is not here yet."""
        self._count += 1
        if not self._blocks:
            self._blocks.append([row])
            self._greatest.append(row)
            return
        place = min(bisect_left(self._greatest, row), len(self._blocks) - 1)
        block = self._blocks[place]
        insort(block, row)
        if len(block) >= 2 * _BLOCK:
            self._blocks.insert(place + 1, block[_BLOCK:])
            self._greatest.insert(place, block[_BLOCK - 1])
            del block[_BLOCK:]
            place += 1
        self._greatest[place] = self._blocks[place][-1]

    def remove(self, row: Row) -> None:
        """Takes a row out. Raises KeyError if it is not here."""
        place = bisect_left(self._greatest, row)
        if place == len(self._blocks):
            raise KeyError(row)
        block = self._blocks[place]
        position = bisect_left(block, row)
        if block[position] != row:
            raise KeyError(row)
        del block[position]
        self._count -= 1
        if block:
            self._greatest[place] = block[-1]
        else:
            del self._blocks[place]
            del self._greatest[place]

    def some_after(self, row: Row) -> list[Row]:
        """Returns the rows that follow `row` in its block or, if none do, the whole next block.

        At most 1,023; none only if there is none after `row`. So all rows can be gone through a
        block at a time, whatever is added and removed meanwhile.
        """
        place = bisect_right(self._greatest, row)
        if place == len(self._blocks):
            return []
        block = self._blocks[place]
        return block[bisect_right(block, row) :]

    def sample(self, most: int) -> list[Row]:
        """Returns rows from everywhere, at most `most` and evenly spread: all if there are so few.

        Costs as much as what is returned, and a little for each block.
        """
        step = -(-self._count // most)
        found: list[Row] = []
        skipped = 0  # rows before the next block, since the last one that was taken
        for block in self._blocks:
            found += block[-skipped % step :: step]
            skipped = (skipped + len(block)) % step
        return found

    def least(self) -> Row:
        """Returns the first row. Raises IndexError if there is none."""
        return self._blocks[0][0]

    def greatest(self) -> Row:
        """Returns the last row. Raises IndexError if there is none."""
        return self._greatest[-1]

    def __len__(self) -> int:
        return self._count
