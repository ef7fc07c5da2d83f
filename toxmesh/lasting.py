"""Memory that belongs to a place of the node, whichever process fills that place."""

import os
from collections.abc import Mapping
from typing import Any

from core.link import lasting
from toxmesh.children import Child

_ROLES = ("onion", "net_crypto")  # whose modules keep there what must survive a crash


class Lasting:
    """One piece of memory for each place that wants some, as long as the node runs."""

    def __init__(self) -> None:
        self._made: dict[str, int] = {}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Lasting":
        """Goes on with what the version before has left in this process."""
        result = cls()
        result._made = {name: row["fd"] for name, row in body.items()}
        return result

    def to_body(self) -> dict[str, Any]:
        """Returns it as plain data, for a process image that has the descriptors too."""
        return {name: {"fd": descriptor} for name, descriptor in self._made.items()}

    def of(self, row: Child) -> tuple[int, ...]:
        """Returns the descriptor for a place, which stays ours, or nothing.

        Where the system has none to give, the worker makes do without: what it keeps dies with it.
        """
        if row.role not in _ROLES:
            return ()
        if row.name not in self._made:
            try:
                self._made[row.name] = lasting.make()
            except OSError:
                return ()
        return (self._made[row.name],)

    def forget(self, name: str) -> None:
        """Lets go of the memory of a place that is given up."""
        if name in self._made:
            os.close(self._made.pop(name))

    def close(self) -> None:
        """Lets go of all of it."""
        for descriptor in self._made.values():
            os.close(descriptor)
        self._made.clear()
