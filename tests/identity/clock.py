"""Asyncio with made-up time: where nothing is ready, the clock jumps to the next timer.

Sockets are real. What is sent over loopback is ready at once, so that nothing is missed by not
waiting for it.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits, but tells how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # only another thread can bring something
            return super().select(10)
        self.now += timeout
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._fast = _Selector()
        super().__init__(self._fast)

    def time(self) -> float:
        return self._fast.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in made-up time, as asyncio.run does in real time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


async def until(condition: Callable[[], object], what: str, limit_s: float = 120.0) -> None:
    """Waits for a condition; fails after `limit_s` of made-up time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while not condition():
        assert loop.time() < end, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.05)


async def within(limit_s: float, what: Awaitable[T]) -> T:
    """Waits for something; fails after `limit_s` of made-up time."""
    return await asyncio.wait_for(what, limit_s)
