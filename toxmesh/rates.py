"""What each process counts in a second, made of its last two heartbeats."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ops.kinds import NAMES

STALE_S = 10.0  # what a process counted longer ago says nothing about now
_LEAST_S = 0.2  # between two heartbeats: the last words may come right behind one

Beat = Mapping[str, Any]
Rates = dict[tuple[str, str], float]
"""A second, by group and name."""


def counts(beat: Beat) -> Counter[tuple[str, str]]:
    """Returns all that a heartbeat counts, by group (received, sent, drops, relay, keys), name."""
    found: Counter[tuple[str, str]] = Counter()
    for group in ("received", "sent"):
        for kind, count in beat.get(group, ()):
            found[group, f"0x{kind:02x}" if kind in NAMES else "other"] += count
    for reason, count in beat.get("drops", {}).items():
        found["drops", reason] += count
    for name, count in beat.get("snapshot", {}).get("counts", {}).items():
        found["relay", name] += count
    for name in ("hits", "misses"):
        found["keys", name] += beat.get("keys", {}).get(name, 0)
    return found


def between(before: Beat, beat: Beat) -> Rates:
    """Returns what one process counted in a second; nothing without two heartbeats."""
    if not before or not beat or beat["at"] - before["at"] < _LEAST_S:
        return {}
    passed = beat["at"] - before["at"]
    old = counts(before)
    made: Rates = {}
    for name, count in counts(beat).items():
        if count > old[name]:  # less: it is another process now
            made[name] = (count - old[name]) / passed
    return made


def of_all(beats: Iterable[tuple[Beat, Beat]], now: float) -> Rates:
    """Returns what all processes counted in a second; `beats`: the last two of each."""
    total: Rates = {}
    for before, beat in beats:
        if beat and now - beat["at"] <= STALE_S:
            for name, rate in between(before, beat).items():
                total[name] = total.get(name, 0.0) + rate
    return total
