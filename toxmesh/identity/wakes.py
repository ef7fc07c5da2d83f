"""How engines are woken by their event loop."""

import asyncio
from collections.abc import Callable

_FAR_S, _GRID_S = 0.5, 0.0625
"""Timers that are so far away are put off to the next multiple of a sixteenth of a second: those of
thousands of identities come due together then, and their datagrams in one turn of the loop."""


class Wakes:
    """Calls `wake(now)` when `due()` says, as an engine's `next_timer` does; times are the
    loop's."""

    __slots__ = ("_due", "_loop", "_timer", "_wake")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: Callable[[], float | None],
        wake: Callable[[float], None],
    ) -> None:
        self._loop, self._due, self._wake = loop, due, wake
        self._timer: asyncio.TimerHandle | None = None

    def plan(self) -> None:
        """Sets the timer; to be called after whatever may have changed what is due."""
        when = self._due()
        if when is not None and when > self._loop.time() + _FAR_S:
            when = -(-when // _GRID_S) * _GRID_S
        if when is None or (self._timer is not None and self._timer.when() <= when):
            return  # one that comes too early finds nothing to do: cheaper than another each time
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._call)

    def _call(self) -> None:
        self._timer = None
        # call_at may come a moment early, by the resolution of the loop's clock
        self._wake(self._loop.time())

    def close(self) -> None:
        """Calls nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
