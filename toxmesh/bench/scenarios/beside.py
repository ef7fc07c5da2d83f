"""A part of the load in a process of its own, so that one part does not wait for another."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from toxmesh.bench.scenarios.prompt import SHORT_NS, USUAL_NS, take_turns

READY_S = 90.0  # to prepare; 20,000 relay connections to the reference take ten seconds
POLITE = 10  # nice value of a flood: those who take the time of answers go first

T = TypeVar("T")


class BesideError(Exception):
    """A part of the load ended without a result; its own words are on stderr."""


class Gate:
    """How a part of the load hears when to begin and when to end."""

    def __init__(self, ready: Event, begin: Event, end: Event) -> None:
        self._ready = ready
        self._begin = begin
        self._end = end

    def wait(self) -> None:
        """Says that everything is prepared, and waits for the beginning."""
        self._ready.set()
        self._begin.wait()

    def over(self) -> bool:
        """Tells whether it is time to end."""
        return self._end.is_set()


class Beside(Generic[T]):
    """Runs `work(gate)` in a forked process; its return value is the result.

    One that is `nice` takes what time is left; the others take times, and so get theirs at once.
    """

    def __init__(self, work: Callable[[Gate], T], nice: int = 0) -> None:
        fork = multiprocessing.get_context("fork")
        self._ready, self._begin, self._end = fork.Event(), fork.Event(), fork.Event()
        self._results, theirs = fork.Pipe(duplex=False)
        gate = Gate(self._ready, self._begin, self._end)
        self._process = fork.Process(target=_run, args=(work, gate, theirs, nice), daemon=True)
        self._theirs: Connection[Any, Any] = theirs

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # so that its death is the end of our half
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()
        self._results.close()

    def ready(self) -> Self:
        """Waits until it has prepared everything."""
        left = READY_S
        while not self._ready.wait(0.25):
            left -= 0.25
            if left <= 0 or not self._process.is_alive():
                raise BesideError("a part of the load could not prepare itself")
        return self

    def go(self) -> None:
        """Lets it begin."""
        self._begin.set()

    def end(self) -> None:
        """Asks it to end and give its result."""
        self._end.set()

    def result(self, timeout: float = 60.0) -> T:
        """Waits for what it found."""
        if not self._results.poll(timeout):
            raise BesideError(f"a part of the load gave no result within {timeout:g} s")
        try:
            found: T = self._results.recv()
        except EOFError:
            raise BesideError("a part of the load died") from None
        return found


def _run(
    work: Callable[[Gate], object], gate: Gate, results: "Connection[Any, Any]", nice: int
) -> None:
    os.nice(nice)
    take_turns(USUAL_NS if nice else SHORT_NS)
    results.send(work(gate))
    results.close()
