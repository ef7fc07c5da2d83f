"""Deadlines of connections: those of a kind last equally long, so a queue keeps them in order."""

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from broker.tcp_connection import GREETED, UNCONFIRMED
from core import services

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

_SWEEP_S = 1.0  # how often receivers that are full are looked at
_PING = b"\x04"
_GONE_ROWS = 1024  # of connections that are gone: so many pings are kept beside those of the live
_ENDED_A_TURN = 256  # connections that are closed at a time when the service is switched off: 5 ms
_PINGS_EARLY_S = 0.5  # pings leave together, and their answers come together: each turn costs

Row = tuple[float, int]
"""When, and the serial of the connection; one that is gone by then is passed over."""


class Clocks:
    """What is due for which connection, and when."""

    def __init__(self, ending: bool = False) -> None:
        self.hellos: deque[Row] = deque()
        self.confirms: deque[Row] = deque()
        self.pings: deque[Row] = deque()
        self.pongs: deque[tuple[float, int, bytes]] = deque()
        self.accept_at: float | None = None
        self.ending = ending
        """Whether all connections are closed one after the other: the service is off."""
        self._sweep_at = 0.0

    def next(self, tcp: "RelayTcp") -> float | None:
        """Returns when `run` has something to do; deadlines that were kept wake nobody up."""
        connections = tcp.connections
        hellos, confirms, pongs = self.hellos, self.confirms, self.pongs
        while hellos:
            connection = connections.get(hellos[0][1])
            if connection is not None and connection.state <= GREETED:
                break
            hellos.popleft()
        while confirms:
            connection = connections.get(confirms[0][1])
            if connection is not None and connection.state == UNCONFIRMED:
                break
            confirms.popleft()
        while pongs:
            connection = connections.get(pongs[0][1])
            if connection is not None and connection.ping_id == pongs[0][2]:
                break
            pongs.popleft()
        if len(self.pings) > 2 * len(connections) + _GONE_ROWS:
            # clients that come and go at 5,000/s would leave 150,000 rows behind in half a minute
            self.pings = deque(row for row in self.pings if row[1] in connections)
        times = [row[0][0] for row in (hellos, confirms, self.pings, pongs) if row]
        if self.accept_at is not None:
            times.append(self.accept_at)
        if tcp.full:
            times.append(self._sweep_at)
        if self.ending and connections:
            times.append(0.0)
        return min(times, default=None)

    def run(self, tcp: "RelayTcp", now: float) -> None:
        """Does what is due at `now`."""
        if self.ending:
            for one in islice(tcp.connections.values(), _ENDED_A_TURN):
                tcp.doom(one, services.reason(services.RELAY))
        if self.accept_at is not None and self.accept_at <= now:
            self.accept_at = None
            tcp.door.resume()
        while self.hellos and self.hellos[0][0] <= now:
            serial = self.hellos.popleft()[1]
            connection = tcp.connections.get(serial)
            if connection is None or connection.state > GREETED:
                continue
            if connection.state == GREETED:  # it is not the client that is late
                work = tcp.works[connection.shard]
                if not work.served(now - tcp.limits.hello_s, now):
                    self.hellos.append((now + tcp.limits.hello_s, serial))
                    continue
            tcp.doom(connection, "relay_hello_late")
        while self.confirms and self.confirms[0][0] <= now:
            serial = self.confirms.popleft()[1]
            connection = tcp.connections.get(serial)
            if connection is not None and connection.state == UNCONFIRMED:
                tcp.doom(connection, "relay_confirm_late")
        self._ping(tcp, now)
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            for connection in tcp.full.values():
                if connection.out is None or now - connection.moved < tcp.limits.stuck_s:
                    continue
                # Who has yet to say how far it has read is sent nothing, and judged by its pings.
                if connection.pace is None or connection.pace.may_have(1, connection.bytes_out):
                    tcp.doom(connection, "relay_stuck")

    def _ping(self, tcp: "RelayTcp", now: float) -> None:
        limits = tcp.limits
        due = now + _PINGS_EARLY_S if self.pings and self.pings[0][0] <= now else now
        while self.pings and self.pings[0][0] <= due:
            serial = self.pings.popleft()[1]
            connection = tcp.connections.get(serial)
            if connection is None:
                continue
            ping_id = tcp.entropy.bytes(8)
            while ping_id == bytes(8):
                ping_id = tcp.entropy.bytes(8)
            connection.ping_id = ping_id
            tcp.wait_for_no_answer(connection, now)
            tcp.post_control(connection, _PING + ping_id, now)
            self.pings.append((now + limits.ping_s, serial))
            self.pongs.append((now + limits.pong_s, serial, ping_id))
        while self.pongs and self.pongs[0][0] <= now:
            _, serial, ping_id = self.pongs.popleft()
            connection = tcp.connections.get(serial)
            if connection is None or connection.ping_id != ping_id:
                continue
            if tcp.works[connection.shard].served(now - limits.pong_s, now):
                tcp.doom(connection, "relay_pong_late")
            else:  # nobody was there to seal the ping, or to read the answer
                self.pongs.append((now + limits.pong_s, serial, ping_id))
