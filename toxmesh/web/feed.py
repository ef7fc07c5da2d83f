"""What the live page is told once a second: rates, load, relay clients, drops, the close list."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ops.kinds import NAMES
from toxmesh.rates import STALE_S, counts

MAX_DROPS = 24  # reasons that are shown: those that count now, then those that have counted most
MAX_KINDS = 40
MAX_WORKERS = 256

Beats = Mapping[str, Mapping[str, Any]]
"""The last heartbeat by name of the process; empty if there was none yet."""


class _Process:
    """The last two different heartbeats of one process, as rates."""

    def __init__(self, beat: Mapping[str, Any]) -> None:
        self.beat = beat
        self.rates: Counter[tuple[str, str]] = Counter()

    @property
    def at(self) -> float:
        """When the last heartbeat was made."""
        at: float = self.beat["at"]
        return at

    def take(self, beat: Mapping[str, Any]) -> None:
        """Makes rates of what was counted since the last heartbeat."""
        if beat is self.beat:
            return
        passed = beat["at"] - self.at
        before, self.beat = counts(self.beat), beat
        self.rates.clear()
        if passed > 0:
            for name, count in counts(beat).items():
                if count > before[name]:  # less: it is another process now
                    self.rates[name] = (count - before[name]) / passed


class Feed:
    """Makes the updates; it keeps the last heartbeat of each process while somebody follows."""

    def __init__(self) -> None:
        self._processes: dict[str, _Process] = {}

    def event(self, report: Mapping[str, Any], beats: Beats, now: float) -> bytes:
        """Returns one update as JSON."""
        rates = self._rates(beats, now)
        node = report["node"]
        rows = [report["broker"], *report["workers"]][:MAX_WORKERS]
        tcp = report["modules"].get("broker", {})
        table = report["modules"].get("dht.0", {}).get("table", {})
        update = {
            "node": {
                name: node[name]
                for name in ("public_key", "version", "state", "uptime_s", "addresses")
            },
            "kinds": self._kinds(report["totals"]["kinds"], rates),
            "workers": [
                {
                    name: row[name]
                    for name in (
                        "name",
                        "state",
                        "cpu_percent",
                        "packets_per_s",
                        "queue",
                        "queue_bytes",
                        "rss",
                        "restarts",
                    )
                }
                for row in rows
            ],
            "relay": {
                "connections": tcp.get("connections", {}),
                "full": tcp.get("full", 0),
                "accepting": tcp.get("accepting", False),
                "bytes_in": round(rates["relay", "bytes_in"]),
                "bytes_out": round(rates["relay", "bytes_out"]),
                "on": bool(tcp),
            },
            "drops": self._drops(report["totals"]["drops"], rates),
            "table": {
                name: table[name] for name in ("nodes", "places", "buckets") if name in table
            },
        }
        return orjson.dumps(update)

    def _rates(self, beats: Beats, now: float) -> Counter[tuple[str, str]]:
        """Returns what is counted in a second, of all processes together."""
        for name, beat in beats.items():
            known = self._processes.get(name)
            if not beat:
                self._processes.pop(name, None)
            elif known is None or now - known.at > STALE_S:
                self._processes[name] = _Process(beat)
            else:
                known.take(beat)
        total: Counter[tuple[str, str]] = Counter()
        for row in self._processes.values():
            total.update(row.rates)
        return total

    @staticmethod
    def _kinds(
        totals: Mapping[str, Mapping[str, int]], rates: Counter[tuple[str, str]]
    ) -> list[dict[str, Any]]:
        known = [kind for kind in totals if int(kind, 16) in NAMES]
        return [
            {
                "kind": kind,
                "name": NAMES[int(kind, 16)] if kind != "other" else "no packet of Tox",
                "received": round(rates["received", kind], 1),
                "sent": round(rates["sent", kind], 1),
            }
            for kind in [*known, "other"][:MAX_KINDS]
        ]

    @staticmethod
    def _drops(
        totals: Mapping[str, int], rates: Counter[tuple[str, str]]
    ) -> list[tuple[str, int, float]]:
        rows: Iterable[tuple[str, int, float]] = (
            (reason, count, round(rates["drops", reason], 1)) for reason, count in totals.items()
        )
        return sorted(rows, key=lambda row: (-row[2], -row[1], row[0]))[:MAX_DROPS]
