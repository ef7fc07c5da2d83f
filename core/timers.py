"""The timer table of a module: what is due now, and when to look again."""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

Name = TypeVar("Name", bound=Hashable)

NEVER = float("inf")
_FEW = 8  # names: more of them are found by a dict


class Clock(Protocol):
    """Says when somebody wants to be called; looked at thousands of times a second."""

    @property
    def first(self) -> float:
        """When, in seconds; `NEVER` if nothing is planned."""
        ...


class Timers(Generic[Name]):
    """Named one-shot timers; setting one again moves it.

    Two lists in the order of time: an identity has several of these and few names in each, and a
    process has thousands of identities. A timer is moved in 0.8 us, one of a thousand in 1.5.
    """

    __slots__ = ("_by_name", "_names", "_whens", "first")

    def __init__(self) -> None:
        self._whens: list[float] = []
        self._names: list[Name] = []
        self._by_name: dict[Name, float] | None = None
        self.first = NEVER
        """When the earliest is due; to be read only."""

    def set(self, name: Name, when: float) -> None:
        """Makes `name` due at `when` (seconds), in place of any earlier time."""
        whens = self._whens
        at = self._find(name)
        if at is not None:
            del whens[at], self._names[at]
        place = bisect_right(whens, when)
        whens.insert(place, when)
        self._names.insert(place, name)
        self.first = whens[0]
        if self._by_name is not None:
            self._by_name[name] = when
        elif len(whens) > _FEW:
            self._by_name = dict(zip(self._names, whens, strict=True))

    def _find(self, name: Name) -> int | None:
        """Returns the place of a name in both lists."""
        names = self._names
        if self._by_name is None:
            return names.index(name) if name in names else None
        when = self._by_name.get(name)
        if when is None:
            return None
        at = bisect_left(self._whens, when)
        while names[at] != name:
            at += 1
        return at

    def stop(self, name: Name) -> None:
        """Forgets `name`; nothing happens if it is not set."""
        at = self._find(name)
        if at is not None:
            self._remove(at, at + 1)

    def _remove(self, begin: int, end: int) -> list[Name]:
        """Forgets the names in these places and returns them."""
        names = self._names[begin:end]
        del self._whens[begin:end], self._names[begin:end]
        self.first = self._whens[0] if self._whens else NEVER
        if self._by_name is not None:
            for name in names:
                del self._by_name[name]
        return names

    def bring_forward(self, name: Name, when: float) -> None:
        """Makes `name` due at `when` unless it already is due earlier."""
        at = self._find(name)
        if at is None or when < self._whens[at]:
            self.set(name, when)

    def __contains__(self, name: Name) -> bool:
        return self._find(name) is not None

    def __len__(self) -> int:
        return len(self._names)

    def next(self) -> float | None:
        """Returns the time of the earliest timer, or None."""
        return None if self.first == NEVER else self.first

    def take_due(self, name: Name, now: float) -> bool:
        """Tells whether `name` is due, and if so forgets it."""
        at = self._find(name)
        if at is None or self._whens[at] > now:
            return False
        self._remove(at, at + 1)
        return True

    def expired(self, now: float) -> list[Name]:
        """Removes and returns all timers that are due, earliest first."""
        if self.first > now:
            return []
        return self._remove(0, bisect_right(self._whens, now))
