"""The DHT node of one identity: it is found under its key, and finds the keys of friends.

It is the module that every node runs, on one shard, with what an identity needs besides: it hears
when a searched key answers and when a DHT request comes, and gives nodes for onion paths.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from core.asking import Events
from core.crypto import KeyPair, PublicKey, SharedKeys
from core.dht.host_table import HostedSnapshot, HostTable
from core.dht.module import DhtModule
from core.dht.publish import preferred
from core.dht.searches import SearchListener
from core.endpoint import Endpoint
from core.entropy import Entropy
from core.messages import Bootstrap, Message
from core.module import Context, Module, NodeOptions
from core.packets.nodes import NodeInfo
from core.slots import SlotTable
from core.timers import Clock

_SLOTS = {role: SlotTable.even(1) for role in ("dht", "onion")}
_NOBODY_FOLLOWS = Events()
MOST_PATH_NODES = 32  # c-toxcore onion_client.h: MAX_PATH_NODES
FEW_PATH_NODES = 8  # c-toxcore onion_client.c: populate_path_nodes, new ones taken at once


class DhtListener(SearchListener, Protocol):
    """Who is told what this node of the DHT hears."""

    def dht_connected(self, connected: bool, now: float) -> None:
        """The first node answers, or none does any more."""
        ...


class _Way(Protocol):
    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None: ...


class OneShard:
    """The outbox of modules that have no other shards: what they tell one another stays here."""

    def __init__(self, way: _Way, drops: Counter[str], now: float) -> None:
        self.drops = drops
        self.send = way.send_udp
        self.dht: Module | None = None
        self.onion: Module | None = None
        """Those that are here. (No dict: there are thousands of these.)"""
        self.now = now

    def tell(self, role: str, key: bytes, message: Message) -> None:
        """Gives a role its message."""
        self.tell_shard(role, 0, message)

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Gives a role its message; one that is not here is not missed."""
        module = self.dht if role == "dht" else self.onion if role == "onion" else None
        if module is not None and shard == 0:
            module.handle_message(message, self.now)

    def tell_all(self, role: str, message: Message) -> None:
        """There are no other shards."""


class LightDht:
    """A DHT node with one identity's DHT key, without any state of its host.

    `options` says which families of addresses it can send to and whether it looks for nodes of the
    local network.
    """

    def __init__(
        self,
        keys: KeyPair,
        shared: SharedKeys,
        entropy: Entropy,
        way: _Way,
        listener: DhtListener,
        drops: Counter[str],
        options: NodeOptions,
        now: float,
        host: HostTable | None = None,
    ) -> None:
        """`host`: what the identities of this process share; None: there is no other one."""
        self._host = host = HostTable(entropy) if host is None else host
        self._out = OneShard(way, drops, now)
        self.context = Context(
            keys=keys,
            master=keys.secret,  # no part of it makes a secret of that
            entropy=entropy,
            out=self._out,
            options=options,
            started=now,
            slots=_SLOTS,
            shared_keys=shared,
            events=_NOBODY_FOLLOWS,
            light=True,
        )
        """For other modules of this node."""
        self._listener = listener
        self._entropy = entropy
        self._connected = False
        self._module = DhtModule(self.context, listener, host)
        self._out.dht = self._module
        table = self._module.snapshot_of_table
        assert isinstance(table, HostedSnapshot)  # with a host
        self.table = table
        """The good nodes of our table; asked for others, those of the whole host."""
        keeper = self._module.keeper
        assert keeper is not None  # shard 0 has one
        self._keeper = keeper

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes a datagram of the DHT's kinds: 00 01 02 04 20 21 94.

        Raises WireError or ProtocolViolation for others."""
        self._out.now = now
        self._module.handle_packet(packet, source, now)
        if not self._connected:
            self._look(now)

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        self._out.now = now
        self._module.handle_timer(now)
        self._module.answers.tidy(now)
        if self._host.is_wide(self.table.own_key):
            self._keeper.widen()
        self._look(now)

    @property
    def clock(self) -> Clock:
        """What says when handle_timer wants to be called."""
        return self._keeper.timers

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called."""
        return self._keeper.next_timer()

    def _look(self, now: float) -> None:
        connected = self._keeper.close.has_good(now)
        if connected != self._connected:
            self._connected = connected
            self._listener.dht_connected(connected, now)

    def is_connected(self, now: float) -> bool:
        """Tells whether any node answers."""
        return self._keeper.close.has_good(now)

    def add_onion(self, module: Module) -> None:
        """Lets the onion module of this node hear what the DHT tells it."""
        self._out.onion = module

    def leave(self) -> None:
        """Is gone for the other identities of this process."""
        self._host.leave(self.table)

    # Nodes

    def bootstrap(self, nodes: Iterable[tuple[Endpoint, bytes]], now: float) -> None:
        """Begins with these nodes (address, DHT key): asked now, and again when all is lost."""
        rows = tuple((bytes(endpoint), bytes(key)) for endpoint, key in nodes)
        self._keeper.handle_message(Bootstrap(rows), now)

    def ask(self, endpoint: Endpoint, key: bytes, target: bytes, now: float) -> None:
        """Asks a node that somebody named for nodes near `target`; it is kept if it answers."""
        self._keeper.asker.ask(endpoint, key, target, now)

    def path_nodes(self, now: float) -> list[NodeInfo]:
        """Returns good nodes for onion paths: those near two random keys first, so that paths do
        not show our own neighbourhood; at most 32, in random order."""
        keeper = self._keeper
        if not self._host.is_wide(self.table.own_key):
            return self._host.path_nodes(FEW_PATH_NODES)
        chosen: dict[bytes, NodeInfo] = {}
        random = [search for key, search in keeper.searches.items() if keeper.is_random(key)]
        for client in (*(client for search in random for client in search.clients), *keeper.close):
            if len(chosen) >= MOST_PATH_NODES:
                break
            endpoint = client.best(now)
            if endpoint is not None and client.key not in chosen:
                chosen[client.key] = NodeInfo(PublicKey(client.key), endpoint)
        nodes = list(chosen.values())
        for last in range(len(nodes) - 1, 0, -1):
            other = self._entropy.below(last + 1)
            nodes[last], nodes[other] = nodes[other], nodes[last]
        return nodes

    def close_nodes(self, most: int, to_lan: bool = True) -> list[NodeInfo]:
        """Returns up to `most` good nodes near our own key, nearest first."""
        table = self.table
        return [
            NodeInfo(PublicKey(row.key), preferred(row))
            for row in table.closest(table.own_key, most, to_lan)
        ]

    def nodes_to_save(self) -> list[NodeInfo]:
        """Returns nodes to come back with, at most 2080."""
        return [
            NodeInfo(PublicKey(key), Endpoint(endpoint))
            for endpoint, key in self._keeper.nodes_to_save()
        ]

    # Friends

    def search(self, dht_key: bytes, now: float) -> bool:
        """Looks for a key until stop_search was called as often; False if there are too many.

        Each answer of the searched node is told by address_found; holes are punched meanwhile."""
        self._out.now = now
        return self._keeper.add_search(dht_key, now)

    def stop_search(self, dht_key: bytes) -> None:
        """Ends one search for a key."""
        self._keeper.remove_search(dht_key)

    def address_of(self, dht_key: bytes, now: float) -> Endpoint | None:
        """Returns where a searched key answers, if it does."""
        return self._keeper.address_of(dht_key, now)

    def send_request(self, dht_key: bytes, plain: bytes, now: float) -> int:
        """Sends a text of at most 919 bytes, kind byte first, through nodes that know a searched
        key; returns through how many."""
        return self._keeper.requests.send(dht_key, plain, now)

    def status(self) -> dict[str, Any]:
        """Returns counts for an operator."""
        close = self._keeper.close
        return {"connected": self._connected, "close_nodes": len(close)}

