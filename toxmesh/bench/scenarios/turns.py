"""Load for one worker at a time, while the others of its role are there and rest.

A worker of a machine with a core for each has that core, and its caches, for itself. Where the
cores are too few for that, its packets cost there what they cost here while it alone is asked.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from math import nan

from core.slots import SlotTable
from toxmesh.bench.clients import Clients
from toxmesh.bench.loads import LoadError
from toxmesh.bench.measured import Measured, measure
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.suite import Prepared, Suite
from toxmesh.bench.target import Target
from toxmesh.bench.traffic import PROBES

WARM = 0.25  # of the time of a turn: relayed frames before they are measured


@dataclass(frozen=True, slots=True)
class Cost:
    """What packets cost a node, over one measurement or over the turns of all workers."""

    cpu_us: float  # of all processes, for one packet
    per_s: float  # packets a second
    switches_per_s: float  # how often a second one of its processes got the core
    own: float = 0.0  # part of the CPU time that the worker had whose turn it was; 0: not told

    @classmethod
    def of(cls, rows: Sequence[Measured], workers: Sequence[str] = ()) -> "Cost":
        """Adds up measurements; `workers` names the process that each was meant for.

        All is NaN, which keeps no bar, where the node gave no answer or its CPU cannot be seen.
        """
        packets = sum(row.result.answers for row in rows)
        seconds = sum(row.result.seconds for row in rows)
        if not all(row.result.answers and row.result.seconds and row.cpu_us for row in rows):
            return cls(nan, nan, nan, nan)
        cpu = sum((row.cpu_us or 0.0) * row.result.answers for row in rows)
        own = sum(
            row.cpu_by.get(name, 0.0) * row.result.answers
            for row, name in zip(rows, workers, strict=False)
        )
        switches = sum(row.switches or 0 for row in rows)
        return cls(cpu / packets, packets / seconds, switches / seconds, own / cpu)


def groups(clients: Clients, shards: int, each: int) -> list[list[int]]:
    """Returns the numbers of `each` clients of every shard, in the order of the shards.

    ValueError if there are too few clients.
    """
    table = SlotTable.even(shards)
    found: list[list[int]] = [[] for _ in range(shards)]
    missing = shards
    for number in range(len(clients)):
        group = found[table.shard_of(clients[number].public)]
        if len(group) < each:
            group.append(number)
            missing -= len(group) == each
            if not missing:
                return found
    raise ValueError(f"{len(clients)} clients are too few for {each} of each of {shards} shards")


class Turns:
    """Loads that go to one shard after the other, each by clients of that shard."""

    def __init__(
        self, node: Target, clients: Clients, shards: int, keys: int, sources: int, window: int
    ) -> None:
        """Opens the sockets of the load; `keys` clients ask each shard."""
        self.node = node
        self.clients = clients
        self.shards = shards
        self.keys = keys
        self.sources = sources
        self._groups = groups(clients, shards, keys + PROBES)
        self._stack = ExitStack()
        self._suites = [
            self._stack.enter_context(
                Suite(node, clients.part(group), sources, window).closing()
            )
            for group in self._groups
        ]

    def __enter__(self) -> "Turns":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self, name: str) -> list[Prepared]:
        """Makes a load of the UDP socket ready at every shard.  May raise LoadError."""
        return [suite.prepare(name, self.keys) for suite in self._suites]

    def datagrams(self, prepared: Sequence[Prepared], seconds: float) -> list[Measured]:
        """Measures what was prepared, `seconds` at each shard."""
        return [
            suite.again(load, seconds)
            for suite, load in zip(self._suites, prepared, strict=True)
        ]

    def frames(
        self, connections: int, size: int, in_flight: int, seconds: float
    ) -> list[Measured]:
        """Relays frames between pairs, one half of each being a client of the turn's shard."""
        address = self.node.relay
        if address is None:
            raise LoadError(f"{self.node.name} has no relay")
        rows = []
        for clients in pairs(self.clients, self._groups, connections // 2):
            relay = RelayLoad(clients, address, self.sources)
            try:
                relay.connect_pairs(len(clients))
                relay.frames(size, in_flight, WARM * seconds)
                run = partial(relay.frames, size, in_flight, seconds)
                rows.append(measure(self.node, "frames", None, run))
            finally:
                relay.close()
        return rows

    def workers(self, role: str) -> list[str]:
        """Returns the names of the workers in the order of their turns."""
        return [f"{role}.{shard}" for shard in range(self.shards)]


def pairs(
    clients: Clients, by_shard: Sequence[Sequence[int]], count: int
) -> Iterator[Clients]:
    """Yields `count` pairs for each shard in turn, as clients that stand side by side.

    The first of a pair is a client of that shard, the second one of each shard in turn: with N
    shards N - 1 pairs of N have their ends at two, as pairs have who find each other by chance.
    """
    pools = [cycle(group) for group in by_shard]
    shards = len(pools)
    for shard in range(shards):
        yield clients.part(
            [
                next(pools[one])
                for place in range(count)
                for one in (shard, (shard + place) % shards)
            ]
        )
