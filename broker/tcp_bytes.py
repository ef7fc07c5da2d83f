"""What goes between sockets and records: input as it is read, output as far as it is taken."""

import select
from collections import Counter

from broker.tcp_connection import Connection
from broker.tcp_mail import Mail
from broker.tcp_pace import LOOK_AFTER, ONLY_ASKS, Pace
from core.relay.frames import ROOM

EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
EVENTS_BEHIND = EVENTS | select.EPOLLOUT  # of one that has not taken all its bytes
_WRITE_PART = 64 << 10  # bytes of a backlog offered to a socket at once


class Bytes(Mail):
    """The part of the relay's streams that reads and writes sockets."""

    counts: Counter[str]
    poll: select.epoll

    def read(self, connection: Connection, room: memoryview, now: float) -> int:
        """Puts the next part of a stream into `room`; returns its bytes, kept until committed."""
        rest = connection.rest
        if connection.regive:
            connection.regive = False
            size = len(rest)
            room[:size] = rest
            return size
        if not connection.readable:
            return 0
        limit = self.limits.chunk
        try:
            size = connection.socket.recv_into(room, limit)
        except BlockingIOError:
            connection.readable = False
            return 0
        except OSError:
            self.doomed.append((connection, "relay_gone"))
            connection.readable = False
            return 0
        if size < limit:
            self._drained(connection, size)
        if size:
            connection.rest = b"".join((rest, room[:size])) if rest else room[:size]
            self.counts["bytes_in"] += size
            connection.bytes_in += size
            connection.seen = now
        return size

    def _drained(self, connection: Connection, size: int) -> None:
        """Less than asked for was read: edge-triggered, so the next byte is a new event."""
        if not size:
            connection.readable = False
            self.doomed.append((connection, "relay_ended"))
        elif not connection.ended:
            connection.readable = False

    def write(self, connection: Connection, data: memoryview, now: float) -> None:
        """Sends sealed frames, and keeps what the socket does not take or the client must not
        have yet."""
        pace = connection.pace
        begin = connection.bytes_out
        if connection.out is not None:
            begin += len(connection.out)
        end = begin + len(data)
        may_get = None
        if pace is None:
            if end >= LOOK_AFTER:
                connection.pace = Pace()
        else:
            if pace.asking is not None and not connection.is_asked:
                pace.sealed(data, begin)
            if pace.is_asked_now(connection.socket, end, connection.bytes_out, now):
                self._ask(connection, pace, end)
            may_get = pace.may_get()
        if connection.out is not None:
            connection.out += data
        elif may_get is not None and end > may_get:
            connection.out = bytearray(data)
            connection.moved = now
            self.flush(connection, now)
            return
        else:
            try:
                count = connection.socket.send(data)
            except BlockingIOError:
                count = 0
            except OSError:
                self.doomed.append((connection, "relay_gone"))
                return
            self.counts["bytes_out"] += count
            connection.bytes_out += count
            if count == len(data):
                if connection.note != ROOM:  # full of frames in its inbox, which this has taken
                    self.check_level(connection, now)
                return
            connection.out = bytearray(data[count:])
            self.poll.modify(connection.fd, EVENTS_BEHIND)  # tells at once if there is room now
            connection.moved = now  # from here on it is the client that is waited for
        self.check_level(connection, now)

    def _ask(self, connection: Connection, pace: Pace, end: int) -> None:
        """Asks a client whose stream is sealed up to `end` how far it has read."""
        connection.post_first(pace.ask(end), ONLY_ASKS)
        self.works[connection.shard].asks.append(connection)

    def wait_for_no_answer(self, connection: Connection, now: float) -> None:
        """Sends what waits for an answer that cannot come, or did not."""
        pace = connection.pace
        if pace is not None and pace.gates:
            pace.open()
            if connection.out is not None:
                self.flush(connection, now)

    def flush(self, connection: Connection, now: float) -> None:
        """Sends what waits for a socket that has room again, as far as its client may have it."""
        out = connection.out
        pace = connection.pace
        may_get = None if pace is None else pace.may_get()
        while out:
            part = _WRITE_PART
            if pace is not None and may_get is not None:
                part = min(part, may_get - connection.bytes_out)
                if part <= 0:
                    pace.behind = True
                    break
            try:
                with memoryview(out) as view:
                    count = connection.socket.send(view[:part])
            except BlockingIOError:
                self.poll.modify(connection.fd, EVENTS_BEHIND)  # tells at once if there is room
                break
            except OSError:
                self.doomed.append((connection, "relay_gone"))
                return
            del out[:count]
            connection.moved = now
            connection.bytes_out += count
            self.counts["bytes_out"] += count
        if not out:
            connection.out = None
        self.check_level(connection, now)
