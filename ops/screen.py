"""How answers look to a person: columns, units, and colour where the screen has it."""

import os
import sys
from collections.abc import Sequence


def has_colour() -> bool:
    """Tells whether stdout is a screen that wants colour (https://no-color.org)."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def plain(value: object) -> str:
    """Returns a value as text that cannot move the cursor; `-` stands for nothing."""
    if value is None:
        return "-"
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def number(value: object) -> float:
    """Returns a number of the node's answer, or 0 for what is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def count(value: object) -> str:
    """Returns `12,345`."""
    return f"{number(value):,.0f}"


def rate(value: object) -> str:
    """Returns how many a second: `12,345`, and small ones as `0.4`."""
    found = number(value)
    return f"{found:.1f}" if 0 < found < 10 else f"{found:,.0f}"


def size(value: object) -> str:
    """Returns bytes as `17.3 MiB`."""
    return f"{number(value) / (1 << 20):.1f} MiB"


def short(value: object) -> str:
    """Returns bytes as `17.3M`; `-` where nothing is known."""
    if value is None:
        return "-"
    found = number(value)
    for unit in ("", "K", "M", "G"):
        if found < 1024:
            return f"{found:.0f}" if not unit else f"{found:.1f}{unit}"
        found /= 1024
    return f"{found:.1f}T"


def span(value: object) -> str:
    """Returns seconds as `12 s`, `3 min 5 s`, `2 h 4 min` or `5 d 3 h`."""
    seconds = max(0, int(number(value)))
    for large, small, names in ((86400, 3600, "d h"), (3600, 60, "h min"), (60, 1, "min s")):
        if seconds >= large:
            first, second = names.split()
            return f"{seconds // large} {first} {seconds % large // small} {second}"
    return f"{seconds} s"


def table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lays rows out in columns: the first `left` to the left, the others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
