"""The table that a person reads: one line for each load and number of keys, all nodes beside."""

from collections.abc import Sequence

from toxmesh.bench.measured import Measured

BARS = {
    "ping": 0.5,
    "nodes": 0.5,
    "onion 0x80": 0.5,
    "onion 0x81": 0.5,
    "onion 0x82": 0.5,
    "announce search": 0.5,
    "announce store": 0.5,
    "relay 1400 B": 1.0,
    "relay 100 B": 1.0,
}
"""Greatest share of tox-bootstrapd's CPU per answer that is allowed, at BAR_KEYS keys and above."""
BAR_KEYS = 1000

_HEAD = ("load", "keys", "node", "answers/s", "loss", "p50 ms", "p99 ms", "CPU us", "share", "")
_RIGHT = {1, 3, 4, 5, 6, 7, 8}


def _number(keys: int | None) -> str:
    return "-" if keys is None else f"{keys:,}"


def share(row: Measured, rows: Sequence[Measured], against: str) -> float | None:
    """Returns the CPU per answer as a share of that of the node named `against`, if both exist."""
    for other in rows:
        if (
            other.node == against != row.node
            and (other.load, other.keys) == (row.load, row.keys)
            and other.cpu_us
            and row.cpu_us
            and row.result.answers
        ):
            return row.cpu_us / other.cpu_us
    return None


def missed(rows: Sequence[Measured], against: str) -> list[str]:
    """Names every bar that was not met, with both figures."""
    result = []
    for row in rows:
        bar = BARS.get(row.load)
        if bar is None or (row.keys is not None and row.keys < BAR_KEYS):
            continue
        part = share(row, rows, against)
        if part is not None and part > bar:
            result.append(
                f"{row.load}, {_number(row.keys)} keys: {row.node} uses {part:.2f} of {against}'s "
                f"CPU per answer, at most {bar:.2f} is the bar"
            )
    return result


def cells(row: Measured, rows: Sequence[Measured], against: str) -> tuple[str, ...]:
    """Returns one line of the table."""
    result = row.result
    part = share(row, rows, against)
    lost = result.lost + result.unanswered
    return (
        row.load,
        _number(row.keys),
        row.node,
        f"{result.answers / max(result.seconds, 1e-9):,.0f}",
        f"{100 * lost / max(result.sent, 1):.2f} %",
        f"{1000 * result.quantile(0.5):.2f}",
        f"{1000 * result.quantile(0.99):.2f}",
        "-" if row.cpu_us is None or not result.answers else f"{row.cpu_us:.1f}",
        f"{part:.2f}" if part is not None else "",
        "; ".join(p for p in (row.note, f"{result.wrong} WRONG" if result.wrong else "") if p),
    )


def render(rows: Sequence[Measured], against: str = "tox-bootstrapd") -> str:
    """Returns the table as Markdown, aligned so that it reads well on a terminal too."""
    ordered = sorted(
        range(len(rows)),
        key=lambda i: (
            next(j for j, other in enumerate(rows) if other.load == rows[i].load),
            rows[i].keys or 0,
            i,
        ),
    )
    lines = [_HEAD, *(cells(rows[i], rows, against) for i in ordered)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(_HEAD))]
    text = []
    for number, line in enumerate(lines):
        parts = [
            cell.rjust(width) if i in _RIGHT else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("| " + " | ".join(parts) + " |")
        if number == 0:
            rule = [
                "-" * (width - 1) + ":" if i in _RIGHT else "-" * width
                for i, width in enumerate(widths)
            ]
            text.append("| " + " | ".join(rule) + " |")
    return "\n".join(text)
