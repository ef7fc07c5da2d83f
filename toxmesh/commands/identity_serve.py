"""`toxmesh identity serve`: an identity that is online by itself, as a bot."""

from typing import Any

import click

from toxmesh.commands.identity import says_why
from toxmesh.commands.identity_online import identity, online_options, run


@click.command("serve")
@click.argument("name")
@click.option("--echo", is_flag=True, help="Answer each message with itself.")
@click.option("--accept", is_flag=True, help="Take everybody as a friend who asks.")
@online_options
@says_why
def command(name: str, echo: bool, accept: bool, **options: Any) -> int:
    """Keep an identity online until SIGTERM or Ctrl-C; says on stdout what happens.

    --echo makes an echo bot of it, that takes everybody as a friend."""
    from core.messenger.events import (
        ConnectionChanged,
        FileOffer,
        FriendRequest,
        IdentityConnected,
        Message,
    )

    served = identity(name, **options)

    async def serve() -> int:
        async with served:
            click.echo(f"tox id {served.tox_id}")
            click.echo(f"ready udp={served.port}")
            async for event in served.events():
                match event:
                    case IdentityConnected(connected):
                        click.echo("connected" if connected else "not connected")
                    case FriendRequest(key):
                        click.echo(f"request {key.hex().upper()} {one_line(event.text)}")
                        if accept or echo:
                            served.accept(key)
                    case ConnectionChanged(key, connection):
                        click.echo(f"friend {key.hex().upper()} {connection.value}")
                    case Message(key, kind):
                        click.echo(f"message {key.hex().upper()} {one_line(event.text)}")
                        if echo:
                            served.send(key, event.raw, kind)
                    case FileOffer(key):
                        click.echo(f"file {key.hex().upper()} {event.size} {one_line(event.name)}")
                        served.refuse_file(event)
        return 0

    return run(serve)


def one_line(text: str) -> str:
    """Returns a stranger's text in one line, without anything that moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
