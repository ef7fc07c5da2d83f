"""Frames between processes over ZeroMQ, with credit: no frame is ever refused or lost unseen.

A process binds one PULL socket at a path of its own (`Inlet`); whoever talks to it connects a PUSH
(`Outlet`). ZeroMQ's own queues have no bound here, because the credit is the bound: at most
`WINDOW` frames are on their way to a receiver until it acknowledges them by sequence. What waits
behind that waits in queues of the sender, where a policy can look at it (`Mailbox`, and the
broker's queues). ZeroMQ's high-water mark would drop or lose the tail unseen (libzmq #4660).
"""

from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, TypeAlias

import zmq

from core import batch
from core.messages import (
    IDENTITY_NUMBERS,
    MESSAGE_NUMBERS,
    Bootstrap,
    Message,
    StoredFilter,
    TableChange,
    TableFull,
)
from core.module import LocalError
from core.wire import WireError

ACK = 3  # items: [sequence]: all frames up to it were handled; has no sequence of its own
WINDOW = 4  # frames on their way to one receiver
RELAY_KINDS = range(10, 20)

Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"

_PART = 256  # messages in one frame at most
_PART_BYTES = 1 << 20  # and about as many bytes
_GATHERED = 64  # messages that go at once whatever is on its way
_GATHER_S = 0.001  # fewer wait so long after the last frame: one of 8 messages costs as 20 of these
_TABLES = frozenset(MESSAGE_NUMBERS[row] for row in (TableFull, TableChange, Bootstrap))
_FILTER = MESSAGE_NUMBERS[StoredFilter]
_WEIGHT = 2048  # bytes of any other message at most: all but these fit into a datagram
_ROW = 16  # bytes around each row of a long message, beside what is in it
_DRAIN = 64  # frames taken in one turn at most


def _socket(context: Context, kind: int) -> "zmq.Socket[bytes]":
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 200)  # ms; stopping is a handshake, this is for its last word
    socket.setsockopt(zmq.SNDHWM, 0)  # credit bounds what is on its way
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, batch.MAX_FRAME)
    return socket


class Inlet:
    """The PULL socket of one incarnation of a process."""

    def __init__(self, context: Context, path: str, drops: Counter[str]) -> None:
        self.socket = _socket(context, zmq.PULL)
        self.socket.bind(f"ipc://{path}")
        self.fd = int(self.socket.getsockopt(zmq.FD))
        self._drops = drops

    def receive(self) -> batch.Frame | None:
        """Returns the next frame or None; bytes that are no frame are counted."""
        while True:
            try:
                data = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return None
            try:
                return batch.decode(data)
            except WireError:
                self._drops["bad_frame"] += 1

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


class Outlet:
    """The PUSH socket to one incarnation of another process."""

    def __init__(
        self,
        context: Context,
        path: str,
        own_generation: int,
        generation: int,
        window: int = WINDOW,
    ) -> None:
        self.generation = generation
        self._own = own_generation
        self._window = window
        self._sequence = 0
        self._acknowledged = 0
        self._socket = _socket(context, zmq.PUSH)
        self._socket.connect(f"ipc://{path}")

    @property
    def credit(self) -> int:
        """How many frames may be sent now."""
        return self._window - self._sequence + self._acknowledged

    @property
    def in_flight(self) -> int:
        """How many frames were sent and not acknowledged."""
        return self._sequence - self._acknowledged

    def send(self, kind: int, items: Sequence[Any], socket: int = 0) -> int:
        """Sends a frame and returns its sequence. Raises LocalError without credit."""
        if self._sequence - self._acknowledged >= self._window:
            raise LocalError("a frame was sent without credit")
        self._sequence += 1
        self._socket.send(batch.encode(kind, self._own, self._sequence, socket, items), zmq.NOBLOCK)
        return self._sequence

    def acknowledge(self, sequence: int) -> None:
        """Tells the receiver's sender that its frames up to `sequence` were handled."""
        self._socket.send(batch.encode(ACK, self._own, 0, 0, [sequence]), zmq.NOBLOCK)

    def acknowledged(self, sequence: int) -> None:
        """Learns that the receiver has handled the frames up to `sequence`."""
        if self._acknowledged < sequence <= self._sequence:
            self._acknowledged = sequence

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def _long(fields: tuple[Any, ...]) -> int:
    """Estimates the bytes of fields of which any may be long, or rows of such."""
    bytes_of = 0
    for field in fields:
        if isinstance(field, tuple):
            bytes_of += _ROW + _long(field)
        elif isinstance(field, bytes | str):
            bytes_of += len(field)
    return bytes_of


def _weight(row: tuple[int, tuple[Any, ...]]) -> int:
    """Estimates the bytes of a message row: tables, filters and batches of session packets weigh
    more than the rest."""
    if row[0] in IDENTITY_NUMBERS:
        return _WEIGHT + _long(row[1])
    if row[0] not in _TABLES:
        return _WEIGHT if row[0] != _FILTER else _WEIGHT + len(row[1][-1])
    return _WEIGHT + sum(128 * len(field) for field in row[1] if isinstance(field, tuple))


class Mailbox:
    """Messages for one shard of another role: a bounded queue in front of its outlet.

    A lone message leaves at once. While a frame is on its way, messages gather for a millisecond or
    until they are 64, since much of what a message costs is its frame.

    The queue outlives the process behind it: what was not yet sent goes to the successor. When it
    is full the oldest message goes, counted `told_full:<role>`, as do messages for a shard that is
    gone too long; what was on its way into a process that died is counted `told_lost:<role>`.
    """

    def __init__(self, role: str, drops: Counter[str], limit: int = 8192) -> None:
        self.outlet: Outlet | None = None
        self.held = False
        """Whether nothing is sent for now: the process behind it is being replaced."""
        self._role = role
        self._drops = drops
        self.limit = limit
        self._rows: deque[tuple[int, tuple[int, tuple[Any, ...]]]] = deque()  # origin, row
        self._frames: deque[tuple[int, Sequence[Any]]] = deque()
        self._parts: deque[tuple[int, int]] = deque()  # sequence, messages in that frame
        self._gather_until = 0.0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def congested(self) -> bool:
        """Whether the receiver is behind so far that the sender should take less in."""
        return len(self._rows) * 4 > self.limit

    @property
    def idle(self) -> bool:
        """Whether everything was sent and acknowledged."""
        on_its_way = self.outlet is not None and self.outlet.in_flight > 0
        return not (self._rows or self._frames or on_its_way)

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way to the receiver."""
        return self.outlet is None or self.outlet.in_flight == 0

    def put(self, number: int, message: Message, origin: int = -1) -> None:
        """Appends a message; the oldest goes when there are too many.

        `origin` is the UDP socket of the datagram it comes of, where that is not the first of its
        family: it travels in the frame (as `socket`, plus one), so that answers leave through it.
        """
        self._rows.append((origin, (number, tuple(message))))
        if len(self._rows) > self.limit:
            self._rows.popleft()
            self._drops[f"told_full:{self._role}"] += 1

    def withdraw(self) -> list[tuple[int, int, tuple[Any, ...]]]:
        """Takes out all messages that were not sent yet: origin, number and fields of each."""
        rows = [(origin, number, fields) for origin, (number, fields) in self._rows]
        self._rows.clear()
        return rows

    def put_frame(self, kind: int, items: Sequence[Any]) -> None:
        """Appends a whole frame for this incarnation of the receiver; never dropped while it lives.

        Whoever calls this bounds it: the relay answers each frame it was given with one of its own.
        """
        self._frames.append((kind, items))
        if self.outlet is not None:
            self._pump_frames(self.outlet)

    def connect(self, outlet: Outlet | None) -> None:
        """Puts a successor (or nobody, for now) behind the queue."""
        if self.outlet is not None:
            self.outlet.close()
        lost = sum(count for _, count in self._parts)
        if lost:
            self._drops[f"told_lost:{self._role}"] += lost
        self._parts.clear()
        if self.outlet is not None:
            self._frames.clear()  # else: answers to a sender that was not announced here yet
        self.outlet = outlet
        self.held = False

    @property
    def due(self) -> float | None:
        """When what has gathered should be sent, or None if nothing waits for its time."""
        if not self._rows or self.outlet is None or self.outlet.credit <= 0 or self.held:
            return None
        return self._gather_until

    def pump(self, now: float) -> None:
        """Sends what has gathered, as much as the credit allows."""
        outlet = self.outlet
        rows = self._rows
        if outlet is None or self.held:
            return
        self._pump_frames(outlet)
        if outlet.in_flight and len(rows) < _GATHERED and now < self._gather_until:
            return
        while rows and outlet.credit > 0:
            part: list[tuple[int, tuple[Any, ...]]] = []
            weight = 0
            first = rows[0][0]
            for origin, row in islice(rows, _PART):
                weight += _weight(row)
                if part and (weight > _PART_BYTES or origin != first):
                    break
                part.append(row)
            for _ in part:
                rows.popleft()
            self._parts.append((outlet.send(batch.MESSAGES, part, first + 1), len(part)))
            self._gather_until = now + _GATHER_S

    def _pump_frames(self, outlet: Outlet) -> None:
        frames = self._frames
        while frames and outlet.credit > 0 and not self.held:
            outlet.send(*frames.popleft())

    def acknowledged(self, sequence: int) -> None:
        """Learns that the receiver has handled frames; whole frames that waited for it leave."""
        if self.outlet is None:
            return
        self.outlet.acknowledged(sequence)
        while self._parts and self._parts[0][0] <= sequence:
            self._parts.popleft()
        self._pump_frames(self.outlet)
