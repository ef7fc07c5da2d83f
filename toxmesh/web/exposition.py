"""Prometheus' text format, version 0.0.4: families of samples, with a bound on their number.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES = 2_000  # SECURITY.md S-38

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

Labels = Sequence[tuple[str, str]]
Sample = tuple[Labels, float]


def _number(value: float) -> str:
    """Returns a value as the format has it; whole numbers stay exact."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return repr(value)


class Exposition:
    """One answer to a scrape, as it grows."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._lines: list[str] = []
        self._names: set[str] = set()
        self.room = max_series
        """How many more samples there is room for."""

    def family(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        """Adds a family: `kind` is counter or gauge, `text` says what it counts.

        Samples beyond the room are left out: the caller has to bound them, this is the last bar.
        """
        rows = list(samples)[: self.room]
        if not rows:
            return
        self._head(name, kind, text)
        self._add(name, rows)

    def histogram(
        self,
        name: str,
        text: str,
        rows: Iterable[tuple[Labels, Mapping[str, int], int]],
    ) -> None:
        """Adds a histogram: labels, how many were at most each bound ("+Inf" is last), the sum."""
        samples: list[tuple[str, Sample]] = []
        for labels, buckets, total in rows:
            if len(buckets) + 2 + len(samples) > self.room:
                break
            samples += [
                ("_bucket", ((*labels, ("le", bound)), count)) for bound, count in buckets.items()
            ]
            samples.append(("_sum", (labels, total)))
            samples.append(("_count", (labels, buckets["+Inf"])))
        if samples:
            self._head(name, "histogram", text)
            for ending, sample in samples:
                self._add(name + ending, [sample])

    def _head(self, name: str, kind: str, text: str) -> None:
        if name in self._names:
            raise ValueError(f"the family {name} is there twice")
        self._names.add(name)
        self._lines.append(f"# HELP {name} {text}\n# TYPE {name} {kind}")

    def _add(self, name: str, rows: Sequence[Sample]) -> None:
        self.room -= len(rows)
        for labels, value in rows:
            if labels:
                inner = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels)
                self._lines.append(f"{name}{{{inner}}} {_number(value)}")
            else:
                self._lines.append(f"{name} {_number(value)}")

    def text(self) -> bytes:
        """Returns the whole answer."""
        return ("\n".join(self._lines) + "\n").encode()


class Bounded:
    """Which label values have a series of their own: the first that came, up to a bound.

    A series that is there stays, for a counter that vanishes into another looks like a restart.
    What comes later stands together under `other`.
    """

    OTHER = "other"

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, None] = {}

    def fold(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Returns the counts with all that is beyond the bound added up as `other`."""
        known = self._known
        result: dict[str, float] = {}
        rest: float = 0
        for name in sorted(counts.keys() - known.keys()):
            if len(known) >= self._most:
                break
            known[name] = None
        for name, count in counts.items():
            if name in known:
                result[name] = count
            else:
                rest += count
        if rest or len(known) >= self._most:
            result[self.OTHER] = result.get(self.OTHER, 0) + rest
        return result
