"""`toxmesh identity status`: how an identity is that another process serves."""

import socket
from pathlib import Path
from typing import Any

import click

from ops.options import as_json as json_option
from ops.options import print_json
from toxmesh.commands import complain
from toxmesh.commands.identity import says_why, state_dir_option


@click.command("status")
@click.argument("name")
@json_option
@state_dir_option
@says_why
def command(name: str, as_json: bool, state_dir: Path) -> int:
    """Show how an identity is that `toxmesh identity serve` keeps online.

    Its friends and by which way they are reached, its relays, what waits, and what was refused.

    Exit codes: 0 it answered, 1 there is no such identity, 4 no process serves it."""
    from ops.client import AskError
    from toxmesh.identity.profiles import Profiles

    path = Profiles(state_dir).existing(name)
    try:
        answer = _ask(path, name)
    except AskError as error:
        complain(str(error))
        return error.code
    if as_json:
        print_json(answer)
    else:
        for line in lines(answer):
            click.echo(line)
    return 0


def _ask(profile: Path, name: str) -> dict[str, Any]:
    """Asks the process at the door. Raises AskError."""
    from ops import client
    from toxmesh.identity.door import door_of

    path = door_of(profile)

    def connect(timeout_s: float) -> socket.socket:
        try:
            return client.connect(path.parent, timeout_s, path.name)
        except (FileNotFoundError, ConnectionError):
            raise client.AskError(
                f"no process serves {name}; start one with: toxmesh identity serve {name}",
                client.UNREACHABLE,
            ) from None

    client.use_remote(client.Remote(str(path), connect))
    try:
        return client.ask(path.parent, "status")
    finally:
        client.use_remote(None)


def lines(answer: dict[str, Any]) -> list[str]:
    """Returns what a person sees."""
    from toxmesh.identity.shown import one_line

    messages, drops = answer["messages"], answer["drops"]
    rows = [
        f"tox id      {answer['tox_id']}",
        f"connected   {'yes' if answer['connected'] else 'no'}",
        f"udp port    {answer['udp_port'] or 'none'}",
        f"messages    {messages['unsent']} without receipt, {messages['untaken']} not taken",
        f"friends     {len(answer['friends'])}",
    ]
    for friend in answer["friends"]:
        session = friend["session"]
        shown = "no session"
        if session is not None:
            shown = (
                f"rtt {session['rtt_s'] * 1000:.1f} ms  {session['packets_per_s']} packets/s  "
                f"{session['queued']} queued  {session['sent_bytes']} B out  "
                f"{session['received_bytes']} B in"
            )
        rows.append(
            f"  {friend['key'][:16]}  {friend['path']:<7} {shown}  {one_line(friend['nick'])}"
        )
    rows.append(f"relays      {len(answer['relays'])}")
    rows += [
        f"  {row['key'][:16]}  {row['state']:<10} rtt {row['rtt_s'] * 1000:.1f} ms  "
        f"{row['linked']} linked  {row['address']}"
        for row in answer["relays"]
    ]
    rows.append(f"refused     {sum(drops.values())}")
    rows += [f"  {count:>8}  {reason}" for reason, count in drops.items()]
    return rows
