"""The control channel between the supervisor and one child: a stream that also carries descriptors.

A unix socketpair. Each message is a frame of `core.batch` behind its length (4 bytes, big-endian):
kind CONTROL, `socket` the number of descriptors that came with it, items `[name, body]`. The end of
the stream tells either side that the other is gone.
"""

import array
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from core import batch
from core.wire import WireError

CONTROL = 4
MAX_DESCRIPTORS = 200  # Linux takes at most 253 in one message (SCM_MAX_FD)
_MAX_WAITING = 8 << 20  # bytes that may wait for a reader


class Note(NamedTuple):
    """One control message."""

    name: str
    body: dict[str, Any]  # plain data, as msgpack carries it
    descriptors: tuple[int, ...]


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """One end of a control channel; never waits."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._waiting_size = 0
        self._sequence = 0

    @classmethod
    def pair(cls) -> tuple["Channel", socket.socket]:
        """Makes a channel, and the socket that the child gets as its standard input."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        return cls(ours), theirs

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Channel":
        """Goes on with an end that another process image has left (`to_body`)."""
        channel = cls(socket.socket(fileno=body["fd"]))
        channel._received += body["received"]
        channel._descriptors.extend(row["fd"] for row in body["descriptors"])
        return channel

    def to_body(self) -> dict[str, Any]:
        """Returns what the next process image needs to go on; nothing may wait to be sent."""
        return {
            "fd": self._socket.fileno(),
            "received": bytes(self._received),
            "descriptors": [{"fd": fd} for fd in self._descriptors],
        }

    def fileno(self) -> int:
        """Returns the descriptor to poll."""
        return self._socket.fileno()

    @property
    def waiting(self) -> int:
        """How many bytes wait for the other side to read."""
        return self._waiting_size

    @property
    def blocked(self) -> bool:
        """Whether messages wait for the other side to read."""
        return bool(self._waiting)

    def send(self, name: str, body: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """Sends a message, or keeps it until the other side reads. Raises ChannelClosed."""
        if len(descriptors) > MAX_DESCRIPTORS:
            raise ValueError(f"{len(descriptors)} descriptors do not fit into one message")
        self._sequence += 1
        data = batch.encode(CONTROL, 0, self._sequence, len(descriptors), [name, body])
        data = len(data).to_bytes(4, "big") + data
        if self._waiting_size + len(data) > _MAX_WAITING:
            raise ChannelClosed("the other side does not read")
        self._waiting.append((data, descriptors))
        self._waiting_size += len(data)
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the other side takes it. Raises ChannelClosed."""
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                if descriptors:
                    rights = array.array("i", descriptors).tobytes()
                    row = (socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)
                    count = self._socket.sendmsg([data], [row])
                else:
                    count = self._socket.send(data)
            except BlockingIOError:
                return
            except OSError as error:
                raise ChannelClosed(str(error)) from None
            self._waiting_size -= count
            if count == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = data[count:], ()

    def receive(self) -> list[Note]:
        """Returns the messages that are there. Raises ChannelClosed once nothing more can come."""
        closed = False
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, MAX_DESCRIPTORS)
            except BlockingIOError:
                break
            except OSError:
                data, descriptors = b"", []
            self._descriptors.extend(descriptors)
            if not data:
                closed = True
                break
            self._received += data
        notes = self._take()
        if closed and not notes:
            raise ChannelClosed("the other side is gone")
        return notes

    def _take(self) -> list[Note]:
        notes = []
        data = self._received
        start = 0
        while len(data) - start >= 4:
            size = int.from_bytes(data[start : start + 4], "big")
            if len(data) - start - 4 < size:
                break
            start += 4
            frame = batch.decode(bytes(data[start : start + size]))
            start += size
            match frame.items:
                case [str(name), dict(body)] if frame.kind == CONTROL:
                    count = min(frame.socket, len(self._descriptors))
                    taken = tuple(self._descriptors.popleft() for _ in range(count))
                    notes.append(Note(name, body, taken))
                case _:
                    raise WireError("control", f"kind {frame.kind} is no control message")
        del data[:start]
        return notes

    def close(self) -> None:
        """Closes this end; the other side sees it."""
        self._socket.close()
