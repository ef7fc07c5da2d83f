"""An identity that another process has, as the node's workers do, in a Python program.

    async with HostedIdentity("/var/lib/toxmesh/identities/echo.tox") as echo:
        async for event in echo.events():
            match event:
                case StoredMessage():
                    await echo.send(event.friend, event.text, answers=event)

The same commands as `toxmesh.Identity` has, each to be awaited; files go by their paths. The other
process may be restarted or killed meanwhile: the program waits for its successor.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from core.crypto import PublicKey
from core.messenger import errors
from core.messenger.events import Connection, FileOffer, MessageKind
from core.messenger.friend import FriendView
from core.savedata.profile import FriendState, SavedFriend, UserStatus
from core.tox_id import ToxId, ToxIdError
from toxmesh.identity.gate import VERSION, Busy, gate_of
from toxmesh.identity.identity import IdentityError
from toxmesh.identity.inbox import StoredMessage
from toxmesh.identity.mailbox import MailboxError, MailboxFull
from toxmesh.identity.naming import Friend, key_of
from toxmesh.identity.profiles import ProfileError
from toxmesh.identity.told import Told, event_of, row_of

PATIENCE_S = 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0  # between attempts to reach it
_MOST_LINE = 1 << 20  # bytes of an answer: the friends of an identity
_ERRORS: dict[str, type[Exception]] = {
    each.__name__: each
    for each in (
        *(one for one in vars(errors).values() if isinstance(one, type)),
        Busy, FileExistsError, FileNotFoundError, IdentityError, MailboxError, MailboxFull,
        OSError, PermissionError, ProfileError, ToxIdError, ValueError,
    )
}  # fmt: skip


class HostGone(IdentityError):
    """The process that has the identity ended: nobody knows whether what it was asked is done."""


class HostedMessage:
    """A message on its way; the host keeps it until its receipt, over restarts too."""

    __slots__ = ("_own", "id")

    def __init__(self, own: "HostedIdentity", number: int) -> None:
        self._own = own
        self.id = number

    async def delivered(self) -> None:
        """Waits until the friend's process has the message."""
        await self._own._ask("delivered", again=True, message=self.id)


class HostedIdentity:
    """One identity of another process. Used within `async with`."""

    def __init__(self, profile: Path | str, *, patience_s: float = PATIENCE_S) -> None:
        """`profile`: the file of the identity. Nothing is asked before `start`. `patience_s`: how
        long `start` and commands wait for a host that is started, or started again."""
        self._profile = Path(profile)
        self._path = gate_of(self._profile)
        self._patience_s = patience_s
        self._writer: asyncio.StreamWriter | None = None
        self._there = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._tox_id: ToxId | None = None

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
        """Reaches the host, and waits for one that is about to start. Raises IdentityError where
        there is none, or no such identity."""
        if not self._profile.exists():
            raise IdentityError(f"there is no identity {self._profile}")
        self._task = asyncio.get_running_loop().create_task(self._stay())
        try:
            row = await self._ask("identity", again=True)
            if row["version"] != VERSION:
                raise IdentityError(
                    f"the host speaks version {row['version']} of this, and we {VERSION}"
                )
            self._tox_id = ToxId.parse(row["tox_id"])
        finally:
            if self._tox_id is None:
                await self.close()

    async def close(self) -> None:
        """Leaves; the identity stays where it is. `events` ends."""
        self._closed = True
        self._there.set()  # nobody waits for it any more
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._gone()

    async def _connect(self) -> asyncio.StreamReader:
        directory = os.open(self._path.parent, os.O_DIRECTORY | os.O_RDONLY)
        try:  # a path may be longer than a socket's address
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/{self._path.name}", limit=_MOST_LINE
            )
        finally:
            os.close(directory)
        self._writer = writer
        self._there.set()
        return reader

    async def _stay(self) -> None:
        """Reaches the host, takes its answers, and reaches its successor when it has gone."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                reader = await self._connect()
            except OSError:  # not yet, or not any more
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            with contextlib.suppress(ConnectionError, ValueError):
                while line := await reader.readline():
                    if self._take(orjson.loads(line)):
                        pause = _FIRST_PAUSE_S
            self._gone()
            await asyncio.sleep(pause)

    def _take(self, row: dict[str, Any]) -> bool:
        """Takes an answer; False: it is none to a request, but says why we are shown out."""
        number = row["id"]
        for one in self._waiting.values() if number is None else (self._waiting.get(number),):
            if one is None or one.done():
                continue
            if "error" in row:
                one.set_exception(_ERRORS.get(row["error"], IdentityError)(row["text"]))
            else:
                one.set_result(row["answer"])
        return number is not None

    def _gone(self) -> None:
        self._there.clear()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.done():
                one.set_exception(HostGone("the process that has the identity has ended"))

    async def _ask(self, do: str, *, again: bool = False, **args: Any) -> Any:
        """Has the host do something; `again`: it can be asked a second time, if the first one's
        answer does not come. Raises HostGone, and whatever the command raises there."""
        while True:
            try:
                return await self._ask_once(do, args, self._patience_s)
            except HostGone:
                if not again or self._closed or self._task is None:
                    raise

    async def _ask_once(self, do: str, args: dict[str, Any], patience_s: float | None) -> Any:
        if self._closed:
            raise HostGone("this end was closed")
        try:
            await asyncio.wait_for(self._there.wait(), patience_s)
        except TimeoutError:
            raise IdentityError(
                f"nobody was at {self._path} for {patience_s:g} s: is the node running, and does "
                "it host this identity for programs?"
            ) from None
        writer = self._writer
        if writer is None:
            raise HostGone("this end was closed")
        self._number += 1
        number = self._number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            line = {"id": number, "do": do, "args": args}
            writer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            return await answer
        finally:
            self._waiting.pop(number, None)

    # Ourselves

    @property
    def tox_id(self) -> ToxId:
        """By which others add us, as it was at the start or at the last `new_nospam` here."""
        if self._tox_id is None:
            raise IdentityError("the identity is not reached: use it within `async with`")
        return self._tox_id

    @property
    def public_key(self) -> PublicKey:
        """The part of the Tox ID that never changes."""
        return self.tox_id.key

    async def connected(self) -> bool:
        """Tells whether friends can find us now."""
        row = await self._ask("identity", again=True)
        return bool(row["connected"])

    async def wait_connected(self) -> None:
        """Waits until friends can find us."""
        await self._ask("wait_connected", again=True)

    async def set_name(self, name: str) -> None:
        """Changes what friends see as our name; at most 128 bytes of UTF-8."""
        await self._ask("set_name", again=True, name=name)

    async def set_status_message(self, text: str) -> None:
        """Changes what we say of ourselves; at most 1,007 bytes."""
        await self._ask("set_status_message", again=True, text=text)

    async def set_status(self, status: UserStatus) -> None:
        """Says whether we are there, away or busy."""
        await self._ask("set_status", again=True, status=int(status))

    async def new_nospam(self) -> ToxId:
        """Gives us another Tox ID, so that requests to the old one are not taken any more."""
        self._tox_id = ToxId.parse(await self._ask("new_nospam"))
        return self._tox_id

    async def status(self) -> dict[str, Any]:
        """Returns how it is at this moment: see docs/identity.md."""
        row: dict[str, Any] = await self._ask("status", again=True)
        return row

    # Friends

    async def friends(self) -> list[PublicKey]:
        """Returns all friends."""
        return [PublicKey(bytes.fromhex(key)) for key in await self._ask("friends", again=True)]

    async def friend(self, friend: Friend) -> FriendView:
        """Returns what is known of a friend. Raises UnknownFriend."""
        row = await self._ask("friend", again=True, friend=key_of(friend).hex())
        saved = SavedFriend(
            key=PublicKey(bytes.fromhex(row["key"])),
            state=FriendState(row["state"]),
            name=bytes.fromhex(row["name"]),
            status_message=bytes.fromhex(row["status_message"]),
            status=UserStatus(row["status"]),
            last_seen=row["last_seen"],
        )
        return FriendView(saved, Connection(row["connection"]), row["typing"])

    async def add_friend(self, tox_id: ToxId | str, message: str = "Hello") -> PublicKey:
        """Asks somebody to become a friend; the request goes out until it is taken.

        Raises ToxIdError (a ValueError) and the messenger's AlreadyFriend and BadValue.
        """
        wanted = ToxId.parse(tox_id) if isinstance(tox_id, str) else tox_id
        await self._ask("add_friend", tox_id=str(wanted), text=message)
        return wanted.key

    async def accept(self, friend: Friend) -> None:
        """Adds somebody who asked, or who adds us too. Raises AlreadyFriend."""
        await self._ask("accept", friend=key_of(friend).hex())

    async def remove_friend(self, friend: Friend) -> None:
        """Ends a friendship, with all that was still to be sent. Raises UnknownFriend."""
        await self._ask("remove_friend", friend=key_of(friend).hex())

    async def is_online(self, friend: Friend) -> bool:
        """Tells whether a friend is online."""
        return bool(await self._ask("is_online", again=True, friend=key_of(friend).hex()))

    async def wait_online(self, friend: Friend) -> None:
        """Waits until a friend is online. Raises UnknownFriend."""
        await self._ask("wait_online", again=True, friend=key_of(friend).hex())

    async def set_typing(self, friend: Friend, typing: bool) -> None:
        """Tells a friend whether we are typing."""
        await self._ask("set_typing", again=True, friend=key_of(friend).hex(), typing=typing)

    # Messages and files

    async def send(
        self,
        friend: Friend,
        text: str | bytes,
        kind: MessageKind = MessageKind.NORMAL,
        *,
        answers: StoredMessage | None = None,
    ) -> HostedMessage:
        """Sends a message as `Identity.send` does; it stands on the host's disk when this returns.
        `answers`: the message that is done with by this one, both as one: when HostGone is raised,
        that one comes again if, and only if, its answer is not there."""
        raw = text.encode() if isinstance(text, str) else text
        number = await self._ask(
            "send",
            friend=key_of(friend).hex(),
            raw=raw.hex(),
            kind=int(kind),
            answers=None if answers is None else answers.number,
        )
        return HostedMessage(self, number)

    async def send_packet(self, friend: Friend, data: bytes) -> None:
        """Sends a packet of the application's own: see `Identity.send_packet`."""
        await self._ask("send_packet", friend=key_of(friend).hex(), data=data.hex())

    async def send_file(self, friend: Friend, path: Path | str, name: str | None = None) -> None:
        """Sends a file that the host can read; returns when all of it has arrived."""
        place = str(Path(path).absolute())
        await self._ask("send_file", friend=key_of(friend).hex(), path=place, name=name)

    async def receive_file(self, offer: FileOffer, path: Path | str) -> Path:
        """Has the host take a file that was offered; returns where it is when it is whole."""
        place = str(Path(path).absolute())
        return Path(await self._ask("receive_file", offer=row_of(offer), path=place))

    async def refuse_file(self, offer: FileOffer) -> None:
        """Says no to a file."""
        await self._ask("refuse_file", offer=row_of(offer))

    # Events

    async def events(self) -> AsyncIterator[Told]:
        """Yields what happens, until it is closed here. One program at a time takes an identity's
        events. One is done with when the next one is asked for, or when an answer named it; what a
        program, or its host, had in its hands when it ended comes again. Raises Busy."""
        while not self._closed:
            try:
                row = await self._ask_once("next", {}, None)
            except HostGone:
                continue
            if row is None:  # the host ends
                await self._leaving()
                continue
            event: Told = event_of(row)
            yield event

    async def _leaving(self) -> None:
        """Waits until the host that has nothing more to tell is gone."""
        while self._there.is_set():
            await asyncio.sleep(_FIRST_PAUSE_S)
