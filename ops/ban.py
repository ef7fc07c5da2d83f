"""`toxmesh ops ban`: shut out prefixes of addresses and keys, and let them in again."""

import time
from pathlib import Path
from typing import Any

import click

from ops import client, options, screen
from ops.durations import DURATION

_NOT_KEPT = "toxmesh: this could not be written to the state directory; a restart forgets it"


def _when(unix: object) -> str:
    if unix is None:
        return "until removed"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(screen.number(unix)))


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        [
            screen.plain(row["ban"]),
            _when(row["since"]),
            _when(row["until"]),
            "-" if row["left_s"] is None else screen.span(row["left_s"]),
            screen.plain(row["note"]),
        ]
        for row in rows
    ]
    return screen.table([["banned", "since", "until", "left", "note"], *lines], left=5)


def _print(answer: dict[str, Any], as_json: bool, word: str) -> int:
    if as_json:
        options.print_json(answer)
    else:
        click.echo("\n".join([*_table(answer["rows"]), "", f"{answer['total']} {word}"]))
    if not answer["kept"]:
        click.echo(_NOT_KEPT, err=True)
    return 0


@click.command("add")
@click.argument("what", nargs=-1, required=True, metavar="PREFIX|KEY...")
@click.option("--for", "seconds", type=DURATION, help="Only for so long: 90s, 15m, 2h, 3d.")
@click.option("--note", default="", metavar="TEXT", help="Why; shown in the list.")
@click.option("--force", is_flag=True, help="Also what takes in this machine or most addresses.")
@options.asks
def add(
    what: tuple[str, ...],
    seconds: float | None,
    note: str,
    force: bool,
    state_dir: Path,
    as_json: bool,
) -> int:
    """Shut out prefixes (192.0.2.0/24, 2001:db8::/32), addresses or public keys.

    A prefix is refused for all datagrams and for connections to the relay, those that are there
    are closed. A key is refused at the relay, and wherever a packet tells its sender's key. Bans
    outlive restarts. To ban again what is banned changes its time and note.

    Exit codes: 0 done, 2 refused (this node's own key, too many, --force is needed), 3 no prefix
    and no key, 4 no node answers, 5 permission.
    """
    args: dict[str, Any] = {"what": list(what), "note": note, "force": force}
    if seconds is not None:
        args["seconds"] = seconds
    return _print(client.ask(state_dir, "ban add", args), as_json, "banned")


@click.command("list")
@click.argument("match", required=False, metavar="[ADDRESS|KEY]")
@click.option("--kind", type=click.Choice(("prefix", "key")), help="Only these.")
@options.limit
@options.asks
def show(
    match: str | None, kind: str | None, limit: int, state_dir: Path, as_json: bool
) -> int:
    """List who is shut out, the last first; with ADDRESS or KEY the bans that it falls under."""
    args: dict[str, Any] = {"limit": limit}
    args |= {name: value for name, value in (("match", match), ("kind", kind)) if value}
    answer = client.ask(state_dir, "ban list", args)
    if as_json:
        options.print_json(answer)
        return 0
    reasons = [[name, screen.count(count)] for name, count in answer["refused"].items()]
    lines = [
        *_table(answer["rows"]),
        "",
        f"{answer['shown']} of {answer['total']} bans; {answer['most']:,} may be kept",
        "",
        *screen.table([["refused because", "times"], *reasons]),
    ]
    click.echo("\n".join(lines))
    return 0


@click.command("remove")
@click.argument("what", nargs=-1, metavar="PREFIX|KEY...")
@click.option("--all", "everything", is_flag=True, help="All bans.")
@options.asks
def remove(what: tuple[str, ...], everything: bool, state_dir: Path, as_json: bool) -> int:
    """Let prefixes or keys in again. Exit codes: 0 done, 1 that is not banned."""
    if bool(what) == everything:
        raise click.UsageError("name what is banned, or give --all")
    args: dict[str, Any] = {"all": True} if everything else {"what": list(what)}
    return _print(client.ask(state_dir, "ban remove", args), as_json, "no longer banned")
