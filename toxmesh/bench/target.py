"""The node under load: where it is, and what its processes have used up."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

from core.endpoint import Endpoint

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Weight:
    """What the processes of a node have used up so far."""

    cpu: dict[str, float]  # seconds by process name, with those of children that ended
    rss: dict[str, int]  # bytes by process name
    switches: int = 0  # how often one of them got a core

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes together."""
        return sum(self.cpu.values())


NOTHING = Weight({}, {})


class Target(Protocol):
    """A node that takes load."""

    name: str

    @property
    def target(self) -> Endpoint:
        """Where its UDP socket is."""
        ...

    @property
    def relay(self) -> tuple[str, int] | None:
        """Where its relay listens; None if it has none, or none that is known."""
        ...

    def weigh(self) -> Weight:
        """Returns what its processes have used up; empty where they cannot be seen."""
        ...


def tree(pid: int) -> list[psutil.Process]:
    """Returns a process and all below it; empty if it is gone."""
    try:
        main = psutil.Process(pid)
        return [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Spent(NamedTuple):
    """What the threads of a process have had of the cores."""

    seconds: float  # of CPU time, with those of its children that ended
    turns: int  # how often a thread got a core; 0 where the system does not count that


def spent(process: psutil.Process) -> Spent:
    """Returns what all threads of a process have had so far.

    /proc/PID/schedstat counts nanoseconds where /proc/PID/stat counts hundredths of a second.
    """
    times = process.cpu_times()
    ended = float(times.children_user + times.children_system)
    nanoseconds = turns = 0
    try:
        tasks = _PROC / str(process.pid) / "task"
        for thread in os.listdir(tasks):
            # Documentation/scheduler/sched-stats.rst: time on a core, time waiting, timeslices
            on_core, _, slices = map(int, (tasks / thread / "schedstat").read_bytes().split())
            nanoseconds += on_core
            turns += slices
    except (OSError, ValueError):
        nanoseconds = 0
    usual = float(times.user + times.system)
    return Spent(ended + (nanoseconds / 1e9 if nanoseconds else usual), turns)


def weigh(
    processes: Iterable[psutil.Process],
    label: Callable[[psutil.Process], str] = lambda process: f"{process.name()}-{process.pid}",
) -> Weight:
    """Returns what processes have used up, each under its label; what is gone is left out."""
    cpu: dict[str, float] = {}
    rss: dict[str, int] = {}
    switches = 0
    for process in processes:
        try:
            used, size, name = spent(process), process.memory_info().rss, label(process)
        except psutil.NoSuchProcess:
            continue
        cpu[name] = cpu.get(name, 0.0) + used.seconds
        rss[name] = size
        switches += used.turns
    return Weight(cpu, rss, switches)


class KnownProcess:
    """A node at an address; with the id of its main process its CPU time and memory can be seen."""

    def __init__(
        self,
        name: str,
        target: Endpoint,
        relay: tuple[str, int] | None = None,
        pid: int | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.relay = relay
        self._pid = pid

    def weigh(self) -> Weight:
        """Returns what the process and those below it have used up, each named with its id."""
        return NOTHING if self._pid is None else weigh(tree(self._pid))
