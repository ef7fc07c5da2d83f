"""`toxmesh ops reload`: lets a running node read its settings again."""

from pathlib import Path

import click

from ops import client, options, screen

_ANSWER_S = 600.0  # some settings need processes to be replaced, one after the other
_DONE = {"live": "at once", "replace": "processes replaced", "restart": "AT THE NEXT START"}
_WOULD = {"live": "at once", "replace": "by replacing processes", "restart": "AT THE NEXT START"}


@click.command("reload")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@options.asks
def command(dry_run: bool, state_dir: Path, as_json: bool) -> int:
    """Read the settings again and follow what changed; SIGHUP does the same.

    The file, the environment and the command line are read as when the node was started, and
    checked as a whole: a mistake anywhere changes nothing and is said with its line. Each setting
    that differs is shown with the way it takes: at once, by replacing processes (nobody is
    dropped), or at the next start; `toxmesh ops status` names what waits for that. Exit codes: 0
    done, 1 something could not be done now, 2 refused, 3 mistakes in the settings, 4 no node
    answers, 5 permission.
    """
    answer = client.ask(state_dir, "reload", {"dry_run": dry_run}, _ANSWER_S)
    rows = answer["rows"]
    failed = [
        row for row in rows if not (dry_run or row["done"]) and row["how"] != "restart"
    ]
    if as_json:
        options.print_json(answer)
        return client.NOT_FOUND if failed else 0
    if not rows:
        click.echo("the settings are as the node has them")
        return 0
    how = _WOULD if dry_run else _DONE
    lines = [
        [row["setting"], row["old"], row["new"], "FAILED" if row in failed else how[row["how"]]]
        for row in rows
    ]
    click.echo("\n".join(screen.table([["setting", "was", "is", "applied"], *lines])))
    for row in failed:
        click.echo(f"toxmesh: {row['setting']} stays as it was; the log says why", err=True)
    return client.NOT_FOUND if failed else 0
