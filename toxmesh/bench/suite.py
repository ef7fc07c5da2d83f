"""Runs the loads of the UDP socket against one node: prepares, warms, measures."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core import crypto
from core import endpoint as endpoints
from core.crypto import KeyPair
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from toxmesh.bench import loads
from toxmesh.bench.clients import Client, Clients
from toxmesh.bench.measured import Measured, measure
from toxmesh.bench.ring import Packets
from toxmesh.bench.target import Target
from toxmesh.bench.traffic import PROBES, Brake, Generator, Probe, Request, Result

RING = 4096  # datagrams at least in a ring, so that few keys do not mean few datagrams
PROBE_REQUESTS = 64  # different requests of each probe
QUICK_WINDOW = 2048  # for what costs a node next to nothing: it would wait for us with less
STORED_AT_ONCE = 20_000  # clients at most whose announce is kept for data to route
FRESH = 20_000  # keys that the node has never seen, for the load of first contacts

DHT_LOADS = ("ping", "nodes")
HOP_LOADS = ("onion 0x80", "onion 0x81", "onion 0x82")
BACK_LOADS = ("onion 0x8c", "onion 0x8d", "onion 0x8e")
STORE_LOADS = ("announce search", "announce store")
ROUTE_LOAD = "data to route"
FRESH_LOAD = "first contact"
RATE = 2000  # requests a second of the load that shows the latency of a node with little to do
RATE_LOAD = f"ping {RATE}/s"
RATE_PROBES = 128  # that send these: each has 64 ms before its next turn
NAMES = (
    RATE_LOAD, *DHT_LOADS, *HOP_LOADS, *BACK_LOADS, ROUTE_LOAD, *STORE_LOADS, FRESH_LOAD
)  # fmt: skip
ALONE = frozenset({*BACK_LOADS, RATE_LOAD, FRESH_LOAD})
"""Loads that are run once, whatever numbers of keys there are."""


def scalar_us(rounds: int = 5, each: int = 100) -> float:
    """Returns what one scalar multiplication costs on this machine at this moment, in us."""
    entropy = SystemEntropy()
    secret = KeyPair.generate(entropy).secret
    others = [KeyPair.generate(entropy).public for _ in range(each)]
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for public in others:
            crypto.precompute(secret, public)
        best = min(best, time.process_time() - began)
    return 1e6 * best / each


def _home(probe: Probe) -> Endpoint:
    return endpoints.from_text(*probe.sock.getsockname()[:2])


@dataclass(frozen=True, slots=True)
class Prepared:
    """A load that is ready to be sent."""

    name: str
    keys: int | None
    load: loads.Load
    ring: Packets | None  # None: there is none, or the node does not do what it needs (see note)
    note: str
    requests: list[list[Request]]  # of each probe


class Suite:
    """The UDP loads against one node."""

    def __init__(
        self,
        node: Target,
        clients: Clients,
        sources: int,
        window: int = 256,
        brake: Brake | None = None,
        max_rate: float = 0.0,
    ) -> None:
        """Opens the sockets of the load; the last eight clients are those of the probes."""
        self.node = node
        self.clients = clients
        self.window = window
        self.generator = Generator(node.target, sources, PROBES, brake, max_rate)
        self._pacer: Generator | None = None
        self._fresh_used = 0  # clients that were new to the node, and are not any more
        self._own = [clients[len(clients) - 1 - i] for i in range(PROBES)]

    @contextmanager
    def closing(self) -> Iterator["Suite"]:
        """Gives the sockets back at the end."""
        try:
            yield self
        finally:
            self.generator.close()
            if self._pacer is not None:
                self._pacer.close()

    def dropped(self) -> int:
        """Returns how many answers the kernel threw away as sockets of the load were full."""
        pacer = self._pacer
        return self.generator.dropped() + (0 if pacer is None else pacer.dropped())

    def _ring(self, load: loads.Load, keys: int) -> Packets:
        count = max(keys, RING) // keys * keys
        home = self.generator.endpoint
        return self.generator.packets(
            [load.request(i, self.clients[i % keys], home(i)) for i in range(count)]
        )

    def _each_probe(self) -> Iterator[tuple[Probe, Client, Endpoint]]:
        for probe, client in zip(self.generator.probes.values(), self._own, strict=False):
            yield probe, client, _home(probe)

    def _aim(self, load: loads.Load) -> None:
        for probe, client, home in self._each_probe():
            probe.requests = [load.probe(i, client, home) for i in range(PROBE_REQUESTS)]

    def _warm(self, load: loads.Load, ring: Packets, keys: int) -> str:
        """Lets the node see each key; returns a note if it would not answer all of them."""
        for _ in range(6):
            result = self._once(ring, load.answer)
            if not result.answers:
                return "nothing was answered before"
            if result.lost <= keys // 500 or self.generator.brake.pulled:
                return ""
        return f"warming left {result.lost} unanswered"

    def _once(
        self, ring: Packets, kind: int, take: Callable[[bytes], None] | None = None
    ) -> Result:
        """Sends a ring through once, without probes."""
        return self.generator.drive(
            ring, kind, once=True, probing=False, take=take, window=self.window
        )

    def run(self, name: str, keys: int, seconds: float, rate: float = 0.0) -> Measured:
        """Measures one load with so many client keys, held to `rate` requests a second if any.

        May raise LoadError.
        """
        return self.again(self.prepare(name, keys), seconds, rate)

    def again(self, prepared: "Prepared", seconds: float, rate: float = 0.0) -> Measured:
        """Measures what was prepared, with nothing else under way.  May raise LoadError."""
        self.generator.drain()
        return self.measure(prepared, seconds, rate)

    def prepare(self, name: str, keys: int) -> "Prepared":
        """Makes all that a load sends, and lets the node see each key once."""
        load: loads.Load
        ring: Packets | None
        note = ""
        self.generator.drain()
        if name == RATE_LOAD:
            return self._prepare_pacer(keys)
        if name == FRESH_LOAD:
            return Prepared(name, keys, self.simple("ping"), None, "", [])
        if name in BACK_LOADS:
            load, ring = self.back(name)
        elif name == "announce store":
            load, ring, kept = self._store(keys)
            note = f"{kept} of {keys} kept"
        elif name == ROUTE_LOAD:
            load, ring, kept = self._route(keys)
            note = f"to {kept} stored keys" if kept else "nothing is stored"
        else:
            load = self.simple(name)
            ring = self._ring(load, keys)
            self._aim(load)
        if ring is not None:
            warned = self._warm(load, ring, keys)
            note = "; ".join(part for part in (note, warned) if part)
        requests = [probe.requests for probe in self.generator.probes.values()]
        return Prepared(name, keys if load.keyed else None, load, ring, note, requests)

    def measure(self, prepared: "Prepared", seconds: float, rate: float = 0.0) -> Measured:
        """Measures what was prepared, as often as one likes."""
        load, ring, name = prepared.load, prepared.ring, prepared.name
        if name == RATE_LOAD:
            return self._paced(prepared, seconds)
        if name == FRESH_LOAD:
            return self._fresh(prepared)
        if ring is None:
            raise loads.LoadError(prepared.note)
        generator = self.generator
        for probe, requests in zip(generator.probes.values(), prepared.requests, strict=True):
            probe.requests = requests
        window = QUICK_WINDOW if name == ROUTE_LOAD else self.window
        row = measure(
            self.node, name, prepared.keys,
            lambda: generator.drive(ring, load.answer, seconds=seconds, window=window, rate=rate),
            prepared.note,
        )  # fmt: skip
        if isinstance(load, loads.Nodes):
            row.note = "; ".join(p for p in (f"{load.listed} nodes listed", row.note) if p)
        return row

    def _prepare_pacer(self, keys: int) -> "Prepared":
        """Lets the node see each key, and opens the many probes that send at a rate."""
        load = self.simple(RATE_LOAD)
        self._warm(load, self._ring(load, keys), keys)
        own = self.generator
        if self._pacer is None:
            self._pacer = Generator(
                own.target, max(1, len(own.sources)), RATE_PROBES, own.brake, own.max_rate
            )
        requests = []
        for place, probe in enumerate(self._pacer.probes.values()):
            home = _home(probe)
            requests.append(
                [
                    load.probe(i, self.clients[i % keys], home)
                    for i in range(place, place + 8 * RATE_PROBES, RATE_PROBES)
                ]
            )
        return Prepared(RATE_LOAD, keys, load, None, "", requests)

    def _paced(self, prepared: "Prepared", seconds: float) -> Measured:
        """Measures pings that come one by one, each from a probe, by known clients."""
        pacer = self._pacer
        if pacer is None:
            raise loads.LoadError(f"{prepared.name} was not prepared here")
        for probe, requests in zip(pacer.probes.values(), prepared.requests, strict=True):
            probe.requests = requests
        return measure(
            self.node, prepared.name, prepared.keys,
            lambda: pacer.pace(RATE, seconds, prepared.load.answer),
        )  # fmt: skip

    def _fresh(self, prepared: "Prepared") -> Measured:
        """Measures what the first request of a client costs: clients that never spoke before.

        They are those behind the first `keys` and before the probes'; each time it takes others.
        """
        load = prepared.load
        first = (prepared.keys or 0) + self._fresh_used
        count = min(FRESH, len(self.clients) - PROBES - first)
        if count <= 0:
            raise loads.LoadError("no client is new any more")
        self._fresh_used += count
        home = self.generator.endpoint
        ring = self.generator.packets(
            [load.request(i, self.clients[first + i], home(i)) for i in range(count)]
        )
        scalar = scalar_us()
        row = measure(
            self.node, prepared.name, count, lambda: self._once(ring, load.answer)
        )
        scalar = min(scalar, scalar_us())
        row.figures["scalar_us"] = scalar
        if row.cpu_us is not None:
            row.figures["beside_us"] = row.cpu_us - scalar
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
        some = min(1000, len(self.clients) - PROBES)
        self._once(self._ring(forward, some), hop, lambda packet: rows.append(packet[-size:]))
        load.returns[None] = rows
        for probe, client, home in self._each_probe():
            passed = self.generator.exchange(probe.sock, forward.request(0, client, home), hop)
            if passed is not None:
                load.returns[home] = [passed[-size:]]
        if not rows:
            raise loads.LoadError(f"{self.node.name} passes on no {hop:#x}")
        ring = self._ring(load, some)
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
                self._once(ring, load.answer, heard)

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
            [sources[i % keys % len(sources)] for i in range(count)] if sources else (),
            self.generator.target,
        )
        self._announce_probes(load)
        self._aim(load)
        return load, ring, sum(kept.values())

    def _route(self, keys: int) -> tuple[loads.Load, Packets | None, int]:
        store, kept = self.announced(min(keys, STORED_AT_ONCE))
        load = loads.Route(self.clients, "data to route", 0x8C)
        load.targets = tuple(self.clients[i].public for i, stored in kept.items() if stored)
        found = len(load.targets)
        if not found:
            return load, None, 0
        ring = self._ring(load, found)
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
