"""The net_crypto worker: sockets, relay connections and sessions of the identities of one shard.

What an identity has here is asked for by its messenger worker (`core.identity.near`). Its DHT keys,
its UDP port and its sessions stand in memory that the next process in this place finds.
"""

import asyncio
from typing import Any

from core.crypto import PublicKey
from core.endpoint import Endpoint, is_ipv4
from core.identity import messages
from core.identity.carrier import Carrier
from core.identity.near import NearDesk
from core.identity.place import PlaceOrder, PlaceRefused
from core.messages import MESSAGE_NUMBERS, Message
from core.module import Context, Module, ProtocolViolation
from core.net_crypto.lasting import SessionMemory
from core.packets.nodes import NodeInfo
from toxmesh.hosting import carriers, tracing
from toxmesh.hosting.node_table import NodeTable
from toxmesh.identity.place import CarrierPlace
from toxmesh.identity.udp import PortError
from workers.desk import LoopDesk

ROLE = "net_crypto"
_FROM_MESSENGER = range(MESSAGE_NUMBERS[messages.Attach], MESSAGE_NUMBERS[messages.LinkLost])
_LOOK_S = 10.0  # ours: how often identities without a connection get nodes of the node's table
_NODES = 16  # ours: of these at a time


class HostedPlace(CarrierPlace):
    """Where the carrier of one identity is at work."""

    def __init__(self, order: PlaceOrder, desk: LoopDesk) -> None:
        """Takes the port that the identity had, if it is free. Raises PlaceRefused."""
        super().__init__()
        self._order, self._desk = order, desk
        try:
            self._begin((order.port, order.port) if order.port else order.ports)
        except PortError:  # somebody else has that port now: friends find the new one
            try:
                self._begin(order.ports)
            except PortError as error:
                raise PlaceRefused(error.strerror or str(error)) from None

    def _begin(self, ports: tuple[int, int]) -> None:
        order = self._order
        now, unix_offset = self.clock()
        shared = self.neighbours(order.options)
        carrier = order.carrier(self, self.entropy(), now, unix_offset, shared)
        self.begin(carrier, ports, order.hosts)

    def settle(self, now: float) -> None:
        """Tells the messenger worker what this turn has come to."""
        self._order.settle(now)
        self._desk.stir()


class NetCryptoWorker:
    """What the host runs in this role."""

    def __init__(self, context: Context, desk: LoopDesk) -> None:
        self.out = context.out
        self._context, self._desk = context, desk
        self._loop = asyncio.get_running_loop()
        self.table = NodeTable(context, ROLE)
        self.near: NearDesk | None = None
        """None before the first topology: until then the process before may write to the memory."""
        self._messengers: tuple[int | None, ...] = ()  # their generations
        self._fresh: list[HostedPlace] = []  # made in this call
        self._look_at = 0.0

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes no datagram of the node's port: identities have sockets of their own."""
        raise ProtocolViolation("net_crypto_datagram")

    def handle_message(self, message: Message, now: float) -> None:
        """Takes what messenger workers want, and what dht.0 tells of its table."""
        if MESSAGE_NUMBERS.get(type(message)) in _FROM_MESSENGER and self.near is not None:
            self._trace(message)
            self.near.handle_message(message, now)
            self._welcome(now)
        elif not self.table.handle_message(message, now):
            raise ProtocolViolation("net_crypto_message")

    def handle_topology(self, now: float) -> None:
        """Begins where the process before has ended, and notices a new messenger worker."""
        if self.table.nodes.version is None:
            self.table.ask(now)
        table = self._context.slots.get("messenger")
        shards = sorted(set(table.shards)) if table is not None else []
        generations = tuple(self._desk.generation("messenger", shard) for shard in shards)
        before, self._messengers = self._messengers, generations
        if self.near is None:
            self.near = NearDesk(
                self._tell, self._place, self._context.entropy, self.out.drops,
                SessionMemory(self._context.lasting), now,
            )  # fmt: skip
        elif generations != before:
            self.near.messenger_gone(now)

    def _trace(self, message: Message) -> None:
        """Tells an operator who follows a session what goes between its processes."""
        events = self._context.events
        if tracing.EVENT in events.wanted:
            data = tracing.step(message)
            if data is not None:
                events.emit(tracing.EVENT, data)
                self._desk.stir()

    def _tell(self, identity: PublicKey, message: Message) -> None:
        self._trace(message)
        self.out.tell("messenger", identity, message)
        self._desk.stir()

    def _place(self, order: PlaceOrder, now: float) -> HostedPlace:
        place = HostedPlace(order, self._desk)
        self._fresh.append(place)
        return place

    def _welcome(self, now: float) -> None:
        """Gives identities that begin the nodes that the node knows."""
        fresh, self._fresh = self._fresh, []
        for place in fresh:
            self._give_nodes(place, now)

    def _give_nodes(self, place: HostedPlace, now: float) -> None:
        nodes = _nodes_of(self.table, place.carrier)
        if nodes:
            place.carrier.bootstrap(nodes, now)
            place.plan()

    def handle_timer(self, now: float) -> None:
        """Ends identities that nobody wants, and helps those that find nobody."""
        if self.near is None:
            return
        due = self.near.next_timer()
        if due is not None and due <= now:
            self.near.handle_timer(now)
        if self._look_at <= now:
            self._look_at = now + _LOOK_S
            for desk in self.near.carriers.values():
                if not desk.carrier.connected and isinstance(desk.place, HostedPlace):
                    self._give_nodes(desk.place, now)

    def next_timer(self) -> float | None:
        """Returns when something is due."""
        if self.near is None or not self.near.carriers:
            return None if self.near is None else self.near.next_timer()
        due = self.near.next_timer()
        return self._look_at if due is None else min(due, self._look_at)

    def handle_stop(self, hands_over: bool, now: float) -> None:
        """Ends all: for a successor, who goes on with the sessions, or so that friends see it."""
        if self.near is not None:
            self.near.stop(now, end_sessions=not hands_over)

    def ask(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers an operator's question. Raises CannotAnswer."""
        return carriers.answer(self.near, what, args, now)

    def snapshot(self) -> dict[str, Any]:
        """Returns counts for the operator."""
        counts = carriers.counts(self.near, self._loop.time())
        return {"nodes": len(self.table.nodes.rows), **counts}


def _nodes_of(table: NodeTable, carrier: Carrier) -> list[NodeInfo]:
    """Returns nodes of the node's table near an identity, with addresses that it can use."""
    options = carrier.options
    found = []
    for row in table.closest(carrier.dht_key, _NODES):
        for address in (row.endpoint4, row.endpoint6):
            if not address:
                continue
            endpoint = Endpoint(address)
            if options.has_ipv4 if is_ipv4(endpoint) else options.has_ipv6:
                found.append(NodeInfo(PublicKey(row.key), endpoint))
    return found


def create(context: Context, desk: LoopDesk) -> Module:
    """Makes the module of a net_crypto worker."""
    return NetCryptoWorker(context, desk)
