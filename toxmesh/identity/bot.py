"""What an identity does by itself, whoever runs it: takes friends, answers with an echo."""

import asyncio
from collections.abc import Callable

from core.messenger.errors import MessengerError
from core.messenger.events import ConnectionChanged, FileOffer, FriendRequest, IdentityConnected
from toxmesh.identity.identity import Identity
from toxmesh.identity.inbox import StoredMessage
from toxmesh.identity.mailbox import MailboxError
from toxmesh.identity.profiles import ProfileError
from toxmesh.identity.shown import one_line

MOST_TAKEN = 1000
"""Friends that a bot has when it takes nobody more by itself: each is searched for and saved, and
whoever knows the Tox ID makes as many keys as they like."""


class Bot:
    """What one identity does by itself about what happens, and says of it.

    An echo and the message it answers are one transaction: a process that dies echoes nothing
    twice, and nothing is left without echo.
    """

    def __init__(
        self, own: Identity, say: Callable[[str], None], *, echo: bool, accept: bool
    ) -> None:
        self._own = own
        self._say = say
        self._echo = echo
        self._accept = accept or echo

    async def serve(self, *, listens: bool = True) -> None:
        """Does it until the identity is closed; `listens`: else it says who it is, and leaves what
        happens to others, for ever."""
        self._say(f"tox id {self._own.tox_id}")
        self._say(f"ready udp={self._own.port}")
        if not listens:
            await asyncio.Event().wait()
        async for event in self._own.events():
            self.handle(event)

    def handle(self, event: object) -> None:
        """Says what happened, and does what belongs to it.

        No friend ends the bot: what cannot be done, since they have gone, take no echo and fill
        the mailbox, or sent no text at all, is one line; a full disk is one as well.
        """
        try:
            self._answer(event)
        except (MessengerError, MailboxError, ProfileError, ValueError) as error:
            self._say(f"failed {error}")

    def _answer(self, event: object) -> None:
        match event:
            case IdentityConnected(connected):
                self._say("connected" if connected else "not connected")
            case FriendRequest(key):
                self._say(f"request {key.hex().upper()} {one_line(event.text)}")
                if self._accept and len(self._own.friends) >= MOST_TAKEN:
                    self._say(f"failed there are {MOST_TAKEN} friends, and no more are taken")
                elif self._accept:
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
