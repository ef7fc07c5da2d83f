"""`toxmesh ops stat`: one line every second, as vmstat does for a machine."""

import time
from pathlib import Path
from typing import Any

import click
import orjson

from ops import client, options, repeat, screen

_HEADS = [
    "state", "CPU %", "in/s", "out/s", "drops/s", "newkeys/s", "queue", "kernel KiB", "relays",
    "relay in/s", "relay out/s", "MiB",
]  # fmt: skip
_WIDTHS = [9, 6, 9, 9, 8, 9, 7, 10, 7, 10, 11, 7]
_HEAD_EVERY = 20  # lines


def cells(rates: dict[str, Any]) -> list[str]:
    """Returns what a line says of the answer to `rates`."""
    found = rates.get("relay")
    relay = found if isinstance(found, dict) else {}
    return [
        screen.plain(rates.get("state")),
        f"{screen.number(rates.get('cpu_percent')):.1f}",
        screen.rate(rates.get("received_per_s")),
        screen.rate(rates.get("sent_per_s")),
        screen.rate(rates.get("drops_per_s")),
        screen.rate(rates.get("new_keys_per_s")),
        screen.count(rates.get("queue")),
        screen.count(screen.number(rates.get("queue_bytes")) / 1024),
        screen.count(relay.get("connections")),
        screen.short(relay.get("bytes_in_per_s")),
        screen.short(relay.get("bytes_out_per_s")),
        f"{screen.number(rates.get('rss')) / (1 << 20):,.0f}",
    ]


def line(cells: list[str]) -> str:
    """Lays cells out in columns that stay where they are."""
    first, *others = [
        cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)
    ]
    return " ".join([first.strip().ljust(_WIDTHS[0]), *others])


@click.command("stat")
@repeat.every
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print each look as a line of JSON.")
@options.says_why
@repeat.until_stopped
def command(interval: float, count: int, state_dir: Path, as_json: bool) -> int:
    """Show what the node does, one line every second.

    Datagrams in and out, drops, combined keys computed (newkeys), datagrams that wait in brokers
    (queue) and memory that waits in sockets (kernel), connections and bytes of the relay. CPU is of
    one core, all processes but the supervisor together.

    Exit codes: 0 good, 4 no node answers (any more), 5 permission.
    """
    for turn in repeat.turns(interval, count):
        rates = client.ask(state_dir, "rates")
        if as_json:
            click.echo(orjson.dumps({"at": round(time.time(), 3), **rates}))
            continue
        if turn % _HEAD_EVERY == 0:
            click.echo(line(_HEADS))
        click.echo(line(cells(rates)))
    return 0
