"""`toxmesh identity serve`: identities that are online by themselves, as bots."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import click

from toxmesh.commands.identity import says_why
from toxmesh.commands.identity_online import identity, online_options, run

if TYPE_CHECKING:
    from toxmesh.identity.identity import Identity

_LAST_PORT = 65535


class Bot:
    """What one identity does by itself about what happens, and says of it."""

    def __init__(
        self, own: "Identity", say: Callable[[str], None], *, echo: bool, accept: bool
    ) -> None:
        self._own = own
        self._say = say
        self._echo = echo
        self._accept = accept or echo

    async def serve(self) -> None:
        """Does it until the identity is closed."""
        self._say(f"tox id {self._own.tox_id}")
        self._say(f"ready udp={self._own.port}")
        async for event in self._own.events():
            self.handle(event)

    def handle(self, event: object) -> None:
        """Says what happened, and does what belongs to it.

        No friend ends the bot: what cannot be done, since they have gone, take no echo and fill
        the mailbox, or sent no text at all, is one line.
        """
        from core.messenger.errors import MessengerError
        from toxmesh.identity.mailbox import MailboxError

        try:
            self._answer(event)
        except (MessengerError, MailboxError, ValueError) as error:
            self._say(f"failed {error}")

    def _answer(self, event: object) -> None:
        from core.messenger.events import (
            ConnectionChanged,
            FileOffer,
            FriendRequest,
            IdentityConnected,
        )
        from toxmesh.identity.inbox import StoredMessage

        match event:
            case IdentityConnected(connected):
                self._say("connected" if connected else "not connected")
            case FriendRequest(key):
                self._say(f"request {key.hex().upper()} {one_line(event.text)}")
                if self._accept:
                    self._own.accept(key)
            case ConnectionChanged(key, connection):
                self._say(f"friend {key.hex().upper()} {connection.value}")
            case StoredMessage(key, kind):
                self._say(f"message {key.hex().upper()} {one_line(event.text)}")
                if self._echo:
                    self._own.send(key, event.raw, kind, answers=event)
            case FileOffer() if event.unsets_avatar:
                pass  # no file: toxic says so each time it comes
            case FileOffer(key):
                self._say(f"file {key.hex().upper()} {event.size} {one_line(event.name)}")
                self._own.refuse_file(event)


@click.command("serve")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--echo", is_flag=True, help="Answer each message with itself.")
@click.option("--accept", is_flag=True, help="Take everybody as a friend who asks.")
@online_options
@says_why
def command(
    names: tuple[str, ...], echo: bool, accept: bool, udp_port: int | None, **options: Any
) -> int:
    """Keep identities online until SIGTERM or Ctrl-C; says on stdout what happens.

    Of several, each line begins with the name, each has a UDP port of its own (from --udp-port on,
    the first that are free), and --passphrase-file is for all that are encrypted.

    --echo makes an echo bot of each, that takes everybody as a friend."""
    from toxmesh.identity.profiles import ProfileError

    if len(set(names)) != len(names):
        raise ProfileError("an identity is named twice, and can be online only once")
    last_port = udp_port and min(udp_port + len(names) - 1, _LAST_PORT)  # 0 is any
    served = [identity(name, udp_port=udp_port, last_port=last_port, **options) for name in names]

    def say(name: str) -> Callable[[str], None]:
        begin = f"{name} " if len(names) > 1 else ""
        return lambda line: click.echo(begin + line)

    async def serve() -> int:
        async with AsyncExitStack() as stack:
            for own in served:  # each with a door for `toxmesh identity status`
                await stack.enter_async_context(own)
                own.open_door()
            await asyncio.gather(
                *(
                    Bot(own, say(name), echo=echo, accept=accept).serve()
                    for name, own in zip(names, served, strict=True)
                )
            )
        return 0

    return run(serve)


def one_line(text: str) -> str:
    """Returns a stranger's text in one line, without anything that moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
