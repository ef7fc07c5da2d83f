"""Pings of the relay: which clients are asked when whether they are there, and who is late.

Twenty thousand clients that only wait to be found cost nothing but pings, and each of these takes
up a record that nobody has touched for half a minute. So those that are due within a second leave
together, in one row instead of one each, and lie in no inbox: a client has one ping at most.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from broker.tcp_connection import Connection

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

_GONE = 1024  # of connections that are gone: so many are kept beside those of the live
_EARLY_S = 1.0  # at most so much earlier: they leave together, and their answers come together
_ID_SIZE = 8
_NO_ID = bytes(_ID_SIZE)  # c-toxcore TCP_server.c: handle_tcp_packet closes for a pong with it


class Pings:
    """Those that are due, and those that were not answered."""

    def __init__(self) -> None:
        self._due: deque[tuple[float, list[int]]] = deque()  # when the first is, and the serials
        self._size = 0  # serials in all of them
        self._asked: deque[tuple[float, list[tuple[int, bytes]]]] = deque()
        # when they are late, and serials and ids of those that left together

    def add(self, serial: int, when: float) -> None:
        """Has a client pinged at `when`, or a little earlier; never earlier than the one before."""
        due = self._due
        if due and when - due[-1][0] <= _EARLY_S:
            due[-1][1].append(serial)
        else:
            due.append((when, [serial]))
        self._size += 1

    def next(self, connections: Mapping[int, Connection]) -> float | None:
        """Returns when something is due; pings that were answered in time wake nobody up."""
        asked = self._asked
        while asked and not _is_open(asked[0][1], connections):
            asked.popleft()
        if self._size > 2 * len(connections) + _GONE:
            # clients that come and go at 5,000/s would leave 150,000 of them in half a minute
            self._keep(connections)
        late = asked[0][0] if asked else None
        if not self._due:
            return late
        when = self._due[0][0]
        return when if late is None or when < late else late

    def _keep(self, connections: Mapping[int, Connection]) -> None:
        """Forgets those of connections that are gone."""
        rows = [
            (when, [serial for serial in serials if serial in connections])
            for when, serials in self._due
        ]
        self._due = deque(row for row in rows if row[1])
        self._size = sum(len(serials) for _, serials in self._due)

    def run(self, tcp: "RelayTcp", now: float) -> None:
        """Pings who is due at `now`, and ends who is late."""
        if self._due and self._due[0][0] <= now:
            self._ping(tcp, now)
        while self._asked and self._asked[0][0] <= now:
            self._judge(tcp, self._asked.popleft()[1], now)

    def _ping(self, tcp: "RelayTcp", now: float) -> None:
        due = self._due
        serials: list[int] = []
        while due and due[0][0] <= now:
            serials += due.popleft()[1]
        self._size -= len(serials)
        connections, works = tcp.connections, tcp.works
        fresh = tcp.entropy.bytes(_ID_SIZE * len(serials))
        end = 0
        asked: list[tuple[int, bytes]] = []
        for serial in serials:
            begin = end
            end += _ID_SIZE
            connection = connections.get(serial)
            if connection is None:
                continue
            ping_id = fresh[begin:end]
            while ping_id == _NO_ID:
                ping_id = tcp.entropy.bytes(_ID_SIZE)
            connection.ping_id = ping_id
            if connection.pace is not None:
                tcp.wait_for_no_answer(connection, now)
            works[connection.shard].ping(connection)
            asked.append((serial, ping_id))
        if asked:
            due.append((now + tcp.limits.ping_s, [serial for serial, _ in asked]))
            self._size += len(asked)
            self._asked.append((now + tcp.limits.pong_s, asked))

    def _judge(self, tcp: "RelayTcp", asked: list[tuple[int, bytes]], now: float) -> None:
        """Closes who has not answered, though its worker was there all the time."""
        pong_s = tcp.limits.pong_s
        again: list[tuple[int, bytes]] = []
        for serial, ping_id in asked:
            connection = tcp.connections.get(serial)
            if connection is None or connection.ping_id != ping_id:
                continue
            if tcp.works[connection.shard].served(now - pong_s, now):
                tcp.doom(connection, "relay_pong_late")
            else:  # nobody was there to seal the ping, or to read the answer
                again.append((serial, ping_id))
        if again:
            self._asked.append((now + pong_s, again))

    # The next broker goes on with them

    def due_rows(self) -> list[tuple[float, int]]:
        """Returns when each ping is due, and its serial."""
        return [(when, serial) for when, serials in self._due for serial in serials]

    def asked_rows(self) -> list[tuple[float, int, bytes]]:
        """Returns when each pong is late, its serial, and the id that it has to have."""
        return [(when, *row) for when, asked in self._asked for row in asked]

    def restore(
        self, due: Iterable[tuple[float, int]], asked: Iterable[tuple[float, int, bytes]]
    ) -> None:
        """Goes on with those of the broker before."""
        for when, serial in due:
            self.add(serial, when)
        for when, serial, ping_id in asked:
            if not self._asked or self._asked[-1][0] != when:
                self._asked.append((when, []))
            self._asked[-1][1].append((serial, ping_id))


def _is_open(asked: list[tuple[int, bytes]], connections: Mapping[int, Connection]) -> bool:
    """Tells whether one of these pings waits for its answer, and forgets others."""
    while asked:
        serial, ping_id = asked[-1]
        connection = connections.get(serial)
        if connection is not None and connection.ping_id == ping_id:
            return True
        asked.pop()
    return False
