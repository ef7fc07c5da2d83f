"""Made-up time and a made-up network for real modules.

    world = World(seed=1, loss=0.01)
    first = world.add_node()
    other = world.add_node(bootstrap=[first], roles={"dht": 4, "onion": 2})
    assert world.run_until(lambda: other.modules["dht"][0].keeper.close, limit=30)

The world is a heap of (time, order, what). The same seed and the same calls give the same trace.
"""

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from core.crypto import KeyPair
from core.endpoint import Endpoint, ip_of, is_ipv4, is_lan, port_of, udp4, with_port
from core.module import Context, Module, NodeOptions
from tests.simulation.chance import KeyPool, StreamedEntropy
from tests.simulation.nat import NatBox, NatKind
from tests.simulation.node import Node, Peer

Factory = Callable[[Context], Module]

MODULES = {"dht": ("core.dht", "DhtModule"), "onion": ("core.onion", "OnionModule")}
"""Roles whose modules are known; others are given to World by `factories`."""

BROADCAST4 = bytes((255, 255, 255, 255))


class World:
    """A network on made-up time.

    `loss`, `duplication` and `reordering` are probabilities of a datagram; a reordered one takes up
    to `latency[1]` longer. `latency` is in seconds, uniform between both bounds for each datagram.
    `real_frames` sends messages between shards through the frames that workers use. `roles` is what
    nodes consist of unless they say otherwise. `factories` makes the modules of further roles.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: tuple[float, float] = (0.010, 0.060),
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        real_frames: bool = False,
        message_delay_s: float = 0.0,
        roles: dict[str, int] | None = None,
        factories: dict[str, Factory] | None = None,
    ) -> None:
        self.seed = seed
        self.now = 100.0  # not 0, as on a machine that has been up for a while
        self.latency = latency
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self.real_frames = real_frames
        self.message_delay_s = message_delay_s
        self.key_pool = KeyPool()
        self.nodes: list[Node] = []
        self.drops: Counter[str] = Counter()
        """What the network itself lost, by reason."""
        self.kinds: Counter[int] = Counter()
        """How many datagrams of each kind were sent."""
        self.watch: Callable[[Endpoint, Endpoint, bytes], bool] | None = None
        """If set, sees (source, destination, packet) of each datagram sent; False drops it."""
        self._roles = roles or {"dht": 1}
        self._factories = dict(factories or {})
        self._chance = random.Random(f"{seed}/network")
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._trace = hashlib.blake2b(digest_size=16)
        self._hosts: dict[NatBox | None, dict[Endpoint, Node | Peer]] = {None: {}}
        self._nats: dict[bytes, NatBox] = {}  # by public address
        self._addresses = 0

    # Building

    def factory(self, role: str) -> Factory:
        """Returns what makes the modules of a role."""
        if role not in self._factories:
            place, name = MODULES[role]
            self._factories[role] = getattr(import_module(place), name)
        return self._factories[role]

    def keys(self, name: str) -> KeyPair:
        """Returns the key pair that belongs to a name in this world."""
        return KeyPair.generate(StreamedEntropy(f"{self.seed}/keys/{name}"))

    def next_address(self, port: int = 33445) -> Endpoint:
        """Returns a public IPv4 endpoint in a /24 of its own."""
        self._addresses += 1
        number = self._addresses
        return udp4(bytes((20 + (number >> 16), number >> 8 & 255, number & 255, 1)), port)

    def add_nat(self, kind: NatKind, *, mapping_s: float = 60.0) -> NatBox:
        """Adds a NAT with a public address; nodes with `nat=` live behind it."""
        nat = NatBox(kind, self.next_address(0), mapping_s)
        self._nats[ip_of(nat.public)] = nat
        self._hosts[nat] = {}
        return nat

    def add_node(
        self,
        name: str = "",
        *,
        roles: dict[str, int] | None = None,
        endpoint: Endpoint | None = None,
        nat: NatBox | None = None,
        bootstrap: Sequence["Node"] = (),
        options: NodeOptions | None = None,
        keys: KeyPair | None = None,
    ) -> Node:
        """Adds and starts a node.

        Without an address it gets a public one, or behind a NAT 192.168.1.x. `bootstrap` are nodes
        of this world, added to those of `options`; LAN discovery is off unless `options` are given.
        """
        name = name or f"node{len(self.nodes)}"
        if endpoint is None:
            if nat is None:
                endpoint = self.next_address()
            else:
                endpoint = udp4(bytes((192, 168, 1, 2 + len(self._hosts[nat]))), 33445)
        options = options or NodeOptions(lan_discovery=False)
        known = options.bootstrap + tuple((node.endpoint, node.key) for node in bootstrap)
        options = replace(options, bootstrap=known, udp_port=port_of(endpoint))
        node = Node(
            self,
            name,
            keys or self.keys(name),
            endpoint,
            roles or self._roles,
            options,
            nat,
        )
        self._hosts[nat][endpoint] = node
        self.nodes.append(node)
        return node

    def add_peer(
        self, name: str = "peer", *, endpoint: Endpoint | None = None, keys: KeyPair | None = None
    ) -> Peer:
        """Adds a bare endpoint that a test speaks through."""
        peer = Peer(self, keys or self.keys(name), endpoint or self.next_address())
        self._hosts[None][peer.endpoint] = peer
        return peer

    def remove(self, node: Node | Peer) -> None:
        """Takes a host off the network."""
        hosts = self._hosts[node.nat]
        if hosts.get(node.endpoint) is node:
            del hosts[node.endpoint]

    # Time

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        """Calls `what` at a time; events of the same time happen in the order of their planning."""
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, what, arguments))

    def run_for(self, seconds: float) -> None:
        """Lets time pass."""
        self._run(self.now + seconds)

    def run_until(
        self, predicate: Callable[[], object], limit: float = 60.0, every: float = 0.5
    ) -> bool:
        """Lets time pass until `predicate` holds, looked at each `every` s; False at `limit` s."""
        end = self.now + limit
        while not predicate():
            if self.now >= end:
                return False
            self._run(min(self.now + every, end))
        return True

    def _run(self, until: float) -> None:
        heap = self._heap
        pop = heapq.heappop
        while heap and heap[0][0] <= until:
            when, _, what, arguments = pop(heap)
            self.now = when
            what(*arguments)
        self.now = until

    def trace_hash(self) -> str:
        """Returns a hash of every delivered datagram, with time, source and destination."""
        return self._trace.hexdigest()

    # Network

    def send(self, sender: Node | Peer, to: Endpoint, packet: bytes) -> None:
        """Carries a datagram from a host; it may be lost, doubled or late."""
        self.kinds[packet[0]] += 1
        source = sender.endpoint
        if self.watch is not None and not self.watch(source, to, packet):
            self.drops["watch"] += 1
            return
        chance = self._chance.random
        if self.loss and chance() < self.loss:
            self.drops["loss"] += 1
            return
        network = sender.nat
        if network is not None and not is_lan(to) and ip_of(to) != BROADCAST4:
            source = network.outward(source, to, self.now)
            network = None
        copies = 2 if self.duplication and chance() < self.duplication else 1
        least, most = self.latency
        for _ in range(copies):
            delay = least + (most - least) * chance()
            if self.reordering and chance() < self.reordering:
                delay += most * chance()
            self.at(self.now + delay, self._arrive, network, source, to, packet)

    def _arrive(
        self, network: NatBox | None, source: Endpoint, to: Endpoint, packet: bytes
    ) -> None:
        hosts = self._hosts[network]
        host = hosts.get(to)
        if host is None and network is None:
            nat = self._nats.get(ip_of(to))
            inside = None if nat is None else nat.inward(to, source, self.now)
            if nat is not None and inside is not None:
                host = self._hosts[nat].get(inside)
        if host is None:
            if is_ipv4(to) and ip_of(to)[3] == 255:
                self._broadcast(hosts, source, to, packet)
                return
            self.drops["nobody_there"] += 1
            return
        self._deliver(host, source, packet)

    def _broadcast(
        self,
        hosts: dict[Endpoint, Node | Peer],
        source: Endpoint,
        to: Endpoint,
        packet: bytes,
    ) -> None:
        for endpoint, host in list(hosts.items()):
            if is_lan(endpoint) and with_port(endpoint, port_of(to)) == endpoint != source:
                self._deliver(host, source, packet)

    def _deliver(self, host: Node | Peer, source: Endpoint, packet: bytes) -> None:
        self._trace.update(b"%.6f" % self.now + source + host.endpoint + packet)
        host.receive(packet, source)
