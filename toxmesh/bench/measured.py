"""One measurement: what a load gave, and what it cost the node and the load itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from toxmesh.bench.target import Target
from toxmesh.bench.traffic import Result

BUSY = 0.95  # share of its core from which on the load may be what limits


@dataclass
class Measured:
    """One load, run once against one node."""

    node: str
    load: str
    keys: int | None  # None: the number of keys makes no difference
    result: Result
    cpu_us: float | None  # of all processes of the node, for one answer; None if not to be seen
    note: str = ""
    rss: dict[str, int] = field(default_factory=dict)
    cpu_by: dict[str, float] = field(default_factory=dict)  # the same by process
    figures: dict[str, float] = field(default_factory=dict)  # what this load alone has
    switches: int | None = None  # how often a process of the node got a core

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.result.lost + self.result.unanswered

    @property
    def own_us(self) -> float:
        """CPU microseconds that an answer cost the load."""
        return 1e6 * self.result.own_cpu / max(self.result.answers, 1)

    @property
    def busy(self) -> float:
        """The part of its core that the load took."""
        return self.result.own_cpu / self.result.seconds if self.result.seconds else 0.0

    @property
    def switches_per_s(self) -> float | None:
        """How often a second a process of the node got a core; None if that cannot be seen."""
        if self.switches is None or not self.result.seconds:
            return None
        return self.switches / self.result.seconds


def measure(
    node: Target, load: str, keys: int | None, run: Callable[[], Result], note: str = ""
) -> Measured:
    """Runs a load and divides the CPU time of the node's processes by its answers."""
    before = node.weigh()
    result = run()
    after = node.weigh()
    each = 1e6 / max(result.answers, 1)
    by = {name: each * (cpu - before.cpu.get(name, 0.0)) for name, cpu in after.cpu.items()}
    return Measured(
        node.name, load, keys, result, sum(by.values()) if by else None, note, dict(after.rss), by,
        switches=after.switches - before.switches if by else None,
    )  # fmt: skip


def figures_of_frames(result: Result, size: int, under_way: int, cpu_us: float | None) -> Mapping[
    str, float
]:  # fmt: skip
    """Returns what relayed frames are judged by: Mbit/s, CPU seconds a GB, and a bound for p99.

    With `under_way` frames that are always on their way, a relay that is fair to each needs that
    many over its frames a second for one: p99 may be three times that.
    """
    rate = result.per_second
    figures = {"mbit_per_s": rate * size * 8e-6}
    if rate:
        figures["p99_bound_ms"] = 3e3 * under_way / rate
    if cpu_us is not None:
        figures["cpu_s_per_gb"] = cpu_us * 1e3 / size
    return figures
