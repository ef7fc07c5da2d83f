"""How a process is replaced, or keys go to another one, on purpose: nothing is lost meanwhile.

The others first stop sending to it (`Holds`), and it finishes what it has in hand. State by key
that becomes another's goes into memory that has no name (`put`), and that takes it up (`take`).
"""

import os
from collections.abc import Callable
from typing import Any

from core import batch
from core.link.descriptors import Channel, Note

STATE = 6  # kind of the frame that carries a state
_FORM = 1  # of states as a whole; a module's own state tells its form itself


def put(state: Any) -> int:
    """Returns the descriptor of anonymous memory with plain data; the receiver closes it."""
    data = batch.encode(STATE, 0, 0, _FORM, [state])
    descriptor = os.memfd_create("toxmesh state", os.MFD_CLOEXEC)
    with open(os.dup(descriptor), "wb") as file:
        file.write(data)
    return descriptor


def take(descriptor: int) -> Any:
    """Returns what `put` kept, lists as tuples, and closes the descriptor; None if it is no state.

    Raises WireError for bytes that are no frame.
    """
    with open(descriptor, "rb") as file:
        file.seek(0)
        frame = batch.decode(file.read())
    if frame.kind != STATE or frame.socket != _FORM or len(frame.items) != 1:
        return None
    return frame.items[0]


class Holds:
    """Ways to other processes that are left alone for a moment, since these are replaced."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asked: list[tuple[str, int]] = []

    def __bool__(self) -> bool:
        return bool(self._asked)

    def begin(self, note: Note) -> tuple[str, int]:
        """Takes note that the supervisor waits until nothing is on its way; returns to whom."""
        self._asked.append(name_of(note))
        return self._asked[-1]

    def turn(self, quiet: Callable[[tuple[str, int]], bool]) -> None:
        """Tells the supervisor of those to which nothing is on its way any more."""
        for name in list(self._asked):
            if quiet(name):
                self._asked.remove(name)
                self._channel.send("held", {"name": list(name)})


def name_of(note: Note) -> tuple[str, int]:
    """Returns role and shard of the process that a note is about."""
    role, shard = note.body["name"]
    return str(role), int(shard)
