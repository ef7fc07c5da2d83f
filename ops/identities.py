"""`toxmesh ops identities`, `friends`, `sessions`, `session close | trace`: hosted ones."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import orjson

from ops import client as door
from ops import options, screen

_PATHS = {"direct": "udp", "relay": "relay", "none": "-"}


def _show(answer: dict[str, Any], heads: list[str], rows: list[list[str]], left: int) -> None:
    if rows:
        click.echo("\n".join(screen.table([heads, *rows], left=left)))
    else:
        click.echo("none")
    options.say_rest(answer)


def _milliseconds(seconds: object) -> str:
    return "-" if seconds is None else f"{1000 * screen.number(seconds):.0f} ms"


@click.command("identities")
@options.limit
@options.asks
def identities(limit: int, state_dir: Path, as_json: bool) -> int:
    """List the identities that the node hosts: how they are, and how many friends are there."""
    answer = door.ask(state_dir, "identities", {"limit": limit})
    if as_json:
        options.print_json(answer)
        return 0
    heads = ["name", "state", "online", "tox id", "port", "relays", "friends", "unsent", "untaken"]
    rows = [
        [
            screen.plain(row["name"]),
            screen.plain(row["state"]),
            "yes" if row["connected"] else "no",
            screen.plain(row["tox_id"]),
            screen.plain(row["udp_port"]),
            str(sum(relay["state"] == "connected" for relay in row["relays"])),
            f"{row['online']}/{row['friends']}",
            screen.count(row["unsent"]),
            screen.count(row["untaken"]),
        ]
        for row in answer["rows"]
    ]
    _show(answer, heads, rows, left=4)
    for row in answer["rows"]:
        if row["problem"]:
            click.echo(f"{screen.plain(row['name'])}: {screen.plain(row['problem'])}")
    return 0


def _of(identity: str | None, friend: str | None, limit: int) -> dict[str, Any]:
    chosen = {"identity": identity, "friend": friend}
    return {"limit": limit, **{name: value for name, value in chosen.items() if value}}


_identity = click.option("--identity", metavar="NAME|KEY", help="Only those of one identity.")


@click.command("friends")
@click.argument("friend", metavar="[NAME|KEY]", required=False)
@_identity
@options.limit
@options.asks
def friends(
    friend: str | None, identity: str | None, limit: int, state_dir: Path, as_json: bool
) -> int:
    """List friends of the hosted identities: how each is reached, and what waits for it.

    A friend is named by what it calls itself, or by its key.
    """
    answer = door.ask(state_dir, "friends", _of(identity, friend, limit))
    if as_json:
        options.print_json(answer)
        return 0
    heads = ["identity", "friend", "key", "path", "search", "session", "rtt", "unsent", "files"]
    rows = [
        [
            screen.plain(row["identity"]),
            screen.plain(row["nick"]),
            screen.plain(row["key"]),
            _PATHS.get(row["path"], screen.plain(row["path"])),
            screen.plain(row["search"]),
            screen.plain(row["session"]),
            _milliseconds(row["rtt_s"]),
            screen.count(row["unsent"]),
            screen.count(row["transfers"]),
        ]
        for row in answer["rows"]
    ]
    _show(answer, heads, rows, left=6)
    return 0


@click.command("sessions")
@click.argument("friend", metavar="[NAME|KEY]", required=False)
@_identity
@options.limit
@options.asks
def sessions(
    friend: str | None, identity: str | None, limit: int, state_dir: Path, as_json: bool
) -> int:
    """List sessions of the hosted identities: path, round trip, rate, queues, bytes."""
    answer = door.ask(state_dir, "sessions", _of(identity, friend, limit))
    if as_json:
        options.print_json(answer)
        return 0
    heads = [
        "identity", "friend", "key", "state", "path", "address", "rtt", "packets/s", "queued",
        "missing", "sent", "received",
    ]  # fmt: skip
    rows = [
        [
            screen.plain(row["identity"] or row["own_key"][:16]),
            screen.plain(row["nick"]),
            screen.plain(row["key"]),
            screen.plain(row["state"]),
            _PATHS.get(row["path"], screen.plain(row["path"])),
            screen.plain(row["address"]),
            _milliseconds(row["rtt_s"]),
            screen.count(row["packets_per_s"]),
            screen.count(row["queued"]),
            screen.count(row["missing"]),
            screen.short(row["sent_bytes"]),
            screen.short(row["received_bytes"]),
        ]
        for row in answer["rows"]
    ]
    _show(answer, heads, rows, left=6)
    return 0


def _step(data: dict[str, Any]) -> str:
    """Returns one line of a trace."""
    what = screen.plain(data.get("what"))
    words = [f"{what:<12}"]
    if "packets" in data:
        words.append(f"{screen.count(data['packets'])} packets")
        words.append(f"{screen.count(data.get('bytes'))} bytes")
    if "number" in data:
        words.append(f"up to {screen.count(data['number'])}")
    if "direct" in data:
        words.append("over udp" if data["direct"] else "by relay")
    if "taken" in data:
        words.append(f"taken {screen.count(data['taken'])}, acked {screen.count(data['acked'])}")
    if "name" in data:
        words = [screen.plain(data["name"]), what]
    return "  ".join(words)


@click.command("trace")
@click.argument("key")
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print each step as a line of JSON.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many steps.")
@options.says_why
def trace(key: str, state_dir: Path, as_json: bool, count: int | None) -> int:
    """Follow the sessions with a friend's key, step by step, until Ctrl-C.

    What came from the friend is told to the messenger process, which says when it is stored; what
    is handed over is taken by the net_crypto process, and acked by the friend. Packets
    are counted; what they say is not shown.
    """
    left = count
    with closing(door.follow(state_dir, "session trace", {"key": key})) as rows:
        for name, at, data in rows:
            if as_json:
                click.echo(orjson.dumps({"event": name, "at": at, "data": data}).decode())
            else:
                moment = time.strftime("%H:%M:%S", time.localtime(at))
                click.echo(f"{moment}  {_step(data)}")
            if left is not None:
                left -= 1
                if left == 0:
                    return 0
    raise door.AskError("the node closed the door; is it stopping?", door.UNREACHABLE)


@click.command("close")
@click.argument("key")
@options.asks
def close(key: str, state_dir: Path, as_json: bool) -> int:
    """End the sessions with a friend's key; both sides make a new one by themselves.

    What was sent and has no receipt is sent again then.

    Exit codes: 0 done, 1 there is no such session, 2 refused, 4 no node answers.
    """
    answer = door.ask(state_dir, "session close", {"key": key})
    if as_json:
        options.print_json(answer)
        return 0
    for own in answer["closed"]:
        click.echo(f"closed the session of {own} with {answer['key']}")
    return 0
