"""The batch loop of one worker (`workers.datagrams`) on sockets that are lists.

What the loop is given and what leaves it is what a worker's kernel sockets and mailboxes would see;
between them nothing is made up.
"""

import socket
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from core.batch import messages, rows
from core.crypto import SharedKeys
from core.endpoint import Endpoint
from core.link.dispatch import Lane
from core.link.mmsg import BATCH
from core.messages import Message
from core.module import Context, Module, ProtocolViolation
from core.slots import SlotTable
from core.wire import WireError
from workers.datagrams import Datagrams
from workers.outbox import WorkerOutbox

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_INET)
"""Of a node's sockets: the third is another address of the first's family."""

Sent = tuple[int, bytes, bytes]
"""Index of the socket it leaves through, target, datagram."""
Told = tuple[tuple[str, int], int, Message]
"""Role and shard, the socket of the request (-1: its family's first), and what was told."""


class _Receiver:
    """A socket to read: it has what `batch` has."""

    def __init__(self) -> None:
        self.batch: list[tuple[bytes, Endpoint]] = []
        self.full = False

    def receive(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Hands out up to 64 datagrams."""
        taken, self.batch = self.batch[:BATCH], self.batch[BATCH:]
        self.full = len(taken) == BATCH
        return [packet for packet, _ in taken], [source for _, source in taken]


class _Sender:
    """A socket to send on: it keeps what left."""

    def __init__(self, index: int, sent: list[Sent]) -> None:
        self._index = index
        self._sent = sent

    def send(self, endpoint: bytes, packet: bytes) -> None:
        """Keeps a datagram, as bytes that nobody can change any more."""
        self._sent.append((self._index, bytes(endpoint), bytes(packet)))

    def flush(self) -> int:
        """Nothing is kept back."""
        return 0


class _Outbox(WorkerOutbox):
    """A worker's outbox whose messages are kept instead of sent."""

    told: list[Told]

    def _put(self, name: tuple[str, int], message: Message) -> None:
        self.told.append((name, self._origin, message))


class Loop:
    """One worker: `make` makes its module in a context whose outbox is the worker's own."""

    def __init__(
        self,
        role: str,
        shard: int,
        slots: dict[str, SlotTable],
        context: Callable[[WorkerOutbox], Context],
        make: Callable[[Context], Module],
    ) -> None:
        self.sent: list[Sent] = []
        senders = [_Sender(index, self.sent) for index in range(len(FAMILIES))]
        with mock.patch("workers.outbox.sender", side_effect=senders):
            numbered = [(index, int(family)) for index, family in enumerate(FAMILIES)]
            self.out = _Outbox(role, shard, numbered, slots)
        self.out.told = []
        made = context(self.out)
        self.module: Any = make(made)
        self.keys: SharedKeys = made.key_cache()
        self.broken: str | None = None
        """The trace of the first exception that no packet may cause."""
        self._loop = Datagrams(self.module, self.out, self.keys, self._bug)
        self._role, self._shard = role, shard
        self._receivers: dict[int, _Receiver] = {}
        self._by_lane: dict[tuple[str, int], int] = {}

    @property
    def drops(self) -> Counter[str]:
        """Refusals by reason."""
        return self.out.drops

    def _bug(self, kind: str, size: int, now: float) -> None:
        self.drops["bug"] += 1
        self.broken = self.broken or traceback.format_exc()

    def _fd(self, lane: str, socket_index: int) -> int:
        """Returns the number of the socket of a lane and listen address."""
        fd = self._by_lane.get((lane, socket_index))
        if fd is None:
            fd = self._by_lane[lane, socket_index] = 100 + len(self._by_lane)
            reader = self._receivers[fd] = _Receiver()
            with mock.patch("workers.datagrams.receiver", return_value=reader):
                family = int(FAMILIES[socket_index])
                self._loop.watch(fd, family, socket_index, Lane(self._role, self._shard, lane))
        return fd

    def read(
        self, batch: list[tuple[bytes, Endpoint]], socket_index: int, lane: str, now: float
    ) -> None:
        """Has the loop read a batch from one of its sockets."""
        fd = self._fd(lane, socket_index)
        self._receivers[fd].batch += batch
        while self._receivers[fd].batch:
            self._loop.read(fd, now)

    def take(self, batch: list[tuple[bytes, Endpoint]], socket_index: int, now: float) -> None:
        """Gives the loop a batch in a frame of the broker."""
        items = [item for packet, source in batch for item in (bytes(source), packet)]
        self._loop.take(items, socket_index, now)

    def serve_misses(self, now: float) -> None:
        """Has the loop compute all keys that it put off."""
        while self._loop.serve_misses(now):
            pass

    def hear(self, message: Message, origin: int, now: float) -> None:
        """Gives the module a message of another shard, after its way through a frame."""
        (message,) = messages(rows([message]))
        self.out.begin(origin)
        self._call(self.module.handle_message, message, now)

    def run_timer(self, now: float) -> bool:
        """Runs the module's timer if it is due; tells whether it was."""
        when = self.module.next_timer()
        if when is None or when > now:
            return False
        self.out.begin(-1)
        self._call(self.module.handle_timer, now)
        return True

    def tell_stored(self, now: float) -> None:
        """Has an onion module tell the other shards what it has stored, if it is time."""
        own = self.module.announces.own_filter
        if own.next_timer() <= now:
            self.out.begin(-1)
            self._call(own.handle_timer, now)

    def handle(self, packet: bytes, source: Endpoint, socket_index: int, now: float) -> None:
        """Gives the module a datagram past the loop."""
        self.out.begin(socket_index)
        self._call(self.module.handle_packet, packet, source, now)

    def _call(self, call: Callable[..., None], *arguments: Any) -> None:
        """Calls the module and counts what it raises, as its host does."""
        try:
            call(*arguments)
        except WireError as error:
            self.drops[f"wire:{error.packet}"] += 1
        except ProtocolViolation as error:
            self.drops[error.reason] += 1
        except Exception:  # as in the worker's loop, which this stands for; `_bug` keeps the trace,
            # and the comparison fails with it
            self._bug("call", 0, 0.0)
        self.out.flush()
