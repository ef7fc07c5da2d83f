"""`toxmesh ops queues`: all that can wait in a running node, and what waits most."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen

_WHERE = {"kernel": "kernel", "process": ""}


def _line(row: dict[str, Any]) -> list[str]:
    """Returns the cells of a queue: whose it is, what is in it, how full it is."""
    waiting, limit = row["waiting"], row["limit"]
    full = f"{100 * screen.number(waiting) / limit:.0f} %" if limit and waiting is not None else "-"
    return [
        screen.plain(row["owner"]),
        f"{_WHERE.get(str(row['where']), '')} {screen.plain(row['queue'])}".strip(),
        screen.plain(row["of"]) if row["of"] and row["of"] != row["owner"] else "",
        "-" if waiting is None else screen.count(waiting),
        "-" if row["bytes"] is None else screen.count(row["bytes"]),
        "-" if limit is None else screen.count(limit),
        full,
        "-" if row["drops"] is None else screen.count(row["drops"]),
        "" if row["up"] else "nobody is there now",
    ]


@click.command("queues")
@click.option("--all", "everything", is_flag=True, help="Show the empty ones too.")
@options.limit
@options.asks
def command(everything: bool, limit: int, state_dir: Path, as_json: bool) -> int:
    """Show what waits in a running node: in the kernel, in brokers and in workers.

    Kernel queues are counted in bytes of memory, others in datagrams or messages. What waits most
    stands first; empty queues without a drop are left out.

    Exit codes: 0 good, 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "queues", {"limit": limit})
    if as_json:
        options.print_json(answer)
        return 0
    rows = [
        row
        for row in answer["rows"]
        if everything or row["waiting"] or row["bytes"] or row["drops"] or not row["up"]
    ]
    if rows:
        heads = ["owner", "queue", "for", "waiting", "bytes", "limit", "full", "drops", ""]
        click.echo("\n".join(screen.table([heads, *map(_line, rows)], left=3)))
    else:
        click.echo(f"Nothing waits: all {answer['shown']:,} queues are empty (--all shows them).")
    options.say_rest(answer)
    return 0
