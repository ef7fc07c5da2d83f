"""`toxmesh ops watch`: what happens in the running node, line by line."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import orjson

from ops import client, options, repeat, screen

EVENTS = ("worker", "node", "log", "relay", "link", "dht", "ban", "drops")
"""Names that the node knows; it refuses others itself."""
_USUAL = ("worker", "node", "relay", "ban", "drops")

Data = dict[str, Any]


def _get(data: Data, name: str) -> str:
    return screen.plain(data.get(name))


def _worker(data: Data) -> str:
    said = {
        "up": f"{_get(data, 'name')} is at work, process {_get(data, 'pid')}",
        "down": f"{_get(data, 'name')} {_get(data, 'how')} and is started again",
        "successor": f"{_get(data, 'name')} has a successor, process {_get(data, 'pid')}",
        "replaced": f"{_get(data, 'name')} is replaced by process {_get(data, 'pid')}",
        "added": f"{_get(data, 'name')} was added, process {_get(data, 'pid')}",
        "removed": f"{_get(data, 'name')} was removed",
    }
    return said.get(_get(data, "what"), _other(data))


def _node(data: Data) -> str:
    return f"the node is {_get(data, 'state')} (it was {_get(data, 'was')})"


def _relay(data: Data) -> str:
    who = f"{_get(data, 'key')} at {_get(data, 'address')}"
    now = f"{screen.count(data.get('clients'))} clients"
    if data.get("change") == "in":
        return f"{who} has come to {_get(data, 'worker')}; {now}"
    age = screen.span(data.get("age_s"))
    return f"{who} has gone after {age}: {_get(data, 'why')}; {now}"


def _link(data: Data) -> str:
    ends = f"{_get(data, 'key')} and {_get(data, 'peer')}"
    if data.get("change") == "up":
        return f"{ends} are linked"
    return f"{ends} are linked no more: {_get(data, 'why')}"


def _dht(data: Data) -> str:
    said = {
        "in": "has a place in the close list",
        "out": "has lost its place in the close list",
        "bad": "does not answer any more",
        "good": "answers again",
    }
    what = said.get(_get(data, "change"), _get(data, "change"))
    count = screen.count(data.get("close"))
    return f"{_get(data, 'key')} at {_get(data, 'address')} {what}; {count} close nodes"


def _log(data: Data) -> str:
    words = (_get(data, name) for name in ("level", "from", "logger"))
    return f"{' '.join(words)}: {_get(data, 'message')}"


def _ban(data: Data) -> str:
    said = {"added": "is banned", "removed": "is let in again", "over": "is let in: time is over"}
    note = _get(data, "note")
    what = said.get(_get(data, "change"), _get(data, "change"))
    return f"{_get(data, 'ban')} {what}" + (f" ({note})" if note else "")


def _drops(data: Data) -> str:
    drops = data.get("drops")
    rows = drops.items() if isinstance(drops, dict) else ()
    return ", ".join(f"{screen.plain(reason)} {screen.count(many)}" for reason, many in rows)


def _lost(data: Data) -> str:
    return f"{screen.count(data.get('count'))} events were lost: this reader was too slow"


def _other(data: Data) -> str:
    return ", ".join(f"{screen.plain(name)} {screen.plain(value)}" for name, value in data.items())


_SAID: dict[str, Callable[[Data], str]] = {
    "worker": _worker, "node": _node, "relay": _relay, "link": _link, "dht": _dht, "log": _log,
    "ban": _ban, "drops": _drops,
    "lost": _lost,
}  # fmt: skip


def line(event: client.Event) -> str:
    """Returns what a person sees of an event."""
    seconds, rest = divmod(event.at, 1)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    said = _SAID.get(event.name, _other)(event.data)
    return f"{clock}.{int(rest * 1000):03d}  {screen.plain(event.name):<6}  {said}"


@click.command("watch")
@click.argument("events", nargs=-1, type=click.Choice(EVENTS), metavar="[EVENT]...")
@click.option(
    "-n", "--count", type=click.IntRange(0), default=0, metavar="COUNT",
    help="End after so many events [0: go on until Ctrl-C].",
)  # fmt: skip
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
@options.says_why
@repeat.until_stopped
def command(events: tuple[str, ...], count: int, state_dir: Path, as_json: bool) -> int:
    """Follow what happens in the running node, until Ctrl-C.

    EVENT is one of: worker (processes that come, go or are replaced), node (its state), relay
    (clients that come and go, and why), link (links between two of them that come up and go, and
    why), dht (changes of the close list), drops (those of each second, by reason), ban (who is
    shut out or let in), log (each record). Without any: worker, node, relay, ban and drops.

    Exit codes: 0 good, 3 no such event, 4 no node answers (any more), 5 permission.
    """
    names = list(events or _USUAL)
    with closing(client.follow(state_dir, "watch", {"names": names})) as rows:
        for number, event in enumerate(rows, 1):
            if as_json:
                row = {"event": event.name, "at": event.at, "data": event.data}
                click.echo(orjson.dumps(row))
            else:
                click.echo(line(event))
            if number == count:
                return 0
    raise client.AskError("the node closed the door; is it stopping?", client.UNREACHABLE)
