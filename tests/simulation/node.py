"""A node of the simulation: the real modules, in shards, behind the broker's real routes."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.routes import route
from core import batch
from core.crypto import KeyPair, SecretKey, SharedKey, open_sealed, seal
from core.endpoint import Endpoint
from core.messages import Message
from core.module import Context, Module, NodeOptions, ProtocolViolation
from core.slots import SlotTable
from core.wire import WireError
from tests.simulation.chance import PooledKeys, StreamedEntropy

if TYPE_CHECKING:
    from tests.simulation.nat import NatBox
    from tests.simulation.world import World


class SimulatedOutbox:
    """The outbox of one module: datagrams go to the network, messages to the node's shards."""

    def __init__(self, node: "Node", role: str, shard: int) -> None:
        self.drops: Counter[str] = Counter()
        self._node = node
        self._role = role
        self._shard = shard

    def send(self, endpoint: Endpoint, packet: bytes) -> None:
        """Gives a datagram to the network."""
        self._node.transmit(endpoint, packet)

    def tell(self, role: str, key: bytes, message: Message) -> None:
        """Tells the owner of `key`; a role that the node lacks is counted."""
        table = self._node.tables.get(role)
        if table is None:
            self.drops[f"told_nobody:{role}"] += 1
            return
        self._node.post(role, table.shard_of(key), message)

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Tells one shard; one that the node lacks is counted."""
        if role == "broker" and self._node.broker is not None:
            self._node.broker(message)
            return
        if shard >= len(self._node.modules.get(role, ())):
            self.drops[f"told_nobody:{role}"] += 1
            return
        self._node.post(role, shard, message)

    def tell_all(self, role: str, message: Message) -> None:
        """Tells all shards of a role but the teller."""
        for shard in range(len(self._node.modules.get(role, ()))):
            if (role, shard) != (self._role, self._shard):
                self._node.post(role, shard, message)


class Node:
    """One node: keys, an address, and `modules[role][shard]`."""

    def __init__(
        self,
        world: "World",
        name: str,
        keys: KeyPair,
        endpoint: Endpoint,
        roles: dict[str, int],
        options: NodeOptions,
        nat: "NatBox | None",
    ) -> None:
        self.world = world
        self.name = name
        self.keys = keys
        self.key = bytes(keys.public)
        self.endpoint = endpoint
        """Its own address; behind a NAT the private one."""
        self.nat = nat
        self.options = options
        self.started = world.now
        self.alive = True
        self.modules: dict[str, list[Module]] = {role: [] for role in roles}
        self.contexts: dict[tuple[str, int], Context] = {}
        self.tables = {role: SlotTable.even(count) for role, count in roles.items()}
        self.routing_drops: Counter[str] = Counter()
        self.broker: Callable[[Message], None] | None = None
        """Takes what modules tell the broker, which has no role here but to route."""
        self._wakes: dict[tuple[str, int], float] = {}
        self._incarnations: Counter[tuple[str, int]] = Counter()
        self._master = SecretKey(StreamedEntropy(f"{world.seed}/{name}/master").bytes(32))
        self._caches = {role: PooledKeys(keys, world.key_pool) for role in roles}
        for role, count in roles.items():
            for shard in range(count):
                self.modules[role].append(self._make(role, shard))
        for role, count in roles.items():
            for shard in range(count):
                self._plan(role, shard)

    def _make(self, role: str, shard: int) -> Module:
        self._incarnations[role, shard] += 1
        seed = f"{self.world.seed}/{self.name}/{role}/{shard}/{self._incarnations[role, shard]}"
        context = Context(
            keys=self.keys,
            master=self._master,
            entropy=StreamedEntropy(seed),
            out=SimulatedOutbox(self, role, shard),
            shard=shard,
            slots=self.tables,
            options=self.options,
            started=self.started,
            shared_keys=self._caches[role],
        )
        self.contexts[role, shard] = context
        return self.world.factory(role)(context)

    def restart_shard(self, role: str, shard: int) -> None:
        """Replaces one module by a new one, as after the death of its worker."""
        self.modules[role][shard] = self._make(role, shard)
        self._wakes.pop((role, shard), None)
        self._plan(role, shard)

    def stop(self) -> None:
        """Takes the node off the network for good."""
        self.alive = False
        self.world.remove(self)

    def drops(self) -> Counter[str]:
        """Returns what all modules refused, and what nobody was routed to, by reason."""
        total = Counter(self.routing_drops)
        for shards in self.modules.values():
            for module in shards:
                total.update(module.out.drops)
        return total

    def wake(self, role: str) -> None:
        """Looks at the timers of a role again, after a test called a module itself."""
        for shard in range(len(self.modules[role])):
            self._plan(role, shard)

    # What the world calls

    def receive(self, packet: bytes, source: Endpoint) -> None:
        """Takes a datagram from the network."""
        if not self.alive:
            return
        target = route(packet, self.tables)
        if isinstance(target, str):
            self.routing_drops[target] += 1
            return
        role, shard = target
        if role not in self.modules:
            self.routing_drops[f"not_simulated:{role}"] += 1
            return
        module = self.modules[role][shard]
        try:
            module.handle_packet(packet, source, self.world.now)
        except WireError as error:
            module.out.drops[f"wire:{error.packet}"] += 1
        except ProtocolViolation as error:
            module.out.drops[error.reason] += 1
        self._plan(role, shard)

    def transmit(self, endpoint: Endpoint, packet: bytes) -> None:
        """Gives a datagram to the network, from this node's address."""
        if self.alive:
            self.world.send(self, endpoint, packet)

    def post(self, role: str, shard: int, message: Message) -> None:
        """Puts a message into a shard's mailbox."""
        if self.world.real_frames:
            rows = batch.rows([message])
            frame = batch.decode(batch.encode(batch.MESSAGES, 1, 1, 0, rows))
            (message,) = batch.messages(frame.items)
        self.world.at(self.world.now + self.world.message_delay_s, self._tell, role, shard, message)

    def _tell(self, role: str, shard: int, message: Message) -> None:
        if self.alive:
            self.modules[role][shard].handle_message(message, self.world.now)
            self._plan(role, shard)

    def _plan(self, role: str, shard: int) -> None:
        """Has the world wake the module when it wants."""
        when = self.modules[role][shard].next_timer()
        if when is None:
            return
        when = max(when, self.world.now)
        planned = self._wakes.get((role, shard))
        if planned is None or when < planned:
            self._wakes[role, shard] = when
            self.world.at(when, self._wake, role, shard, when)

    def _wake(self, role: str, shard: int, when: float) -> None:
        if not self.alive or self._wakes.get((role, shard)) != when:
            return
        del self._wakes[role, shard]
        module = self.modules[role][shard]
        due = module.next_timer()
        if due is not None and due <= self.world.now:
            module.handle_timer(self.world.now)
        self._plan(role, shard)


class Peer:
    """A bare endpoint with keys: the test speaks through it and reads what comes back."""

    def __init__(self, world: "World", keys: KeyPair, endpoint: Endpoint) -> None:
        self.world = world
        self.keys = keys
        self.key = bytes(keys.public)
        self.endpoint = endpoint
        self.nat: NatBox | None = None
        self.alive = True
        self.received: list[tuple[Endpoint, bytes]] = []
        """Datagrams that came, with their sources."""
        self.handler: Callable[[bytes, Endpoint], None] | None = None
        """If set, gets each datagram besides."""
        self._cache = PooledKeys(keys, world.key_pool)
        self._entropy = StreamedEntropy(f"{world.seed}/peer/{self.key.hex()}")

    def receive(self, packet: bytes, source: Endpoint) -> None:
        """Keeps a datagram."""
        self.received.append((source, packet))
        if self.handler is not None:
            self.handler(packet, source)

    def send(self, to: Endpoint, packet: bytes) -> None:
        """Sends bytes as they are."""
        self.world.send(self, to, packet)

    def shared(self, key: bytes) -> SharedKey:
        """Returns the combined key with a node."""
        shared = self._cache.get(key)
        assert shared is not None
        return shared

    def sealed(self, kind: int, key: bytes, plain: bytes) -> bytes:
        """Returns a packet of the usual shape: kind, sender, nonce, box."""
        nonce = self._entropy.bytes(24)
        return bytes((kind,)) + self.key + nonce + seal(self.shared(key), nonce, plain)

    def opened(self, *kinds: int) -> list[bytes]:
        """Returns the texts of received packets of these kinds (usual shape), and forgets all."""
        texts = []
        for _, packet in self.received:
            if packet[0] in kinds:
                text = open_sealed(self.shared(packet[1:33]), packet[33:57], packet[57:])
                assert text is not None
                texts.append(text)
        self.received.clear()
        return texts
