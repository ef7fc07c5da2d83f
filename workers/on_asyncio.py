"""A host whose module has sockets and timers of its own, on an asyncio loop.

The turns are those of any worker. Between them the loop runs: the host's epoll is one descriptor
that the loop watches, and its patience one timer of the loop.
"""

import asyncio
import logging
import time
import traceback
from contextlib import suppress
from typing import Any

from core.link import child
from core.link.descriptors import Channel, ChannelClosed, Note
from core.module import LocalError
from workers.desk import CreateOnLoop
from workers.host import Host

_CLOSE_S = 0.7  # how long the module may take to end when the supervisor is gone
_CLOSE_STEP_S = 0.02

log = logging.getLogger("toxmesh.worker")


class AsyncHost(Host):
    """Runs the module of one worker on the running loop. Times of the loop are monotonic seconds.

    What the module does in callbacks of the loop is followed by `LoopDesk.stir`. A module may have
    `finished()`: whether all that `handle_stop` began is done.
    """

    def __init__(self, channel: Channel, start: child.Start, create: CreateOnLoop) -> None:
        self._loop = asyncio.get_running_loop()
        super().__init__(channel, start, create)
        self._next: asyncio.Handle | None = None
        self._soon = self._in_turn = False
        self._ended = asyncio.Event()
        self._gone = False
        self.out.on_stir = self._stir
        self._loop.set_exception_handler(self._broke)

    async def serve(self, notes: list[Note]) -> int:
        """Runs until told to stop, and returns the exit code."""
        watched = self._epoll.fileno()
        self._loop.add_reader(watched, self._wake)
        try:
            self._channel.send("ready", {})
            for note in notes:
                self._note(note)
            self._plan_soon()
            await self._ended.wait()
        except ChannelClosed:
            self._gone = True
        self._loop.remove_reader(watched)
        self._forget_next()
        if self._gone:
            log.info("the supervisor is gone, so this worker stops")
            await self._end_alone()
        return self._close()

    async def _end_alone(self) -> None:
        """Ends what the module does, with nobody to tell of it."""
        self._begin_stop()
        deadline = self._loop.time() + _CLOSE_S
        while not self._is_finished() and self._loop.time() < deadline:
            await asyncio.sleep(_CLOSE_STEP_S)
        with suppress(ChannelClosed):
            self._finish()

    def _wake(self) -> None:
        """Takes a turn, and plans the next one."""
        self._forget_next()
        more = False
        self._in_turn = True
        try:
            more = self._turn(0.0)
        except ChannelClosed:
            self._gone = True
        finally:  # an exception is counted by `_broke`, and the next turn comes as any other
            self._in_turn = False
            if self._gone or self._exit is not None:
                self._ended.set()
            elif more:
                self._plan_soon()
            else:
                self._next = self._loop.call_later(self._patience(), self._wake)

    def _stir(self) -> None:
        """Does nothing within a turn: it sends all that was told, and looks at all timers."""
        if not self._in_turn:
            self._plan_soon()

    def _plan_soon(self) -> None:
        """Takes a turn when the loop has done what it has in hand."""
        if not self._soon and not self._ended.is_set():
            self._forget_next()
            self._soon = True
            self._next = self._loop.call_soon(self._wake)

    def _forget_next(self) -> None:
        self._soon = False
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _broke(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Counts what came out of a callback or a task, as what comes out of a module's methods."""
        error = context.get("exception")
        lines = [context.get("message", "")] if error is None else traceback.format_exception(error)
        if self._bugs.add("a callback", 0, "".join(lines), time.monotonic()):
            self._exit = child.EXIT_BUGS
            self._ended.set()


def main(name: str, create: CreateOnLoop) -> int:
    """Runs a worker process on an asyncio loop: `create` makes the module of its role."""
    try:
        channel, start, notes = child.begin()
    except ChannelClosed:
        return 0
    if start.role != name:
        raise LocalError(f"a worker for {name} was told to be {start.role}")

    async def serve() -> int:
        return await AsyncHost(channel, start, create).serve(notes)

    return asyncio.run(serve())
