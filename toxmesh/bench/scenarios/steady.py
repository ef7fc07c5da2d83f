"""Clients that behave: relay pairs with a steady stream of frames, and newcomers now and then."""

import time
from dataclasses import dataclass, field

from core.entropy import SystemEntropy
from toxmesh.bench.clients import Clients
from toxmesh.bench.relay import STAMP, Connection
from toxmesh.bench.scenarios.beside import Gate
from toxmesh.bench.scenarios.crowd import Crowd

FRAME = 200  # bytes of a frame's text, link id included: a message or some audio
LATE_S = 2.0  # after the last frame: what has not come by then is lost
NEWCOMER_S = 5.0  # to wait for one connection


@dataclass(slots=True)
class Streamed:
    """What became of the frames of all pairs."""

    pairs: int = 0
    sent: int = 0
    closed: int = 0  # connections that the relay ended
    latencies: list[float] = field(default_factory=list)  # seconds


class SteadyPairs:
    """Pairs of relay connections, of which both ends send at a steady rate."""

    def __init__(
        self, clients: Clients, address: tuple[str, int], sources: int, pairs: int, first: int
    ) -> None:
        self._crowd = Crowd(clients, address, sources)
        self._crowd.open_all(range(first, first + 2 * pairs), 20.0)
        self._pairs = self._crowd.link(10.0)
        self._filler = SystemEntropy().bytes(FRAME - 1 - STAMP.size)

    def close(self) -> None:
        """Closes all connections."""
        self._crowd.close()

    def stream(self, rate: float, seconds: float) -> Streamed:
        """Sends `rate` frames a second from each end of each pair; takes the time of each."""
        ends = [end for pair in self._pairs for end in pair]
        result = Streamed(pairs=len(self._pairs))
        closed = self._crowd.closed
        total = int(rate * seconds) * len(ends)
        each = 1 / (rate * max(len(ends), 1))  # seconds between two frames of different ends
        begin = time.monotonic()
        last = begin + seconds + LATE_S
        while len(result.latencies) < total and (now := time.monotonic()) < last:
            while result.sent < total and begin + result.sent * each <= now:
                self._send(ends[result.sent % len(ends)])
                result.sent += 1
            wait = begin + result.sent * each - now if result.sent < total else 0.1
            for _, packet in self._crowd.turn(max(wait, 0.0)):
                if packet[1 + STAMP.size :] == self._filler:
                    stamp: float = STAMP.unpack_from(packet, 1)[0]
                    result.latencies.append(time.monotonic() - stamp)
        result.closed = self._crowd.closed - closed
        return result

    def _send(self, connection: Connection) -> None:
        if connection.alive:
            text = bytes((connection.link,)) + STAMP.pack(time.monotonic()) + self._filler
            connection.send(connection.frame(text))


@dataclass(slots=True)
class Newcomers:
    """How long new relay connections took, and how many never stood."""

    took: list[float] = field(default_factory=list)  # seconds, until the first pong
    failed: int = 0


def newcomers(
    gate: Gate, address: tuple[str, int], clients: Clients, first: int, sources: int, pause: float
) -> Newcomers:
    """Makes one connection each `pause` seconds until told to end."""
    result = Newcomers()
    gate.wait()
    index = first
    while not gate.over():
        begin = time.monotonic()
        crowd = Crowd(clients, address, sources)
        took = crowd.open_all((index,), NEWCOMER_S)
        result.took += took
        result.failed += not took
        crowd.close()
        index += 1
        time.sleep(max(0.0, begin + pause - time.monotonic()))
    return result
