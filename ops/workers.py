"""`toxmesh ops workers`: the processes of a running node, and how busy each is."""

from pathlib import Path

import click

from ops import client, options, screen, status

GOOD, DEGRADED = 0, 1


@click.command("workers")
@options.limit
@options.asks
def command(limit: int, state_dir: Path, as_json: bool) -> int:
    """Show the processes of a running node: state, load, memory, restarts.

    Exit codes: 0 all are at work, 1 some are not, 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "workers", {"limit": limit})
    rows = answer["rows"]
    if as_json:
        options.print_json(answer)
    else:
        lines = screen.table([status.HEADS, *map(status.worker_line, rows)], left=2)
        click.echo("\n".join(lines))
        options.say_rest(answer)
    return GOOD if all(row.get("state") == "good" for row in rows) else DEGRADED
