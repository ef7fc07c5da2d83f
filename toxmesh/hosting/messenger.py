"""The messenger worker: friends, messages and files of the identities of one shard.

Their sockets and sessions are in a net_crypto worker; what is between the two outlives either.
"""

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from core.asking import NOT_FOUND, CannotAnswer
from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.messages import Message
from core.module import Context, Module, ProtocolViolation
from toxmesh.hosting.hosted import Hosted
from toxmesh.identity.far import FarIdentities
from workers.desk import LoopDesk

ROLE = "messenger"
_COUNT_S = 5.0  # how often friends are counted: there may be many thousands
_COUNTS = ("running", "connected", "friends", "online", "unsent", "untaken")

log = logging.getLogger("toxmesh.worker")


class MessengerWorker:
    """What the host runs in this role."""

    def __init__(self, context: Context, desk: LoopDesk) -> None:
        self.out = context.out
        self._context, self._desk = context, desk
        self._loop = asyncio.get_running_loop()
        self._far = FarIdentities(self._tell)
        self._carriers: tuple[int | None, ...] = ()  # generations of the net_crypto workers
        self._hosted: list[Hosted] | None = None
        """None before the first topology: until then the process before may have the profiles."""
        self._ending: asyncio.Future[Any] | None = None
        self._dropped: Counter[str] = Counter()
        self._counted: tuple[float, dict[str, int]] = (float("-inf"), {})

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes no datagram: all that identities say leaves by their net_crypto worker."""
        raise ProtocolViolation("messenger_datagram")

    def handle_message(self, message: Message, now: float) -> None:
        """Takes what the carriers of our identities tell."""
        self._far.handle_message(message)

    def _tell(self, message: Any) -> None:
        self.out.tell("net_crypto", message.identity, message)
        self._desk.stir()

    def handle_topology(self, now: float) -> None:
        """Opens the profiles when it may, and notices a new net_crypto worker."""
        table = self._context.slots.get("net_crypto")
        shards = sorted(set(table.shards)) if table is not None else []
        generations = tuple(self._desk.generation("net_crypto", shard) for shard in shards)
        before, self._carriers = self._carriers, generations
        if self._hosted is None:
            options = self._context.options
            self._hosted = [
                Hosted(Path(path), options, self._is_ours, self._far.runner)
                for path in options.identities
            ]
        elif generations != before:
            self._far.carrier_gone()

    def _is_ours(self, key: PublicKey) -> bool:
        table = self._context.slots.get(ROLE)
        return table is not None and table.shard_of(key) == self._context.shard

    def handle_timer(self, now: float) -> None:
        """Has nothing to do: timers are the loop's."""

    def next_timer(self) -> float | None:
        """Returns None: timers are the loop's."""
        return None

    def handle_options(self, now: float) -> None:
        """Follows what identities do by themselves."""
        for row in self._hosted or ():
            row.follow(self._context.options)

    def handle_stop(self, hands_over: bool, now: float) -> None:
        """Closes all identities; `hands_over`: their sessions are for a successor."""
        rows = [row.close(stays=hands_over) for row in self._hosted or ()]
        self._hosted = []
        self._ending = asyncio.gather(*rows, return_exceptions=True)
        self._ending.add_done_callback(self._closed)

    def _closed(self, done: "asyncio.Future[Any]") -> None:
        for error in done.result():
            if isinstance(error, Exception):
                log.error("an identity could not be closed: %s", error)
        self._desk.stir()

    def finished(self) -> bool:
        """Tells whether all are closed."""
        return self._ending is None or self._ending.done()

    def ask(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers an operator's question. Raises CannotAnswer."""
        rows = self._hosted or []
        if what == "identities":
            refused = self._far.refused()
            return [row.shown(refused) for row in rows if row.is_ours]
        if what == "friends":
            return [friend for row in rows for friend in row.friends()]
        raise CannotAnswer(NOT_FOUND, f"{what} is nothing that a messenger worker knows")

    def snapshot(self) -> dict[str, Any]:
        """Returns counts for the operator."""
        now = self._loop.time()
        if self._counted[0] + _COUNT_S <= now:
            rows = [row for row in self._hosted or () if row.is_ours]
            sums = Counter({"identities": len(rows), **dict.fromkeys(_COUNTS, 0)})
            for row in rows:
                sums.update(row.counts())
            self._counted = now, dict(sums)
            self._count_drops()
        return dict(self._counted[1])

    def _count_drops(self) -> None:
        """Adds what the identities have refused to what the process has."""
        drops = Counter(self._far.drops)
        for row in self._hosted or ():
            drops.update(row.drops())
        new = drops - self._dropped
        self._dropped |= drops  # of one that was closed nothing is counted twice
        self.out.drops.update(new)


def create(context: Context, desk: LoopDesk) -> Module:
    """Makes the module of a messenger worker."""
    return MessengerWorker(context, desk)
