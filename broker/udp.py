"""Reads the node's UDP sockets and sorts datagrams into the lanes of workers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from broker.info import KIND as INFO
from broker.info import BootstrapInfo
from broker.lanes import Lane
from broker.queues import LIMIT
from broker.routes import Row, Target, compile_rows, route
from core.bans import Bans
from core.endpoint import Endpoint
from core.link.mmsg import Receiver, Sender, Tap, receiver, sender
from core.slots import SlotTable

ROUNDS = 4  # batches of 64 from one socket before others have their turn


class UdpSide:
    """All UDP sockets of the node, as their reader sees them."""

    def __init__(
        self,
        sockets: list[tuple[int, int]],
        info: BootstrapInfo,
        drops: Counter[str],
        kernel: bool = False,
    ) -> None:
        """`sockets`: descriptor and address family of each.

        `kernel`: the kernel gives workers their datagrams. Then nothing is sorted here; one that
        has an owner was broadcast: every socket gets a copy, and this is counted `misplaced`.
        """
        self.lanes: dict[Target, Lane] = {}
        self.kinds_received = [0] * 256
        self.kinds_sent = [0] * 256
        self.packets = 0
        self.tap: Tap | None = None
        """Who looks on at what is read here, if somebody does."""
        self.bans = Bans()
        self.queue_limit = LIMIT  # datagrams that may wait for one worker
        self._drops = drops
        self._info = info
        self._kernel = kernel
        self._misplaced: list[Any] = []  # source and datagram in turn
        self._receivers: list[Receiver] = [receiver(fd, family, drops) for fd, family in sockets]
        # A stranger's request must not make the one reader of all sockets wait.
        self.senders: list[Sender] = [sender(fd, family, drops, 0) for fd, family in sockets]
        self._rows: list[Row[list[Any]] | None] = [None] * 256
        self._reasons: list[str] = []
        self.route({})

    def lane(self, target: Target) -> Lane:
        """Returns the lane of a shard."""
        lane = self.lanes.get(target)
        if lane is None:
            lane = self.lanes[target] = Lane(target, self._drops, self.queue_limit)
        return lane

    def route(self, tables: Mapping[str, SlotTable]) -> None:
        """Follows new slot tables, and gives what waits already to those who own it now."""
        self._rows, self._reasons = compile_rows(
            tables, lambda target: self._misplaced if self._kernel else self.lane(target).items
        )
        waiting = [entry for lane in self.lanes.values() for entry in lane.queue.withdraw()]
        for socket, source, packet in waiting:
            target = route(packet, tables)
            if isinstance(target, Target):
                self.lane(target).queue.put(socket, source, packet)
            else:
                self._drops[target] += 1

    def read(self, index: int, now: float) -> bool:
        """Takes what one socket has, up to a fair share; returns whether there may be more."""
        receiver = self._receivers[index]
        for _ in range(ROUNDS):
            packets, sources = receiver.receive()
            if self.tap is not None:
                self.tap(packets, sources)
            if self.bans.prefixes:
                packets, sources = self.bans.admit(packets, sources, self._drops)
            self._sort(index, packets, sources, now)
            if not receiver.full:
                return False
        return True

    def _sort(
        self, index: int, packets: Sequence[bytes], sources: Sequence[bytes], now: float
    ) -> None:
        """Gives each datagram of a batch to the lane of its owner."""
        rows = self._rows
        kinds = self.kinds_received
        self.packets += len(packets)
        for packet, source in zip(packets, sources, strict=True):
            kind = packet[0]
            kinds[kind] += 1
            row = rows[kind]
            if row is None or len(packet) <= row[0]:
                self._odd(index, kind, len(packet), source, now)
                continue
            items = row[1][packet[row[0]]]
            items.append(source)
            items.append(packet)
        for lane in self.lanes.values():
            if lane.items:
                lane.deliver(index)
        if self._misplaced:
            self._drops["misplaced"] += len(self._misplaced) >> 1
            self._misplaced.clear()

    def _odd(self, index: int, kind: int, size: int, source: bytes, now: float) -> None:
        """Answers what is for the broker itself, and counts what is for nobody."""
        if kind != INFO:
            self._drops[self._reasons[kind]] += 1
            return
        answer = self._info.answer(size, Endpoint(source), now)
        if answer is not None:
            self.kinds_sent[INFO] += 1
            self.senders[index].send(source, answer)
            self.senders[index].flush()
