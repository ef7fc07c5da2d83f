"""`toxmesh ops worker`: replaces processes of a running node without losing anything."""

from pathlib import Path

import click

from ops import client, options, screen

_ANSWER_S = 600.0  # as long as the node takes for all its processes, one after the other


@click.command("restart")
@click.argument("name")
@options.state_dir
@options.as_json
@options.says_why
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
