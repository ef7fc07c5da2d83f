"""Commands that look again and again: their interval, their count, and how they end."""

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def every(command: Command) -> Command:
    """Adds `-i SECONDS` and `-n COUNT`; the command gets `interval` and `count` (0: for ever)."""
    interval = click.option(
        "-i", "--interval", type=click.FloatRange(0.1, 3600.0), default=1.0, show_default=True,
        metavar="SECONDS", help="Time between two looks; heartbeats come once a second.",
    )  # fmt: skip
    count = click.option(
        "-n", "--count", type=click.IntRange(0), default=0, metavar="COUNT",
        help="How often to look [0: until Ctrl-C].",
    )  # fmt: skip
    return interval(count(command))


def turns(
    interval: float,
    count: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[int]:
    """Yields the numbers of turns, evenly in time; a turn that lasts too long skips none."""
    begin = clock()
    turn = 0
    while True:
        yield turn
        turn += 1
        if turn == count:
            return
        sleep(max(0.0, begin + turn * interval - clock()))


def until_stopped(command: Callable[..., int]) -> Callable[..., int]:
    """Makes Ctrl-C the normal end of a command that has no other."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            return 0

    return run
