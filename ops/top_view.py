"""What `toxmesh ops top` shows: five tables of the running node, sorted and filtered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ops import client, screen
from ops.kinds import NAMES
from ops.stat import cells

MOST_ROWS = 1_000  # of a table: more are asked of the node by a filter of its own commands
_KEY_LETTERS = 16  # of a key where lines have an end: enough to tell it from others
_KIND_NAMES = {f"0x{kind:02x}": name for kind, name in NAMES.items()}

Row = dict[str, Any]


class Column(NamedTuple):
    """One column: its heading, the field of a row, and how that looks."""

    title: str
    field: str
    show: Callable[[object], str] = screen.plain
    left: bool = False
    """Whether it is a text: laid to the left, sorted from a to z."""


class View(NamedTuple):
    """One table."""

    key: str
    """The key that chooses it."""
    name: str
    columns: tuple[Column, ...]
    sort: int
    """The column it is sorted by at first."""
    ask: Callable[[Path], list[Row]]
    begins_s: float = 0.0
    """How long the node counts before its answer says anything, once it was asked."""


def _percent(value: object) -> str:
    return f"{screen.number(value):.1f}"


def _workers(state_dir: Path) -> list[Row]:
    return list(client.ask(state_dir, "workers", {"limit": MOST_ROWS})["rows"])


def _kinds(state_dir: Path) -> list[Row]:
    rates = client.ask(state_dir, "rates")
    rows = [
        {"kind": kind, "name": _KIND_NAMES.get(kind, ""), **row}
        for kind, row in rates["kinds"].items()
    ]
    other = {"kind": "other", "name": "no packet of Tox", "received_per_s": rates["other_per_s"]}
    return [*rows, other] if rates["other_per_s"] else rows


def _prefixes(state_dir: Path) -> list[Row]:
    rows = list(client.ask(state_dir, "prefixes", {"limit": MOST_ROWS})["rows"])
    total = sum(screen.number(row["packets_per_s"]) for row in rows)
    for row in rows:
        row["share"] = 100 * screen.number(row["packets_per_s"]) / total if total else 0.0
    return rows


def _clients(state_dir: Path) -> list[Row]:
    try:
        args = {"sort": "rate", "limit": MOST_ROWS}
        rows = list(client.ask(state_dir, "relay clients", args)["rows"])
    except client.AskError as error:
        if error.code == client.NOT_FOUND:  # no TCP port is open
            return []
        raise
    for row in rows:
        row["rate"] = sum(
            screen.number(row.get(name)) for name in ("bytes_in_per_s", "bytes_out_per_s")
        )
    return rows


def _drops(state_dir: Path) -> list[Row]:
    return list(client.ask(state_dir, "drops", {"limit": MOST_ROWS})["rows"])


VIEWS = {
    view.name: view
    for view in (
        View(
            "w",
            "workers",
            (
                Column("worker", "name", left=True),
                Column("state", "state", left=True),
                Column("CPU %", "cpu_percent", _percent),
                Column("packets/s", "packets_per_s", screen.rate),
                Column("queue", "queue", screen.count),
                Column("kernel", "queue_bytes", screen.short),
                Column("memory", "rss", screen.short),
                Column("restarts", "restarts", screen.count),
                Column("pid", "pid"),
                Column("core", "core"),
                Column("up", "uptime_s", screen.span),
            ),
            2,
            _workers,
        ),
        View(
            "k",
            "kinds",
            (
                Column("kind", "kind", left=True),
                Column("packet", "name", left=True),
                Column("in/s", "received_per_s", screen.rate),
                Column("out/s", "sent_per_s", screen.rate),
                Column("in", "received", screen.count),
                Column("out", "sent", screen.count),
            ),
            2,
            _kinds,
        ),
        View(
            "p",
            "prefixes",
            (
                Column("from", "prefix", left=True),
                Column("packets/s", "packets_per_s", screen.rate),
                Column("bytes/s", "bytes_per_s", screen.short),
                Column("share %", "share", _percent),
            ),
            1,
            _prefixes,
            2.1,
        ),
        View(
            "c",
            "clients",
            (
                Column("client", "key", left=True),
                Column("address", "address", left=True),
                Column("state", "state", left=True),
                Column("worker", "worker", left=True),
                Column("bytes/s", "rate", screen.short),
                Column("in/s", "bytes_in_per_s", screen.short),
                Column("out/s", "bytes_out_per_s", screen.short),
                Column("queue", "queue_bytes", screen.short),
                Column("links", "links_up", screen.count),
                Column("silent", "seen_s", screen.span),
                Column("up", "age_s", screen.span),
            ),
            4,
            _clients,
            1.0,
        ),
        View(
            "d",
            "drops",
            (
                Column("dropped because", "reason", left=True),
                Column("now/s", "per_s", screen.rate),
                Column("count", "count", screen.count),
            ),
            1,
            _drops,
        ),
    )
}
"""All tables by name."""


@dataclass
class Choice:
    """What the operator has chosen."""

    view: View = VIEWS["workers"]
    sort: int | None = None
    """Number of a column; None: the view's own."""
    upside_down: bool = False
    filter: str = ""
    width: int | None = field(default=None)
    """Letters of a line; None: as long as it is."""

    @property
    def column(self) -> Column:
        """The column by which rows are sorted."""
        columns = self.view.columns
        return columns[(self.view.sort if self.sort is None else self.sort) % len(columns)]

    def look_at(self, view: View) -> None:
        """Chooses another table."""
        self.view, self.sort, self.upside_down = view, None, False

    def next_column(self, step: int = 1) -> None:
        """Sorts by the next column."""
        now = self.view.sort if self.sort is None else self.sort
        self.sort = (now + step) % len(self.view.columns)


def chosen(rows: Sequence[Row], choice: Choice) -> list[Row]:
    """Returns the rows that match the filter, in their order."""
    wanted = choice.filter.lower()
    found = [
        row
        for row in rows
        if not wanted
        or any(
            wanted in column.show(row.get(column.field)).lower()
            for column in choice.view.columns
            if column.left
        )
    ]
    column = choice.column
    if column.left:
        found.sort(key=lambda row: str(row.get(column.field)), reverse=choice.upside_down)
    else:
        found.sort(
            key=lambda row: screen.number(row.get(column.field)), reverse=not choice.upside_down
        )
    return found


def head(rates: Row) -> str:
    """Returns the line about the whole node."""
    state, cpu, came, left, drops, keys, queue, kernel, relays, relay_in, relay_out, memory = cells(
        rates
    )
    return (
        f"toxmesh {state}, up {screen.span(rates.get('uptime_s'))}   CPU {cpu} %  {memory} MiB   "
        f"in {came}/s  out {left}/s  drops {drops}/s  new keys {keys}/s   "
        f"waiting {queue} + {kernel} KiB   relay {relays} ({relay_in}/s in, {relay_out}/s out)"
    )


def table(rows: Sequence[Row], choice: Choice) -> list[str]:
    """Returns heading and rows as lines; the heading of the sorted column stands in brackets."""
    columns = choice.view.columns
    titles = [
        f"[{column.title}]" if column is choice.column else column.title for column in columns
    ]
    most = None if choice.width is None else _KEY_LETTERS
    cells = [
        [
            column.show(row.get(column.field))[: most if column.field == "key" else None]
            for column in columns
        ]
        for row in chosen(rows, choice)
    ]
    left = sum(column.left for column in columns)
    lines = screen.table([titles, *cells], left=left)
    return [line[: choice.width] for line in lines]


def find_column(view: View, name: str) -> int:
    """Returns the number of the column that is called so or begins so; ValueError."""
    wanted = name.lower()
    for exact in (True, False):
        for number, column in enumerate(view.columns):
            title = column.title.lower()
            if title == wanted if exact else title.startswith(wanted):
                return number
    known = ", ".join(column.title for column in view.columns)
    raise ValueError(f"{view.name} has no column {name!r}; it has {known}")
