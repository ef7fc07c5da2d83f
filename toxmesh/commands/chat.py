"""`toxmesh chat`: a terminal chat, line by line."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toxmesh.commands.identity import says_why
from toxmesh.commands.identity_online import identity, online_options, patience, run
from toxmesh.identity.shown import one_line

if TYPE_CHECKING:
    from core.crypto import PublicKey
    from core.messenger.events import FileOffer
    from toxmesh.identity.identity import Identity
    from toxmesh.identity.post import Sent

HELP = """\
text            goes to the friend who is chosen
/to FRIEND      choose a friend: the beginning of a name or key, or a number of /friends
/friends        who they are, and who is there
/add TOXID TEXT ask somebody to become a friend
/accept FRIEND  take a friend who asked
/remove FRIEND  end a friendship
/me TEXT        say what you do
/file PATH      send a file
/get N [PATH]   take the file number N that was offered
/refuse N       do not take it
/name TEXT      change your name
/status WORD    online, away or busy
/about TEXT     change your status message
/id             print your Tox ID
/quit           end (Ctrl-D does too)"""


class Wrong(Exception):
    """A line that cannot be obeyed: what is wrong."""


class Chat:
    """What a person types, and what happens."""

    def __init__(self, own: "Identity", write: Callable[[str], None]) -> None:
        self._own = own
        self._write = write
        self._to: PublicKey | None = None
        self._asked: dict[PublicKey, str] = {}
        self._offers: dict[int, FileOffer] = {}
        self._there: set[PublicKey] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "to": self._choose,
            "friends": self._list,
            "add": self._add,
            "accept": self._accept,
            "remove": self._remove,
            "me": self._act,
            "file": self._send_file,
            "get": self._get,
            "refuse": self._refuse,
            "name": lambda rest: self._own.set_name(rest),
            "status": self._set_status,
            "about": lambda rest: self._own.set_status_message(rest),
            "id": lambda rest: self._write(str(self._own.tox_id)),
            "help": lambda rest: self._write(HELP),
        }

    def say(self, text: str) -> None:
        """Prints what happened, with the time."""
        self._write(f"{time.strftime('%H:%M')} {text}")

    # Lines

    def obey(self, line: str) -> bool:
        """Does what a line wants; False: the person wants to end."""
        from core.messenger.errors import MessengerError
        from toxmesh.identity.mailbox import MailboxError
        from toxmesh.identity.profiles import ProfileError

        line = line.strip()
        if line in ("/quit", "/exit"):
            return False
        try:
            if line.startswith("/"):
                name, _, rest = line[1:].partition(" ")
                command = self._commands.get(name)
                if command is None:
                    raise Wrong(f"there is no /{name}; /help shows what there is")
                command(rest.strip())
            elif line:
                self._send(line)
        except (Wrong, MessengerError, MailboxError, ProfileError, ValueError) as error:
            self._write(f"! {error}")
        return True

    def _chosen(self) -> "PublicKey":
        if self._to is None:
            raise Wrong("nobody is chosen: /to FRIEND, and /friends shows them")
        return self._to

    def _send(self, text: str) -> None:
        self._track(self._own.send(self._chosen(), text))

    def _act(self, rest: str) -> None:
        from core.messenger.events import MessageKind

        self._track(self._own.send(self._chosen(), rest, MessageKind.ACTION))

    def _track(self, sent: "Sent") -> None:
        if not self._own.is_online(self._chosen()):
            self.say("(kept until the friend is there)")
            self._begin(self._delivered(sent, self._chosen()))

    async def _delivered(self, sent: "Sent", friend: "PublicKey") -> None:
        await sent.delivered()
        self.say(f"({self.name_of(friend)} has it now)")

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def name_of(self, key: "PublicKey") -> str:
        """Returns how a friend is called here."""
        from core.messenger.errors import UnknownFriend

        short = key.hex().upper()[:8]
        try:
            name = one_line(self._own.friend(key).saved.name.decode("utf-8", "replace"))
        except UnknownFriend:
            return short
        return name or short

    def _find(self, text: str, among: "list[PublicKey]") -> "PublicKey":
        """Returns who is meant by a number, or the beginning of a name or key."""
        if not text:
            raise Wrong("whom? Give a number, or the beginning of a name or key")
        if text.isdecimal() and 1 <= int(text) <= len(among):
            return among[int(text) - 1]
        found = [
            key
            for key in among
            if key.hex().startswith(text.lower())
            or self.name_of(key).lower().startswith(text.lower())
        ]
        if len(found) != 1:
            raise Wrong(f"{text!r} is {'nobody' if not found else 'more than one'} here")
        return found[0]

    def _choose(self, rest: str) -> None:
        self._to = self._find(rest, self._own.friends)
        self._write(f"to {self.name_of(self._to)}:")

    def _list(self, rest: str) -> None:
        for number, key in enumerate(self._own.friends, 1):
            view = self._own.friend(key)
            there = view.connection.value if view.connection.value != "none" else "away"
            self._write(f"{number:3} {there:<7} {key.hex().upper()[:16]} {self.name_of(key)}")
        for key, text in self._asked.items():
            self._write(f"    asked   {key.hex().upper()[:16]} {text}")
        if not self._own.friends and not self._asked:
            self._write("no friends yet; /add TOXID asks somebody, /id is yours")

    def _add(self, rest: str) -> None:
        tox_id, _, text = rest.partition(" ")
        self._to = self._own.add_friend(tox_id, text or "Hello")
        self.say("the request goes out until it is taken")

    def _accept(self, rest: str) -> None:
        key = self._find(rest, list(self._asked))
        self._own.accept(key)
        del self._asked[key]
        self._to = self._to or key

    def _remove(self, rest: str) -> None:
        key = self._find(rest, self._own.friends)
        self._own.remove_friend(key)
        self._to = None if self._to == key else self._to

    def _set_status(self, rest: str) -> None:
        from core.savedata.profile import UserStatus

        if rest.upper() not in UserStatus.__members__:
            raise Wrong("online, away or busy")
        self._own.set_status(UserStatus[rest.upper()])

    # Files

    def _send_file(self, rest: str) -> None:
        path = Path(rest).expanduser()
        if not path.is_file():
            raise Wrong(f"there is no file {path}")
        self._begin(self._sending(self._chosen(), path))

    async def _sending(self, friend: "PublicKey", path: Path) -> None:
        from core.messenger.errors import MessengerError
        from toxmesh.identity.files import TransferFailed

        try:
            await self._own.send_file(friend, path)
        except (TransferFailed, MessengerError, OSError) as error:
            self.say(f"! {path.name} was not sent: {error}")
        else:
            self.say(f"{self.name_of(friend)} has {path.name}")

    def _offer(self, rest: str) -> "FileOffer":
        number = rest.split(" ")[0]
        if not number.isdecimal() or int(number) not in self._offers:
            raise Wrong("no file of this number is offered")
        return self._offers.pop(int(number))

    def _get(self, rest: str) -> None:
        offer = self._offer(rest)
        given = rest.partition(" ")[2].strip()
        # A stranger's name is no path: what leads elsewhere or is hidden is taken away.
        safe = os.path.basename(one_line(offer.name).replace("\\", "/")).lstrip(".") or "file"
        self._begin(self._getting(offer, Path(given).expanduser() if given else Path(safe)))

    async def _getting(self, offer: "FileOffer", path: Path) -> None:
        from core.messenger.errors import MessengerError
        from toxmesh.identity.files import TransferFailed

        try:
            done = await self._own.receive_file(offer, path)
        except (TransferFailed, MessengerError, OSError) as error:
            self.say(f"! {path} did not arrive: {error}")
        else:
            self.say(f"{done} is here")

    def _refuse(self, rest: str) -> None:
        self._own.refuse_file(self._offer(rest))

    # Events

    async def listen(self) -> None:
        """Prints what happens, until the identity is closed."""
        from core.messenger.events import (
            ConnectionChanged,
            FileOffer,
            FriendRequest,
            IdentityConnected,
            Message,
            MessageKind,
        )

        async for event in self._own.events():
            match event:
                case IdentityConnected(connected):
                    self.say("friends can find you now" if connected else "not connected")
                case FriendRequest(key):
                    self._asked[key] = one_line(event.text)
                    short = key.hex().upper()[:8]
                    self.say(f"{short} wants to be your friend: {self._asked[key]}")
                    self._write(f"      /accept {short} says yes")
                case ConnectionChanged(key) if event.online is not (key in self._there):
                    self._there ^= {key}  # from relay to UDP and back is no news for a person
                    self.say(f"{self.name_of(key)} is {'there' if event.online else 'gone'}")
                case Message(key, MessageKind.ACTION):
                    self.say(f"* {self.name_of(key)} {one_line(event.text)}")
                case Message(key):
                    self.say(f"<{self.name_of(key)}> {one_line(event.text)}")
                    self._to = self._to or key
                case FileOffer(key):
                    number = max(self._offers, default=0) + 1
                    self._offers[number] = event
                    size = "a stream" if event.size is None else f"{event.size:,} bytes"
                    name = one_line(event.name)
                    self.say(f"{self.name_of(key)} offers {name}, {size}: /get {number}")


@click.command("chat")
@click.argument("name")
@click.option("--to", metavar="FRIEND", help="Beginning of the name or key of whom to talk to.")
@online_options
@says_why
def command(name: str, to: str | None, **options: Any) -> int:
    """Talk with friends in this terminal, line by line; /help shows what else it can do."""
    own = identity(name, **options)

    async def talk() -> int:
        async with own, patience(own):
            chat = Chat(own, click.echo)
            click.echo(f"you are {own.tox_id}; /help helps")
            if to is not None:
                chat.obey(f"/to {to}")
            listening = asyncio.get_running_loop().create_task(chat.listen())
            try:
                lines = await _stdin()
                while line := await lines.readline():
                    if not chat.obey(line.decode("utf-8", "replace")):
                        break
            finally:
                listening.cancel()
        return 0

    return run(talk)


async def _stdin() -> asyncio.StreamReader:
    """Returns standard input, to be read line by line while all else goes on."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    # A descriptor of our own: asyncio closes it and lets it not wait, and the shell needs its own.
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    return reader
