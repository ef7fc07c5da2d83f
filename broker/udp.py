"""Reads the node's UDP sockets and sorts datagrams into the lanes of workers."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from broker.info import KIND as INFO
from broker.info import BootstrapInfo
from broker.lanes import Lane
from broker.routes import Row, Target, compile_rows
from core.endpoint import Endpoint
from core.link.mmsg import SLOT_SIZE, Receiver, Sender, receiver, sender
from core.slots import SlotTable

ROUNDS = 4  # batches of 64 from one socket before others have their turn


class UdpSide:
    """All UDP sockets of the node, as their reader sees them."""

    def __init__(
        self, sockets: list[tuple[int, int]], info: BootstrapInfo, drops: Counter[str]
    ) -> None:
        """`sockets`: descriptor and address family of each."""
        self.lanes: dict[Target, Lane] = {}
        self.kinds_received = [0] * 256
        self.kinds_sent = [0] * 256
        self.packets = 0
        self._drops = drops
        self._info = info
        self._receivers: list[Receiver] = [receiver(fd, family) for fd, family in sockets]
        # A stranger's request must not make the one reader of all sockets wait.
        self._senders: list[Sender] = [sender(fd, family, drops, 0) for fd, family in sockets]
        self._rows: list[Row[list[Any]] | None] = [None] * 256
        self._reasons: list[str] = []
        self.route({})

    def lane(self, target: Target) -> Lane:
        """Returns the lane of a shard."""
        lane = self.lanes.get(target)
        if lane is None:
            lane = self.lanes[target] = Lane(target, self._drops)
        return lane

    def route(self, tables: Mapping[str, SlotTable]) -> None:
        """Follows new slot tables."""
        self._rows, self._reasons = compile_rows(tables, lambda target: self.lane(target).items)

    def read(self, index: int, now: float) -> bool:
        """Takes what one socket has, up to a fair share; returns whether there may be more."""
        for _ in range(ROUNDS):
            sizes = self._receivers[index].receive()
            if sizes:
                self._sort(index, sizes, now)
            if len(sizes) < 64:
                return False
        return True

    def _sort(self, index: int, sizes: list[int], now: float) -> None:
        """Gives each datagram of a batch to the lane of its owner."""
        reader = self._receivers[index]
        window = reader.window
        names = reader.names
        rows = self._rows
        kinds = self.kinds_received
        self.packets += len(sizes)
        start = -SLOT_SIZE
        for name, size in zip(names, sizes, strict=False):
            start += SLOT_SIZE
            if size <= 0:
                self._drops["too_long" if size < 0 else "empty"] += 1
                continue
            kind = window[start]
            kinds[kind] += 1
            row = rows[kind]
            if row is None or size <= row[0]:
                self._odd(index, kind, size, bytes(name), now)
                continue
            items = row[1][window[start + row[0]]]
            items.append(name)
            items.append(window[start : start + size])
        for lane in self.lanes.values():
            if lane.items:
                lane.deliver(index)

    def _odd(self, index: int, kind: int, size: int, source: bytes, now: float) -> None:
        """Answers what is for the broker itself, and counts what is for nobody."""
        if kind != INFO:
            self._drops[self._reasons[kind]] += 1
            return
        answer = self._info.answer(size, Endpoint(source), now)
        if answer is not None:
            self.kinds_sent[INFO] += 1
            self._senders[index].send(source, answer)
            self._senders[index].flush()
