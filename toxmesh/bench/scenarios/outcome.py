"""What a scenario found: figures, the bars they are held to, and remarks."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from toxmesh.bench.clients import Clients
from toxmesh.bench.target import Target


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and the bound that it has to keep."""

    figure: str
    value: float
    bound: float
    at_least: bool = False  # whether the bound is a lower one

    @property
    def met(self) -> bool:
        """Whether the figure keeps the bound; one that is no number never does."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "MISSED"
        return f"{self.figure}: {self.value:,.4g}, {word} {self.bound:,g}: {verdict}"


@dataclass(slots=True)
class Outcome:
    """What one scenario found at one node."""

    name: str
    node: str
    figures: dict[str, float] = field(default_factory=dict)
    in_tables: dict[str, float] = field(default_factory=dict)  # figures that the notes show
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rss: dict[str, int] = field(default_factory=dict)  # bytes by process, at the end

    def at_most(self, figure: str, value: float, bound: float) -> None:
        """Notes a figure that must not be above `bound`."""
        self.figures[figure] = value
        self.bars.append(Bar(figure, value, bound))

    def at_least(self, figure: str, value: float, bound: float) -> None:
        """Notes a figure that must not be below `bound`."""
        self.figures[figure] = value
        self.bars.append(Bar(figure, value, bound, at_least=True))

    @property
    def missed(self) -> list[Bar]:
        """The bars that were not met."""
        return [bar for bar in self.bars if not bar.met]

    def plain(self) -> dict[str, object]:
        """Returns everything for JSON."""
        return {
            "scenario": self.name,
            "node": self.node,
            "figures": {
                name: round(value, 4) for name, value in (self.figures | self.in_tables).items()
            },
            "bars": {
                bar.figure: {
                    "value": round(bar.value, 4),
                    "at_least" if bar.at_least else "at_most": bar.bound,
                    "met": bar.met,
                }
                for bar in self.bars
            },
            "notes": self.notes,
            "rss": self.rss,
        }

    def lines(self) -> list[str]:
        """Returns what a person reads: the bars, then the other figures, then the remarks."""
        held = {bar.figure for bar in self.bars}
        result = [f"{self.name}, {self.node}:", *(f"  {bar}" for bar in self.bars)]
        result += [
            f"  {name}: {value:,.4g}" for name, value in self.figures.items() if name not in held
        ]
        result += [f"  {note}" for note in self.notes]
        if self.rss:
            sizes = (f"{name} {size / 2**20:.1f}" for name, size in sorted(self.rss.items()))
            result.append(f"  RSS, MiB: {', '.join(sizes)}")
        return result


def no_drops(node: Target) -> Mapping[str, int]:
    """Stands for the counters of a node that has none to ask for."""
    return {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where scenarios are played: how to start a node, and what the load may use.

    `start(workers, pinned)` makes a fresh node that runs inside its context; `workers` is
    `dht=1,onion=1,relay=1` or None for the usual ones, `pinned` ties it to the node's core.
    """

    clients: Clients
    start: Callable[[str | None, bool], AbstractContextManager[Target]]
    short: bool = False  # seconds and small counts, for the test suite
    sources: int = 1000  # addresses of the load, each in a /24 of its own
    drops: Callable[[Target], Mapping[str, int]] = no_drops

    def dropped(self, node: Target, before: Mapping[str, int]) -> str:
        """Says what the node counted as dropped since `before`."""
        grown = {
            reason: count - before.get(reason, 0)
            for reason, count in self.drops(node).items()
            if count > before.get(reason, 0)
        }
        return "dropped: " + (
            ", ".join(f"{reason} {count:,}" for reason, count in sorted(grown.items()))
            or "nothing that was counted"
        )


def quantile(values: list[float], share: float) -> float:
    """Returns the value below which `share` of all lie; NaN (no bar is met) without any."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
