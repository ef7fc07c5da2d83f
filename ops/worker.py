"""`toxmesh ops worker`: replaces processes of a running node without losing anything."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen

_ANSWER_S = 600.0  # as long as the node takes for all its processes, one after the other


@click.command("restart")
@click.argument("name")
@options.asks
def restart(name: str, state_dir: Path, as_json: bool) -> int:
    """Replace a process by a new one: dht.0, all of a role (onion), the broker, or all (*).

    The new process is ready before the old one stops, and takes over what that had: relay
    connections stay, datagrams wait in the kernel meanwhile. If something goes wrong, the old one
    goes on. Exit codes: 0 done, 1 no such process, 2 refused, 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "worker restart", {"name": name}, _ANSWER_S)
    if as_json:
        options.print_json(answer)
        return 0
    rows = [[row["name"], str(row["was"]), str(row["pid"])] for row in answer["rows"]]
    click.echo("\n".join(screen.table([["process", "was", "is"], *rows])))
    return 0


def _change(request: str, args: dict[str, Any], state_dir: Path, as_json: bool) -> int:
    """Asks for a change of how many processes there are, and says what was done."""
    answer = client.ask(state_dir, request, args, _ANSWER_S)
    if as_json:
        options.print_json(answer)
        return 0
    for row in answer["rows"]:
        click.echo(f"{row['name']} (process {row['pid']}) was {row['what']}")
    return 0


@click.command("add")
@click.argument("role")
@click.argument("count", type=click.IntRange(1), default=1)
@options.asks
def add(role: str, count: int, state_dir: Path, as_json: bool) -> int:
    """Give a role (dht, onion, relay) more processes while the node runs.

    Each new one is up before it gets its share of the keys, with what belongs to them: nobody is
    dropped. It lasts until the settings are read again. Exit codes: 0 done, 2 refused, 3 no such
    role, 4 no node answers, 5 permission.
    """
    return _change("worker add", {"role": role, "count": count}, state_dir, as_json)


@click.command("remove")
@click.argument("role")
@click.argument("count", type=click.IntRange(1), default=1)
@options.asks
def remove(role: str, count: int, state_dir: Path, as_json: bool) -> int:
    """Take processes from a role, those with the highest numbers first; one has to stay.

    What they have goes to the others before they end: nobody is dropped. It lasts until the
    settings are read again. Exit codes: 0 done, 2 refused, 3 no such role, 4 no node answers,
    5 permission.
    """
    return _change("worker remove", {"role": role, "count": count}, state_dir, as_json)


@click.command("drain")
@click.argument("name")
@options.asks
def drain(name: str, state_dir: Path, as_json: bool) -> int:
    """Give what one process (relay.1) has to the others of its role, and end it.

    `toxmesh ops worker add ROLE` brings it back. Exit codes: 0 done, 1 no such process, 2 refused
    (dht.0, a broker, the only one of its role), 4 no node answers, 5 permission.
    """
    return _change("worker drain", {"name": name}, state_dir, as_json)
