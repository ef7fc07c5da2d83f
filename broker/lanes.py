"""The way to one worker: what goes at once, what waits, and when the waiting goes on."""

from collections import Counter
from typing import Any

from broker.queues import BATCH, LIMIT, WaitingQueue
from broker.routes import Target
from core import batch
from core.link.frames import Outlet

_AT_ONCE = 2  # frames: one in hand and one waiting keep a worker busy; more would cut batches small


class Lane:
    """Datagrams for one shard of a role; it outlives the worker behind it."""

    def __init__(self, target: Target, drops: Counter[str], limit: int = LIMIT) -> None:
        self.target = target
        self.outlet: Outlet | None = None
        self.queue = WaitingQueue(drops, limit)
        self.held = False
        """Whether nothing is sent for now: the worker is being replaced."""
        self.items: list[Any] = []
        """Source and datagram in turn: this lane's part of the batch that is being sorted."""
        self._drops = drops
        self._sizes: dict[int, int] = {}  # datagrams of each frame on its way

    def deliver(self, socket: int) -> None:
        """Sends this lane's part of a batch, or lets it wait behind what waits."""
        items = self.items
        outlet = self.outlet
        count = len(items) >> 1
        if outlet is not None and not len(self.queue) and not self.held:
            flying = outlet.in_flight
            if flying < _AT_ONCE or (count == BATCH and outlet.credit > 0):
                self._sizes[outlet.send(batch.DATAGRAMS, items, socket)] = count
                items.clear()
                return
        self.queue.put_all(socket, items)
        items.clear()
        self.pump()

    def pump(self) -> None:
        """Sends what waits: at once while the worker has little in hand, else in full batches."""
        outlet = self.outlet
        queue = self.queue
        while outlet is not None and len(queue) and not self.held:
            flying = outlet.in_flight
            if flying >= _AT_ONCE and (len(queue) < BATCH or outlet.credit <= 0):
                return
            socket, items = queue.take()
            self._sizes[outlet.send(batch.DATAGRAMS, items, socket)] = len(items) >> 1

    def acknowledged(self, sequence: int) -> None:
        """Learns that the worker has handled its frames up to `sequence`."""
        if self.outlet is None:
            return
        self.outlet.acknowledged(sequence)
        for known in [known for known in self._sizes if known <= sequence]:
            del self._sizes[known]
        self.pump()

    def connect(self, outlet: Outlet | None) -> None:
        """Puts a successor (or nobody, for now) behind the lane.

        What was on its way into the old incarnation is lost and counted: a datagram is never
        given twice, since it may be what the worker died of.
        """
        if self.outlet is not None:
            self.outlet.close()
        lost = sum(self._sizes.values())
        if lost:
            self._drops[f"lost_in_worker:{self.target.role}"] += lost
        self._sizes.clear()
        self.outlet = outlet
        self.held = False
        self.pump()

    def look(self) -> dict[str, Any]:
        """Returns what an operator sees of it: datagrams that wait and that are under way."""
        return {
            "worker": f"{self.target.role}.{self.target.shard}",
            "up": self.outlet is not None,
            "waiting": len(self.queue),
            "in_flight": sum(self._sizes.values()),
            "credit": 0 if self.outlet is None else self.outlet.credit,
        }

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way to the worker."""
        return self.outlet is None or not self.outlet.in_flight

    @property
    def idle(self) -> bool:
        """Whether everything was sent and acknowledged, or has nobody to go to."""
        return self.outlet is None or not (len(self.queue) or self.outlet.in_flight)
