"""The work of one relay shard: what is given to its worker, and what a successor gets again.

One life of the worker's state is an epoch. A new one begins with the records of all connections.
Input that an earlier worker had in hand when it died is given again one connection at a time, until
a commit proves it clean; a connection that was in hand at two deaths is closed. Inboxes go before
streams then: what a stream does to others must not overtake the notices they wait for.
"""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from broker.tcp_connection import (
    CLOSED,
    CONFIRMED,
    GREETED,
    NOT_PINGED,
    PING_GIVEN,
    PING_WAITS,
    UNCONFIRMED,
    Connection,
)
from core.relay.directory import Directory
from core.relay.frames import AHEAD, GO_ON
from core.relay.limits import BOX_EXTRA, RelayLimits

FLYING = 1  # inputs without a commit: what comes meanwhile makes the next one greater
_RECORDS = 256  # in one frame
_RECORD_SIZE, _LINK_SIZE = 200, 4  # bytes in a frame, about: of a record, and of a third of a link
_OVERDUE_S = 15.0  # the supervisor ends a worker that is silent for 3 s
_STALLED_S = 1.0  # an input without a commit for so long: the worker has no time for its clients
_TICK_S = 0.1  # a worker with input that waits is asked at least so often
_LATER_S = 0.05  # what nobody waits for gathers so long, if nothing takes it along before
_PING = b"\x04"
_PING_SIZE = 9 + BOX_EXTRA  # bytes, as they are sealed

Read = Callable[[Connection, memoryview, float], int]
"""read(connection, room, now): puts the next part of its stream into `room`; returns its bytes."""


class Input(NamedTuple):
    """One input that was sent and not committed."""

    sequence: int
    streams: list[Connection]  # whose hello or part of a stream is in it
    mailed: list[Connection]  # whose inbox is in it


class ShardWork:
    """Everything one relay shard has to do, in the order it came."""

    def __init__(self, number: int, limits: RelayLimits, directory: Directory) -> None:
        self.number = number
        self.up = False
        self.held = False  # it is being replaced: it gets nothing until its successor is there
        self.epoch = 0
        self.applied = 0
        self.flying: deque[Input] = deque()
        self.notes: list[int] = []
        self.population = 0  # connections that are this shard's
        self.records: deque[Connection] = deque()
        self.arrivals: deque[Connection] = deque()  # moved here, and not known to the worker yet
        self.suspects: deque[Connection] = deque()
        self.doubted_mail: deque[Connection] = deque()  # suspects whose inbox was not tried yet
        self.mail: deque[Connection] = deque()
        self.asks: deque[Connection] = deque()  # whose inbox has a ping in front (`tcp_pace`)
        self.pings: deque[Connection] = deque()  # whose regular ping waits (`tcp_pings`)
        self.hellos: deque[Connection] = deque()
        self.ready: deque[Connection] = deque()
        self.later: deque[Connection] = deque()  # ready too, and in no haste
        self.waiting: dict[Connection, None] = {}  # connections with a reason to wait
        self._limits = limits
        self._directory = directory
        # Streams are read to where they are sent from, one behind the other. Three parts more than
        # a frame: the last may begin just below the limit, and what is given again is longer.
        self._stream = memoryview(bytearray(limits.frame + 3 * limits.chunk))
        self._old_mail = 0  # inboxes that had something when the epoch began
        self._mail_turn = False
        self._sequence = 0
        self._told = 0  # the worker knows that commits up to this one were applied
        self._last = 0.0  # when the last input was sent
        self._later_until = 0.0  # when `later` is in haste after all
        self._stalled = 0.0  # when the worker last went on after it had been away

    # What there is to do

    def want(self, connection: Connection) -> None:
        """Puts a connection into the list of those to read, if it may be read now."""
        if not (connection.listed or connection.flying or connection.wait):
            connection.listed = True
            self.ready.append(connection)

    def want_later(self, connection: Connection, now: float) -> None:
        """As `want`, for one with something to read that nobody waits for."""
        if not (connection.listed or connection.flying or connection.wait):
            connection.listed = True
            if not self.later:
                self._later_until = now + _LATER_S
            self.later.append(connection)

    def has_mail(self, connection: Connection) -> None:
        """Puts a connection into the list of those with mail."""
        if not (connection.waiting_mail or connection.doubted):
            connection.waiting_mail = True
            self.mail.append(connection)

    def ping(self, connection: Connection) -> None:
        """Has a connection's ping sealed, the newest if there was one that waits."""
        if connection.pinging != PING_WAITS:
            connection.pinging = PING_WAITS
            self.pings.append(connection)

    def snapshot(self) -> dict[str, int | bool]:
        """Returns counts for the operator."""
        return {
            "up": self.up,
            "epoch": self.epoch,
            "in_flight": len(self.flying),
            "in_doubt": len(self.suspects),
            "records": len(self.records) + len(self.arrivals),
            "ready": len(self.ready) + len(self.later),
            "mail": len(self.mail),
            "waiting": len(self.waiting),
        }

    # The life of the worker

    def begin(self, epoch: int, connections: Iterable[Connection], now: float) -> None:
        """A worker is there: it gets all records, then the input in doubt, then the rest."""
        self.up = True
        self.held = False
        self.epoch = epoch
        self._stalled = now
        self._sequence = self.applied = self._told = 0
        self.flying.clear()
        self.notes.clear()
        self.hellos.clear()
        self.ready.clear()
        self.later.clear()
        self.mail.clear()
        self.asks.clear()
        self.pings.clear()
        self.waiting.clear()
        self.arrivals.clear()
        self.population = 0
        suspects = set(self.suspects)
        self.doubted_mail = deque(row for row in self.suspects if row.inbox is not None)
        for connection in connections:
            self.population += 1
            connection.listed = connection.waiting_mail = connection.flying = False
            connection.wait = GO_ON
            connection.given = 0
            connection.keep_rest()
            connection.regive = bool(connection.rest)
            if connection.state in (UNCONFIRMED, CONFIRMED):
                self.records.append(connection)
            if connection.pinging:  # it is ours, so nobody is in doubt for it
                connection.pinging = PING_WAITS
                self.pings.append(connection)
            connection.doubted = connection in suspects
            if connection.doubted:
                continue
            self._offer(connection)
        self._old_mail = len(self.mail)

    def _offer(self, connection: Connection) -> None:
        """Puts a connection into the lists it belongs to."""
        if connection.state == GREETED:
            connection.flying = True
            self.hellos.append(connection)
            return
        if connection.inbox is not None and connection.given < len(connection.inbox):
            self.has_mail(connection)
            if connection.is_asked:
                self.asks.append(connection)
        if connection.state > GREETED and (connection.regive or connection.readable):
            self.want(connection)

    def end(self) -> list[Connection]:
        """The worker is gone, or its state is. Returns the connections it had in hand, each one
        death further; they are given again one by one, but for those the caller closes."""
        self.up = False
        hand = [connection for row in self.flying for connection in row.streams + row.mailed]
        for connection in hand:
            connection.keep_rest()
        if self.flying:
            hand += self.waiting
        self.flying.clear()
        self.records.clear()
        doubtful = dict.fromkeys(hand)
        for connection in doubtful:
            connection.deaths += 1
        for connection in self.suspects:  # not yet tried again: still in doubt
            doubtful.setdefault(connection)
        self.suspects = deque(doubtful)
        return list(doubtful)

    # Inputs and commits

    def next_input(self, read: Read, now: float) -> list[Any] | None:
        """Returns the items of the next input, or None if there is nothing to give."""
        if not self.up or len(self.flying) >= FLYING:
            return None
        hand: list[Connection] = []
        mailed: list[Connection] = []
        records: list[Any] = []
        inbox: list[Any] = []
        hellos: list[Any] = []
        chunks: list[int] = []
        size = 0
        if self.records:
            self._take_records(records)
        elif self.suspects:
            if self.flying:
                return None
            if self._old_mail or self._mail_turn:
                self._take_mail(mailed, inbox)
            self._mail_turn = not mailed  # new mail must not keep those in doubt waiting
            if not mailed:
                size = self._take_suspect(hand, mailed, inbox, hellos, chunks)
        elif self.arrivals:
            self._take_arrivals(records, mailed, inbox)
        if not (self.suspects or records or hand or mailed):
            mail_size = self._take_mail(mailed, inbox)
            if self.pings:
                self._take_pings(inbox, mail_size)
            self._take_hellos(hand, hellos)
            if self.later and (
                self.ready or inbox or hand or self.notes or now >= self._later_until
            ):
                self.ready += self.later
                self.later.clear()
            size = self._take_chunks(hand, chunks, read, now)
        if not (hand or inbox or mailed or records or self.notes or self._is_due(now)):
            return None
        self._sequence += 1
        self._told = self.applied
        self._last = now
        self.flying.append(Input(self._sequence, hand, mailed))
        notes, self.notes = self.notes, []
        return [
            self.epoch, self._sequence, self.applied, notes, records, inbox, hellos, chunks,
            self._stream[:size],
        ]  # fmt: skip

    def _is_due(self, now: float) -> bool:
        """Tells whether the worker has input of its own that may go on now."""
        if not self.waiting or self.flying:
            return False
        if now - self._last >= _TICK_S:
            return True
        return self._told < self.applied and any(row.wait == AHEAD for row in self.waiting)

    def tick_at(self) -> float | None:
        """Returns when the worker wants to be asked, or has been silent for too long."""
        if not self.up:
            return None
        if self.flying:
            return self._last + _OVERDUE_S
        if self.held:
            return None
        tick = self._last + _TICK_S if self.waiting else None
        if self.later and (tick is None or self._later_until < tick):
            return self._later_until
        return tick

    def is_overdue(self, now: float) -> bool:
        """Tells whether a commit has not come though a worker that hangs would have been killed."""
        return self.up and bool(self.flying) and now - self._last >= _OVERDUE_S

    def served(self, since: float, now: float) -> bool:
        """Tells whether the worker has been there for its clients all the time since then."""
        stalls = bool(self.flying) and now - self._last >= _STALLED_S
        return self.up and not stalls and self._stalled < since

    def _take_records(self, records: list[Any]) -> None:
        for _ in range(min(_RECORDS, len(self.records))):
            connection = self.records.popleft()
            if connection.state != CLOSED and connection.shard == self.number:
                records += self._record(connection)

    def _record(self, connection: Connection) -> tuple[Any, ...]:
        links: list[int] = []
        client = self._directory.client(connection.serial)
        if client is not None:
            for link_id, link in client.links.items():
                links += (link_id, link.peer.serial if link.peer else 0, link.peer_id)
        return (
            connection.serial,
            connection.key,
            connection.shared,
            connection.receive,
            connection.send,
            connection.state == CONFIRMED,
            connection.source,
            connection.ping_id,
            links,
            connection.note,
        )

    def arrive(self, connection: Connection) -> None:
        """Takes over a connection that was another shard's, where all of it is committed."""
        connection.shard = self.number
        self.population += 1
        connection.keep_rest()
        connection.regive = bool(connection.rest)
        connection.given = 0
        connection.listed = connection.waiting_mail = True  # not before the worker knows of it
        self.arrivals.append(connection)
        if connection.pinging:
            self.pings.append(connection)

    def _take_arrivals(
        self, records: list[Any], mailed: list[Connection], inbox: list[Any]
    ) -> None:
        """Gives the records of those that came from other shards, and their inboxes with them.

        Data from clients of this shard goes directly to them from now on: it must not overtake
        what is in the inbox.
        """
        size = 0
        while self.arrivals and size < self._limits.frame:
            connection = self.arrivals.popleft()
            if connection.state == CLOSED or connection.shard != self.number:
                continue
            record = self._record(connection)
            records += record
            size += _RECORD_SIZE + _LINK_SIZE * len(record[8])
            connection.listed = connection.waiting_mail = False
            if connection.inbox is not None:
                size += self._give_mail(connection, inbox)
                mailed.append(connection)
            if connection.regive or connection.readable:
                self.want(connection)

    def _take_suspect(
        self,
        hand: list[Connection],
        mailed: list[Connection],
        inbox: list[Any],
        hellos: list[Any],
        chunks: list[int],
    ) -> int:
        """Takes the next connection in doubt, alone: the inboxes of all, then their streams.
        Returns the bytes of its stream."""
        # Each inbox once, with what it had then: new mail must not keep the streams waiting.
        while self.doubted_mail:
            connection = self.doubted_mail.popleft()
            if connection.inbox is not None and connection.given < len(connection.inbox):
                self._give_mail(connection, inbox)
                mailed.append(connection)
                return 0
        size = 0
        while self.suspects and not hand:
            connection = self.suspects.popleft()
            connection.doubted = False
            if connection.state == CLOSED:
                continue
            if connection.state == GREETED:
                hellos += (connection.serial, connection.rest, connection.source)
            elif connection.rest:
                size = len(connection.rest)
                self._stream[:size] = connection.rest
                chunks += (connection.serial, size)
                connection.regive = False
            else:
                self._offer(connection)
                continue
            connection.flying = True
            hand.append(connection)
        return size

    def _give_mail(
        self, connection: Connection, inbox: list[Any], most: int | None = None
    ) -> int:
        """Gives what is in an inbox and was not given yet, or `most` frames of it; returns its
        bytes as they are sealed."""
        rows = connection.inbox
        if rows is None:
            return 0
        size = 0
        serial = connection.serial
        given = connection.given
        end = len(rows) if most is None else min(given + most, len(rows))
        for frame, peer in islice(rows, given, end):
            inbox += (serial, frame, peer)
            size += len(frame) + BOX_EXTRA
        connection.given = end
        return size

    def _take_mail(self, mailed: list[Connection], inbox: list[Any]) -> int:
        """Gives the inboxes that have something, in turn; returns their bytes as they are sealed.
        """
        size = 0
        while self.asks:  # alone: what is behind it in the inbox may let data go to others
            connection = self.asks.popleft()
            if (
                connection.state != CLOSED
                and connection.shard == self.number
                and connection.is_asked
                and not connection.given
            ):
                size += self._give_mail(connection, inbox, 1)
                mailed.append(connection)
        mail = self.mail
        while mail and size < self._limits.frame:
            connection = mail.popleft()
            if connection.shard == self.number:  # else it has moved, and waits there
                connection.waiting_mail = False
            if self._old_mail:
                self._old_mail -= 1
            if connection.state != CLOSED and connection.shard == self.number:
                size += self._give_mail(connection, inbox)
                mailed.append(connection)
        return size

    def _take_pings(self, inbox: list[Any], size: int) -> None:
        """Gives the pings that are due as frames of inboxes, behind all else that is in these."""
        pings = self.pings
        while pings and size < self._limits.frame:
            connection = pings.popleft()
            if connection.pinging != PING_WAITS or connection.shard != self.number:
                continue
            ping_id = connection.ping_id
            if ping_id is None or connection.state == CLOSED:  # it has answered the one before
                connection.pinging = NOT_PINGED
                continue
            connection.pinging = PING_GIVEN
            inbox += (connection.serial, _PING + ping_id, None)
            size += _PING_SIZE

    def _take_hellos(self, hand: list[Connection], hellos: list[Any]) -> None:
        while self.hellos and len(hellos) < 3 * self._limits.hellos:
            connection = self.hellos.popleft()
            if connection.state != CLOSED:
                hellos += (connection.serial, connection.rest, connection.source)
                hand.append(connection)

    def _take_chunks(
        self, hand: list[Connection], chunks: list[int], read: Read, now: float
    ) -> int:
        """Reads the streams that are ready, in turn; returns the bytes of all parts."""
        size = 0
        ready = self.ready
        limit = self._limits.frame
        stream = self._stream
        while ready and size < limit:
            connection = ready.popleft()
            if connection.shard != self.number:  # it has moved
                continue
            connection.listed = False
            if connection.state == CLOSED or connection.flying:
                continue
            count = read(connection, stream[size:], now)
            if count:
                connection.flying = True
                chunks += (connection.serial, count)
                hand.append(connection)
                size += count
        return size

    def committed(self, sequence: int, now: float) -> Input | None:
        """Takes the oldest input off and returns it, or None for a wrong sequence."""
        if not self.flying or self.flying[0].sequence != sequence:
            return None
        if now - self._last >= _STALLED_S:
            self._stalled = now
        self.applied = sequence
        return self.flying.popleft()

    def settle(self, done: Input) -> None:
        """The commit of an input was applied: its connections are clean, and may be read again."""
        for connection in done.mailed:
            connection.deaths = 0
        for connection in done.streams:
            connection.deaths = 0
            connection.flying = False
            if connection.rest:
                connection.keep_rest()
            state = connection.state
            if state != CLOSED and (
                connection.readable
                or connection.regive
                or connection.inbox is not None
                or state == GREETED
            ):
                self._offer(connection)

    def set_wait(self, connection: Connection, wait: int) -> None:
        """Learns why the worker left input of a connection where it was, or that it went on."""
        if wait:
            connection.wait = wait
            self.waiting[connection] = None
        elif connection.wait:
            connection.wait = GO_ON
            del self.waiting[connection]
            if connection.readable:
                self.want(connection)

    def tell(self, serial: int, note: int) -> None:
        """Notes something for the worker."""
        if self.up:
            self.notes += (serial, note)

    def forget(self, connection: Connection) -> None:
        """A connection is closed: nothing of it is given any more."""
        self.waiting.pop(connection, None)
        self.population -= 1
