"""Brings clients who talk to each other into one relay shard.

A frame between clients of two shards passes the broker once more and wakes two workers, which costs
two to three times as much as within a shard. A shard's state is a function of the broker's records:
so a client is moved by giving its record to another shard, as soon as its own has nothing of it
that is not committed. No frame overtakes another by it, for what was sealed before was written
before, and the record takes the client's inbox with it.
"""

from collections import deque
from typing import TYPE_CHECKING

from broker.tcp_connection import CONFIRMED, Connection
from core.relay.frames import FORGET, GO_ON
from core.relay.limits import FIRST_LINK

if TYPE_CHECKING:
    from broker.tcp import RelayTcp
    from broker.tcp_shard import ShardWork

OFTEN = 32  # frames to another shard: then it is worth a record of some 300 bytes to move
SELDOM = 2_048  # such frames until a client that could not be moved is looked at again
MOST_WAITING = 256  # moves that wait for their moment; more are not begun
_MOST_TRIES = 8  # commits that a move waits for: a client that never rests stays where it is
_MORE = 1.25  # a shard takes in clients up to so many times the mean of all ...
_FEW = 8  # ... and so many more


class Gatherer:
    """Decides who moves, and moves them."""

    def __init__(self, tcp: "RelayTcp") -> None:
        self._tcp = tcp
        self._waiting: deque[tuple[Connection, int, int]] = deque()  # to which shard; tries left

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def consider(self, sender: Connection, receiver: Connection) -> None:
        """Looks at two who have exchanged many frames over two shards."""
        sender.crossed = OFTEN - SELDOM
        if len(self._waiting) >= MOST_WAITING:
            return
        options = [
            (self._gain(mover, shard), -self._clients(shard), mover, shard)
            for mover, shard in ((sender, receiver.shard), (receiver, sender.shard))
            if self._has_room(shard)
        ]
        gain, _, mover, shard = max(options, key=lambda row: row[:2], default=(0, 0, sender, 0))
        if gain > 0:
            self._waiting.append((mover, shard, _MOST_TRIES))

    def _gain(self, mover: Connection, shard: int) -> int:
        """Returns how many more of a client's links would be within its shard."""
        client = self._tcp.directory.client(mover.serial)
        if client is None or mover.shard == shard:
            return 0
        connections = self._tcp.connections
        peers = [
            connections[link.peer.serial].shard
            for link in client.links.values()
            if link.peer is not None
        ]
        return peers.count(shard) - peers.count(mover.shard)

    def _clients(self, shard: int) -> int:
        work = self._tcp.works.get(shard)
        return work.population if work is not None else 0

    def _has_room(self, shard: int) -> bool:
        """Tells whether a shard may have one client more than it has."""
        works = self._tcp.works
        if not works:
            return False
        mean = sum(work.population for work in works.values()) / len(works)
        return self._clients(shard) + 1 <= mean * _MORE + _FEW

    def run(self) -> None:
        """Moves those whose shard rests; to be called when a commit was applied."""
        for _ in range(len(self._waiting)):
            mover, shard, tries = self._waiting.popleft()
            source, target = self._tcp.works.get(mover.shard), self._tcp.works.get(shard)
            if source is None or target is None or mover.state != CONFIRMED:
                continue
            if self._gain(mover, shard) <= 0 or not self._has_room(shard):
                continue
            if _may_move(mover, source, target) and self._links_settled(mover, shard):
                self._move(mover, source, target)
            elif tries > 1:
                self._waiting.append((mover, shard, tries - 1))

    def _links_settled(self, mover: Connection, shard: int) -> bool:
        """Tells whether a client and its peers in a shard have been told of all their links.

        Its record has the links as they are; a peer that does not know yet that one came up would
        take what comes along it for data on a link that is gone.
        """
        client = self._tcp.directory.client(mover.serial)
        if client is None:
            return False
        connections = self._tcp.connections
        rows = [
            connections[link.peer.serial] for link in client.links.values() if link.peer is not None
        ]
        return not any(
            frame[0] < FIRST_LINK
            for row in (mover, *(row for row in rows if row.shard == shard))
            for frame, _ in row.inbox or ()
        )

    def _move(self, mover: Connection, source: "ShardWork", target: "ShardWork") -> None:
        """Gives a client's record to another shard; its own forgets it."""
        source.tell(mover.serial, FORGET)
        source.population -= 1
        target.arrive(mover)
        if mover.full:  # for its senders there it is a receiver of another shard now
            source.tell(mover.serial, mover.note)
        self._tcp.counts["gathered"] += 1


def _may_move(mover: Connection, source: "ShardWork", target: "ShardWork") -> bool:
    """Tells whether all that a shard has of a client is committed, and both are at work."""
    return (
        source.up
        and target.up
        and not (source.held or target.held)
        and not source.flying
        and not (source.suspects or target.suspects or source.records or source.arrivals)
        and mover.wait == GO_ON
        and not mover.doubted
    )
