"""`toxmesh ops log`: how much the node's processes log, and the last that they said."""

import sys
import time
from pathlib import Path
from typing import Any

import click
import orjson

from ops import client, options, screen
from ops.durations import DURATION

LEVELS = ("debug", "info", "warning", "error")
_COLOURS = {"debug": "bright_black", "warning": "yellow", "error": "red", "critical": "red"}


@click.command("level")
@click.argument("name", required=False)
@click.argument("level", required=False, type=click.Choice(LEVELS))
@click.option("--for", "seconds", type=DURATION, help="Back to normal after: 90s, 15m, 2h.")
@options.asks
def level(
    name: str | None,
    level: str | None,
    seconds: float | None,
    state_dir: Path,
    as_json: bool,
) -> int:
    """Show how much each process logs, or change it: `level dht.0 debug --for 10m`.

    NAME is a process (dht.0, broker, supervisor), all of a role (onion), or `all`. The change is
    live, and kept by processes that are started again; a restart of the node forgets it (the
    setting log_level does not). Exit codes: 0 done, 1 no such process, 3 usage, 4 no node
    answers, 5 permission.
    """
    if name is None:
        answer = client.ask(state_dir, "log levels")
    elif level is None:
        raise click.UsageError(f"say which level {name} is to have: {', '.join(LEVELS)}")
    else:
        args: dict[str, Any] = {"name": "*" if name == "all" else name, "level": level}
        if seconds is not None:
            args["seconds"] = int(seconds)
        answer = client.ask(state_dir, "log level", args)
    if as_json:
        options.print_json(answer)
        return 0
    rows = [["process", "level", "then"], *map(_level_row, answer["rows"])]
    click.echo("\n".join(screen.table(rows, left=3)))
    return 0


def _level_row(row: dict[str, Any]) -> list[str]:
    back = row["back_in_s"]
    then = "" if back is None else f"{screen.plain(row['normal'])} in {screen.span(back)}"
    return [screen.plain(row["name"]), screen.plain(row["level"]), then]


@click.command("tail")
@click.option("-n", "--lines", type=click.IntRange(0, 1000), default=20, show_default=True,
              metavar="N", help="Records to show.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come, until Ctrl-C.")
@click.option("--level", type=click.Choice([*LEVELS, "critical"]), default="debug",
              help="The least that is shown.")  # fmt: skip
@click.option("--from", "name", default="", metavar="NAME", help="Of one process or role.")
@options.asks
def tail(
    lines: int, follow: bool, level: str, name: str, state_dir: Path, as_json: bool
) -> int:
    """Show the last records of the log of all processes.

    The node keeps the last 1,000 by itself, wherever its log goes. With --json and -f each record
    is one JSON line. Exit codes: 0 done, 3 usage, 4 no node answers, 5 permission.
    """
    args: dict[str, Any] = {"limit": lines, "level": level, "name": name}
    if not follow:
        answer = client.ask(state_dir, "log tail", args)
        if as_json:
            options.print_json(answer)
        else:
            for row in answer["rows"]:
                _show(row)
        return 0

    def begin(answer: dict[str, Any]) -> None:
        for row in answer["rows"]:
            _show(row, as_json)

    try:
        for event in client.follow(
            state_dir, "log tail", {**args, "follow": True}, begin=begin
        ):
            if event.name == "log":
                _show(event.data, as_json)
            else:
                click.echo(f"({screen.count(event.data.get('count'))} records were lost)", err=True)
    except KeyboardInterrupt:
        pass  # that is how one who follows ends it
    return 0


def _show(row: dict[str, Any], as_json: bool = False) -> None:
    """Prints a record as it comes; a reader behind a pipe gets it at once."""
    if as_json:
        click.echo(orjson.dumps(row))
    else:
        click.echo(_line(row))
    sys.stdout.flush()


def _line(row: dict[str, Any]) -> str:
    at = screen.number(row.get("at"))
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    stamp += f".{int(at * 1000) % 1000:03d}"
    word = screen.plain(row.get("level")).upper()
    text = "\n".join(
        map(screen.plain, f"{row.get('message')}\n{row.get('trace', '')}".rstrip().splitlines())
    )
    who = f"{screen.plain(row.get('from'))} {screen.plain(row.get('logger'))}"
    line = f"{stamp} {word} {who}: {text}"
    colour = _COLOURS.get(str(row.get("level")))
    return click.style(line, fg=colour) if colour and screen.has_colour() else line
