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

    def _gaps(self, begin: float, end: float, by_node: bool) -> list[float]:
        """Returns the waits between requests of the same kind that ended (or not) in the time."""
        times: dict[tuple[bytes, int], list[float]] = defaultdict(list)
        for when, node, searched in self.rows:
            times[searched, node if by_node else 0].append(when)
        gaps = []
        for moments in times.values():
            known = [moment for moment in moments if moment < end]
            for before, after in itertools.pairwise(known):
                if after >= begin:
                    gaps.append(after - before)
            if known:
                gaps.append(end - known[-1])  # at least so long
        return gaps

    def lists(self, begin: float) -> int:
        """Returns for how many keys the node has searched before `begin`."""
        return len({searched for when, _, searched in self.rows if when < begin})

    def silence(self, begin: float, end: float) -> float:
        """Returns the longest time in which nobody was asked for one of the keys; 20 s is usual."""
        return max(self._gaps(begin, end, by_node=False), default=float("nan"))

    def checks(self, begin: float, end: float) -> list[float]:
        """Returns how long each node had to wait to be asked for the same key again; 60 s at most.

        What goes on at `end` counts as it is then: a lower bound.
        """
        return sorted(self._gaps(begin, end, by_node=True))


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
