"""`toxmesh ops keys-cache`: how many combined keys each worker has at hand, and how often."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen


def _line(row: dict[str, Any]) -> list[str]:
    size = screen.number(row["young"]) + screen.number(row["old"])
    capacity = screen.number(row["capacity"])
    ratio = row["hit_ratio"]
    return [
        screen.plain(row["worker"]),
        screen.count(size),
        screen.count(capacity),
        f"{100 * size / capacity:.1f} %" if capacity else "-",
        screen.count(row["hits"]),
        screen.count(row["misses"]),
        "-" if ratio is None else f"{100 * screen.number(ratio):.1f} %",
        screen.size(row["bytes"]),
    ]


@click.command("keys-cache")
@options.limit
@options.asks
def command(limit: int, state_dir: Path, as_json: bool) -> int:
    """Show the caches of combined keys: how full they are, and how often a key was at hand.

    Each miss costs as much as ten answers. Many of them in a full cache mean more busy clients than
    it has room for; in one that is not full they mean new senders.

    Exit codes: 0 good, 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "keys cache", {"limit": limit})
    if as_json:
        options.print_json(answer)
        return 0
    heads = ["worker", "keys", "room", "full", "hits", "misses", "hit rate", "memory"]
    click.echo("\n".join(screen.table([heads, *map(_line, answer["rows"])])))
    options.say_rest(answer)
    return 0
