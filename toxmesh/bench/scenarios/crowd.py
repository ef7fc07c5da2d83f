"""Many relay connections of one process: made, proved by a ping, kept alive, linked in pairs."""

import select
import time
from collections.abc import Iterator, Sequence

from core.crypto import PublicKey
from core.entropy import SystemEntropy
from toxmesh.bench.clients import Clients
from toxmesh.bench.relay import Connection, RelayLoad, temporary

AT_ONCE = 128  # connections being set up: the reference keeps 256 unconfirmed ones
_PING = b"\x04" + (7).to_bytes(8, "big")
_PONG = b"\x05" + _PING[1:]
_DATA = 16  # the first packet kind that is a link id
_entropy = SystemEntropy()


class Crowd:
    """Connections to one relay; each answers the relay's pings."""

    def __init__(self, clients: Clients, address: tuple[str, int], sources: int) -> None:
        self._clients = clients
        self._load = RelayLoad(clients, address, sources)
        self.members: list[Connection] = []  # in the order of opening
        self.pings = 0  # of the relay, answered
        self.closed = 0  # connections that the relay ended

    def close(self) -> None:
        """Closes all of them."""
        self._load.close()

    def begin(self, index: int) -> Connection:
        """Opens the connection of client `index`; its hello leaves as soon as it stands."""
        base = int.from_bytes(_entropy.bytes(24), "big")
        client = self._clients[index]
        hello = self._load.hello(index, client, base)
        connection = self._load.open(index, client, hello, base)
        self.members.append(connection)
        return connection

    def turn(self, timeout: float) -> Iterator[tuple[Connection, bytes]]:
        """Does what the sockets allow; yields all packets that are no handshake and no ping."""
        connections = self._load.connections
        for fd, events in self._load.epoll.poll(timeout):
            connection = connections.get(fd)
            if connection is None:
                continue
            if events & select.EPOLLOUT and connection.outbox:
                connection.flush()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                yield from self._hear(connection)
            if not connection.alive:
                self.closed += 1
                self._load.drop(connection)

    def _hear(self, connection: Connection) -> Iterator[tuple[Connection, bytes]]:
        before = -1
        while connection.alive and len(connection.inbox) != before:
            before = len(connection.inbox)
            connection.read()
        if connection.shared is None:
            greeted = connection.greeted()
            if greeted is False:
                connection.alive = False
            if not greeted:
                return
            connection.send(connection.frame(_PING))
        for packet in connection.packets():
            if packet[0] == 0x04:
                self.pings += 1
                connection.send(connection.frame(b"\x05" + packet[1:]))
            else:
                yield connection, packet

    def open_all(
        self, indices: Sequence[int], timeout: float, rate: float = float("inf")
    ) -> list[float]:
        """Opens connections, `rate` a second at most; returns how long each took to its pong."""
        temporary(0)
        took: list[float] = []
        waiting: set[int] = set()
        coming = iter(indices)
        more = True
        begin = now = time.monotonic()
        count = 0
        while (more or waiting) and now < begin + timeout:
            while more and len(waiting) < AT_ONCE and count <= (now - begin) * rate:
                index = next(coming, None)
                count += 1
                if index is None:
                    more = False
                else:
                    waiting.add(id(self.begin(index)))
            closed = self.closed
            for connection, packet in self.turn(0.01):
                if packet == _PONG and id(connection) in waiting:
                    waiting.discard(id(connection))
                    took.append(time.monotonic() - connection.opened)
            now = time.monotonic()
            if self.closed != closed:
                waiting -= {id(member) for member in self.members if not member.alive}
        return took

    def keep(self, seconds: float) -> None:
        """Does nothing but answer pings."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for _ in self.turn(min(left, 0.5)):
                continue

    def link(self, timeout: float) -> list[tuple[Connection, Connection]]:
        """Links each member with its neighbour; returns the pairs that stand."""
        pairs = list(zip(self.members[::2], self.members[1::2], strict=False))
        for one, other in pairs:
            for mine, theirs in ((one, other), (other, one)):
                if mine.shared is not None:
                    mine.send(mine.frame(b"\x00" + PublicKey(theirs.client.public)))
        open_ends = {id(member) for pair in pairs for member in pair}
        end = time.monotonic() + timeout
        while open_ends and time.monotonic() < end:
            for connection, packet in self.turn(0.01):
                if packet[0] == 0x01:
                    connection.link = packet[1]
                elif packet[0] == 0x02:
                    connection.linked = True
                    open_ends.discard(id(connection))
        return [
            (one, other)
            for one, other in pairs
            if one.linked and other.linked and min(one.link, other.link) >= _DATA
        ]
