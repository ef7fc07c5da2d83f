"""The table that a person reads: one line for each load and number of keys, all nodes beside."""

from collections.abc import Sequence

from toxmesh.bench.measured import Measured

_HEAD = (
    "load", "keys", "node", "answers/s", "loss", "p50 ms", "p99 ms", "CPU us", "share", "load us",
    "",
)  # fmt: skip
_RIGHT = frozenset({"keys", "answers/s", "loss", "p50 ms", "p99 ms", "CPU us", "share", "load us"})


def number(keys: int | None) -> str:
    """Returns a number of keys as it is printed."""
    return "-" if keys is None else f"{keys:,}"


def counterpart(row: Measured, rows: Sequence[Measured], against: str) -> Measured | None:
    """Returns the same load of the node named `against`; None if there is none, or it is that."""
    for other in rows:
        if other.node == against != row.node and (other.load, other.keys) == (row.load, row.keys):
            return other
    return None


def share(row: Measured, rows: Sequence[Measured], against: str) -> float | None:
    """Returns the CPU per answer as a share of that of the node named `against`, if both exist."""
    other = counterpart(row, rows, against)
    if other is None or not other.cpu_us or not row.cpu_us or not row.result.answers:
        return None
    return row.cpu_us / other.cpu_us


def note(row: Measured) -> str:
    """Returns what is to be said about a row."""
    parts = [row.note]
    if "mbit_per_s" in row.figures:
        parts.append(f"{row.figures['mbit_per_s']:,.0f} Mbit/s")
    if "cpu_s_per_gb" in row.figures:
        parts.append(f"{row.figures['cpu_s_per_gb']:.1f} s/GB")
    if row.bounded_by_load:
        parts.append("BOUNDED BY THE LOAD")
    if row.result.wrong:
        parts.append(f"{row.result.wrong} WRONG")
    return "; ".join(filter(None, parts))


def cells(row: Measured, rows: Sequence[Measured], against: str) -> tuple[str, ...]:
    """Returns one line of the table."""
    result = row.result
    part = share(row, rows, against)
    seen = bool(result.latencies)
    return (
        row.load,
        number(row.keys),
        row.node,
        f"{result.per_second:,.0f}",
        f"{100 * row.lost / max(result.sent, 1):.2f} %",
        f"{1000 * result.quantile(0.5):.2f}" if seen else "-",
        f"{1000 * result.quantile(0.99):.2f}" if seen else "-",
        "-" if row.cpu_us is None or not result.answers else f"{row.cpu_us:.1f}",
        f"{part:.2f}" if part is not None else "",
        f"{row.own_us:.1f}" if result.answers else "-",
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


def render(rows: Sequence[Measured], against: str = "tox-bootstrapd") -> str:
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
