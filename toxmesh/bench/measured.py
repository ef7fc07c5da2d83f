"""One row of a table: what a load gave, and what it cost the node and the load itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from toxmesh.bench.target import Target
from toxmesh.bench.traffic import Result

BUSY = 0.95  # share of its core from which on the load may be what limits


@dataclass
class Measured:
    """One row of the table."""

    node: str
    load: str
    keys: int | None  # None: the number of keys makes no difference
    result: Result
    cpu_us: float | None  # of all processes of the node, for one answer; None if not to be seen
    note: str = ""
    rss: dict[str, int] = field(default_factory=dict)
    cpu_by: dict[str, float] = field(default_factory=dict)  # the same by process
    figures: dict[str, float] = field(default_factory=dict)  # what this load alone has

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.result.lost + self.result.unanswered

    @property
    def own_us(self) -> float:
        """CPU microseconds that an answer cost the load."""
        return 1e6 * self.result.own_cpu / max(self.result.answers, 1)

    @property
    def bounded_by_load(self) -> bool:
        """Tells whether the load had no time left, so that the node might have done more."""
        return self.result.own_cpu > BUSY * self.result.seconds > 0

    def plain(self) -> dict[str, Any]:
        """Returns the row for JSON; docs/bench.md says what is what."""
        result = self.result
        return {
            "node": self.node,
            "load": self.load,
            "keys": self.keys,
            "seconds": round(result.seconds, 3),
            "sent": result.sent,
            "answers": result.answers,
            "lost": self.lost,
            "wrong": result.wrong,
            "checked": len(result.latencies),
            "answers_per_s": round(result.per_second, 1),
            "p50_ms": _ms(result, 0.5),
            "p99_ms": _ms(result, 0.99),
            "cpu_us": None if self.cpu_us is None else round(self.cpu_us, 2),
            "cpu_us_by_process": {name: round(cpu, 2) for name, cpu in self.cpu_by.items()},
            "load_cpu_us": round(self.own_us, 2),
            "bounded_by_load": self.bounded_by_load,
            "rss": self.rss,
            "figures": {name: round(value, 3) for name, value in self.figures.items()},
            "note": self.note,
        }


def _ms(result: Result, share: float) -> float | None:
    return round(1000 * result.quantile(share), 3) if result.latencies else None


def measure(
    node: Target, load: str, keys: int | None, run: Callable[[], Result], note: str = ""
) -> Measured:
    """Runs a load and divides the CPU time of the node's processes by its answers."""
    before = node.weigh()
    result = run()
    after = node.weigh()
    each = 1e6 / max(result.answers, 1)
    by = {name: each * (cpu - before.cpu.get(name, 0.0)) for name, cpu in after.cpu.items()}
    total = sum(by.values()) if by else None
    return Measured(node.name, load, keys, result, total, note, dict(after.rss), by)


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
