"""A worker's part when its role gets more shards or fewer while the node runs.

Who gains slots pauses: it reads no socket until the state that belongs to them is here. Who loses
slots reads what the kernel had put into its sockets by the old table, and then leaves the state of
those slots to the others (`share_out`, `take_in` of a module, where it has state by key).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from core.link import handover
from core.link.descriptors import Channel, Note
from core.slots import SlotTable

Guard = Callable[..., None]
"""guard(what, size, call, *arguments): calls the module, and counts what it raises."""


class Resizing:
    """Notes of the supervisor about it, and what has to be answered later."""

    def __init__(self, channel: Channel, module: Any, guard: Guard) -> None:
        self._channel = channel
        self._share_out = getattr(module, "share_out", None)
        self._take_in = getattr(module, "take_in", None)
        self._guard = guard
        self._full: set[int] | None = None  # sockets that were not seen empty yet; None: not asked
        self.paused = False
        """Whether no socket is read for now."""

    def hear(self, note: Note, sockets: Sequence[int], now: float) -> bool:
        """Does what a note says, if it is about a change of shards; returns whether it is."""
        if note.name == "pause":
            self.paused = True
            self._channel.send("paused", {})
        elif note.name == "resume":
            self.paused = False
        elif note.name == "drain":
            self._full = set(sockets)
        elif note.name == "share out":
            self._give(_table(note))
        elif note.name == "take in":
            for descriptor in note.descriptors:
                state = handover.take(descriptor)
                if self._take_in is not None and state is not None:
                    self._guard("state", 0, self._take_in, state, _table(note), now)
            self._channel.send("taken in", {})
        else:
            return False
        return True

    def turn(self, ready: Sequence[int], idle: bool) -> None:
        """Learns which sockets have datagrams, and whether nothing else is in hand."""
        if self._full is None:
            return
        self._full &= set(ready)
        if not self._full and idle:
            self._full = None
            self._channel.send("drained", {})

    def _give(self, table: SlotTable) -> None:
        """Leaves the state of all slots that are other shards' by a table."""
        state: list[Any] = []
        if self._share_out is not None:
            self._guard("state", 0, lambda: state.append(self._share_out(table)))
        if not state:
            self._channel.send("shared out", {})
            return
        descriptor = handover.put(state[0])
        self._channel.send("shared out", {}, (descriptor,))
        os.close(descriptor)


def _table(note: Note) -> SlotTable:
    """Returns the table by which the role will be divided."""
    return SlotTable(note.body["generation"], tuple(note.body["shards"]))
