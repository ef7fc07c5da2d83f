"""`toxmesh ops limits`: every bound that a stranger can fill, how full it is, and other values."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen
from ops.durations import DURATION


def _number(value: object) -> str:
    if value is None:
        return "-"
    number = screen.number(value)
    return f"{number:,.0f}" if number == int(number) else f"{number:,.3f}".rstrip("0")


def _line(row: dict[str, Any]) -> list[str]:
    changed = row["changed"]
    left = "" if row["left_s"] is None else f", {screen.span(row['left_s'])} left"
    return [
        screen.plain(row["name"]),
        screen.plain(row["unit"]),
        _number(row["value"]) + ("*" if changed else ""),
        _number(row["default"]),
        _number(row["use"]),
        screen.count(row["refused"]),
        "yes" if row["live"] else "no",
        screen.plain(row["meaning"]) + (f" (changed{left})" if changed else ""),
    ]


_HEADS = ["limit", "unit", "value", "default", "in use", "refused", "live", "meaning"]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [_HEADS, *map(_line, rows)]
    tables = screen.table([row[:-1] for row in lines], left=2)
    return [f"{head}  {row[-1]}" for head, row in zip(tables, lines, strict=True)]


@click.command("show")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--changed", is_flag=True, help="Only those that were changed while the node runs.")
@options.limit
@options.asks
def show(
    name: str | None, changed: bool, limit: int, state_dir: Path, as_json: bool
) -> int:
    """List the bounds that strangers can fill; with NAME those whose names begin so.

    In use is the fullest place now: the fullest worker, address or prefix. Refused counts since
    the node started. What is live can be changed by: limits set.
    """
    args: dict[str, Any] = {"limit": limit, "changed": changed}
    if name:
        args["name"] = name
    answer = client.ask(state_dir, "limits show", args)
    if as_json:
        options.print_json(answer)
    else:
        click.echo("\n".join(_table(answer["rows"])))
    return 0


def _value(text: str) -> int | float | None:
    if text == "default":
        return None
    try:
        return int(text.replace(",", "").replace("_", ""))
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is neither a number nor the word default") from None


@click.command("set")
@click.argument("name")
@click.argument("value", metavar="VALUE|default")
@click.option("--for", "seconds", type=DURATION, help="Back to the default after: 90s, 15m, 2h.")
@options.asks
def change(
    name: str, value: str, seconds: float | None, state_dir: Path, as_json: bool
) -> int:
    """Set a limit in all processes of the running node, and in those that begin later.

    Nobody is closed who is there already. A restart of the node forgets it (an upgrade does not);
    limits that have a setting are kept by writing that into the configuration.

    Exit codes: 0 done, 1 no such limit, 2 it cannot be changed so, 3 no such value.
    """
    args: dict[str, Any] = {"name": name, "value": _value(value)}
    if seconds is not None:
        args["seconds"] = seconds
    row = client.ask(state_dir, "limits set", args)
    if as_json:
        options.print_json(row)
        return 0
    text = f"{screen.plain(row['name'])} is {_number(row['value'])} {screen.plain(row['unit'])}"
    if row["left_s"] is not None:
        text += f" for {screen.span(row['left_s'])}, then {_number(row['default'])} again"
    elif row["changed"] and row["setting"]:
        text += f" until the node stops; to keep it, set {screen.plain(row['setting'])}"
    elif row["changed"]:
        text += " until the node stops"
    click.echo(text)
    return 0
