"""A run as a JSON file, and this run beside an earlier one. docs/bench.md has the schema."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxmesh.bench.rows import Row
from toxmesh.bench.suite import RATE_LOAD
from toxmesh.bench.table import markdown, number

FORMAT = "toxmesh bench"
VERSION = 1
MAX_FILE = 16 << 20  # bytes of a file to compare with; a thousand rows take one

PlainRow = dict[str, Any]  # as JSON has it


class ReportError(Exception):
    """An earlier run cannot be read; the text says why."""


def machine() -> dict[str, Any]:
    """Returns what figures depend on."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def document(rows: Sequence[Row], about: dict[str, Any], cut_short: bool) -> dict[str, Any]:
    """Returns the whole file; `about` is told as it is."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "made": round(time.time(), 3),
        "machine": machine(),
        "about": about,
        "cut_short": cut_short,
        "rows": [row.plain_with_repeats() for row in rows],
    }


def text(content: dict[str, Any]) -> str:
    """Returns the file's text."""
    return json.dumps(content, indent=1) + "\n"


def rows_of(path: Path) -> list[PlainRow]:
    """Reads the rows of an earlier run. ReportError says what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from (
            error
        )
    if len(data) > MAX_FILE:
        raise ReportError(f"{path} is greater than {MAX_FILE >> 20} MiB: it is no such file")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ReportError(f"{path} is no JSON: give a file that --json made") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ReportError(f"{path} is no file of {FORMAT}: give one that --json made")
    if content.get("version") != VERSION:
        raise ReportError(
            f"{path} has version {content.get('version')!r}, this is {VERSION}: make it again"
        )
    rows = content.get("rows")
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise ReportError(f"{path} has rows that are none: was it changed?")
    return rows


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("load"), str):
        return False
    keys = row.get("keys")
    return (keys is None or isinstance(keys, int)) and all(
        row.get(name) is None or isinstance(row.get(name), int | float) for name in _COMPARED
    )


_COMPARED = ("answers_per_s", "cpu_us", "p50_ms")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one row, then and now."""

    load: str
    keys: int | None
    figure: str
    then: float
    now: float
    tolerance: float  # share by which it may be worse

    @property
    def ratio(self) -> float:
        """Now as a multiple of then."""
        return self.now / self.then

    @property
    def worse(self) -> bool:
        """Tells whether it is worse by more than the tolerance."""
        if self.figure == "answers_per_s":
            return self.ratio < 1 / (1 + self.tolerance)
        return self.ratio > 1 + self.tolerance

    @property
    def verdict(self) -> str:
        """Returns `worse`, `better` (by more than the tolerance) or `same`."""
        if self.worse:
            return "WORSE"
        more = self.ratio > 1 + self.tolerance
        less = self.ratio < 1 / (1 + self.tolerance)
        return "better" if more or less else "same"


def compare(
    rows: Sequence[PlainRow], earlier: Sequence[PlainRow], tolerance: float
) -> list[Compared]:
    """Puts the figures of both runs side by side: where both have the same load and keys.

    What counts is CPU per answer, where both runs could see it, and answers a second; and p50 of
    the load at a fixed rate, whose answers a second say nothing.
    """
    then = {(row["load"], row["keys"]): row for row in earlier}
    found = []
    for row in rows:
        other = then.get((row["load"], row["keys"]))
        if other is None:
            continue
        paced = row["load"] == RATE_LOAD
        for figure in ("cpu_us", "p50_ms" if paced else "answers_per_s"):
            before, after = other.get(figure), row.get(figure)
            if before and after is not None:
                found.append(
                    Compared(row["load"], row["keys"], figure, before, after, tolerance)
                )
    return found


def render(compared: Sequence[Compared]) -> str:
    """Returns the comparison as a table."""
    names = {"cpu_us": "CPU us", "answers_per_s": "answers/s", "p50_ms": "p50 ms"}
    head = ("load", "keys", "figure", "then", "now", "ratio", "verdict")
    lines = [
        (
            row.load, number(row.keys), names[row.figure], f"{row.then:,.2f}", f"{row.now:,.2f}",
            f"{row.ratio:.2f}", row.verdict,
        )
        for row in compared
    ]  # fmt: skip
    return markdown(head, lines, frozenset({"keys", "then", "now", "ratio"}))
