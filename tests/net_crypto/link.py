"""Streams over a link that can be filled: one bottleneck, its queue, losses, and a way back."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.net_crypto import requests
from core.net_crypto.rates import RateRule
from core.net_crypto.receiving import ReceiveStream
from core.net_crypto.sending import NEVER, U32, SendStream
from core.packets.net_crypto import MAX_DATA_SIZE

POLL_S = 0.01
DATA = bytes(MAX_DATA_SIZE)


class Link:
    """`rate` packets a second through a queue of `queue` packets, `delay` seconds each way; `loss`
    is the chance of a packet either way, `jitter` what a packet may be late at most."""

    def __init__(
        self,
        seed: int,
        *,
        rate: float = 1000.0,
        queue: int = 100,
        delay: float = 0.03,
        loss: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        self.now = 10.0
        self.rate, self.queue, self.delay, self.loss, self.jitter = rate, queue, delay, loss, jitter
        self.flows: list[Flow] = []
        self.overflows = 0
        self._free_at = 0.0
        self._chance = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, what, arguments))

    def forth(self, what: Callable[..., None], *arguments: Any) -> None:
        """Through the bottleneck."""
        free_at = max(self.now, self._free_at)
        if (free_at - self.now) * self.rate >= self.queue:
            self.overflows += 1
            return
        self._free_at = free_at + 1 / self.rate
        self._carry(self._free_at + self.delay, what, arguments)

    def back(self, what: Callable[..., None], *arguments: Any) -> None:
        """The way back is never full."""
        self._carry(self.now + self.delay, what, arguments)

    def _carry(self, when: float, what: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._chance.random() >= self.loss:
            self.at(when + self._chance.uniform(0, self.jitter), what, *arguments)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, what, arguments = heapq.heappop(self._heap)
            self.now = when
            what(*arguments)
        self.now = end


@dataclass
class StockPauses:
    """When a stock receiver says what it misses (c-toxcore net_crypto.c; WIRE: W29)."""

    rate: float = 0.0
    counter: int = 0
    counted_at: float = 0.0
    asked_at: float = 0.0

    def due(self, waiting: int, now: float) -> bool:
        """Asked at each iteration, some 50 ms apart or less."""
        due = now - self.asked_at > 1.0
        if self.rate > 4:
            pause = min(12.5 * (self.rate + 1) / (waiting + 1), 4000 / self.rate + 50)
            due = due or now - self.asked_at > min(max(pause, 50), 1000) / 1000
        if now - self.counted_at > 0.05:
            self.rate = self.counter / (now - self.counted_at)
            self.counter, self.counted_at = 0, now
        return due


@dataclass
class Flow:
    """An endless stream from one end to the other."""

    link: Link
    rule: RateRule
    stock_receiver: bool = False
    begin: float = 0.0
    delivered: int = 0
    copies: int = 0
    history: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sending = SendStream(self._emit, self.rule)
        self.sending.learn_rtt(2 * self.link.delay)
        self.receiving = ReceiveStream(self._deliver)
        self.pauses = StockPauses(counted_at=self.link.now, asked_at=self.link.now)
        self.waiting_room = False
        self.link.flows.append(self)
        self.link.at(self.link.now + self.begin, self._poll_sender)
        if self.stock_receiver:
            self.link.at(self.link.now + self.begin, self._poll_receiver)

    # Sender

    def _emit(self, number: int, data: bytes, now: float) -> bool:
        self.link.forth(self._arrive, number)
        self.copies += 1
        return True

    def _feed(self) -> None:
        sending = self.sending  # the reference's rule looks at the time nowhere else
        self.rule.allowance(False, sending.span(), sending.in_flight, self.link.now)
        for _ in range(self.sending.room()):
            if self.sending.queue(DATA) is None:
                break
        self.sending.pump(self.link.now)

    def _poll_sender(self) -> None:
        """What a session does at its timers."""
        now, sending = self.link.now, self.sending
        if sending.probe_at <= now:
            sending.probe(now)
        self._feed()
        soon = min(now + POLL_S, max(now + 0.0005, min(sending.pace_at, sending.probe_at)))
        self.link.at(soon, self._poll_sender)

    def _hear(self, start: int, request: bytes) -> None:
        now = self.link.now
        if self.sending.acknowledge(start, now):
            self.sending.request(request[1:], now)
        self.sending.feedback(now)
        self._feed()

    # Receiver

    def _arrive(self, number: int) -> None:
        reason = self.receiving.take(number, DATA, self.link.now)
        if self.stock_receiver:
            self.pauses.counter += not reason
        elif self.receiving.request_at != NEVER:
            self.link.at(self.receiving.request_at, self._tell)

    def _deliver(self, data: bytes) -> None:
        self.delivered += 1

    def _tell(self) -> None:
        if self.receiving.request_at > self.link.now:
            return
        request = self.receiving.request(2 * self.link.delay, MAX_DATA_SIZE, self.link.now)
        self.link.back(self._hear, self.receiving.start, request)
        if self.receiving.request_at != NEVER:
            self.link.at(self.receiving.request_at, self._tell)

    def _poll_receiver(self) -> None:
        receiving, now = self.receiving, self.link.now
        waiting = (receiving.end - receiving.start) & U32
        if self.pauses.due(waiting, now):
            self.pauses.asked_at = now
            request = requests.encode(receiving.start, receiving.end, receiving.held, MAX_DATA_SIZE)
            self.link.back(self._hear, receiving.start, request)
        self.link.at(now + POLL_S, self._poll_receiver)


def goodput(link: Link, flow: Flow, settle: float, seconds: float) -> float:
    """Returns the packets a second that come out in order after `settle` seconds."""
    link.run(settle)
    before = flow.delivered
    link.run(seconds)
    return (flow.delivered - before) / seconds
