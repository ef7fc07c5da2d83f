"""`toxmesh ops upgrade`: a running node goes on as the version that is installed now."""

from pathlib import Path

import click

from ops import client, options, screen

_ANSWER_S = 700.0  # as long as the node takes for all its processes, one after the other


@click.command("upgrade")
@click.option("--check", is_flag=True, help="Only try whether the installed version can go on.")
@options.asks
def command(check: bool, state_dir: Path, as_json: bool) -> int:
    """Let the running node go on as the version of toxmesh that is installed now.

    Install the new version first (pip, a package), then call this. The new version looks at the
    node's state before anything is changed; then it takes the node over where it is: same process
    number, sockets, relay connections and stored announces, and no datagram is lost. Settings stay
    as they were: `toxmesh ops reload` reads the file again. Exit codes: 0 done, 2 refused (the node
    goes on as it was), 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "upgrade", {"check": check}, _ANSWER_S)
    if as_json:
        options.print_json(answer)
        return 0
    version, was = answer["version"], answer["was"]
    if check:
        click.echo(f"toxmesh {version} can go on with this node, which is {was} now")
        return 0
    rows = [[row["name"], str(row["was"]), str(row["pid"])] for row in answer["rows"]]
    click.echo("\n".join(screen.table([["process", "was", "is"], *rows])))
    click.echo(f"the node is toxmesh {version} now (it was {was}), after {answer['seconds']:.1f} s")
    return 0
