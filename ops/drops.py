"""`toxmesh ops drops`: what is dropped or refused, why, and what to do about it."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen


def page(answer: dict[str, Any], short: bool) -> list[str]:
    """Returns what a person sees, line by line."""
    rows = answer["rows"]
    if not rows:
        return ["Nothing was dropped or refused since the node started."]
    table = screen.table(
        [["reason", "now/s", "count"]]
        + [
            [screen.plain(row["reason"]), screen.rate(row["per_s"]), screen.count(row["count"])]
            for row in rows
        ]
    )
    if short:
        return table
    lines = [table[0]]
    for line, row in zip(table[1:], rows, strict=True):
        meaning = screen.plain(row["meaning"])
        lines += [line, f"    {meaning[:1].upper()}{meaning[1:]}.  {screen.plain(row['todo'])}"]
    return lines


@click.command("drops")
@click.argument("prefix", default="")
@click.option("--short", is_flag=True, help="Leave out what the reasons mean.")
@options.limit
@options.asks
def command(prefix: str, short: bool, limit: int, state_dir: Path, as_json: bool) -> int:
    """Show what was dropped or refused: how many in the last second, how many since the start.

    Each reason comes with what it means and what to do. What happens now stands first. PREFIX
    chooses reasons that begin so, such as relay_ or kernel_full.

    Exit codes: 0 good, 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "drops", {"prefix": prefix, "limit": limit})
    if as_json:
        options.print_json(answer)
        return 0
    click.echo("\n".join(page(answer, short)))
    options.say_rest(answer)
    return 0
