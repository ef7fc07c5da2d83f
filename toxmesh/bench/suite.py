"""Runs the loads of the UDP socket against one node: prepares, warms, measures, weighs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from core import endpoint as endpoints
from core.endpoint import Endpoint
from toxmesh.bench import loads
from toxmesh.bench.clients import Client, Clients
from toxmesh.bench.target import Target
from toxmesh.bench.traffic import Generator, Packets, Probe, Result

RING = 4096  # datagrams at least in a ring, so that few keys do not mean few datagrams
PROBE_REQUESTS = 64  # different requests of each probe
QUICK_WINDOW = 2048  # for what costs a node next to nothing: it would wait for us with less
STORED_AT_ONCE = 20_000  # clients at most whose announce is kept for data to route

DHT_LOADS = ("ping", "nodes")
HOP_LOADS = ("onion 0x80", "onion 0x81", "onion 0x82")
BACK_LOADS = ("onion 0x8c", "onion 0x8d", "onion 0x8e")
STORE_LOADS = ("announce search", "announce store")
RATE = 1000  # datagrams a second of the load that shows the latency of an idle node
RATE_LOAD = f"ping {RATE}/s"
NAMES = (RATE_LOAD, *DHT_LOADS, *HOP_LOADS, *BACK_LOADS, "data to route", *STORE_LOADS)


@dataclass
class Measured:
    """One row of the table."""

    node: str
    load: str
    keys: int | None  # None: the number of keys makes no difference
    result: Result
    cpu_us: float
    note: str = ""
    rss: dict[str, int] = field(default_factory=dict)
    cpu_by: dict[str, float] = field(default_factory=dict)  # the same by process

    def plain(self) -> dict[str, object]:
        """Returns the row for JSON."""
        return {
            "node": self.node,
            "load": self.load,
            "keys": self.keys,
            "answers_per_s": round(self.result.answers / max(self.result.seconds, 1e-9)),
            "sent": self.result.sent,
            "lost": self.result.lost + self.result.unanswered,
            "p50_ms": round(1000 * self.result.quantile(0.5), 3),
            "p99_ms": round(1000 * self.result.quantile(0.99), 3),
            "cpu_us": round(self.cpu_us, 2),
            "cpu_us_by_process": {name: round(cpu, 2) for name, cpu in self.cpu_by.items()},
            "checked": len(self.result.latencies),
            "wrong": self.result.wrong,
            "rss": self.rss,
            "note": self.note,
        }


def measure(
    node: Target, load: str, keys: int | None, run: Callable[[], Result], note: str = ""
) -> Measured:
    """Runs a load and divides the CPU time of the node's processes by its answers."""
    before = node.weigh()
    result = run()
    after = node.weigh()
    each = 1e6 / max(result.answers, 1)
    by = {name: each * (cpu - before.cpu.get(name, 0.0)) for name, cpu in after.cpu.items()}
    return Measured(node.name, load, keys, result, sum(by.values()), note, after.rss, by)


class Suite:
    """The UDP loads against one node."""

    def __init__(self, node: Target, clients: Clients, sources: int, window: int = 256) -> None:
        self.node = node
        self.clients = clients
        self.window = window
        self.generator = Generator(node.target, sources)
        self.cold: dict[str, float] = {}  # CPU microseconds per answer while keys were new
        self._own = [clients[len(clients) - 1 - i] for i in range(len(self.generator.probes))]

    @contextmanager
    def closing(self) -> Iterator["Suite"]:
        """Gives the sockets back at the end."""
        try:
            yield self
        finally:
            self.generator.close()

    def _ring(self, load: loads.Load, keys: int) -> Packets:
        count = max(keys, RING) // keys * keys
        home = self.generator.endpoint
        return self.generator.packets(
            [load.request(i, self.clients[i % keys], home(i)) for i in range(count)]
        )

    def _each_probe(self) -> Iterator[tuple[Probe, Client, Endpoint]]:
        for probe, client in zip(self.generator.probes.values(), self._own, strict=True):
            host, port = probe.sock.getsockname()
            yield probe, client, endpoints.from_text(host, port)

    def _aim(self, load: loads.Load) -> None:
        for probe, client, home in self._each_probe():
            probe.requests = [load.probe(i, client, home) for i in range(PROBE_REQUESTS)]

    def _warm(self, load: loads.Load, ring: Packets, keys: int) -> str:
        """Lets the node see each key; returns a note if it would not answer all of them."""
        if keys < RING:
            rounds = [self.generator.drive(ring, load.answer, once=True, probing=False)]
        else:
            rounds = []
            for _ in range(6):
                done = measure(
                    self.node, load.name, keys,
                    lambda: self.generator.drive(ring, load.answer, once=True, probing=False),
                )  # fmt: skip
                self.cold.setdefault(f"{load.name} {keys}", done.cpu_us)
                rounds.append(done.result)
                if done.result.lost <= keys // 500:
                    break
        last = rounds[-1]
        return f"warming left {last.lost} unanswered" if last.lost > keys // 500 else ""

    def run(self, name: str, keys: int, seconds: float) -> Measured:
        """Measures one load with so many client keys."""
        note = ""
        load: loads.Load
        if name in BACK_LOADS:
            load, ring = self.back(name)
        elif name == "announce store":
            load, ring, kept = self._store(keys)
            note = f"{kept} of {keys} kept"
        elif name == "data to route":
            load, ring, kept = self._route(keys)
            note = f"to {kept} stored keys"
            if not kept:
                return Measured(self.node.name, name, keys, Result(), 0.0, "nothing is stored")
        else:
            load = self.simple(name)
            ring = self._ring(load, keys)
            self._aim(load)
        warned = self._warm(load, ring, keys)
        window = QUICK_WINDOW if name == "data to route" else self.window
        self.generator.drain()
        row = measure(
            self.node, name, keys if load.keyed else None,
            lambda: self.generator.drive(
                ring, load.answer, seconds=seconds, window=window,
                rate=RATE if name == RATE_LOAD else 0.0,
            ),
            "; ".join(part for part in (note, warned) if part),
        )  # fmt: skip
        if isinstance(load, loads.Nodes):
            row.note = "; ".join(p for p in (f"{load.listed} nodes listed", row.note) if p)
        self.generator.drain()
        return row

    def simple(self, name: str) -> loads.Load:
        """Makes a load that needs no preparation."""
        kinds: dict[str, tuple[type[loads.Load], int]] = {
            RATE_LOAD: (loads.Ping, 0x01),
            "ping": (loads.Ping, 0x01),
            "nodes": (loads.Nodes, 0x04),
            "onion 0x80": (loads.Hop0, 0x81),
            "onion 0x81": (loads.Hop1, 0x82),
            "onion 0x82": (loads.Hop2, 0x83),
            "announce search": (loads.Search, 0x8C),
        }
        kind, answer = kinds[name]
        return kind(self.clients, name, answer)

    def back(self, name: str) -> tuple[loads.Load, Packets]:
        """Has the node seal returns first: by onion requests that pass through it."""
        kind, size, answer, hop = {
            "onion 0x8c": (loads.Hop2, loads.RETURN_3, 0x8D, 0x83),
            "onion 0x8d": (loads.Hop1, loads.RETURN_2, 0x8E, 0x82),
            "onion 0x8e": (loads.Hop0, loads.RETURN_1, 0x84, 0x81),
        }[name]
        forward = kind(self.clients, name, hop)
        load = loads.Back(self.clients, name, answer, size)
        rows: list[bytes] = []
        self.generator.drive(
            self._ring(forward, 1000), hop, once=True, probing=False,
            take=lambda packet: rows.append(packet[-size:]),
        )  # fmt: skip
        load.returns[None] = rows
        for probe, client, home in self._each_probe():
            passed = self.generator.exchange(probe.sock, forward.request(0, client, home), hop)
            if passed is not None:
                load.returns[home] = [passed[-size:]]
        if not rows:
            raise RuntimeError(f"{self.node.name} passes on no {hop:#x}")
        ring = self._ring(load, 1000)
        self._aim(load)
        return load, ring

    def announced(self, keys: int) -> tuple[loads.Store, dict[int, bool]]:
        """Announces clients 0..keys-1; returns the load and who is kept (asked a second time)."""
        load = loads.Store(self.clients, "announce store", 0x8C)
        home = self.generator.endpoint
        clients = self.clients

        def round_trip(make: Callable[[int], bytes], take: Callable[[int, bytes], None]) -> None:
            missing = set(range(keys))
            for _ in range(4):
                order = sorted(missing)
                if not order:
                    return

                def heard(packet: bytes) -> None:
                    i = load.number(packet)
                    if i in missing:
                        missing.discard(i)
                        take(i, packet)

                # the ring's place, not the client's number, says the source: keep both the same
                packets = [make(i) for i in range(keys)]
                ring = self.generator.packets(packets)
                self.generator.drive(ring, load.answer, once=True, probing=False, take=heard)

        kept: dict[int, bool] = {}
        round_trip(
            lambda i: load.first(i, clients[i]),
            lambda i, packet: load.learn(clients[i], home(i), packet),
        )
        for _ in range(2):
            kept.clear()
            round_trip(
                lambda i: load.request(i, clients[i], home(i)),
                lambda i, packet: kept.__setitem__(i, load.stored(clients[i], packet)),
            )
        return load, kept

    def _announce_probes(self, load: loads.Store) -> dict[int, bool]:
        kept = {}
        for probe, client, home in self._each_probe():
            answer = self.generator.exchange(probe.sock, load.first(0, client), load.answer)
            if answer is not None:
                load.learn(client, home, answer)
            answer = self.generator.exchange(
                probe.sock, load.request(0, client, home), load.answer
            )
            kept[probe.sock.fileno()] = answer is not None and load.stored(client, answer)
        return kept

    def _store(self, keys: int) -> tuple[loads.Load, Packets, int]:
        load, kept = self.announced(keys)
        count = max(keys, RING) // keys * keys
        # a client announces from the address that its ping id was given to
        home = self.generator.endpoint
        packets = [
            load.request(i, self.clients[i % keys], home(i % keys)) for i in range(count)
        ]
        sources = self.generator.sources
        ring = Packets(
            packets,
            [sources[i % keys % len(sources)] for i in range(count)],
            self.generator.target,
        )
        self._announce_probes(load)
        self._aim(load)
        return load, ring, sum(kept.values())

    def _route(self, keys: int) -> tuple[loads.Load, Packets, int]:
        store, kept = self.announced(min(keys, STORED_AT_ONCE))
        load = loads.Route(self.clients, "data to route", 0x8C)
        load.targets = tuple(self.clients[i].public for i, stored in kept.items() if stored)
        found = len(load.targets)
        if not found:
            return load, self._ring(store, 1), 0
        ring = self._ring(load, max(1000, found))
        own = self._announce_probes(store)
        for probe, client, home in self._each_probe():
            mine = loads.Route(self.clients, load.name, load.answer)
            mine.targets = (client.public,)
            probe.requests = (
                [mine.probe(i, client, home) for i in range(PROBE_REQUESTS)]
                if own[probe.sock.fileno()]
                else []
            )
        return load, ring, found
