"""`toxmesh ops motd`: the message of the day that anybody may ask a node for."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen


def _print(answer: dict[str, Any], as_json: bool) -> int:
    if as_json:
        options.print_json(answer)
        return 0
    template, text = str(answer.get("template", "")), str(answer.get("text", ""))
    lines = [f"{screen.count(answer.get('bytes'))} of {screen.count(answer.get('most'))} bytes"]
    if template != text:
        lines.append(f"template  {screen.plain(template)}")
    lines.append(f"message   {screen.plain(text)}" if text else "there is no message")
    click.echo("\n".join(lines))
    return 0


@click.command("show")
@options.asks
def show(state_dir: Path, as_json: bool) -> int:
    """Show the message of the day, as it is filled in at the moment."""
    return _print(client.ask(state_dir, "motd"), as_json)


@click.command("set")
@click.argument("text")
@options.asks
def set_(text: str, state_dir: Path, as_json: bool) -> int:
    """Give the running node another message of the day; "" for none.

    Filled in once a second, at most 255 bytes in all: {{start_date}}, {{uptime}},
    {{tcp_packets_in}}, {{tcp_packets_out}}, {{udp_packets_in}}, {{udp_packets_out}}. The message
    lasts until the node is restarted or its settings are reloaded: to keep it, write motd = "..."
    into toxmesh.toml.

    Exit codes: 0 done, 3 TEXT is too long or has another name in braces, 4 no node answers,
    5 permission.
    """
    return _print(client.ask(state_dir, "motd set", {"text": text}), as_json)
