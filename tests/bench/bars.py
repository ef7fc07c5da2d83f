"""The bars of the table: what our node has to reach, alone or beside tox-bootstrapd."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

from tests.bench.nodes import Bootstrapd, Toxmesh
from toxmesh.bench.plan import FRAMES, HANDSHAKES
from toxmesh.bench.rows import Row
from toxmesh.bench.scenarios import Bar
from toxmesh.bench.suite import BACK_LOADS, DHT_LOADS, FRESH_LOAD, RATE_LOAD, ROUTE_LOAD
from toxmesh.bench.table import counterpart, number, share

MANY, VERY_MANY = 1000, 100_000  # client keys
REFERENCE = Bootstrapd.name
BIG_FRAMES = tuple(name for name, load in FRAMES.items() if load.size == 1400)
SMALL_FRAMES = tuple(name for name, load in FRAMES.items() if load.size == 100)

Rows = Sequence[Row]


@dataclass(frozen=True, slots=True)
class Rule:
    """A bound for one figure of some loads; `value` gives None where it cannot be judged."""

    loads: tuple[str, ...]
    figure: str
    bound: float
    value: Callable[[Row, Rows], float | None]
    at_least: bool = False
    keys: range = range(0, 1 << 31)  # numbers of client keys that it holds for

    def holds_for(self, row: Row) -> bool:
        """Tells whether a row is to be judged by this."""
        return row.load in self.loads and (row.keys is None or row.keys in self.keys)


def _share(row: Row, rows: Rows) -> float | None:
    return share(row, rows, REFERENCE)


def _speed(row: Row, rows: Rows) -> float | None:
    """Returns how many times the reference's answers a second that is."""
    other = counterpart(row, rows, REFERENCE)
    if other is None or not other.answered:
        return None
    return row.per_second / other.per_second


def _quantile(share_of_all: float) -> Callable[[Row, Rows], float | None]:
    def value(row: Row, rows: Rows) -> float:
        seconds = row.quantile(share_of_all)
        return nan if seconds is None else 1000 * seconds

    return value


def _fair(row: Row, rows: Rows) -> float:
    """Returns p99 as a multiple of the time that the frames under way take."""
    bound, seconds = row.figures.get("p99_bound_ms"), row.quantile(0.99)
    return 3e3 * seconds / bound if bound and seconds is not None else nan


def _cpu(row: Row, rows: Rows) -> float | None:
    return row.cpu_us


def _rate(row: Row, rows: Rows) -> float:
    return row.per_second


def _beside(row: Row, rows: Rows) -> float:
    return row.figures.get("beside_us", nan)


_MANY = range(MANY, 1 << 31)
_CPU_SHARE = f"CPU per answer, share of {REFERENCE}'s"
_FRAME_SHARE = f"CPU per GB, share of {REFERENCE}'s"

RULES = (
    Rule(DHT_LOADS, _CPU_SHARE, 1 / 4, _share, keys=range(MANY, VERY_MANY)),
    Rule(DHT_LOADS, _CPU_SHARE, 1 / 5, _share, keys=range(VERY_MANY, 1 << 31)),
    Rule(
        ("onion 0x80", "onion 0x82", "announce search", "announce store"),
        _CPU_SHARE, 1 / 3, _share, keys=_MANY,
    ),
    Rule(("onion 0x81",), _CPU_SHARE, 1 / 2.5, _share, keys=_MANY),
    Rule(BACK_LOADS, _CPU_SHARE, 1 / 2.2, _share),
    Rule((ROUTE_LOAD,), _CPU_SHARE, 1.4, _share),
    Rule(DHT_LOADS, f"answers/s, times {REFERENCE}'s", 4, _speed, True, _MANY),
    Rule((RATE_LOAD,), "p50 ms", 0.3, _quantile(0.5)),
    Rule((RATE_LOAD,), "p99 ms", 2, _quantile(0.99)),
    Rule(BIG_FRAMES, f"Mbit/s, times {REFERENCE}'s", 2.5, _speed, True),
    Rule(BIG_FRAMES, _FRAME_SHARE, 0.45, _share),
    Rule(BIG_FRAMES, "p99, times frames in flight / frames a second", 3, _fair),
    Rule(SMALL_FRAMES, "CPU us", 10, _cpu),
    Rule((HANDSHAKES,), "handshakes/s", 5000, _rate, True),
    Rule((HANDSHAKES,), "CPU us", 140, _cpu),
    Rule((FRESH_LOAD,), "CPU us beside one scalar multiplication", 12, _beside),
)  # fmt: skip
"""Every bar of the table, once."""


def judge(rows: Rows) -> list[Bar]:
    """Returns all bars of our node's rows; those beside the reference only where it was measured.

    Judged are medians of the repeats. A load that our node did not answer, were it in one repeat
    alone, misses its bars.
    """
    found = []
    for row in rows:
        if row.node != Toxmesh.name:
            continue
        place = row.load if row.keys is None else f"{row.load}, {number(row.keys)} keys"
        for rule in RULES:
            if not rule.holds_for(row):
                continue
            value = rule.value(row, rows) if row.answered else nan
            if value is not None:
                found.append(Bar(f"{place}: {rule.figure}", value, rule.bound, rule.at_least))
    return found
