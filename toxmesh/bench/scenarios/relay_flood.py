"""A relay at full speed: do the datagrams of everybody else still get their time?"""

import select
import time
from dataclasses import dataclass, field
from functools import partial

from core.entropy import SystemEntropy
from toxmesh.bench.clients import Clients
from toxmesh.bench.relay import STAMP, Connection
from toxmesh.bench.scenarios.asking import ASKERS, Askers
from toxmesh.bench.scenarios.beside import POLITE, Beside, Gate
from toxmesh.bench.scenarios.crowd import Crowd
from toxmesh.bench.scenarios.outcome import Outcome, Place, quantile
from toxmesh.bench.scenarios.prompt import prompt

PAIRS = 1000
TEXT = 1400  # bytes of a frame's text, link id included
FRAME = 2 + TEXT + 16  # bytes on the wire: length, text, MAC
IN_FLIGHT = 4  # frames each way; with so many pairs more only wait in the kernel
OPENED = 8  # pairs whose frames are opened and timed; of the others the bytes are counted
ASKED_RATE = 1000  # pings a second beside it
P99_MS = 10.0  # bar
_READ = 1 << 18


@dataclass(slots=True)
class Relayed:
    """What the relay carried."""

    pairs: int = 0
    frames: int = 0
    seconds: float = 0.0
    closed: int = 0
    wrong: int = 0  # frames of the opened pairs with another text
    latencies: list[float] = field(default_factory=list)  # of the opened pairs


@dataclass(slots=True)
class _End:
    """One end of a pair: what it has received, and whom it answers."""

    connection: Connection
    partner: Connection
    timed: bool
    left: int = 0  # bytes of a frame that has not come whole


class FullSpeed:
    """Pairs that answer each frame with a frame: the relay has always something to do."""

    def __init__(
        self, clients: Clients, address: tuple[str, int], sources: int, pairs: int, first: int
    ) -> None:
        self._crowd = Crowd(clients, address, sources)
        self._crowd.open_all(range(first, first + 2 * pairs), 30.0)
        self._pairs = self._crowd.link(20.0)
        self._filler = SystemEntropy().bytes(TEXT - 1 - STAMP.size)
        self._buffer = bytearray(_READ)

    def run(self, seconds: float, gate: Gate) -> Relayed:
        """Keeps the relay busy until `seconds` are over or the gate says so."""
        result = Relayed(pairs=len(self._pairs))
        ends = {}
        epoll = select.epoll()
        for i, (one, other) in enumerate(self._pairs):
            for mine, theirs in ((one, other), (other, one)):
                ends[mine.sock.fileno()] = _End(mine, theirs, i < OPENED)
                epoll.register(mine.sock, select.EPOLLIN)
        gate.wait()
        begin = time.monotonic()
        for end in ends.values():
            self._send(end.connection, IN_FLIGHT)
        while (now := time.monotonic()) < begin + seconds and not gate.over():
            for fd, _ in epoll.poll(0.01):
                end = ends[fd]
                count = self._open(end, result) if end.timed else self._count(end)
                result.frames += count
                self._send(end.partner, count)
                if not end.connection.alive:
                    epoll.unregister(fd)
                    result.closed += 1
        result.seconds = now - begin
        epoll.close()
        self._crowd.close()
        return result

    def _send(self, connection: Connection, count: int) -> None:
        if count and connection.alive:
            text = bytes((connection.link,)) + STAMP.pack(time.monotonic()) + self._filler
            connection.send(b"".join([connection.frame(text) for _ in range(count)]))

    def _count(self, end: _End) -> int:
        """Counts the frames that came by their bytes: all have the same size."""
        try:
            size = end.connection.sock.recv_into(self._buffer)
        except BlockingIOError:
            return 0
        except OSError:
            size = 0
        if not size:
            end.connection.alive = False
        if end.connection.outbox:
            end.connection.flush()
        count, end.left = divmod(end.left + size, FRAME)
        return count

    def _open(self, end: _End, result: Relayed) -> int:
        connection = end.connection
        connection.read()
        if connection.outbox:
            connection.flush()
        count = 0
        for packet in connection.packets():
            if packet[0] < 16:
                continue
            count += 1
            if packet[1 + STAMP.size :] != self._filler:
                result.wrong += 1
            result.latencies.append(time.monotonic() - STAMP.unpack_from(packet, 1)[0])
        return count


def full_speed(
    gate: Gate, clients: Clients, address: tuple[str, int], sources: int, pairs: int, first: int
) -> Relayed:
    """Runs pairs at full speed from the gate's beginning to its end, or for 25 s."""
    # A relay pings after 30 s, and whoever only counts bytes could not answer.
    return FullSpeed(clients, address, sources, pairs, first).run(25.0, gate)


def relay_flood(place: Place) -> Outcome:
    """Asks pings at a steady rate while the relay has all it can do."""
    pairs, seconds = (100, 3.0) if place.short else (PAIRS, 10.0)
    pairs = min(pairs, (len(place.clients) - ASKERS) // 2)
    with place.start(None, True) as node, prompt():
        outcome = Outcome("relay-flood", node.name)
        if node.relay is None:
            outcome.notes.append("it has no relay")
            return outcome
        askers = Askers(node.target, place.clients, place.sources)
        work = partial(
            full_speed, clients=place.clients, address=node.relay, sources=place.sources,
            pairs=pairs, first=ASKERS,
        )  # fmt: skip
        with Beside(work, POLITE) as load:
            load.ready()
            askers.greet()
            alone = askers.ask(ASKED_RATE, seconds / 3)
            drops = place.drops(node)
            load.go()
            askers.ask(ASKED_RATE, 1.0)
            before, begin = node.weigh(), time.monotonic()
            asked = askers.ask(ASKED_RATE, seconds)
            after, wall = node.weigh(), time.monotonic() - begin
            load.end()
            relayed = load.result()
        askers.close()
        _report(outcome, asked.ms(0.99), relayed, pairs)
        outcome.at_least("pings answered, %", asked.share, 99.0)
        outcome.figures |= {
            "ping p50, ms": asked.ms(0.5),
            "ping worst, ms": asked.ms(1.0),
            "alone: ping p99, ms": alone.ms(0.99),
            "node's CPU, cores": (after.cpu_s - before.cpu_s) / wall,
        }
        outcome.notes.append(place.dropped(node, drops))
        outcome.rss = after.rss
    return outcome


def _report(outcome: Outcome, p99: float, relayed: Relayed, pairs: int) -> None:
    per_second = relayed.frames / max(relayed.seconds, 1e-9)
    outcome.at_most("ping p99, ms", p99, P99_MS)
    outcome.at_least("relay pairs", float(relayed.pairs - relayed.closed), float(pairs))
    outcome.at_most("wrong frames", float(relayed.wrong), 0.0)
    outcome.figures |= {
        "frames, 1/s": per_second,
        "Mbit/s": per_second * TEXT * 8 / 1e6,
        "frame p50, ms": 1000 * quantile(relayed.latencies, 0.5),
        "frame p99, ms": 1000 * quantile(relayed.latencies, 0.99),
    }
