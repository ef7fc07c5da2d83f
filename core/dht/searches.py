"""Search entries: the eight nodes closest to a key that somebody here looks for."""

from typing import Protocol

from core.dht.distance import number_of
from core.dht.lists import MAX_PREFIX_IN_LIST, NEVER, Client, same_prefix
from core.dht.pending import PENDING_S
from core.dht.punching import Punching
from core.endpoint import Endpoint, is_lan, prefix_of

MAX_CLIENTS = 8  # c-toxcore DHT.h: MAX_FRIEND_CLIENTS
STEP_S = 1.0  # c-toxcore's do_dht runs once in each second of its clock
QUICK_ROUNDS = 5  # c-toxcore DHT.c: MAX_BOOTSTRAP_TIMES
NODES_REQUEST_INTERVAL_S = 20.0  # c-toxcore DHT.c: NODES_REQUEST_INTERVAL
MAX_OWNERS = 32  # c-toxcore DHT.c: DHT_FRIEND_MAX_LOCKS


class SearchListener(Protocol):
    """What an identity wants to hear of its table; the node itself has none."""

    def address_found(self, dht_key: bytes, endpoint: Endpoint, now: float) -> None:
        """A searched key answered us from this address."""
        ...

    def dht_request(self, sender: bytes, plain: bytes, source: Endpoint, now: float) -> None:
        """A DHT request of kind 20 or 9c came for us; `sender` is a DHT key, `source` who passed
        the packet on."""
        ...


class Rounds:
    """When a list last asked a random one of its nodes, and how often it did: first quickly."""

    __slots__ = ("last", "times")

    def __init__(self) -> None:
        self.last = NEVER
        self.times = 0

    def pause(self, early_s: float = 0.0, long_s: float = NODES_REQUEST_INTERVAL_S) -> float:
        """Returns how long after the last round the next one is due, less so much if it is long."""
        return STEP_S if self.times < QUICK_ROUNDS else long_s - early_s


class Nearest:
    """A few nodes nearest to a key, kept until the next step asks them all.

    A node is not asked again before its answer could no longer count. (The reference asks again in
    each step in which somebody names it.)
    """

    def __init__(self, key: bytes, capacity: int) -> None:
        self._number = number_of(key)
        self._capacity = capacity
        self._nodes: dict[bytes, tuple[int, Endpoint]] = {}
        self._asked: dict[bytes, float] = {}  # when, of those asked in the last PENDING_S

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, key: bytes) -> bool:
        return key in self._nodes

    def offer(self, key: bytes, endpoint: Endpoint, now: float) -> bool:
        """Keeps the node unless it is here or all here are nearer; tells if it was kept."""
        nodes = self._nodes
        if key in nodes or self._asked.get(key, NEVER) + PENDING_S > now:
            return False
        distance = number_of(key) ^ self._number
        if len(nodes) >= self._capacity:
            farthest = max(nodes, key=lambda other: nodes[other][0])
            if nodes[farthest][0] <= distance:
                return False
            del nodes[farthest]
        nodes[key] = (distance, endpoint)
        return True

    def take(self, now: float) -> list[tuple[bytes, Endpoint]]:
        """Empties the list and returns it, in the order of arrival, to be asked now."""
        nodes, self._nodes = self._nodes, {}
        self._asked = {key: at for key, at in self._asked.items() if at + PENDING_S > now}
        self._asked.update(dict.fromkeys(nodes, now))
        return [(key, endpoint) for key, (_, endpoint) in nodes.items()]


class SearchEntry:
    """One searched key with its client list of at most eight nodes.

    `dirty` takes the keys of nodes that leave the list.
    """

    def __init__(self, key: bytes, to_ask: int, dirty: set[bytes]) -> None:
        self._dirty = dirty
        self.key = key
        self.number = number_of(key)
        self.clients: list[Client] = []
        """Farthest first: random rounds lean towards the end of a list, as in the close list."""
        self._by_key: dict[bytes, Client] = {}
        self._none_bad_before = NEVER  # no node of a full list is bad before this time
        self.owners = 1
        self.rounds = Rounds()
        self.to_ask = Nearest(key, to_ask)
        self.punching = Punching()

    def find(self, key: bytes) -> Client | None:
        """Returns the node with this key."""
        return self._by_key.get(key)

    def is_fresh(self, key: bytes, endpoint: Endpoint, now: float) -> bool:
        """Tells whether the node is here and good in the endpoint's family."""
        client = self.find(key)
        return client is not None and client.is_fresh_at(endpoint, now)

    def wants(self, key: bytes, endpoint: Endpoint, now: float) -> bool:
        """Tells whether take() would take this node: a free or bad place, or a farther node."""
        if len(self.clients) >= MAX_CLIENTS and self._to_replace(number_of(key), now) is None:
            return False
        if key == self.key or is_lan(endpoint):
            return True
        return same_prefix(self.clients, prefix_of(endpoint), now) < MAX_PREFIX_IN_LIST

    def _to_replace(self, number: int, now: float) -> Client | None:
        """Returns the node that gives way: a bad one, else the farthest if `number` is nearer."""
        if now >= self._none_bad_before:
            for client in self.clients:
                if client.is_bad(now):
                    return client
            self._none_bad_before = min(client.bad_at() for client in self.clients)
        farthest = self.clients[0]
        target = self.number
        return farthest if number ^ target < farthest.number ^ target else None

    def take(self, key: bytes, endpoint: Endpoint, now: float) -> Client | None:
        """Takes an answer of a node into the list; None if it was and stays outside."""
        client = self.find(key)
        if client is not None:
            client.update(endpoint, now)
            return client
        # The same address with another key: that node was restarted under a new one.
        for other in self.clients:
            if other.is_at(endpoint):
                self._drop(other)
                break
        if not self.wants(key, endpoint, now):
            return None
        if len(self.clients) >= MAX_CLIENTS:
            gone = self._to_replace(number_of(key), now)
            if gone is None:
                return None
            self._drop(gone)
        client = Client(key)
        client.place(endpoint, now)
        self.clients.append(client)
        self._by_key[key] = client
        self._none_bad_before = min(self._none_bad_before, client.bad_at())
        self.clients.sort(key=lambda other: other.number ^ self.number, reverse=True)
        return client

    def _drop(self, client: Client) -> None:
        self.clients.remove(client)
        del self._by_key[client.key]
        self._dirty.add(client.key)

    def clear(self) -> None:
        """Forgets all nodes."""
        for client in list(self.clients):
            self._drop(client)
