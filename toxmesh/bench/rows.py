"""One row of the table: a load that was measured once or several times at one node.

The same load gives other figures from one run to the next, so a row's figure is the median of its
repeats. All repeats stay, for the spread and for the JSON file.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Any

from toxmesh.bench.measured import BUSY, Measured

Spread = tuple[float, float]  # lowest, highest


@dataclass(frozen=True, slots=True)
class Row:
    """A load at one node; `repeats` are its measurements in the order they were made, never none.

    Rates, times and costs are medians, counts are sums.
    """

    repeats: tuple[Measured, ...]

    @property
    def node(self) -> str:
        """The node's name."""
        return self.repeats[0].node

    @property
    def load(self) -> str:
        """The load's name."""
        return self.repeats[0].load

    @property
    def keys(self) -> int | None:
        """Client keys; None where their number makes no difference."""
        return self.repeats[0].keys

    @property
    def seconds(self) -> float:
        """How long all repeats took."""
        return sum(each.result.seconds for each in self.repeats)

    @property
    def sent(self) -> int:
        """Requests of all repeats."""
        return sum(each.result.sent for each in self.repeats)

    @property
    def answers(self) -> int:
        """Answers of all repeats."""
        return sum(each.result.answers for each in self.repeats)

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return sum(each.lost for each in self.repeats)

    @property
    def wrong(self) -> int:
        """Answers that were opened and did not stand it."""
        return sum(each.result.wrong for each in self.repeats)

    @property
    def checked(self) -> int:
        """Answers that were opened."""
        return sum(len(each.result.latencies) for each in self.repeats)

    @property
    def answered(self) -> bool:
        """Whether each repeat had answers; the medians of a row that is not mean nothing."""
        return all(each.result.answers for each in self.repeats)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return median(each.result.per_second for each in self.repeats)

    def quantile(self, share: float) -> float | None:
        """Returns the latency in seconds below which `share` lay; None if nothing was opened."""
        return _median(
            each.result.quantile(share) for each in self.repeats if each.result.latencies
        )

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds of the node for one answer; None if they could not be seen."""
        return _median(self._costs)

    @property
    def cpu_spread(self) -> Spread | None:
        """Lowest and highest `cpu_us` of the repeats; None without two of them."""
        return spread(self._costs)

    @property
    def _costs(self) -> list[float]:
        return [each.cpu_us for each in self.repeats if each.cpu_us and each.result.answers]

    @property
    def own_us(self) -> float:
        """CPU microseconds that an answer cost the load."""
        return _median(each.own_us for each in self.repeats if each.result.answers) or 0.0

    @property
    def switches_per_s(self) -> float | None:
        """How often a second a process of the node got a core; None if that cannot be seen."""
        return _median(each.switches_per_s for each in self.repeats)

    @property
    def bounded_by_load(self) -> bool:
        """Tells whether the load had no time left, so that the node might have done more."""
        return median(each.busy for each in self.repeats) > BUSY

    @property
    def cpu_by(self) -> dict[str, float]:
        """`cpu_us` by process."""
        return _medians(each.cpu_by for each in self.repeats)

    @property
    def figures(self) -> dict[str, float]:
        """What this load alone has."""
        return _medians(each.figures for each in self.repeats)

    @property
    def rss(self) -> dict[str, int]:
        """Bytes by process, at the end."""
        return self.repeats[-1].rss

    @property
    def note(self) -> str:
        """What is to be said, each thing once."""
        notes = dict.fromkeys(each.note for each in self.repeats if each.note)
        if self.answers and not self.answered:
            failed = sum(not each.result.answers for each in self.repeats)
            notes[f"{failed} of {len(self.repeats)} repeats had no answers"] = None
        return "; ".join(notes)

    def plain(self) -> dict[str, Any]:
        """Returns the row for JSON; docs/bench.md says what is what."""
        cpu = self.cpu_us
        switches = self.switches_per_s
        return {
            "node": self.node,
            "load": self.load,
            "keys": self.keys,
            "seconds": round(self.seconds, 3),
            "sent": self.sent,
            "answers": self.answers,
            "lost": self.lost,
            "wrong": self.wrong,
            "checked": self.checked,
            "answers_per_s": round(self.per_second, 1),
            "p50_ms": _ms(self.quantile(0.5)),
            "p99_ms": _ms(self.quantile(0.99)),
            "cpu_us": None if cpu is None else round(cpu, 2),
            "cpu_us_by_process": {name: round(each, 2) for name, each in self.cpu_by.items()},
            "switches_per_s": None if switches is None else round(switches),
            "load_cpu_us": round(self.own_us, 2),
            "bounded_by_load": self.bounded_by_load,
            "rss": self.rss,
            "figures": {name: round(value, 3) for name, value in self.figures.items()},
            "note": self.note,
        }

    def plain_with_repeats(self) -> dict[str, Any]:
        """Returns the row for JSON, and below `repeats` each measurement in the same form."""
        return self.plain() | {"repeats": [Row((each,)).plain() for each in self.repeats]}


def spread(values: Sequence[float]) -> Spread | None:
    """Returns the lowest and the highest of two values or more."""
    return (min(values), max(values)) if len(values) > 1 else None


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return median(found) if found else None


def _medians(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: median(values) for name, values in found.items()}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


Once = Callable[[], Measured]  # one measurement of something that is prepared


def alternate(
    ways: Sequence[Once], repeats: int, over: Callable[[], bool] = lambda: False
) -> list[Row]:
    """Measures each way in turn, `repeats` times round; fewer, but each once, when it is `over`.

    What changes on a machine within seconds so meets all nodes alike.
    """
    found = [[way()] for way in ways]
    turns = cycle(zip(ways, found, strict=True))
    for way, row in islice(turns, len(ways) * (repeats - 1)):
        if over():
            break
        row.append(way())
    return [Row(tuple(row)) for row in found]
