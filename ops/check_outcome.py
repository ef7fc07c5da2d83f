"""What a check found: verdict, round trip, and a sentence; and all of it as a monitoring plugin."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

GOOD, SLOW, FAILED, SILENT = "good", "slow", "failed", "silent"

# monitoring-plugins.org/doc/guidelines.html: exit codes, and words of the line
OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check; `silent` is a failure in which the node was not heard at all."""

    check: str
    verdict: str
    text: str
    rtt_s: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    unreached: bool = False
    """Not even a ping with this key is answered: no other check over UDP can be good."""

    def plain(self) -> dict[str, Any]:
        """Returns what JSON takes."""
        rtt = None if self.rtt_s is None else round(self.rtt_s * 1000, 3)
        return {
            "check": self.check,
            "verdict": self.verdict,
            "rtt_ms": rtt,
            "text": self.text,
            **self.details,
        }

    def line(self) -> str:
        """Returns what a person sees."""
        return f"{self.check:<9} {self.verdict:<7} {milliseconds(self.rtt_s):>10}  {self.text}"


def milliseconds(seconds: float | None) -> str:
    """Returns `0.31 ms`, or `-`."""
    return "-" if seconds is None else f"{seconds * 1000:.2f} ms"


def repeat(make: Callable[[], Outcome], count: int) -> Outcome:
    """Makes a check `count` times, and one outcome of them: the middle round trip, the worst text.

    A node that is not reached is not asked again.
    """
    found: list[Outcome] = []
    while len(found) < count and not (found and found[-1].unreached):
        found.append(make())
    good = [row for row in found if row.verdict == GOOD]
    bad = [row for row in found if row.verdict != GOOD]
    times = sorted(row.rtt_s for row in good if row.rtt_s is not None)
    told = bad[-1] if bad else good[-1]
    if count == 1 or told.unreached:
        return told
    spread = f", {milliseconds(times[0])} to {milliseconds(times[-1])}" if times else ""
    return Outcome(
        told.check,
        told.verdict,
        f"{len(good)} of {len(found)} good{spread}; {told.text}",
        statistics.median(times) if times else None,
        {**told.details, "good": len(good), "count": len(found)},
    )


class Limits(NamedTuple):
    """How long a round trip may be, in milliseconds; None: as long as it likes."""

    warning_ms: float | None = None
    critical_ms: float | None = None


def judged(outcome: Outcome, limits: Limits) -> Outcome:
    """Makes a good outcome slow, or failed, if its round trip is over a limit."""
    if outcome.verdict != GOOD or outcome.rtt_s is None:
        return outcome
    took = outcome.rtt_s * 1000
    for verdict, limit in ((FAILED, limits.critical_ms), (SLOW, limits.warning_ms)):
        if limit is not None and took > limit:
            text = f"slower than {limit:g} ms; {outcome.text}"
            return replace(outcome, verdict=verdict, text=text)
    return outcome


def plugin(outcomes: Sequence[Outcome], limits: Limits) -> tuple[int, str]:
    """Returns exit code and line of a monitoring plugin; each check has a round trip in the data.

    The worst check is told first; `|` stands before the data, so no text may have it.
    """
    order = (GOOD, SLOW, FAILED, SILENT)
    rows = sorted(outcomes, key=lambda row: order.index(row.verdict), reverse=True)
    code = {GOOD: OK, SLOW: WARNING}.get(rows[0].verdict, CRITICAL)
    text = "; ".join(f"{row.check} {row.verdict}: {row.text}" for row in rows)
    warning, critical = ("" if one is None else f"{one:g}" for one in limits)
    data = " ".join(
        f"{row.check}={'U' if row.rtt_s is None else f'{round(row.rtt_s * 1000, 3)}ms'}"
        f";{warning};{critical};0"
        for row in outcomes
    )
    return code, f"TOX {_WORDS[code]} - {text.replace('|', '?')} | {data}"


def plugin_unknown(text: str) -> str:
    """Returns the line of a plugin that could not even ask."""
    return f"TOX {_WORDS[UNKNOWN]} - {text.replace('|', '?')}"
