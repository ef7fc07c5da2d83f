"""Known clients that ping at a steady rate: every answer is opened and its time taken."""

from dataclasses import dataclass

from core import endpoint as endpoints
from core.endpoint import Endpoint
from toxmesh.bench.clients import Clients
from toxmesh.bench.loads import Ping
from toxmesh.bench.scenarios.outcome import quantile
from toxmesh.bench.traffic import Generator, Result

ASKERS = 500  # clients 0 to 499, with a socket and an address each
_REQUESTS = 16  # different pings of each
_PONG = 0x01


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of the pings."""

    wanted: int  # how many were meant to be sent
    result: Result

    @property
    def share(self) -> float:
        """The part of what was meant to be asked that was answered, in percent."""
        return 100 * len(self.result.latencies) / max(self.wanted, 1)

    def ms(self, share: float) -> float:
        """Returns a quantile of the latencies in milliseconds; NaN without any."""
        return 1000 * quantile(self.result.latencies, share)


class Askers:
    """The first clients of all: they ping in turn, each again when its answer has come."""

    def __init__(self, target: Endpoint, clients: Clients, sources: int) -> None:
        self._generator = Generator(target, max(sources, 2), probes=min(ASKERS, len(clients)))
        load = Ping(clients)
        for i, probe in enumerate(self._generator.probes.values()):
            home = endpoints.from_text(*probe.sock.getsockname()[:2])
            probe.requests = [load.probe(n, clients[i], home) for n in range(_REQUESTS)]

    def close(self) -> None:
        """Gives the sockets back."""
        self._generator.close()

    def greet(self) -> None:
        """Lets the node see the key of each, twice."""
        count = len(self._generator.probes)
        self.ask(1000, 2 * count / 1000)

    def ask(self, rate: float, seconds: float) -> Asked:
        """Sends `rate` pings a second, evenly, and waits for the last answers."""
        self._generator.drain()
        return Asked(int(rate * seconds), self._generator.pace(rate, seconds, _PONG))
