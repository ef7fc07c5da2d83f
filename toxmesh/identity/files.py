"""File transfers of an embedded identity, each one call that returns when the file has arrived."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core.crypto import PublicKey
from core.messenger.errors import MessengerError
from core.messenger.events import (
    Control,
    FileChunk,
    FileChunkWanted,
    FileControlled,
    FileEnded,
    FileKind,
    FileOffer,
    Outcome,
)

if TYPE_CHECKING:
    from toxmesh.identity.identity import Identity

Source = Path | str | bytes | AsyncIterator[bytes]
"""What is sent: a file by its path, bytes, or a stream."""
Progress = Callable[[int, int | None], None]
"""progress(transferred, size): in bytes; the size is None for a stream."""
FileEvent = FileChunk | FileChunkWanted | FileControlled | FileEnded

_READ_BUFFER = 1 << 20  # bytes that are read or written at once
_STREAM_BUFFER = 1 << 20  # bytes of a stream that wait for room


class TransferFailed(Exception):
    """A file did not arrive whole; the text says why, `outcome` how it ended."""

    def __init__(self, text: str, outcome: Outcome) -> None:
        super().__init__(text)
        self.outcome = outcome


class _Sending:
    """A file or bytes that we send."""

    def __init__(self, done: "asyncio.Future[None]", progress: Progress | None) -> None:
        self.done = done
        self.progress = progress
        self.size: int | None = None
        self.source: BinaryIO | None = None
        self.data = b""
        self.failure: OSError | None = None
        # of a stream
        self.wanted: tuple[int, int] | None = None  # position and size
        self.buffer = bytearray()
        self.ended = False
        self.room = asyncio.Event()

    def read(self, position: int, size: int) -> bytes:
        """Returns the next piece."""
        if self.source is None:
            return self.data[position : position + size]
        self.source.seek(position)
        return self.source.read(size)


class _Receiving:
    """A file that we receive, into a file or memory."""

    def __init__(
        self, done: "asyncio.Future[None]", progress: Progress | None, size: int | None
    ) -> None:
        self.done = done
        self.progress = progress
        self.size = size
        self.target: BinaryIO | None = None
        self._at = -1  # where the target stands
        self.data = bytearray()
        self.failure: OSError | None = None

    def write(self, position: int, data: bytes) -> None:
        """Keeps a piece."""
        if self.target is None:
            self.data += data
        else:
            if position != self._at:
                self.target.seek(position)  # empties its buffer
            self._at = position + self.target.write(data)


class FileTransfers:
    """All transfers that somebody waits for."""

    def __init__(self, identity: "Identity") -> None:
        self._identity = identity
        self._sending: dict[tuple[PublicKey, int], _Sending] = {}
        self._receiving: dict[tuple[PublicKey, int], _Receiving] = {}

    def close(self) -> None:
        """Ends all waiting: the identity goes offline."""
        jobs: list[_Sending | _Receiving] = [*self._sending.values(), *self._receiving.values()]
        for job in jobs:
            if not job.done.done():
                job.done.set_exception(
                    TransferFailed("the identity was closed", Outcome.BROKEN)
                )
        self._sending.clear()
        self._receiving.clear()

    # Sending

    async def send(
        self,
        friend: PublicKey,
        source: Source,
        name: str | None,
        progress: Progress | None,
        file_id: bytes | None,
    ) -> None:
        """Sends a file and waits until it has arrived."""
        job = _Sending(asyncio.get_running_loop().create_future(), progress)
        stream: AsyncIterator[bytes] | None = None
        if isinstance(source, bytes):
            job.data, job.size = source, len(source)
        elif isinstance(source, (str, Path)):
            path = Path(source)
            job.source = path.open("rb")
            job.size = os.fstat(job.source.fileno()).st_size
            name = path.name if name is None else name
            if file_id is None:
                file_id = _id_of(path, job.size)
        else:
            stream = source
        messenger = self._identity._engine.messenger
        try:
            number = self._identity._do(
                messenger.send_file, friend, FileKind.DATA, job.size, file_id, name or "file"
            )
            place = (friend, number)
            self._sending[place] = job
            feeder = None
            if stream is not None:
                loop = asyncio.get_running_loop()
                feeder = loop.create_task(self._feed(place, job, stream))
                feeder.add_done_callback(partial(self._fed, place, job))
            try:
                await job.done
            except asyncio.CancelledError:
                self._cancel(friend, number)
                raise
            finally:
                self._sending.pop(place, None)
                if feeder is not None:
                    feeder.cancel()
        finally:
            if job.source is not None:
                job.source.close()

    def _cancel(self, friend: PublicKey, number: int) -> None:
        with suppress(MessengerError):  # it is over already
            self._identity.control_file(friend, number, Control.CANCEL)

    async def _feed(
        self, place: tuple[PublicKey, int], job: _Sending, stream: AsyncIterator[bytes]
    ) -> None:
        async for data in stream:
            job.buffer += data
            self._give_stream(place, job)
            while len(job.buffer) >= _STREAM_BUFFER:
                job.room.clear()
                await job.room.wait()
        job.ended = True
        self._give_stream(place, job)

    def _fed(
        self, place: tuple[PublicKey, int], job: _Sending, feeder: "asyncio.Task[None]"
    ) -> None:
        """The stream has ended; if by an error, so does the transfer, with the same."""
        if feeder.cancelled() or job.done.done() or (error := feeder.exception()) is None:
            return
        job.done.set_exception(error)
        self._cancel(*place)

    def _give_stream(self, place: tuple[PublicKey, int], job: _Sending) -> None:
        if job.wanted is None or not (job.buffer or job.ended):
            return
        position, size = job.wanted
        job.wanted = None
        data = bytes(job.buffer[:size])
        del job.buffer[:size]
        job.room.set()
        self._give(place, job, position, data)

    def _give(
        self, place: tuple[PublicKey, int], job: _Sending, position: int, data: bytes
    ) -> None:
        try:
            self._identity._do(
                self._identity._engine.messenger.file_chunk, *place, position, data
            )
        except MessengerError:
            return  # it ended in the meantime: FileEnded says how
        if job.progress is not None:
            job.progress(position + len(data), job.size)

    def _wanted(self, place: tuple[PublicKey, int], event: FileChunkWanted) -> None:
        job = self._sending[place]
        if job.size is None:
            job.wanted = (event.position, event.size)
            self._give_stream(place, job)
            return
        try:
            data = job.read(event.position, event.size)
            if len(data) < event.size:
                raise OSError("the file has become shorter while it was sent")
        except OSError as error:
            job.failure = error
            self._cancel(*place)
            return
        self._give(place, job, event.position, data)

    # Receiving

    async def receive(self, offer: FileOffer, path: Path, progress: Progress | None) -> Path:
        """Takes a file onto disk."""
        if path.exists():
            raise FileExistsError(f"there is a file {path} already")
        part = path.with_name(path.name + ".part")
        mark = path.with_name(path.name + ".part.id")
        job = _Receiving(asyncio.get_running_loop().create_future(), progress, offer.size)
        begun = part.exists() and mark.exists() and mark.read_bytes() == offer.file_id
        have = part.stat().st_size if begun and offer.size is not None else 0
        if not 0 < have < (offer.size or 0):
            have = 0
        job.target = part.open("r+b" if have else "wb", buffering=_READ_BUFFER)
        try:
            mark.write_bytes(offer.file_id)
            await self._take_all(offer, job, have)
        finally:
            job.target.close()
        part.rename(path)
        mark.unlink()
        return path

    async def receive_bytes(self, offer: FileOffer, most: int) -> bytes:
        """Takes a file into memory."""
        if offer.size is None or offer.size > most:
            size = "a stream" if offer.size is None else f"{offer.size} bytes"
            self._cancel(offer.friend, offer.number)
            raise TransferFailed(f"{size}, and at most {most} are taken", Outcome.WITHDRAWN)
        job = _Receiving(asyncio.get_running_loop().create_future(), None, offer.size)
        await self._take_all(offer, job, 0)
        return bytes(job.data)

    async def _take_all(self, offer: FileOffer, job: _Receiving, position: int) -> None:
        place = (offer.friend, offer.number)
        self._receiving[place] = job
        messenger = self._identity._engine.messenger
        try:
            if position:
                self._identity._do(messenger.file_seek, *place, position)
            self._identity._do(messenger.file_control, *place, Control.RESUME)
            await job.done
        except asyncio.CancelledError:
            self._cancel(*place)
            raise
        finally:
            self._receiving.pop(place, None)

    def _arrived(self, place: tuple[PublicKey, int], event: FileChunk) -> None:
        job = self._receiving[place]
        try:
            job.write(event.position, event.data)
        except OSError as error:
            job.failure = error
            self._cancel(*place)
            return
        if job.progress is not None:
            job.progress(event.position + len(event.data), job.size)

    # Events

    def take(self, event: FileEvent) -> bool:
        """Takes an event of a transfer that somebody waits for; False: it is for the program."""
        place = (event.friend, event.number)
        job = self._sending.get(place) or self._receiving.get(place)
        if job is None:
            return False
        match event:
            case FileChunkWanted():
                self._wanted(place, event)
            case FileChunk():
                self._arrived(place, event)
            case FileEnded():
                self._ended(job, event)
            case _:
                pass  # paused or resumed: it goes on by itself
        return True

    def _ended(self, job: _Sending | _Receiving, event: FileEnded) -> None:
        if job.done.done():
            return
        if job.failure is not None:
            job.done.set_exception(job.failure)
        elif event.outcome is Outcome.COMPLETE:
            job.done.set_result(None)
        else:
            text = f"the transfer ended after {event.transferred} bytes: {event.outcome.value}"
            job.done.set_exception(TransferFailed(text, event.outcome))


def _id_of(path: Path, size: int) -> bytes:
    """Returns an id that the same file has again after a restart, and another file has not."""
    found = path.stat()
    text = f"{path.resolve()}\0{size}\0{found.st_mtime_ns}\0{found.st_ino}"
    return hashlib.sha256(text.encode()).digest()
