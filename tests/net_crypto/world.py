"""Made-up time, a made-up network, and identities that hold sessions over it."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from core.crypto import KeyPair, PublicKey, SharedKeys
from core.endpoint import Endpoint, udp4
from core.entropy import SeededEntropy
from core.module import ProtocolViolation
from core.net_crypto import HeldMemory, NetCrypto, SessionMemory
from core.net_crypto.bandwidth import Bandwidth
from core.net_crypto.rates import RateRule
from core.wire import WireError

KEYS = 96
"""Combined keys with DHT keys that are kept, as in an identity of its own (core.identity)."""


class Timed(Protocol):
    """Whatever has timers."""

    def handle_timer(self, now: float) -> None: ...
    def next_timer(self) -> float | None: ...


class World:
    """A heap of (time, order, what); `loss`, `duplication` are chances of a packet, `delay` seconds
    each way, uniform between both bounds, and so reordering. Each sender's line carries `bandwidth`
    packets a second behind a queue of `queue_s` seconds; what does not fit is lost."""

    def __init__(
        self,
        seed: int = 0,
        *,
        delay: tuple[float, float] = (0.02, 0.02),
        loss: float = 0.0,
        duplication: float = 0.0,
        bandwidth: float = 20_000,
        queue_s: float = 0.1,
    ) -> None:
        self.now = 100.0
        self.bandwidth, self.queue_s = bandwidth, queue_s
        self._free_at: dict[str, float] = {}
        self.delay, self.loss, self.duplication = delay, loss, duplication
        self.chance = random.Random(f"{seed}/network")
        self.seed = seed
        self.people: list[Person] = []
        self.at_endpoint: dict[Endpoint, Person] = {}
        self.udp = True
        self.relay = False
        self.kinds: Counter[int] = Counter()
        self.watch: Callable[[str, Person, bytes], bool] | None = None
        """Sees (way, sender, packet) of all that is sent; False drops it."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def add(self, name: str, **options: Any) -> "Person":
        person = Person(self, name, len(self.people) + 1, **options)
        self.people.append(person)
        self.at_endpoint[person.endpoint] = person
        return person

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, what, arguments))

    def carry(self, way: str, sender: "Person", packet: bytes, arrive: Callable[..., None]) -> None:
        """Brings a packet to where `arrive(packet)` takes it, perhaps."""
        self.kinds[packet[0]] += 1
        if self.watch is not None and not self.watch(way, sender, packet):
            return
        free_at = max(self.now, self._free_at.get(sender.name, 0.0))
        if free_at - self.now > self.queue_s:
            return
        self._free_at[sender.name] = free_at + 1 / self.bandwidth
        wait = free_at - self.now
        copies = 1 + (self.chance.random() < self.duplication)
        for _ in range(copies):
            if self.chance.random() >= self.loss:
                self.at(self.now + wait + self.chance.uniform(*self.delay), arrive, packet)

    def run_for(self, seconds: float) -> None:
        self._run(self.now + seconds)

    def run_until(self, predicate: Callable[[], object], limit: float = 60.0) -> bool:
        end = self.now + limit
        while not predicate():
            if self.now >= end:
                return False
            self._run(min(self.now + 0.01, end))
        return True

    def _run(self, until: float) -> None:
        while True:
            timer, person = self._next_timer()
            event = self._heap[0][0] if self._heap else float("inf")
            when = min(timer, event)
            if when > until:
                break
            self.now = max(self.now, when)
            if event <= timer:
                _, _, what, arguments = heapq.heappop(self._heap)
                what(*arguments)
            elif person is not None:
                person.timed.handle_timer(self.now)
                person.wakes += 1
        self.now = until

    def _next_timer(self) -> tuple[float, "Person | None"]:
        best: tuple[float, Person | None] = (float("inf"), None)
        for person in self.people:
            when = person.timed.next_timer()
            if when is not None and when < best[0]:
                best = (when, person)
        return best


class Person:
    """An identity: it is a session's ways and listener in one, and keeps all that it is told."""

    def __init__(
        self,
        world: World,
        name: str,
        number: int,
        *,
        rates: Callable[[float, int], RateRule] = Bandwidth,
        memory: HeldMemory | None = None,
        kept: SessionMemory | None = None,
        real: KeyPair | None = None,
    ) -> None:
        self.world = world
        self.name = name
        entropy = SeededEntropy(f"{world.seed}/{name}")
        self.entropy = entropy
        self.real = real or KeyPair.generate(entropy)
        self.dht = KeyPair.generate(entropy)
        self.endpoint = udp4(bytes((20, number >> 8, number & 255, 1)), 33445)
        self.drops: Counter[str] = Counter()
        self.wire_errors = 0
        self.wakes = 0
        self.accept = True
        self.up: list[PublicKey] = []
        self.down: list[PublicKey] = []
        self.taken: list[bytes] = []
        self.lossy_taken: list[bytes] = []
        self.acknowledged_to = -1
        self.directs: list[bool] = []
        self.new_keys: list[PublicKey] = []
        self.asked: list[tuple[PublicKey, PublicKey]] = []
        self.on_room: Callable[[], None] | None = None
        self.on_run: Callable[[Sequence[bytes]], object] | None = None
        self.crypto = NetCrypto(
            self.real,
            self.dht,
            SharedKeys(self.dht.secret, KEYS),
            entropy,
            self,
            self.drops,
            world.now,
            rates=rates,
            memory=memory,
            kept=kept,
        )
        self.crypto.listener = self
        self.timed: Timed = self.crypto
        """What the world has the time for."""

    # Commands

    def open(self, other: "Person", *, endpoint: bool = True) -> None:
        self.crypto.open(other.real.public, other.dht.public, self.world.now)
        if endpoint:
            self.crypto.set_endpoint(other.real.public, other.endpoint, self.world.now)

    def send(self, other: "Person", data: bytes) -> int | None:
        return self.crypto.send(other.real.public, data, self.world.now)

    def sees(self, other: "Person") -> bool:
        status = self.crypto.status(other.real.public)
        return status is not None and status.state.value == "established"

    def take(self, packet: bytes, source: Endpoint) -> None:
        try:
            self.crypto.handle_udp(packet, source, self.world.now)
        except (WireError, ProtocolViolation):
            self.wire_errors += 1

    # Ways

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        target = self.world.at_endpoint.get(endpoint)
        if target is not None and self.world.udp:
            source = self.endpoint
            self.world.carry("udp", self, packet, lambda data: target.take(data, source))

    def _person(self, dht_key: bytes) -> "Person | None":
        return next((one for one in self.world.people if one.dht.public == dht_key), None)

    def send_relay(self, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        target = self._person(dht_key)
        if target is None or not self.world.relay:
            return False
        mine = self.dht.public

        def arrive(data: bytes) -> None:
            target.crypto.handle_relay(mine, data, self.world.now)

        self.world.carry("relay", self, packet, arrive)
        return True

    def send_oob(self, relay_key: PublicKey, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        target = self._person(dht_key)
        if target is None or not self.world.relay:
            return False
        mine = self.dht.public

        def arrive(data: bytes) -> None:
            target.crypto.handle_oob(relay_key, mine, data, self.world.now)

        self.world.carry("oob", self, packet, arrive)
        return True

    # Listener

    def accepts(
        self, real_key: PublicKey, dht_key: PublicKey, source: Endpoint | None, now: float
    ) -> bool:
        self.asked.append((real_key, dht_key))
        return self.accept

    def session_up(self, real_key: PublicKey, now: float) -> None:
        self.up.append(real_key)

    def session_down(self, real_key: PublicKey, now: float) -> None:
        self.down.append(real_key)

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        self.taken += packets
        if self.on_run is not None:
            self.on_run(packets)

    def lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        self.lossy_taken.append(data)

    def acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        self.acknowledged_to = number
        if self.on_room is not None:
            self.on_room()

    def new_dht_key(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> None:
        self.new_keys.append(dht_key)

    def direct_changed(self, real_key: PublicKey, direct: bool, now: float) -> None:
        self.directs.append(direct)


class Stream:
    """Sends numbered packets of bulk data from one person to another, as room lets it."""

    def __init__(self, sender: Person, receiver: Person, count: int, size: int = 1371) -> None:
        self.sender, self.receiver, self.count, self.size = sender, receiver, count, size
        self.next = 0
        sender.on_room = self.feed

    def packet(self, number: int) -> bytes:
        return b"\x52" + number.to_bytes(4, "big") + bytes(self.size - 5)

    def feed(self) -> None:
        room = self.sender.crypto.room(self.receiver.real.public)
        while room > 0 and self.next < self.count:
            if self.sender.send(self.receiver, self.packet(self.next)) is None:
                break
            self.next += 1
            room -= 1

    def arrived(self) -> bool:
        return len(self.receiver.taken) >= self.count

    def exact(self) -> bool:
        return self.receiver.taken == [self.packet(number) for number in range(self.count)]
