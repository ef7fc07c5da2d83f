"""`toxmesh ops relay`: who is connected to the relay, who is linked to whom, and out with some."""

import time
from pathlib import Path
from typing import Any

import click

from ops import client as door
from ops import options, screen
from ops.durations import DURATION

_SORTS = (
    "since", "oldest", "seen", "silent", "rate", "frames", "bytes", "queue", "links", "address",
    "key",
)  # fmt: skip
_STATES = ("greeting", "greeted", "unconfirmed", "confirmed")
_RATE_S = 1.0  # between the two looks that make a rate
_PATIENCE_S = 15.0  # the node makes long listings in small steps

_HEADS = [
    "key", "address", "state", "worker", "connected", "silent", "links", "waiting", "queue",
    "in/s", "out/s", "frames in", "out", "bytes in", "out",
]  # fmt: skip


def _line(row: dict[str, Any], width: int = 64) -> list[str]:
    return [
        screen.plain(row.get("key"))[:width],
        screen.plain(row.get("address")),
        screen.plain(row.get("state")) + (" full" if row.get("full") else ""),
        screen.plain(row.get("worker")),
        screen.span(row.get("age_s")),
        screen.span(row.get("seen_s")),
        screen.count(row.get("links_up")),
        screen.count(row.get("links_waiting")),
        screen.short(row.get("queue_bytes")),
        screen.short(row.get("bytes_in_per_s")),
        screen.short(row.get("bytes_out_per_s")),
        screen.count(row.get("frames_in")),
        screen.count(row.get("frames_out")),
        screen.short(row.get("bytes_in")),
        screen.short(row.get("bytes_out")),
    ]


def _footer(answer: dict[str, Any], what: str) -> str:
    shown, total = answer.get("shown"), answer.get("total")
    if shown == total:
        return f"{screen.count(total)} {what}"
    return f"{screen.count(shown)} of {screen.count(total)} {what}; more with --limit"


@click.command("clients")
@click.option("--sort", type=click.Choice(_SORTS), default="since", help="Order [since].")
@click.option("--state", type=click.Choice(_STATES), help="Only connections in this state.")
@click.option("--worker", metavar="NAME", help="Only those of one worker, such as relay.0.")
@click.option("--key", metavar="DIGITS", help="Only keys that begin so.")
@click.option("--address", metavar="START", help="Only addresses that begin so, such as 192.0.2.")
@click.option("--full", is_flag=True, help="Only clients that do not keep up.")
@click.option("--at-once", is_flag=True, help="Do not wait a second to measure rates.")
@options.limit
@options.asks
def clients(
    sort: str,
    state: str | None,
    worker: str | None,
    key: str | None,
    address: str | None,
    full: bool,
    at_once: bool,
    limit: int,
    state_dir: Path,
    as_json: bool,
) -> int:
    """List who is connected to the relay: keys, addresses, rates, queues, links.

    Sorted by the newest connection (since), the oldest, the last heard (seen), the longest silent,
    bytes a second (rate), frames, bytes, what waits for it (queue), links, address or key. Rates
    are measured over the second that this takes, or since somebody last looked.
    """
    only = {"state": state, "worker": worker, "key": key, "address": address}
    args: dict[str, Any] = {"sort": sort, "limit": limit, "full": full}
    args |= {name: value for name, value in only.items() if value}
    answer = door.ask(state_dir, "relay clients", args, _PATIENCE_S)
    if not at_once and answer["rows"]:
        time.sleep(_RATE_S)
        answer = door.ask(state_dir, "relay clients", args, _PATIENCE_S)
    if as_json:
        options.print_json(answer)
        return 0
    rows = [_line(row) for row in answer["rows"]]
    click.echo("\n".join([*screen.table([_HEADS, *rows], left=4), "", _footer(answer, "clients")]))
    return 0


@click.command("client")
@click.argument("key")
@options.limit
@options.asks
def client(key: str, limit: int, state_dir: Path, as_json: bool) -> int:
    """Show one client: its connections, its links, and for what its input waits."""
    args = {"key": key, "limit": limit}
    answer = door.ask(state_dir, "relay client", args)
    if not as_json or answer["connections"][0]["bytes_in_per_s"] is None:
        time.sleep(_RATE_S)
        answer = door.ask(state_dir, "relay client", args)
    if as_json:
        options.print_json(answer)
        return 0
    lines: list[str] = []
    for row in answer["connections"]:
        lines += [*screen.table(list(zip(_HEADS, _line(row), strict=True)), left=2), ""]
    session = answer.get("session")
    if session:
        words = [[name, screen.plain(value)] for name, value in session.items()]
        lines += [*screen.table([["its worker says", ""], *words], left=2), ""]
    links = [
        [screen.plain(row["peer"]), row["state"], str(row["link"]), screen.plain(row["peer_link"])]
        for row in answer["links"]
    ]
    if links:
        lines += screen.table([["linked with", "state", "link", "its link"], *links], left=2)
    else:
        lines.append("no links")
    click.echo("\n".join(lines))
    return 0


@click.command("links")
@click.option("--state", type=click.Choice(("up", "waiting")), help="Only links in this state.")
@options.limit
@options.asks
def links(state: str | None, limit: int, state_dir: Path, as_json: bool) -> int:
    """List who is linked to whom; a link waits until both have asked for it."""
    args: dict[str, Any] = {"limit": limit, **({"state": state} if state else {})}
    answer = door.ask(state_dir, "relay links", args, _PATIENCE_S)
    if as_json:
        options.print_json(answer)
        return 0
    rows = [
        [row["key"], row["peer"], row["state"], str(row["link"]), screen.plain(row["peer_link"])]
        for row in answer["rows"]
    ]
    heads = ["key", "peer", "state", "link", "its link"]
    click.echo("\n".join([*screen.table([heads, *rows], left=3), "", _footer(answer, "links")]))
    return 0


@click.command("kick")
@click.argument("key")
@click.option("--for", "seconds", type=DURATION, help="Refuse this key for so long: 90s, 15m, 2h.")
@click.option("--reason", default="", metavar="TEXT", help="For the log and the list of bans.")
@options.asks
def kick(key: str, seconds: float | None, reason: str, state_dir: Path, as_json: bool) -> int:
    """Close the connections of a client; with --for refuse its key until then.

    A client that is only kicked comes back: a stock one notices within half a minute and connects
    again. One that is refused meanwhile forgets this relay until it hears of it again.

    Exit codes: 0 done, 1 no such client is connected (and no --for), 2 refused, 4 no node answers.
    """
    args: dict[str, Any] = {"key": key, "reason": reason}
    if seconds is not None:
        args["seconds"] = seconds
    answer = door.ask(state_dir, "relay kick", args)
    if as_json:
        options.print_json(answer)
        return 0
    where = ", ".join(answer["addresses"])
    text = f"closed {answer['closed']} connection{'s' * (answer['closed'] != 1)} of {answer['key']}"
    text += f" ({where})" if where else ""
    if seconds is not None:
        text += f"; the key is refused for {screen.span(seconds)}"
    click.echo(text)
    if not answer["kept"]:
        click.echo("toxmesh: the ban could not be written; a restart forgets it", err=True)
    return 0
