"""`toxmesh ops lookup KEY`: watch a search of the DHT step by step."""

from pathlib import Path
from typing import Any

import click
import orjson

from ops import client, options, screen
from ops.dht import milliseconds

GOOD, NOT_FOUND, FAILED = 0, 1, 2

_CODES = {"found": GOOD, "named": NOT_FOUND, "converged": NOT_FOUND}
_ENDS = {
    "found": "found: the node itself answered",
    "named": "others name it, but it does not answer us",
    "converged": "not found: the nearest nodes were asked, and none knows it",
    "nobody": "no node answered; is this node cut off? (toxmesh ops dht show)",
    "timeout": "not done after its time; the nearest so far are below",
}


def _step(data: dict[str, Any]) -> str:
    """Returns one line for one event before the end."""
    at = f"{screen.number(data.get('at_ms')) / 1000:7.3f} s"
    what = screen.plain(data.get("what"))
    if what == "started":
        return f"{at}  begins with {screen.count(data.get('nodes'))} nodes"
    line = (
        f"{at}  round {screen.number(data.get('round')):<3.0f} {what:<8}  "
        f"{screen.plain(data.get('address')):<21}  "
        f"{screen.number(data.get('shared_bits')):3.0f} bits"
    )
    if what != "answered":
        return f"{line}  {screen.plain(data.get('key'))}"
    told = "it names the key itself" if data.get("knows_target") else ""
    return (
        f"{line}  {milliseconds(data.get('rtt_ms')):>9}  names {screen.count(data.get('named'))}, "
        f"{screen.count(data.get('nearer'))} worth asking; nearest so far "
        f"{screen.plain(data.get('nearest_bits'))} bits  {told}"
    ).rstrip()


def _end(data: dict[str, Any]) -> list[str]:
    """Returns the lines of the last event."""
    names = ("asked", "answered", "silent", "rounds")
    asked, answered, silent, rounds = (screen.count(data.get(name)) for name in names)
    result = screen.plain(data.get("result"))
    lines = [
        "",
        _ENDS.get(result, result),
        f"{asked} asked, {answered} answered, {silent} silent, {rounds} rounds, "
        f"{screen.number(data.get('at_ms')) / 1000:.3f} s",
    ]
    lines += [
        f"at {screen.plain(row['address'])}, say {screen.count(row['voices'])}"
        for row in data.get("addresses", ())
    ]
    rows = [
        [
            screen.plain(row.get("address")),
            screen.plain(row.get("shared_bits")),
            milliseconds(row.get("rtt_ms")),
            screen.plain(row.get("key")),
        ]
        for row in data.get("nearest", ())
    ]
    if rows:
        lines += ["", *screen.table([["nearest that answered", "bits", "RTT", "key"], *rows])]
    return lines


@click.command("lookup")
@click.argument("key", metavar="KEY")
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print each step as a line of JSON.")
@options.says_why
def command(key: str, state_dir: Path, as_json: bool) -> int:
    """Search the DHT for KEY from the running node, and watch each step.

    Each round asks the nearest nodes that are known by then; `bits` are the leading bits that a
    node's key shares with KEY. It ends when the node itself answers, when all near nodes were
    asked, after 30 s, or with Ctrl-C.

    Exit codes: 0 the node itself answered, 1 it did not, 2 nobody answered or no end in time,
    3 KEY is no key, 4 no node answers, 5 permission.
    """
    for name, at, data in client.follow(state_dir, "lookup", {"key": key}):
        if name != "lookup":
            raise client.AskError(
                "the node's process that did the lookup ended; try again", client.FAILED
            )
        done = data.get("what") == "done"
        if as_json:
            line = orjson.dumps({"event": name, "at": at, "data": data})
            click.echo(line.decode())
        else:
            click.echo("\n".join(_end(data)) if done else _step(data))
        if done:
            return _CODES.get(str(data.get("result")), FAILED)
    raise client.AskError("the node closed the door; is it stopping?", client.UNREACHABLE)
