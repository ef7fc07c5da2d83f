"""`toxmesh ops services`: which services a running node offers, and switching them at once."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen

_COLOURS = {"on": "green", "off": "yellow"}


def table(answer: dict[str, Any]) -> list[str]:
    """Returns what a person sees of all services."""
    rows = [
        [
            screen.plain(row.get("name")),
            screen.plain(row.get("state")),
            screen.count(row.get("refused")),
            "" if row.get("why") is None else screen.plain(row.get("why")),
        ]
        for row in answer["rows"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{'service':<{widths[0]}}  state   refused"]
    for name, state, refused, why in rows:
        word = state.ljust(6)
        if screen.has_colour():
            word = click.style(word, fg=_COLOURS.get(state))
        lines.append(f"{name:<{widths[0]}}  {word}  {refused:>7}  {why}".rstrip())
    return lines


@click.command("services")
@click.argument("change", metavar="[on|off]", type=click.Choice(["on", "off"]), required=False)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@options.asks
def command(
    change: str | None, names: tuple[str, ...], state_dir: Path, as_json: bool
) -> int:
    """Show the services of a running node, or switch some of them on or off at once.

    NAME is relay, onion, announce, data, forward, bootstrap-info or LAN. Requests to a service that
    is off are passed over, as by a node that never had it, and counted as service_off:NAME; who is
    connected to the relay is closed. A switch lasts until the node is restarted or its settings are
    reloaded: to keep it, write services_off = ["relay"] into toxmesh.toml.

    Exit codes: 0 good, 2 this node cannot have the service, 3 no such service, 4 no node answers,
    5 permission.
    """
    if change is None:
        answer = client.ask(state_dir, "services")
    else:
        args = {"names": list(names), "on": change == "on"}
        answer = client.ask(state_dir, "services set", args)
    if as_json:
        options.print_json(answer)
        return 0
    lines = table(answer)
    if change is not None:
        told = ", ".join(map(screen.plain, answer["changed"]))
        lines = [f"switched {change}: {told}" if told else f"all of them are {change} already", ""]
        lines += table(answer)
    click.echo("\n".join(lines))
    return 0
