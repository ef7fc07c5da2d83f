"""The table that a person reads: one line for each load and number of keys, all nodes beside."""

from collections.abc import Sequence

from toxmesh.bench.rows import Row, Spread, spread

_HEAD = (
    "load", "keys", "node", "answers/s", "loss", "p50 ms", "p99 ms", "CPU us", "share", "load us",
    "",
)  # fmt: skip
_RIGHT = frozenset({"keys", "answers/s", "loss", "p50 ms", "p99 ms", "CPU us", "share", "load us"})


def number(keys: int | None) -> str:
    """Returns a number of keys as it is printed."""
    return "-" if keys is None else f"{keys:,}"


def counterpart(row: Row, rows: Sequence[Row], against: str) -> Row | None:
    """Returns the same load of the node named `against`; None if there is none, or it is that."""
    for other in rows:
        if other.node == against != row.node and (other.load, other.keys) == (row.load, row.keys):
            return other
    return None


def share(row: Row, rows: Sequence[Row], against: str) -> float | None:
    """Returns the CPU per answer as a share of that of the node named `against`, if both exist.

    It is the median of the one divided by the median of the other.
    """
    other = counterpart(row, rows, against)
    if other is None or not (row.answered and other.answered and row.cpu_us and other.cpu_us):
        return None
    return row.cpu_us / other.cpu_us


def share_spread(row: Row, rows: Sequence[Row], against: str) -> Spread | None:
    """Returns the lowest and highest share of repeats that were made one after the other."""
    other = counterpart(row, rows, against)
    if other is None or share(row, rows, against) is None:
        return None
    pairs = zip(row.repeats, other.repeats, strict=False)
    return spread([ours.cpu_us / theirs.cpu_us for ours, theirs in pairs
                   if ours.cpu_us and theirs.cpu_us])  # fmt: skip


def note(row: Row) -> str:
    """Returns what is to be said about a row."""
    figures = row.figures
    parts = [row.note]
    if "scalar_us" in figures:
        parts.append(f"scalar multiplication {figures['scalar_us']:.1f} us")
    if "beside_us" in figures:
        parts.append(f"{figures['beside_us']:.1f} us beside it")
    if "mbit_per_s" in figures:
        parts.append(f"{figures['mbit_per_s']:,.0f} Mbit/s")
    if "cpu_s_per_gb" in figures:
        parts.append(f"{figures['cpu_s_per_gb']:.1f} s/GB")
    if row.bounded_by_load:
        parts.append("BOUNDED BY THE LOAD")
    if row.wrong:
        parts.append(f"{row.wrong} WRONG")
    return "; ".join(filter(None, parts))


def _with_spread(value: float | None, ends: Spread | None, digits: int) -> str:
    """Returns a figure and, where there is one, its spread: `6.6 (6.1-6.9)`."""
    if value is None:
        return ""
    text = f"{value:.{digits}f}"
    return text if ends is None else f"{text} ({ends[0]:.{digits}f}-{ends[1]:.{digits}f})"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f}"


def cells(row: Row, rows: Sequence[Row], against: str) -> tuple[str, ...]:
    """Returns one line of the table."""
    return (
        row.load,
        number(row.keys),
        row.node,
        f"{row.per_second:,.0f}",
        f"{100 * row.lost / max(row.sent, 1):.2f} %",
        _milliseconds(row.quantile(0.5)),
        _milliseconds(row.quantile(0.99)),
        _with_spread(row.cpu_us, row.cpu_spread, 1) or "-",
        _with_spread(share(row, rows, against), share_spread(row, rows, against), 2),
        f"{row.own_us:.1f}" if row.answers else "-",
        note(row),
    )


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]], right: frozenset[str]) -> str:
    """Returns a Markdown table, aligned so that it reads well on a terminal too."""
    rows = [tuple(head), *map(tuple, lines)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(head))]
    text = []
    for count, row in enumerate(rows):
        parts = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        text.append("| " + " | ".join(parts) + " |")
        if count == 0:
            rule = [
                "-" * (width - 1) + ":" if name in right else "-" * width
                for name, width in zip(head, widths, strict=True)
            ]
            text.append("| " + " | ".join(rule) + " |")
    return "\n".join(text)


def render(rows: Sequence[Row], against: str = "tox-bootstrapd") -> str:
    """Returns the table, the nodes of each load beside one another."""
    order = sorted(
        range(len(rows)),
        key=lambda i: (
            next(j for j, other in enumerate(rows) if other.load == rows[i].load),
            rows[i].keys or 0,
            i,
        ),
    )
    return markdown(_HEAD, [cells(rows[i], rows, against) for i in order], _RIGHT)
