"""Onion nodes in one process: modules on N shards routed as the broker does, and a network."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from core.batch import messages, rows
from core.crypto import KeyPair, SecretKey
from core.endpoint import Endpoint, from_text
from core.entropy import SeededEntropy
from core.messages import Message, NodeRow, RelayDeliver, TableFull
from core.module import Collected, Context, NodeOptions, ProtocolViolation
from core.onion import Forwarding, OnionHops, OnionModule
from core.packets import ROUTES
from core.slots import SlotTable
from core.wire import WireError

PUBLIC = NodeOptions(lan_discovery=False)
START = 100_000.0  # monotonic seconds at which these nodes start


class Node:
    """A node of onion shards only, and one relay shard's hop."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        shards: int = 1,
        options: NodeOptions = PUBLIC,
        known: list[NodeRow] | None = None,
        **capacities: Any,
    ) -> None:
        entropy = SeededEntropy(name)
        self.keys = KeyPair.generate(entropy)
        self.endpoint = endpoint
        self.table = SlotTable.even(shards)
        self.table_full = TableFull(1, self.keys.public, tuple(known or ()))
        self.relayed: list[tuple[int, bytes]] = []
        self.sent: list[tuple[Endpoint, bytes]] = []
        self.watch: Callable[[int, int, Message], bool] | None = None
        """If set, sees (teller, shard, message) of what shards are told; False loses it."""
        master = SecretKey(entropy.bytes(32))
        self.boxes = [Collected() for _ in range(shards + 1)]
        contexts = [
            Context(
                self.keys,
                master,
                SeededEntropy(f"{name} {shard}"),
                self.boxes[shard],
                shard,
                {"onion": self.table},
                options,
                started=START,
                unix_offset=1.6e9,
            )
            for shard in range(shards + 1)
        ]
        self._capacities = capacities
        self.shards = [self._module(context) for context in contexts[:-1]]
        self.relay_hops = OnionHops(contexts[-1])
        self.relay_forwarding = Forwarding(contexts[-1], self.shards[0].nodes)

    def _module(self, context: Context) -> OnionModule:
        module = OnionModule(context, **self._capacities)
        module.handle_message(self.table_full, START)
        return module

    def restart(self, shard: int) -> None:
        """Replaces a shard by one that has nothing yet, as after the death of its worker."""
        self.boxes[shard].told.clear()
        self.shards[shard] = self._module(self.shards[shard].context)

    @property
    def drops(self) -> Counter[str]:
        """Refusals of all shards."""
        return sum((box.drops for box in self.boxes), Counter())

    def shard_of(self, packet: bytes) -> int:
        """Routes by the packet table; what is too short or foreign goes to the first shard."""
        route = ROUTES.get(packet[0]) if packet else None
        place = route.slot_byte if route is not None and route.role == "onion" else None
        return 0 if place is None or place >= len(packet) else self.table.shards[packet[place]]

    def handle(self, packet: bytes, source: Endpoint, now: float) -> list[tuple[Endpoint, bytes]]:
        """Gives one datagram to its shard; returns all that the node then sends."""
        shard = self.shard_of(packet)
        try:
            self.shards[shard].handle_packet(packet, source, now)
        except (ProtocolViolation, WireError) as refused:
            self.count(shard, refused)
        return self.settle(now)

    def count(self, shard: int, refused: Exception) -> None:
        """Counts what a module raised, as the worker does."""
        reason = refused.reason if isinstance(refused, ProtocolViolation) else "wire"
        self.boxes[shard].drops[reason] += 1

    def settle(self, now: float) -> list[tuple[Endpoint, bytes]]:
        """Does what is left of a worker's turn: has shards tell what they have stored, and delivers
        what they told each other, through frames, until nothing is left."""
        sent: list[tuple[Endpoint, bytes]] = []
        busy = True
        while busy:
            busy = False
            for number, box in enumerate(self.boxes):
                if number < len(self.shards):
                    self._tell_stored(self.shards[number], now)
                sent += box.sent
                box.sent.clear()
                told, box.told = box.told, []
                for role, to, message in told:
                    busy = True
                    self._deliver(number, role, to, message, now)
        self.sent += sent
        return sent

    @staticmethod
    def _tell_stored(module: OnionModule, now: float) -> None:
        own = module.announces.own_filter
        if own.next_timer() <= now:
            own.handle_timer(now)

    def _deliver(
        self, teller: int, role: str, to: bytes | int | None, message: Message, now: float
    ) -> None:
        (message,) = messages(rows([message]))  # only what survives a frame
        if role == "broker":
            assert isinstance(message, RelayDeliver)
            self.relayed.append((message.serial, message.frame))
            return
        assert role == "onion"
        if to is None:
            shards = [shard for shard in range(len(self.shards)) if shard != teller]
        else:
            table = self.shards[teller].context.slots["onion"]
            shards = [to if isinstance(to, int) else table.shard_of(to)]
        for shard in shards:
            if self.watch is not None and not self.watch(teller, shard, message):
                continue
            try:
                self.shards[shard].handle_message(message, now)
            except ProtocolViolation as refused:
                self.count(shard, refused)

    def timer(self, now: float) -> None:
        """Runs the timers of all shards."""
        for module in self.shards:
            module.handle_timer(now)


class Network:
    """Carries packets between nodes at once; what goes to other addresses is kept in `arrived`."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = {node.endpoint: node for node in nodes}
        self.arrived: list[tuple[Endpoint, bytes]] = []
        self.carried: list[tuple[Endpoint, Endpoint, bytes]] = []

    def send(self, source: Endpoint, target: Endpoint, packet: bytes, now: float) -> None:
        """Sends one datagram and carries everything that follows from it."""
        waiting = [(source, target, packet)]
        while waiting:
            row = source, target, packet = waiting.pop(0)
            self.carried.append(row)
            node = self.nodes.get(target)
            if node is None:
                self.arrived.append((target, packet))
                continue
            waiting += [(target, to, answer) for to, answer in node.handle(packet, source, now)]

    def settle(self, node: Node, now: float) -> None:
        """Carries what a node did outside of handling a datagram."""
        for to, packet in node.settle(now):
            self.send(node.endpoint, to, packet, now)

    def take(self) -> list[bytes]:
        """Returns the packets that arrived outside, and forgets them."""
        packets = [packet for _, packet in self.arrived]
        self.arrived.clear()
        return packets


def address(number: int, port: int = 33445) -> Endpoint:
    """Returns a public IPv4 address."""
    return from_text(f"203.0.{113 + number // 250}.{1 + number % 250}", port)
