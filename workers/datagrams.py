"""The datagrams of one worker: batch in, module, batch out. This is the hot path of every UDP role.

In kernel dispatch a worker reads sockets of its own, one for each class of datagrams (`Lane`) and
listen address; in broker dispatch the batches come in frames. Both end in the same loop. A sender
whose combined key is not at hand waits behind those who are known (`core.misses`).
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from core.bans import Bans
from core.crypto import KeyBanned, KeyMiss, SharedKeys
from core.endpoint import Endpoint
from core.link.dispatch import Lane
from core.link.in_hand import InHand
from core.link.mmsg import Receiver, Tap, receiver
from core.misses import Misses
from core.module import Module, ProtocolViolation
from core.wire import WireError
from workers.outbox import WorkerOutbox

_BATCHES_A_TURN = 2  # of 64, from one socket, before the others have their turn
_MISSES_WHEN_BUSY = 4  # new keys after full batches: a quarter of the time that these take
_MISSES_A_TURN = 16  # when there is time: half a millisecond, so that nobody known waits long
_MISSES_ALONE = 32  # when nobody known has asked since the last turn: fewer turns, greater batches

BATCH_WIDTHS = 7  # core.link.mmsg: a batch has 64 datagrams at most, a number of 7 bits

_socket_of, _key_of = itemgetter(0), itemgetter(3)  # of a row of `Misses`

Handler = Callable[[bytes, Endpoint, float], None]
Bug = Callable[[str, int, float], None]
"""bug(kind, size, now): counts and logs an exception that no datagram may cause."""


class _Input(NamedTuple):
    """One socket that is read here."""

    receiver: Receiver
    socket: int  # index of its listen address: answers leave through the same
    handlers: list[Handler]  # by kind
    lane: Lane


class Datagrams:
    """Reads datagrams, gives them to the module, and lets the answers leave batch by batch."""

    def __init__(
        self,
        module: Module,
        out: WorkerOutbox,
        keys: SharedKeys,
        bug: Bug,
        in_hand: InHand | None = None,
    ) -> None:
        self.packets = 0
        self.kinds_received = [0] * 256
        """Datagrams by kind that were read here; those in frames the broker has counted."""
        self.batches = [0] * (BATCH_WIDTHS + 1)
        """How many batches there were, by the bits of their size: 0, 1, 2-3, 4-7 ... 64."""
        self.misses = Misses(out.drops)
        self.bans = Bans(keys)
        self.tap: Tap | None = None
        """Who looks on at what is read here, if somebody does."""
        self._out = out
        self._keys = keys
        self._bug = bug
        self._in_hand = in_hand
        self._inputs: dict[int, _Input] = {}
        self._module = module
        self._handlers: list[Handler] = []
        self.find_handlers()
        self._full = False  # whether the last batches were full ones
        self._hits = 0  # how often keys had been at hand after the last turn of new ones

    def find_handlers(self) -> None:
        """Takes the module's handlers by kind, at first and when it has exchanged some."""
        module = self._module
        table: Sequence[Handler | None] | None = getattr(module, "handlers", None)
        self._handlers[:] = [
            (table[kind] if table is not None else None) or module.handle_packet
            for kind in range(256)
        ]
        for row in self._inputs.values():
            row.handlers[:] = self._handlers_of(row.lane)

    def _handlers_of(self, lane: Lane) -> list[Handler]:
        """Returns the handlers of a socket: other lanes' kinds are counted and dropped."""
        return [
            self._handlers[kind] if lane.accepts(kind) else self._misplaced for kind in range(256)
        ]

    def watch(self, fd: int, family: int, socket: int, lane: Lane) -> None:
        """Reads a socket of this worker."""
        reader = receiver(fd, family, self._out.drops)
        self._inputs[fd] = _Input(reader, socket, self._handlers_of(lane), lane)

    @property
    def sockets(self) -> list[int]:
        """Descriptors that are read here."""
        return list(self._inputs)

    def _misplaced(self, packet: bytes, source: Endpoint, now: float) -> None:
        """A broadcast: the kernel gives a copy of it to every socket of the port."""
        self._out.drops["misplaced"] += 1

    def read(self, fd: int, now: float) -> None:
        """Takes what one socket has, up to a fair share."""
        reader, socket, handlers, _ = self._inputs[fd]
        counts = self.kinds_received
        for _ in range(_BATCHES_A_TURN):
            packets, sources = reader.receive()
            if self.tap is not None:
                self.tap(packets, sources)
            if self.bans.prefixes:
                packets, sources = self.bans.admit(packets, sources, self._out.drops)
            count = len(packets)
            self.packets += count
            self.batches[count.bit_length()] += 1
            for packet in packets:
                counts[packet[0]] += 1
            self._say_in_hand(count)
            self._run(handlers, packets, sources, socket, now)
            if not reader.full:
                break
        else:
            self._full = True
        self._say_in_hand(0)

    def _say_in_hand(self, count: int) -> None:
        if self._in_hand is not None:
            self._in_hand.set(count + len(self.misses))

    def take(self, items: Sequence[Any], socket: int, now: float) -> None:
        """Takes a frame of the broker: source and datagram in turn."""
        count = len(items) >> 1
        self.packets += count
        self.batches[min(count.bit_length(), BATCH_WIDTHS)] += 1
        self._run(self._handlers, items[1::2], items[::2], socket, now)

    def _run(
        self,
        handlers: list[Handler],
        packets: Sequence[bytes],
        sources: Sequence[Endpoint],
        socket: int,
        now: float,
        deferring: bool = True,
    ) -> None:
        """Gives each datagram of a batch to its handler, and lets the answers leave."""
        out = self._out
        out.begin(socket)
        self._keys.deferring = deferring
        for packet, source in zip(packets, sources, strict=False):
            try:
                handlers[packet[0]](packet, source, now)
            except KeyMiss:
                self.misses.put(socket, source, packet, self._keys.missed)
            except KeyBanned:
                out.drops["banned:key"] += 1
            except WireError as error:
                out.drops[f"wire:{error.packet}"] += 1
            except ProtocolViolation as error:
                out.drops[error.reason] += 1
            except Exception:  # the one loop that must outlive any packet
                self._bug(f"0x{packet[0]:02x}", len(packet), now)
        self._keys.deferring = False
        out.flush()

    def serve_misses(self, now: float) -> bool:
        """Computes keys of some new senders and answers them; returns whether more wait."""
        keys = self._keys
        alone = keys.hits == self._hits
        count = _MISSES_WHEN_BUSY if self._full else _MISSES_ALONE if alone else _MISSES_A_TURN
        self._full = False
        waiting = self.misses.take(count)
        computed = keys.compute(map(_key_of, waiting))
        hits = keys.hits
        for socket, rows in groupby(waiting, key=_socket_of):
            _, sources, packets, _, _ = zip(*rows, strict=True)
            self._run(self._handlers, packets, sources, socket, now, deferring=False)
        # whoever waited for a key did not have it at hand
        self._hits = keys.hits = max(hits, keys.hits - computed)
        self._say_in_hand(0)
        return bool(self.misses)
