"""A Tox identity in a Python program: friends, messages and files, with asyncio.

The README has an echo bot. Friends are named by their public keys (32 bytes; `event.friend` has it,
and hexadecimal text and a ToxId name one as well).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core import bootstrap_node
from core.crypto import PublicKey
from core.entropy import SystemEntropy
from core.identity import EngineOptions
from core.messenger.errors import UnknownFriend
from core.messenger.events import (
    ConnectionChanged,
    Control,
    FileChunk,
    FileChunkWanted,
    FileControlled,
    FileEnded,
    FileOffer,
    IdentityConnected,
    Message,
    MessageKind,
    Receipt,
    Unconfirmed,
)
from core.messenger.friend import FriendView
from core.relay_client import Proxy
from core.relay_client.choosing import STANDING
from core.savedata.profile import Profile, UserStatus
from core.tox_id import ToxId
from toxmesh import nodes
from toxmesh.identity.door import IdentityDoor, door_of
from toxmesh.identity.files import FileTransfers, Progress, Source
from toxmesh.identity.host import (
    AnyEngine,
    AnyEvent,
    Behind,
    EngineRunner,
    MakeRunner,
    Runner,
)
from toxmesh.identity.inbox import EventsLost, Inbox, StoredMessage
from toxmesh.identity.mailbox import Mailbox
from toxmesh.identity.naming import Friend, find_nodes, key_of
from toxmesh.identity.post import Post, Sent
from toxmesh.identity.profiles import MESSAGES, ProfileError, ProfileFile
from toxmesh.identity.status import describe
from toxmesh.identity.udp import FIRST_PORT, LAST_PORT

SAVE_S = 600.0
"""How often nodes and last seen times are saved; whatever a person changes is saved at once."""
log = logging.getLogger("toxmesh.identity")


class IdentityError(Exception):
    """This cannot be done with the identity now; the text says why."""


class Identity:
    """One Tox identity. Made by `create`, `load` or `open`, used within `async with`."""

    def __init__(
        self,
        profile: Profile,
        file: ProfileFile | None = None,
        *,
        bootstrap: Iterable[str] | None = None,
        relays: Iterable[str] = (),
        udp: bool = True,
        ports: tuple[int, int] = (FIRST_PORT, LAST_PORT),
        hosts: tuple[str, ...] = ("0.0.0.0", "::"),
        lan_discovery: bool = False,
        proxy: str | None = None,
        standing_relays: int = STANDING,
        runner: MakeRunner = EngineRunner,
    ) -> None:
        """Keeps an identity; nothing is sent before `start`.

        `bootstrap` and `relays` are nodes, each `HOST:PORT:PUBLICKEY`; a bootstrap node is tried as
        a TCP relay on the same port too. Without any, the list that comes with toxmesh is used; an
        empty one is for an identity that saved nodes or the local network lead on. `udp=False`: by
        relays alone. `ports`: the first and last UDP port to try. `proxy`:
        `socks5://user:password@host:port` or `http://…`; names are then resolved by the proxy, and
        no datagram is sent. `standing_relays`: how many are connected though nobody needs them yet;
        fewer where thousands of identities share an address, of which a relay takes 64 connections.
        `runner`: what runs it, if its packets are carried elsewhere than in this process.
        Raises ValueError for what is no node.
        """
        self._profile = profile
        self._file = file
        self._bootstrap = (
            list(nodes.shipped())
            if bootstrap is None
            else [bootstrap_node.parse(text) for text in bootstrap]
        )
        self._relays = [bootstrap_node.parse(text) for text in relays]
        self._udp = udp and proxy is None
        self._ports, self._hosts = ports, hosts
        self._lan_discovery = lan_discovery
        self._standing_relays = standing_relays
        self._proxy = None if proxy is None else Proxy.from_url(proxy)
        self._make_runner = runner
        self._runner: Runner | None = None
        self._mailbox: Mailbox | None = None
        self._saver: asyncio.Task[None] | None = None
        self._seeker: asyncio.Task[None] | None = None
        self._inbox = Inbox()
        self._post: Post | None = None
        self._online: asyncio.Event | None = None  # of those who wait to be connected
        self._door: IdentityDoor | None = None
        self._friend_changed: dict[PublicKey, asyncio.Event] = {}
        self._files = FileTransfers(self)

    @classmethod
    def create(
        cls, name: str = "", path: Path | str | None = None, *, passphrase: str = "", **options: Any
    ) -> Self:
        """Makes a new identity; with a `path` it is saved there, under the passphrase if there is
        one. Options are those of the class. Raises ProfileError where a file stands already."""
        profile = Profile.generate(SystemEntropy(), name.encode())
        file = None
        if path is not None:
            file = ProfileFile.create(Path(path), profile, passphrase)
        return cls(profile, file, **options)

    @classmethod
    def load(cls, path: Path | str, *, passphrase: str = "", **options: Any) -> Self:
        """Takes the profile of any Tox client. Raises ProfileError."""
        file, profile = ProfileFile.open(Path(path), lambda: passphrase)
        return cls(profile, file, **options)

    @classmethod
    def open(
        cls, path: Path | str, name: str = "", *, passphrase: str = "", **options: Any
    ) -> Self:
        """Loads a profile, or makes a new one of that name where none is. Raises ProfileError."""
        if Path(path).exists():
            return cls.load(path, passphrase=passphrase, **options)
        return cls.create(name, path, passphrase=passphrase, **options)

    # Start and end

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Goes online. Raises PortError, ProfileError (another process uses the profile), and
        MailboxError."""
        if self._runner is not None:
            raise IdentityError("the identity runs already")
        if self._file is not None:
            self._file.lock()
        try:
            path = None if self._file is None else self._file.path.with_suffix(MESSAGES)
            self._mailbox = Mailbox(path, self._profile.keys.secret)
            self._inbox.open(self._mailbox)
            self._post = Post(self._mailbox, self._deliver)
            options = EngineOptions(
                udp=self._udp,
                has_ipv4=any(":" not in host for host in self._hosts) or not self._udp,
                has_ipv6=any(":" in host for host in self._hosts) or not self._udp,
                lan_discovery=self._lan_discovery,
                proxy=self._proxy,
                standing_relays=self._standing_relays,
            )
            behind = Behind(self._on_event, self._mailbox, self._post)
            self._runner = self._make_runner(
                self._profile, options, behind, self._ports, self._hosts
            )
        finally:
            if self._runner is None:
                self._release()
        self._seeker = asyncio.create_task(self._find_nodes())
        if self._file is not None:
            self._saver = asyncio.create_task(self._save_now_and_then())

    def _release(self) -> None:
        self._inbox.close()
        if self._post is not None:
            self._post.close()
            self._post = None
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
        if self._file is not None:
            self._file.unlock()

    async def close(self, *, stays: bool = False) -> None:
        """Goes offline and saves; `events` ends. `stays`: another process goes on with the
        sessions, which are not ended."""
        runner = self._runner
        if runner is None:
            return
        tasks = [task for task in (self._saver, self._seeker) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._door is not None:
            self._door.close()
            self._door = None
        now = asyncio.get_running_loop().time()
        self._files.close()
        self._profile = runner.engine.profile(now)
        if not stays:
            runner.engine.shut_down(now)
        runner.close()
        self._runner = None
        try:
            if self._file is not None:
                self._file.save(self._profile)
        finally:
            self._release()

    def save(self) -> None:
        """Saves the profile now; nothing happens without a file. Raises ProfileError."""
        if self._runner is not None:
            self._profile = self._engine.profile(asyncio.get_running_loop().time())
        if self._file is not None:
            self._file.save(self._profile)

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            try:
                self.save()
            except ProfileError as error:
                log.warning("the identity was not saved: %s", error)

    async def _find_nodes(self) -> None:
        relays = *self._bootstrap, *self._relays
        wanted = [(node, False) for node in self._bootstrap] + [(node, True) for node in relays]
        # With a proxy, a name that is looked up here would tell of us around it.
        found = partial(self._do, self._engine.bootstrap)
        await find_nodes(wanted, self._proxy is None, found)
        self._seeker = None  # a task that has ended is 0.5 KB

    @property
    def _running(self) -> tuple[Runner, Mailbox, Post]:
        if self._runner is None or self._mailbox is None or self._post is None:
            raise IdentityError("the identity is not running: use it within `async with`")
        return self._runner, self._mailbox, self._post

    @property
    def _engine(self) -> AnyEngine:
        return self._running[0].engine

    def _plan(self) -> None:
        if self._runner is not None:
            self._runner.plan()

    def _do(self, command: Callable[..., Any], *arguments: Any) -> Any:
        """Gives the engine a command, with the time behind its arguments."""
        try:
            return command(*arguments, asyncio.get_running_loop().time())
        finally:
            self._plan()

    # Ourselves

    @property
    def tox_id(self) -> ToxId:
        """By which others add us; `str` of it is what people copy."""
        return self._profile.tox_id if self._runner is None else self._engine.messenger.tox_id

    @property
    def public_key(self) -> PublicKey:
        """The part of the Tox ID that never changes."""
        return self.tox_id.key

    @property
    def port(self) -> int:
        """The UDP port; 0 without."""
        return 0 if self._runner is None else self._runner.port

    @property
    def connected(self) -> bool:
        """Whether friends can find us now."""
        return self._runner is not None and self._engine.connected

    async def wait_connected(self) -> None:
        """Waits until friends can find us."""
        while not self.connected:
            self._online = self._online or asyncio.Event()
            await self._online.wait()

    def set_name(self, name: str) -> None:
        """Changes what friends see as our name; at most 128 bytes of UTF-8."""
        self._do(self._engine.messenger.set_name, name)
        self.save()

    def set_status_message(self, text: str) -> None:
        """Changes what we say of ourselves; at most 1,007 bytes."""
        self._do(self._engine.messenger.set_status_message, text)
        self.save()

    def set_status(self, status: UserStatus) -> None:
        """Says whether we are there, away or busy."""
        self._do(self._engine.messenger.set_status, status)
        self.save()

    def new_nospam(self) -> ToxId:
        """Gives us another Tox ID, so that requests to the old one are not taken any more."""
        self._engine.messenger.set_nospam(SystemEntropy().bytes(4))
        self.save()
        return self.tox_id

    # Friends

    @property
    def friends(self) -> list[PublicKey]:
        """All friends."""
        return self._engine.messenger.friends()

    def friend(self, friend: Friend) -> FriendView:
        """Returns what is known of a friend. Raises UnknownFriend."""
        return self._engine.messenger.friend(key_of(friend))

    def add_friend(self, tox_id: ToxId | str, message: str = "Hello") -> PublicKey:
        """Asks somebody to become a friend; the request goes out until it is taken.

        Raises ToxIdError (a ValueError) and the messenger's AlreadyFriend and BadValue.
        """
        wanted = ToxId.parse(tox_id) if isinstance(tox_id, str) else tox_id
        self._do(self._engine.messenger.add_friend, wanted, message)
        self.save()
        return wanted.key

    def accept(self, friend: Friend) -> None:
        """Adds somebody who asked, or who adds us too. Raises AlreadyFriend."""
        self._do(self._engine.messenger.add_friend_by_key, key_of(friend))
        self.save()

    def remove_friend(self, friend: Friend) -> None:
        """Ends a friendship, with all that was still to be sent. Raises UnknownFriend."""
        key = key_of(friend)
        self._do(self._engine.messenger.remove_friend, key)
        self._running[2].forget(key)
        self.save()

    def is_online(self, friend: Friend) -> bool:
        """Tells whether a friend is online."""
        with suppress(UnknownFriend):
            return self.friend(friend).connection.value != "none"
        return False

    async def wait_online(self, friend: Friend) -> None:
        """Waits until a friend is online. Raises UnknownFriend."""
        key = key_of(friend)
        while not self.is_online(key):
            self.friend(key)
            event = self._friend_changed.setdefault(key, asyncio.Event())
            event.clear()
            await event.wait()

    def set_typing(self, friend: Friend, typing: bool) -> None:
        """Tells a friend whether we are typing."""
        self._do(self._engine.messenger.set_typing, key_of(friend), typing)

    # Messages

    def send(
        self,
        friend: Friend,
        text: str | bytes,
        kind: MessageKind = MessageKind.NORMAL,
        *,
        answers: StoredMessage | int | None = None,
    ) -> Sent:
        """Sends a message, now or when the friend comes online; `await sent.delivered()` waits for
        its receipt.

        A text of more than 1,372 bytes leaves as several messages, cut between words or letters;
        the last one is returned. `answers`: the message (or its number) that is done with by this
        one: both stand on disk as one, so that a program that dies answers neither twice nor not at
        all. Raises UnknownFriend, ValueError for an empty text, MailboxError (MailboxFull).
        """
        key = key_of(friend)
        self.friend(key)
        raw = text.encode() if isinstance(text, str) else text
        if not raw:
            raise ValueError("a message needs a text")
        _, box, post = self._running
        if answers is None:
            return post.send(key, kind, raw)
        with box.together():
            self._inbox.answer(answers if isinstance(answers, int) else answers.number)
            return post.send(key, kind, raw)

    def _deliver(self, friend: PublicKey, kind: MessageKind, raw: bytes, letter: int) -> int:
        number: int = self._do(self._running[0].send_message, friend, kind, raw, letter)
        return number

    def send_packet(self, friend: Friend, data: bytes) -> None:
        """Sends a packet of the application's own (CustomPacket): its first byte is 160-191 for one
        that arrives in order, 200-254 for one that may be lost. Raises MessengerError."""
        self._do(self._engine.messenger.send_custom, key_of(friend), data)

    # Files

    async def send_file(
        self,
        friend: Friend,
        source: Source,
        name: str | None = None,
        *,
        progress: Progress | None = None,
        file_id: bytes | None = None,
    ) -> None:
        """Sends a file (a path), bytes, or an asynchronous iterator of them, to a friend who is
        online; returns when all of it has arrived. Raises TransferFailed, MessengerError, OSError.
        """
        await self._files.send(key_of(friend), source, name, progress, file_id)

    async def receive_file(
        self, offer: FileOffer, path: Path | str, *, progress: Progress | None = None
    ) -> Path:
        """Takes a file that was offered, and returns where it is when it is whole.

        Meanwhile it is beside, as `PATH.part`; what is there of the same file from an earlier time
        is not asked for again. Raises TransferFailed, MessengerError, OSError.
        """
        return await self._files.receive(offer, Path(path), progress)

    async def receive_bytes(self, offer: FileOffer, most: int = 1 << 20) -> bytes:
        """Takes a file of at most `most` bytes into memory. Raises TransferFailed."""
        return await self._files.receive_bytes(offer, most)

    def refuse_file(self, offer: FileOffer) -> None:
        """Says no to a file."""
        self.control_file(offer.friend, offer.number, Control.CANCEL)

    def control_file(self, friend: Friend, number: int, control: Control) -> None:
        """Pauses, resumes or ends a transfer. Raises MessengerError."""
        self._do(self._engine.messenger.file_control, key_of(friend), number, control)

    def send_avatar(self, friend: Friend, avatar: bytes | None) -> None:
        """Offers our picture (PNG, at most 64 KiB), or says that we have none."""
        self._do(self._engine.messenger.send_avatar, key_of(friend), avatar)

    # Events

    async def events(self) -> AsyncGenerator[AnyEvent | EventsLost, None]:
        """Yields what happens, until the identity is closed.

        A message is forgotten on disk when the next event is asked for: what a program had not
        finished with when it died comes again.
        """
        async for event in self._inbox.take():
            yield event

    def _on_event(self, event: AnyEvent, now: float) -> None:
        """Takes an event of the engine: does what belongs to it, and keeps it to be taken."""
        match event:
            case IdentityConnected(connected):
                if connected and self._online is not None:
                    self._online.set()
                    self._online = None
            case ConnectionChanged(friend):
                self._connection_changed(friend, event.online)
            case Receipt(friend, message):
                if self._post is not None:
                    self._post.receipt(friend, message)
                return
            case Unconfirmed():
                return  # they are sent again when the friend is back
            case Message(friend, kind, raw):
                self._inbox.put_message(friend, kind, raw, time.time())
                return
            case FileChunk() | FileChunkWanted() | FileControlled() | FileEnded():
                if self._files.take(event):
                    return
        self._inbox.put(event)

    def _connection_changed(self, friend: PublicKey, online: bool) -> None:
        if self._post is not None:
            self._post.online(friend, online)
        waiting = self._friend_changed.pop(friend, None)
        if waiting is not None:
            waiting.set()

    def status(self) -> dict[str, Any]:
        """Returns how it is at this moment: see toxmesh.identity.status."""
        runner, box, _ = self._running
        return describe(runner, box, asyncio.get_running_loop().time())

    def open_door(self) -> None:
        """Lets `toxmesh identity status` ask, until the identity is closed. Raises ProfileError."""
        if self._file is None or self._door is not None:
            return
        place = door_of(self._file.path)
        try:
            self._door = IdentityDoor(place, self.status, self._engine.drops)
        except OSError as error:
            raise ProfileError(f"{place} cannot be made: {error.strerror}") from None

    def drops(self) -> dict[str, int]:
        """Returns what was refused, by reason."""
        return dict(self._engine.drops)

