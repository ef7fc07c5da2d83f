"""Options that every command of the operator has, and how it ends when the node cannot be asked."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from ops import client
from ops.paths import running_state_dir

Command = TypeVar("Command", bound=Callable[..., Any])


def state_dir(command: Command) -> Command:
    """Adds `--state-dir DIR`; the command gets `state_dir`, the default filled in."""
    option = click.option(
        "--state-dir",
        type=click.Path(path_type=Path, readable=False),  # click would exit with 3, not with 5
        metavar="DIR",
        callback=lambda context, parameter, value: value or running_state_dir(),
        help="State directory of the node [$STATE_DIRECTORY, else ~/.local/state/toxmesh, else "
        "/var/lib/toxmesh].",
    )
    return option(command)


def as_json(command: Command) -> Command:
    """Adds `--json`; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")(
        command
    )


def limit_of(
    default: int, most: int = 10_000, text: str | None = None
) -> Callable[[Command], Command]:
    """Returns what adds `--limit N` of a listing, at most `most`; the command gets `limit`."""
    return click.option(
        "--limit", type=click.IntRange(1, most), default=default, show_default=True, metavar="N",
        help=text,
    )  # fmt: skip


limit = limit_of(100)
"""Adds the limit that most listings have."""


def says_why(command: Callable[..., int]) -> Callable[..., int]:
    """Makes one sentence on stderr and the exit code of a node that gives no answer."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            return command(*args, **kwargs)
        except client.AskError as error:
            click.echo(f"toxmesh: {error}", err=True)
            return error.code

    return run


def asks(command: Callable[..., int]) -> Callable[..., int]:
    """Adds what all commands have that ask the node once: `--state-dir`, `--json`, `says_why`."""
    return state_dir(as_json(says_why(command)))


def print_json(answer: Any) -> None:
    """Prints an answer as it came, indented."""
    click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def say_rest(answer: dict[str, Any]) -> None:
    """Says on stderr that a listing was cut off."""
    if answer["total"] > answer["shown"]:
        left = answer["total"] - answer["shown"]
        click.echo(f"toxmesh: {left:,} more rows; --limit shows them", err=True)
