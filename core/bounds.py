"""Bounds of one process that strangers can fill, as operators see them and change them.

Whoever has a bound says how it is read, how much of it is in use and how it is changed; the process
collects them. A change is told as the whole of what differs from the defaults, so that a process
that begins later is told the same.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Number = int | float


class Bound(NamedTuple):
    """One bound of a process."""

    name: str
    read: Callable[[], Number]
    default: Callable[[], Number]
    use: Callable[[], Number] | None = None
    """How much of it is used now, at the fullest place; None: that cannot be said."""
    change: Callable[[Number | None], None] | None = None
    """Sets it; None sets the default. A bound without it is fixed while the process runs."""


def of_attribute(
    name: str,
    owner: Any,
    attribute: str,
    use: Callable[[], Number] | None = None,
    then: Callable[[], None] | None = None,
) -> Bound:
    """Returns a bound that is an attribute of an object; `then` is called after a change."""
    default: Number = getattr(owner, attribute)

    def change(value: Number | None) -> None:
        setattr(owner, attribute, default if value is None else value)
        if then is not None:
            then()

    return Bound(name, lambda: getattr(owner, attribute), lambda: default, use, change)


class Bounds:
    """All bounds of one process."""

    def __init__(self, rows: Iterable[Bound] = ()) -> None:
        self._rows: list[Bound] = []
        self._values: dict[str, Number] = {}
        self.add(rows)

    def add(self, rows: Iterable[Bound]) -> None:
        """Takes more of them, to which what was laid down before applies."""
        added = list(rows)
        self._rows += added
        self._apply(added)

    def learn(self, values: Mapping[str, Number]) -> None:
        """Follows what is laid down now, by name; all others go back to their defaults."""
        self._values = dict(values)
        self._apply(self._rows)

    def _apply(self, rows: Iterable[Bound]) -> None:
        for row in rows:
            if row.change is not None:
                value = self._values.get(row.name)
                if row.read() != (row.default() if value is None else value):
                    row.change(value)

    def show(self) -> dict[str, dict[str, Any]]:
        """Returns value, default and use of each."""
        return {
            row.name: {
                "value": row.read(),
                "default": row.default(),
                "use": None if row.use is None else row.use(),
            }
            for row in self._rows
        }
