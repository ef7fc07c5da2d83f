"""`toxmesh ops status`: is the node well, who works in it, and what became of its packets."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from ops import client, options, screen
from ops.kinds import NAMES

GOOD, DEGRADED, DOWN = 0, 1, 2
_NAMES = {f"0x{kind:02x}": name for kind, name in NAMES.items()}
_WORDS = {GOOD: "good", DEGRADED: "degraded", DOWN: "down"}
_COLOURS = {GOOD: "green", DEGRADED: "yellow", DOWN: "red"}


def _rows(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns the rows of a list in the answer, leaving out what is none."""
    found = answer.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _table(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found = answer.get(name)
    return found if isinstance(found, dict) else {}


def verdict(answer: dict[str, Any]) -> int:
    """Returns 0 good, 1 degraded (somebody is not at work) or 2 down (nobody is, or it stops)."""
    node, broker = _table(answer, "node"), _table(answer, "broker")
    workers = _rows(answer, "workers")
    at_work = [row.get("state") == "good" for row in workers]
    if node.get("state") == "stopping" or not any(at_work):
        return DOWN
    if node.get("state") == "good" and broker.get("state") == "good" and all(at_work):
        return GOOD
    return DEGRADED


def _word(answer: dict[str, Any]) -> str:
    """Says how the node is."""
    code = verdict(answer)
    draining = code == DEGRADED and _table(answer, "node").get("state") == "draining"
    return "draining" if draining else _WORDS[code]


def _queue(row: dict[str, Any]) -> str:
    """Returns the datagrams that wait in the broker, or what the kernel keeps in bytes."""
    count, size = screen.number(row.get("queue")), screen.number(row.get("queue_bytes"))
    return screen.count(count) if count or not size else screen.size(size)


def worker_line(row: dict[str, Any]) -> list[str]:
    """Returns the cells of a process; HEADS says what they are."""
    return [
        screen.plain(row.get("name", row.get("role"))),
        screen.plain(row.get("state")),
        screen.plain(row.get("pid")),
        screen.plain(row.get("core")),
        _queue(row),
        screen.count(row.get("packets_per_s")),
        f"{screen.number(row.get('cpu_percent')):.1f} %",
        screen.size(row.get("rss")),
        screen.count(row.get("restarts")),
        screen.span(row.get("uptime_s")),
    ]


def _kinds(kinds: dict[str, Any]) -> list[list[str]]:
    """Returns a row for each kind of packet that Tox has, and one for all other first bytes."""
    rows: list[list[str]] = []
    other_in = other_out = 0.0
    for kind, row in sorted(kinds.items()):
        if not isinstance(row, dict):
            continue
        received, sent = row.get("received"), row.get("sent")
        name = _NAMES.get(kind)
        if name is None:
            other_in += screen.number(received)
            other_out += screen.number(sent)
        else:
            rows.append([kind, name, screen.count(received), screen.count(sent)])
    if other_in or other_out:
        rows.append(["other", "no packet of Tox", screen.count(other_in), screen.count(other_out)])
    return rows


def _reasons(drops: dict[str, Any]) -> list[list[str]]:
    """Returns why packets were dropped, the most first; `reason:detail` is told by its reason."""
    sums: Counter[str] = Counter()
    for reason, many in drops.items():
        sums[screen.plain(reason).split(":")[0]] += int(screen.number(many))
    return [[reason, screen.count(many)] for reason, many in sums.most_common()]


HEADS = ["worker", "state", "pid", "core", "queue", "packets/s", "CPU", "memory", "restarts", "up"]


def page(answer: dict[str, Any]) -> list[str]:
    """Returns what a person sees, line by line."""
    node, totals = _table(answer, "node"), _table(answer, "totals")
    addresses = node.get("addresses")
    broker = _table(answer, "broker")
    lines = [
        f"toxmesh {screen.plain(node.get('version'))}, process {screen.plain(node.get('pid'))}, "
        f"is up {screen.span(node.get('uptime_s'))}: {_word(answer)}",
        f"key        {screen.plain(node.get('public_key'))}",
        f"state      {screen.plain(node.get('state_dir'))}",
        f"dispatch   {screen.plain(node.get('dispatch'))}",
    ]
    for index, address in enumerate(addresses if isinstance(addresses, list) else []):
        lines.append(f"{'addresses' if index == 0 else '':<11}{screen.plain(address)}")
    off = [name for name, state in _table(node, "services").items() if state == "off"]
    if off:
        lines.append(f"off        {', '.join(map(screen.plain, off))} (toxmesh ops services)")
    drain = node.get("drain")
    if isinstance(drain, dict):
        lines.append(
            f"drained    for {screen.span(drain.get('for_s'))}: nobody new is taken,"
            f" {screen.count(drain.get('clients'))} relay clients are left"
        )
    for row in _rows(node, "pending"):
        name, now, then = (screen.plain(row.get(part)) for part in ("setting", "now", "then"))
        lines.append(f"pending    {name} is {now}, and {then} when the node is started again")
    rows = ([{"name": "broker", **broker}] if broker else []) + _rows(answer, "workers")
    lines += ["", *screen.table([HEADS, *map(worker_line, rows)], left=2)]
    kinds = _table(totals, "kinds")
    if kinds:
        lines += ["", *screen.table([["packets", "", "received", "sent"], *_kinds(kinds)], left=2)]
    drops = _table(totals, "drops")
    if drops:
        lines += ["", *screen.table([["dropped because", "packets"], *_reasons(drops)])]
    return lines


@click.command("status")
@options.asks
def command(state_dir: Path, as_json: bool) -> int:
    """Show whether a running node is well, its workers, and totals of packets.

    Exit codes: 0 good, 1 degraded (somebody is not at work, such as a worker that restarts) or
    drained, 2 down (no worker is at work, or the node stops), 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "status")
    code = verdict(answer)
    if as_json:
        options.print_json(answer)
        return code
    first, *others = page(answer)
    if screen.has_colour():
        first = click.style(first, fg=_COLOURS[code], bold=True)
    click.echo("\n".join([first, *others]))
    return code
