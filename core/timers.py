"""The timer table of a module: what is due now, and when to look again."""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


def earliest(*whens: float | None) -> float | None:
    """Returns the first of some times; None stands for never."""
    first: float | None = None
    for when in whens:
        if when is not None and (first is None or when < first):
            first = when
    return first


class Timers(Generic[Name]):
    """Named one-shot timers; setting one again moves it."""

    __slots__ = ("_heap", "_order", "_when")

    def __init__(self) -> None:
        self._when: dict[Name, float] = {}
        self._heap: list[tuple[float, int, Name]] = []
        self._order = 0

    def set(self, name: Name, when: float) -> None:
        """Makes `name` due at `when` (seconds), in place of any earlier time."""
        self._when[name] = when
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, name))
        if len(self._heap) > 4 + 2 * len(self._when):  # moved timers leave dead rows behind
            self._heap = [row for row in self._heap if self._when.get(row[2]) == row[0]]
            heapq.heapify(self._heap)

    def stop(self, name: Name) -> None:
        """Forgets `name`; nothing happens if it is not set."""
        self._when.pop(name, None)

    def bring_forward(self, name: Name, when: float) -> None:
        """Makes `name` due at `when` unless it already is due earlier."""
        current = self._when.get(name)
        if current is None or when < current:
            self.set(name, when)

    def __contains__(self, name: Name) -> bool:
        return name in self._when

    def __len__(self) -> int:
        return len(self._when)

    def _drop_dead(self) -> None:
        heap = self._heap
        while heap and self._when.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)

    def next(self) -> float | None:
        """Returns the time of the earliest timer, or None."""
        heap = self._heap
        if not heap:
            return None
        when, _, name = heap[0]
        if self._when.get(name) == when:
            return when
        self._drop_dead()
        return heap[0][0] if heap else None

    def take_due(self, name: Name, now: float) -> bool:
        """Tells whether `name` is due, and if so forgets it."""
        when = self._when.get(name)
        if when is None or when > now:
            return False
        del self._when[name]
        return True

    def expired(self, now: float) -> list[Name]:
        """Removes and returns all timers that are due, earliest first."""
        due: list[Name] = []
        if not self._heap or self._heap[0][0] > now:
            return due
        self._drop_dead()
        while self._heap and self._heap[0][0] <= now:
            name = heapq.heappop(self._heap)[2]
            del self._when[name]
            due.append(name)
            self._drop_dead()
        return due
