"""Many relay clients in pairs that send, and see each frame that is lost, doubled or not as sealed.

Every frame is opened, under a nonce that counts up by one. The stream is ordered and nothing in it
is passed over; so a nonce that the relay had used for two frames, or not at all, would leave the
first that follows unreadable. Each frame carries its number within its link.
"""

import struct
import time
from dataclasses import dataclass, field

from toxmesh.bench.relay import DATA, Connection, RelayLoad

_NUMBER = struct.Struct("!QQ")  # frame within the link; who sent it
_PING, _PONG = 0x04, 0x05


@dataclass
class Seen:
    """What the clients saw; the lists say which connection and when, seconds from the start."""

    frames: int = 0
    lost: int = 0
    doubled: int = 0
    unread: list[tuple[int, float]] = field(default_factory=list)
    closed: list[tuple[int, float]] = field(default_factory=list)
    notices: int = 0  # that the other end of a link is gone or has come
    longest_s: float = 0.0
    """The longest time in which no client got anything."""


class Pairs(RelayLoad):
    """Connections linked in pairs, each with a few frames under way."""

    seen: Seen

    def run(self, size: int, in_flight: int, seconds: float) -> Seen:
        """Sends until the brake is pulled or `seconds` are over, then waits for what is under way:
        what has not come after 10 s without a frame is lost."""
        self.seen = seen = Seen()
        self._filler = bytes(size - 1 - _NUMBER.size)
        self._sent = {id(c): 0 for c in self.connections.values()}
        self._came = dict.fromkeys(self._sent, 0)
        self._begun = last = time.monotonic()
        for connection in list(self.connections.values()):
            self._say(connection, in_flight)
        more = True
        while True:
            now = time.monotonic()
            more = more and now - self._begun < seconds and not self.brake.pulled
            before = seen.frames
            self._turn(more)
            now = time.monotonic()
            if seen.frames != before:
                seen.longest_s = max(seen.longest_s, now - last)
                last = now
            elif not more and (now - last > 10.0 or self._all_came()):
                break
        seen.lost += sum(self._sent.values()) - sum(self._came.values())
        return seen

    def _all_came(self) -> bool:
        return sum(self._sent.values()) == sum(self._came.values())

    def _say(self, connection: Connection, count: int) -> None:
        number = self._sent[id(connection)]
        self._sent[id(connection)] = number + count
        head = bytes((connection.link,))
        connection.send(
            b"".join(
                connection.frame(head + _NUMBER.pack(number + i, connection.index) + self._filler)
                for i in range(count)
            )
        )

    def _turn(self, more: bool) -> None:
        seen = self.seen
        for connection in self._ready(0.01):
            when = connection.index, time.monotonic() - self._begun
            if not connection.alive:
                seen.closed.append(when)
            count = 0
            for packet in connection.packets():
                if packet[0] >= DATA:
                    self._take(connection, packet)
                    count += 1
                elif packet[0] == _PING:
                    connection.send(connection.frame(bytes((_PONG,)) + packet[1:]))
                else:
                    seen.notices += 1
            if not connection.alive:
                if when not in seen.closed:
                    seen.unread.append(when)
                self.drop(connection)
            partner = self.partner[id(connection)]
            if count and more and partner.alive:
                self._say(partner, count)

    def _take(self, connection: Connection, packet: bytes) -> None:
        seen, partner = self.seen, self.partner[id(connection)]
        number, sender = _NUMBER.unpack_from(packet, 1)
        expected = self._came[id(partner)]
        seen.frames += 1
        if sender != partner.index or packet[17:] != self._filler:
            seen.unread.append((connection.index, time.monotonic() - self._begun))
        elif number < expected:
            seen.doubled += 1
        else:
            seen.lost += number - expected
            self._came[id(partner)] = number + 1
