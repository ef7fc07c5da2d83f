"""Datagrams faster than a node can answer: the part of a load that has no mercy."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.endpoint import Endpoint
from toxmesh.bench.clients import Clients
from toxmesh.bench.loads import Ping
from toxmesh.bench.ring import Packets
from toxmesh.bench.scenarios.beside import Gate
from toxmesh.bench.traffic import Generator

BREATH = 0.0005  # seconds between two bursts: with fewer calls more can be sent
PONG = 0x01
WINDOW = 2048  # unanswered pings that keep any node busy
LAST_S = 0.5  # after the last datagram: for the answers on their way
_RING = 4096  # datagrams at least


@dataclass(frozen=True, slots=True)
class Flooded:
    """What a flood sent, and what it had measured before."""

    sent: int
    answers: int
    seconds: float
    capacity: float = 0.0  # answers a second to a load that waits for answers

    @property
    def times(self) -> float:
        """How many times as many as the node answers, alone or now, were sent."""
        return self.rate / max(self.capacity, self.answers / max(self.seconds, 1e-9), 1.0)

    @property
    def rate(self) -> float:
        """Datagrams that were sent a second."""
        return self.sent / max(self.seconds, 1e-9)


def ping_ring(generator: Generator, clients: Clients, numbers: Sequence[int]) -> Packets:
    """Makes a ring of pings, one of each of these clients and again until it is long enough."""
    load = Ping(clients)
    count = max(len(numbers), _RING) // len(numbers) * len(numbers)
    home = generator.endpoint
    return generator.packets(
        [load.request(i, clients[numbers[i % len(numbers)]], home(i)) for i in range(count)]
    )


def pour(generator: Generator, ring: Packets, rate: float, seconds: float) -> Flooded:
    """Sends `rate` pings a second whatever comes back; what is late is sent at once."""
    fd, receiver = generator.sock.fileno(), generator.receiver
    position = sent = answers = 0
    begin = now = time.monotonic()
    while now < begin + seconds:
        due = int((now - begin) * rate) - sent
        while due > 0 and (count := ring.send(fd, position, due)):
            position = (position + count) % ring.count
            sent += count
            due -= count
        while count := receiver.receive():
            answers += receiver.kinds(count).count(PONG)
        if due <= 0:
            time.sleep(max(0.0, now + BREATH - time.monotonic()))
        now = time.monotonic()
    took = now - begin
    while time.monotonic() < now + LAST_S:
        answers += receiver.kinds(receiver.receive()).count(PONG)
        time.sleep(BREATH)
    return Flooded(sent, answers, took)


def overload(
    gate: Gate, target: Endpoint, clients: Clients, sources: int, times: float, seconds: float
) -> Flooded:
    """Measures how many pings a second are answered, then sends `times` as many."""
    generator = Generator(target, sources, probes=0)
    ring = ping_ring(generator, clients, range(min(1000, len(clients) // 2)))
    generator.drive(ring, PONG, once=True, probing=False)
    alone = generator.drive(ring, PONG, seconds=2.0, window=WINDOW, probing=False)
    capacity = alone.answers / max(alone.seconds, 1e-9)
    generator.drain()
    gate.wait()
    flooded = pour(generator, ring, times * capacity, seconds)
    generator.close()
    return replace(flooded, capacity=capacity)


def strangers(
    gate: Gate, target: Endpoint, clients: Clients, numbers: range, sources: int, rate: float
) -> Flooded:
    """Sends one ping of each client in `numbers`, `rate` a second: keys that nobody has seen."""
    generator = Generator(target, sources, probes=0)
    ring = ping_ring(generator, clients, numbers)
    gate.wait()
    flooded = pour(generator, ring, rate, len(numbers) / rate)
    generator.close()
    return flooded
