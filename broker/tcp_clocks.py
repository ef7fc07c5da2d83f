"""Deadlines of connections: those of a kind last equally long, so a queue keeps them in order."""

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from broker.tcp_connection import GREETED, UNCONFIRMED
from broker.tcp_pings import Pings
from core import services

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

_SWEEP_S = 1.0  # how often receivers that are full are looked at
_ENDED_A_TURN = 256  # connections that are closed at a time when the service is switched off: 5 ms

Row = tuple[float, int]
"""When, and the serial of the connection; one that is gone by then is passed over."""


class Clocks:
    """What is due for which connection, and when."""

    def __init__(self, ending: bool = False) -> None:
        self.hellos: deque[Row] = deque()
        self.confirms: deque[Row] = deque()
        self.pings = Pings()
        self.accept_at: float | None = None
        self.ending = ending
        """Whether all connections are closed one after the other: the service is off."""
        self._sweep_at = 0.0

    def next(self, tcp: "RelayTcp") -> float | None:
        """Returns when `run` has something to do; deadlines that were kept wake nobody up."""
        connections = tcp.connections
        hellos, confirms = self.hellos, self.confirms
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
        times = [row[0][0] for row in (hellos, confirms) if row]
        ping_at = self.pings.next(connections)
        if ping_at is not None:
            times.append(ping_at)
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
        self.pings.run(tcp, now)
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            for connection in tcp.full.values():
                if connection.out is None or now - connection.moved < tcp.limits.stuck_s:
                    continue
                # Who has yet to say how far it has read is sent nothing, and judged by its pings.
                if connection.pace is None or connection.pace.may_have(1, connection.bytes_out):
                    tcp.doom(connection, "relay_stuck")
