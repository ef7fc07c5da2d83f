"""Does a node keep its own time? Seen by made-up nodes in its table, from when it asks them.

A node asks each node of its lists every 60 s, and besides a random one of each list every 20 s
(c-toxcore DHT.h: PING_INTERVAL, GET_NODE_INTERVAL). Its requests name the key that it searches: its
own for the close list, a random one for each other list. So whoever is asked sees the clock.
"""

import itertools
import select
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from core import crypto
from core import endpoint as endpoints
from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from toxmesh.bench.fakes import LISTED, Fake
from toxmesh.bench.ring import SLOT
from toxmesh.bench.scenarios.beside import Gate

COUNT = 64
JOIN_S = 8.0  # in which they make themselves known, and are asked for the first time
KNOCK_S = 1.0  # how often they do, in that time
CHECK_S = 60.0  # c-toxcore DHT.h: PING_INTERVAL
ROUND_S = 20.0  # c-toxcore DHT.h: GET_NODE_INTERVAL
LATE = 1.2  # the bar: within a fifth
_MOST = 100_000  # requests that are noted down; there are some hundreds


@dataclass(slots=True)
class Asks:
    """Who was asked for which key, and when."""

    rows: list[tuple[float, int, bytes]] = field(default_factory=list)

    def lists(self, begin: float) -> int:
        """Returns for how many keys the node has searched before `begin`."""
        return len({searched for when, _, searched in self.rows if when < begin})

    def silence(self, begin: float, end: float) -> float:
        """Returns the longest time in which nobody was asked for one of the keys; 20 s is usual."""
        times: dict[bytes, list[float]] = defaultdict(list)
        for when, _, searched in self.rows:
            times[searched].append(when)
        return max((max(_gaps(row, begin, end)) for row in times.values()), default=float("nan"))

    def checks(self, begin: float, end: float) -> list[float]:
        """Returns for each node of the table how long it waited to be asked for a key again.

        Only nodes count that were asked in their rhythm before `begin`: others are in no list.
        """
        times: dict[tuple[int, bytes], list[float]] = defaultdict(list)
        for when, node, searched in self.rows:
            times[node, searched].append(when)
        waits = []
        for row in times.values():
            before = [when for when in row if when < begin]
            usual = [after - one for one, after in itertools.pairwise(before)]
            if before and begin - before[-1] <= CHECK_S * LATE and any(
                CHECK_S / LATE <= wait <= CHECK_S * LATE for wait in usual
            ):
                waits.append(max(_gaps(row, begin, end)))
        return waits


def _gaps(times: Sequence[float], begin: float, end: float) -> list[float]:
    """Returns the waits that ended between `begin` and `end`, or have lasted until `end`."""
    known = [when for when in times if when < end]
    waits = [after - before for before, after in itertools.pairwise(known) if after >= begin]
    return [*waits, end - known[-1]] if known else [end - begin]


def watch(gate: Gate, node: PublicKey, target: Endpoint) -> Asks:
    """Plays made-up nodes until told to end; returns when they were asked."""
    entropy = SystemEntropy()
    fakes = [Fake(node, i, entropy) for i in range(COUNT)]
    by_fd = {fake.sock.fileno(): (i, fake) for i, fake in enumerate(fakes)}
    address = (socket.inet_ntoa(endpoints.ip_of(target)), endpoints.port_of(target))
    epoll = select.epoll()
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    asks = Asks()
    begin = time.monotonic()
    knocked = begin - KNOCK_S
    joined = False
    while not gate.over():
        now = time.monotonic()
        if now - begin < JOIN_S:
            if now - knocked >= KNOCK_S:
                knocked = now
                for fake in fakes:
                    fake.sock.sendto(fake.knock(), address)
        elif not joined:
            joined = True
            gate.wait()
        for fd, _ in epoll.poll(0.25):
            number, fake = by_fd[fd]
            try:
                packet, source = fake.sock.recvfrom(SLOT)
            except (BlockingIOError, ConnectionRefusedError):
                continue
            if packet[:1] == b"\x02" and len(asks.rows) < _MOST:
                plain = crypto.open_sealed(fake.shared, packet[33:57], packet[57:])
                if plain is not None:
                    asks.rows.append((time.monotonic(), number, plain[:32]))
            start = entropy.below(COUNT)
            others = b"".join(fakes[(start + i) % COUNT].packed for i in range(LISTED))
            reply = fake.answer(packet, others)
            if reply is not None:
                fake.sock.sendto(reply, source)
    return asks
