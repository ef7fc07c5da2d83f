"""How engines are woken by their event loop."""

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

_FAR_S, _GRID_S = 0.5, 0.0625
"""Timers that are so far away are put off to the next multiple of a sixteenth of a second: those of
thousands of identities come due together then, and their datagrams in one turn of the loop."""
_IN_VAIN_S = 0.5
"""A timer that would come too early by so much is moved: to be woken in vain costs more."""


class _Grid:
    """The steps of a loop's far timers that somebody waits for: one timer of the loop for each."""

    __slots__ = ("_loop", "_steps")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._steps: dict[float, set[Wakes]] = {}

    def put(self, when: float, wakes: "Wakes") -> None:
        """Has it called at a step."""
        waiting = self._steps.get(when)
        if waiting is None:
            waiting = self._steps[when] = set()
            self._loop.call_at(when, self._call, when)
        waiting.add(wakes)

    def take(self, when: float, wakes: "Wakes") -> None:
        """Has it not called at a step."""
        self._steps[when].discard(wakes)

    def _call(self, when: float) -> None:
        for wakes in self._steps.pop(when):
            wakes.at_step = None
            self._loop.call_soon(wakes.call)  # each for itself: one may raise


_grids: WeakKeyDictionary[asyncio.AbstractEventLoop, _Grid] = WeakKeyDictionary()


class Wakes:
    """Calls `wake(now)` when `due()` says, as an engine's `next_timer` does; times are the
    loop's."""

    __slots__ = ("_closed", "_due", "_grid", "_loop", "_timer", "_wake", "at_step")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: Callable[[], float | None],
        wake: Callable[[float], None],
    ) -> None:
        self._loop, self._due, self._wake = loop, due, wake
        grid = _grids.get(loop)
        if grid is None:
            grid = _grids[loop] = _Grid(loop)
        self._grid = grid
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.at_step: float | None = None
        """The step of the grid for which it waits. Either that or a timer of its own is set."""

    def plan(self) -> None:
        """Sets the timer; to be called after whatever may have changed what is due."""
        when = self._due()
        if when is None or self._closed:
            return
        far = when > self._loop.time() + _FAR_S
        if far:
            when = -(-when // _GRID_S) * _GRID_S
        step, timer = self.at_step, self._timer
        if step is not None:
            if when - _IN_VAIN_S <= step <= when:
                return  # one that comes a little early finds nothing to do
            self._grid.take(step, self)
            self.at_step = None
        elif timer is not None:
            if when - _IN_VAIN_S <= timer.when() <= when:
                return
            timer.cancel()
            self._timer = None
        if far:
            self.at_step = when
            self._grid.put(when, self)
        else:
            self._timer = self._loop.call_at(when, self.call)

    def call(self) -> None:
        """The time has come."""
        self._timer = None
        if not self._closed:
            # call_at may come a moment early, by the resolution of the loop's clock
            self._wake(self._loop.time())

    def close(self) -> None:
        """Calls nobody any more."""
        self._closed = True
        if self.at_step is not None:
            self._grid.take(self.at_step, self)
            self.at_step = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
