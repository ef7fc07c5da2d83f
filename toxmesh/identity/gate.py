"""The gate of an identity: where programs of other processes use it.

A unix socket beside the profile, for its owner alone. One JSON object a line each way:
`{"id": N, "do": NAME, "args": {...}}` is answered, in any order, with `{"id": N, "answer": ...}` or
`{"id": N, "error": CLASS, "text": SENTENCE}`. docs/identity.md lists what can be done.

Events are asked for one by one, with `next`, by one program at a time. An event is done with when
the next one is asked for, or when an answer names it (`answers`); what a program had in its hands
when it went is given again.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from core.messenger.errors import MessengerError
from core.messenger.events import FileOffer, MessageKind
from core.savedata.profile import UserStatus
from toxmesh.door_place import listen
from toxmesh.identity.files import TransferFailed
from toxmesh.identity.identity import Identity, IdentityError
from toxmesh.identity.inbox import StoredMessage
from toxmesh.identity.mailbox import MailboxError
from toxmesh.identity.profiles import ProfileError
from toxmesh.identity.told import event_of, is_told, row_of

VERSION = 1
MOST_GUESTS = 16
"""Programs at a time; another one is told so and shut out."""
MOST_ASKED = 256
"""Requests of a program that are not answered yet; one more is refused."""
MOST_LINE = 64 << 10  # bytes of a request: a text of many messages
_LEAVING_S = 1.0
_ERRORS = (
    MessengerError, MailboxError, ProfileError, IdentityError, TransferFailed, ValueError, OSError,
    KeyError, TypeError,
)  # fmt: skip

_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("friend", "raw", "data", "tox_id", "text", "path"), (str,)),
    **dict.fromkeys(("kind", "status", "message"), (int,)),
    "name": (str, type(None)),
    "answers": (int, type(None)),
    "typing": (bool,),
    "offer": (dict,),
}
"""What each argument is."""
_MOST_NUMBER = 2**63 - 1  # that SQLite has room for

Arguments = dict[str, Any]
Deed = Callable[[Arguments], Any]


def gate_of(profile: Path) -> Path:
    """Returns where the gate of a profile is."""
    return profile.with_name(f".{profile.name}.gate")


class Busy(IdentityError):
    """Another program does that already."""


@contextlib.asynccontextmanager
async def open_gate(own: Identity) -> AsyncIterator["IdentityGate"]:
    """Lets programs use a running identity while the block runs. Raises ProfileError."""
    if own._file is None:
        raise ProfileError("an identity without a file has no place for a gate")
    place = gate_of(own._file.path)
    try:
        gate = IdentityGate(own, place)
    except OSError as error:
        raise ProfileError(f"{place} cannot be made: {error.strerror}") from None
    await gate.open()
    try:
        yield gate
    finally:
        await gate.close()


class _Turn:
    """Who takes the events, and the one that is in its hands."""

    def __init__(self, own: Identity) -> None:
        self._own = own
        self._source: AsyncGenerator[Any, None] = own.events()
        self._event: Any = None
        self._holder: object = None
        self._free = asyncio.Event()
        self._given = False
        self._coming: asyncio.Task[Any] | None = None

    async def next(self, guest: object) -> dict[str, Any] | None:
        """Returns the next event of the holder; None: there are no more. Raises Busy."""
        while self._holder not in (None, guest):
            try:  # it may have gone, and be seen to in a moment
                await asyncio.wait_for(self._free.wait(), _LEAVING_S)
            except TimeoutError:
                raise Busy("another program takes the events of this identity") from None
        self._holder = guest
        self._free.clear()
        if self._given or self._is_done():
            self._event, self._given = None, False
        while self._event is None:
            if self._coming is None:
                self._coming = asyncio.ensure_future(self._take())
            # Whoever asked may be gone before it comes; it is for the next one then.
            event = await asyncio.shield(self._coming)
            self._coming = None
            if event is None:
                return None
            if is_told(event):
                self._event = event
        self._given = True
        return row_of(self._event)

    async def _take(self) -> Any:
        async for event in self._source:
            return event
        return None

    def _is_done(self) -> bool:
        event = self._event
        return isinstance(event, StoredMessage) and self._own._inbox.is_answered(event.number)

    def leave(self, guest: object) -> None:
        """A program has gone: what it had in its hands is given again."""
        if self._holder is guest:
            self._holder, self._given = None, False
            self._free.set()

    async def close(self) -> None:
        """Nobody takes any more; what is in no hands now is for whoever takes events later."""
        coming = self._coming
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self._event = await coming or self._event
        await self._source.aclose()
        if self._event is not None:
            self._own._inbox.give_back(self._event)


class IdentityGate:
    """Lets programs use an identity, until `close`. To be opened when the identity runs, instead of
    taking its events. Raises OSError where the socket cannot be made."""

    def __init__(self, own: Identity, path: Path) -> None:
        self._own = own
        self._path = path
        self._turn = _Turn(own)
        self._guests: set[asyncio.Task[None]] = set()
        self._socket = listen(path, MOST_GUESTS)
        self._server: asyncio.AbstractServer | None = None
        self._deeds: dict[str, Deed] = {
            "identity": self._identity,
            "send": self._send,
            "delivered": self._delivered,
            "friends": lambda args: [key.hex() for key in own.friends],
            "friend": self._friend,
            "add_friend": lambda args: own.add_friend(args["tox_id"], args["text"]).hex(),
            "accept": lambda args: own.accept(args["friend"]),
            "remove_friend": lambda args: own.remove_friend(args["friend"]),
            "is_online": lambda args: own.is_online(args["friend"]),
            "wait_online": lambda args: own.wait_online(args["friend"]),
            "wait_connected": lambda args: own.wait_connected(),
            "set_typing": lambda args: own.set_typing(args["friend"], bool(args["typing"])),
            "set_name": lambda args: own.set_name(args["name"]),
            "set_status_message": lambda args: own.set_status_message(args["text"]),
            "set_status": lambda args: own.set_status(UserStatus(args["status"])),
            "new_nospam": lambda args: str(own.new_nospam()),
            "send_packet": lambda args: own.send_packet(
                args["friend"], bytes.fromhex(args["data"])
            ),
            "send_file": lambda args: own.send_file(
                args["friend"], Path(args["path"]), args.get("name")
            ),
            "receive_file": self._receive_file,
            "refuse_file": lambda args: own.refuse_file(_offer(args)),
            "status": lambda args: own.status(),
        }

    async def open(self) -> None:
        """Begins to let programs in."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._socket, limit=MOST_LINE
        )

    async def close(self) -> None:
        """Shows all out."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        self._path.unlink(missing_ok=True)
        for task in list(self._guests):
            task.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)
        await self._turn.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # start_unix_server makes one for each guest
        if len(self._guests) >= MOST_GUESTS:
            writer.write(_error(None, Busy("too many programs use this identity already")))
            writer.close()
            return
        self._guests.add(task)
        guest = _Guest(self, writer)
        try:
            await guest.listen(reader)
        except (ConnectionError, asyncio.CancelledError):
            pass  # it has gone, or the gate is shut
        finally:
            self._guests.discard(task)
            guest.leave()
            self._turn.leave(guest)
            writer.close()

    def deed(self, name: object, guest: "_Guest") -> Deed:
        """Returns what does a request. Raises ValueError for one that there is not."""
        if name == "next":
            return lambda args: self._turn.next(guest)
        found = self._deeds.get(name) if isinstance(name, str) else None
        if found is None:
            raise ValueError(f"there are: next, {', '.join(sorted(self._deeds))}")
        return found

    # What takes more than a line

    def _identity(self, args: Arguments) -> dict[str, Any]:
        own = self._own
        return {
            "version": VERSION,
            "tox_id": str(own.tox_id),
            "connected": own.connected,
            "udp_port": own.port,
        }

    def _send(self, args: Arguments) -> int:
        raw, kind = bytes.fromhex(args["raw"]), MessageKind(args.get("kind", 0))
        answers = args.get("answers")
        return self._own.send(
            args["friend"], raw, kind, answers=None if answers is None else int(answers)
        ).id

    async def _delivered(self, args: Arguments) -> None:
        await self._own._running[2].sent(int(args["message"])).delivered()

    def _friend(self, args: Arguments) -> dict[str, Any]:
        view = self._own.friend(args["friend"])
        saved = view.saved
        return {
            "key": saved.key.hex(),
            "state": int(saved.state),
            "name": saved.name.hex(),
            "status_message": saved.status_message.hex(),
            "status": int(saved.status),
            "last_seen": saved.last_seen,
            "connection": view.connection.value,
            "typing": view.typing,
        }

    async def _receive_file(self, args: Arguments) -> str:
        return str(await self._own.receive_file(_offer(args), args["path"]))


def _check(args: Arguments) -> None:
    """Raises TypeError or ValueError for an argument that is not what it should be."""
    for name, value in args.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            raise ValueError(f"no request has an argument {name[:60]!r}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeError(f"{name} is no {kinds[0].__name__}")
        if isinstance(value, int) and abs(value) > _MOST_NUMBER:
            raise ValueError(f"{name} is too great")


def _offer(args: Arguments) -> FileOffer:
    offer = event_of(args["offer"])
    if not isinstance(offer, FileOffer):
        raise ValueError("the offer is none of a file")
    return offer


def _error(number: object, error: Exception) -> bytes:
    text = str(error)
    if isinstance(error, KeyError):
        text = f"{text} is missing"
    row = {"id": number, "error": type(error).__name__, "text": text}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


class _Guest:
    """One program at the gate."""

    def __init__(self, gate: IdentityGate, writer: asyncio.StreamWriter) -> None:
        self._gate = gate
        self._writer = writer
        self._asked: set[asyncio.Task[None]] = set()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Answers what it asks, until it goes."""
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than may be
                error = ValueError(f"a line has {MOST_LINE} bytes at most")
                self._writer.write(_error(None, error))
                return
            if not line.endswith(b"\n"):
                return
            self._begin(line)
            await self._writer.drain()  # who does not read is not read

    def _begin(self, line: bytes) -> None:
        number: object = None
        try:
            row = orjson.loads(line)
            if not isinstance(row, dict):
                raise ValueError("a request is an object")
            number = row.get("id")
            args = row.get("args", {})
            if not isinstance(args, dict):
                raise ValueError("args is an object")
            _check(args)
            result = self._gate.deed(row.get("do"), self)(args)
            if not isinstance(result, Awaitable):
                self._answer(number, result)
                return
            if len(self._asked) >= MOST_ASKED:
                asyncio.ensure_future(result).cancel()
                raise Busy(f"{MOST_ASKED} requests wait for their answers already")
        except _ERRORS as error:
            self._writer.write(_error(number, error))
            return
        task = asyncio.ensure_future(self._later(number, result))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _later(self, number: object, result: Awaitable[Any]) -> None:
        try:
            answer = await result
        except _ERRORS as error:
            self._writer.write(_error(number, error))
        else:
            self._answer(number, answer)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def _answer(self, number: object, answer: Any) -> None:
        row = {"id": number, "answer": answer}
        self._writer.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def leave(self) -> None:
        """It has gone: nobody waits for its answers."""
        for task in list(self._asked):
            task.cancel()
