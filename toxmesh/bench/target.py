"""The node under load: where it is, and what its processes have used up."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from core.endpoint import Endpoint

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Weight:
    """What the processes of a node have used up so far."""

    cpu: dict[str, float]  # seconds by process name, with those of children that ended
    rss: dict[str, int]  # bytes by process name

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


def cpu_seconds(process: psutil.Process) -> float:
    """Returns the CPU time of all threads of a process and of its children that ended.

    /proc/PID/schedstat counts nanoseconds where /proc/PID/stat counts hundredths of a second.
    """
    times = process.cpu_times()
    ended = float(times.children_user + times.children_system)
    try:
        threads = os.listdir(_PROC / str(process.pid) / "task")
        spent = sum(
            int((_PROC / str(process.pid) / "task" / thread / "schedstat").read_bytes().split()[0])
            for thread in threads
        )
    except (OSError, IndexError, ValueError):
        spent = 0
    return ended + (spent / 1e9 if spent else float(times.user + times.system))


def weigh(processes: Iterable[psutil.Process]) -> Weight:
    """Returns what processes have used up; those that are gone are left out."""
    cpu: dict[str, float] = {}
    rss: dict[str, int] = {}
    for process in processes:
        try:
            used, size = cpu_seconds(process), process.memory_info().rss
            name = f"{process.name()}-{process.pid}"
        except psutil.NoSuchProcess:
            continue
        cpu[name], rss[name] = used, size
    return Weight(cpu, rss)


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
