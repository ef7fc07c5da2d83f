"""Nodes that answered us: their two addresses, their age, and the close list they stand in."""

from collections import Counter
from collections.abc import Iterator

from core.asking import Events
from core.dht.changes import CloseChanges
from core.dht.distance import BUCKET_SIZE, bucket_of, number_of
from core.endpoint import Endpoint, is_ipv4, is_lan, prefix_of

PING_INTERVAL_S = 60.0  # c-toxcore DHT.h: PING_INTERVAL
BAD_NODE_S = 122.0  # c-toxcore DHT.h: BAD_NODE_TIMEOUT
KILL_NODE_S = BAD_NODE_S + PING_INTERVAL_S  # c-toxcore DHT.c: KILL_NODE_TIMEOUT

# One operator may not fill our table (the reference has no such limit). Counted are nodes that
# share a /24 or a /64; addresses of local networks are free of it.
MAX_PREFIX_IN_LIST = 2  # of the 8 nodes of a bucket or of a search entry
MAX_PREFIX_IN_TABLE = 12  # of the 1024 nodes of the close list

FAR_SIZE = 2  # places of a bucket that is not near to our own key, in a light node
NEAR_NODES = 8  # so many nearer nodes make a bucket a far one; ours

NEVER = float("-inf")


class Association:
    """One address of a node, with its own times in seconds."""

    __slots__ = ("asked", "endpoint", "reported", "reported_at", "reported_self", "rtt", "seen")

    def __init__(self, endpoint: Endpoint, seen: float) -> None:
        self.endpoint = endpoint
        self.seen = seen  # last answer from this address
        self.asked = NEVER  # last liveness check
        self.rtt: float | None = None  # seconds, of its last answer; None: not measured
        self.reported: Endpoint | None = None  # where it says that the search key, or we, are
        self.reported_at = NEVER
        self.reported_self = False  # `reported` is our own address

    def is_bad(self, now: float) -> bool:
        """Tells whether the node missed its checks: it is checked on, but no longer given away."""
        return self.seen + BAD_NODE_S <= now

    def is_killed(self, now: float) -> bool:
        """Tells whether it is not even checked any more."""
        return self.seen + KILL_NODE_S <= now


class Client:
    """A node in one list: its key and up to two addresses."""

    __slots__ = ("announces", "four", "key", "six")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.four: Association | None = None
        self.six: Association | None = None
        self.announces = False

    @property
    def number(self) -> int:
        """The key as a number, of which distances are made."""
        return number_of(self.key)

    def associations(self) -> Iterator[Association]:
        """Yields the addresses that are set, IPv6 first as the reference walks them."""
        if self.six is not None:
            yield self.six
        if self.four is not None:
            yield self.four

    def association(self, endpoint: Endpoint) -> Association | None:
        """Returns the association of the endpoint's family."""
        return self.four if is_ipv4(endpoint) else self.six

    def is_bad(self, now: float) -> bool:
        """Tells whether no address is good."""
        four, six = self.four, self.six
        return (four is None or four.is_bad(now)) and (six is None or six.is_bad(now))

    def bad_at(self) -> float:
        """Returns when the node becomes bad unless it answers again."""
        return max((each.seen for each in self.associations()), default=NEVER) + BAD_NODE_S

    def is_fresh_at(self, endpoint: Endpoint, now: float) -> bool:
        """Tells whether the address of the endpoint's family is good."""
        association = self.association(endpoint)
        return association is not None and not association.is_bad(now)

    def is_at(self, endpoint: Endpoint) -> bool:
        """Tells whether this is one of the node's addresses."""
        four, six = self.four, self.six
        return (four is not None and four.endpoint == endpoint) or (
            six is not None and six.endpoint == endpoint
        )

    def place(self, endpoint: Endpoint, now: float) -> Association:
        """Sets the address of the endpoint's family; it answered at `now`."""
        association = Association(endpoint, now)
        if is_ipv4(endpoint):
            self.four = association
        else:
            self.six = association
        return association

    def update(self, endpoint: Endpoint, now: float) -> bool:
        """Takes an answer from `endpoint`; False if it was a LAN address in place of a WAN one."""
        association = self.association(endpoint)
        if association is None:
            self.place(endpoint, now)
        elif association.endpoint != endpoint:
            if is_lan(endpoint) and not is_lan(association.endpoint):
                return False
            association.endpoint = endpoint
            association.seen = now
            association.rtt = None
        else:
            association.seen = now
        return True

    def best(self, now: float) -> Endpoint | None:
        """Returns a good address, IPv6 first (c-toxcore DHT.c: dht_getfriendip)."""
        for association in self.associations():
            if not association.is_bad(now):
                return association.endpoint
        return None


def same_prefix(clients: list[Client], prefix: bytes, now: float) -> int:
    """Counts the good public addresses among `clients` that share `prefix`."""
    count = 0
    for client in clients:
        for association in client.associations():
            endpoint = association.endpoint
            if prefix_of(endpoint) == prefix and not association.is_bad(now):
                count += not is_lan(endpoint)
    return count


def note_report(client: Client | None, endpoint: Endpoint, own: bool, now: float) -> None:
    """Notes where a node says that the searched key is, or that we are (`own`)."""
    if client is None:
        return
    association = client.association(endpoint) or next(client.associations(), None)
    if association is not None:
        association.reported = endpoint
        association.reported_at = now
        association.reported_self = own


_EMPTY: list[Client] = []
"""What stands for every bucket without nodes, of every list: never changed."""


class CloseList:
    """Up to 128 k-buckets of 8 nodes around our own key.

    `dirty` takes the keys of nodes that leave the list; `changes` is told of each that comes or
    goes. With a `far_size` below 8 only the buckets nearest to us have 8 nodes, as deep down as it
    takes to have 8 nearer ones, and all others so many: enough to be found and to find others by,
    at a third of the memory and of the checks.
    """

    def __init__(
        self,
        own_key: bytes,
        dirty: set[bytes],
        changes: CloseChanges | None = None,
        far_size: int = BUCKET_SIZE,
    ) -> None:
        self.far_size = far_size
        """Places of the buckets that are not near to our own key."""
        self._dirty = dirty
        self._changes = changes or CloseChanges(Events())
        self._own = number_of(own_key)
        self._buckets: dict[int, list[Client]] = {}  # that have any nodes
        # A light node has some dozen nodes, and a process has thousands of its lists.
        self._by_endpoint: dict[Endpoint, Client] | None = {} if far_size == BUCKET_SIZE else None
        self._prefixes: Counter[bytes] = Counter()
        self.by_key: dict[bytes, Client] = {}

    def __len__(self) -> int:
        return len(self.by_key)

    def __iter__(self) -> Iterator[Client]:
        """Yields all nodes, the buckets farthest from us first."""
        for place in sorted(self._buckets):
            yield from self._buckets[place]

    def bucket_sizes(self, now: float) -> dict[int, int]:
        """Returns how many good nodes each bucket has that has any."""
        sizes = {
            number: sum(not client.is_bad(now) for client in bucket)
            for number, bucket in sorted(self._buckets.items())
        }
        return {number: size for number, size in sizes.items() if size}

    def counts(self, now: float) -> dict[str, dict[str, int]]:
        """Returns how many addresses are good and bad, by family."""
        result = {family: {"good": 0, "bad": 0} for family in ("ipv4", "ipv6")}
        for client in self.by_key.values():
            for family, association in (("ipv4", client.four), ("ipv6", client.six)):
                if association is not None:
                    result[family]["bad" if association.is_bad(now) else "good"] += 1
        return result

    def places(self, now: float) -> bytes:
        """Returns where the nodes stand in the key space: 5 bytes for each.

        The first 4 of its key, and bits: 1 it is good, 2 it has IPv4, 4 IPv6, 8 it keeps announces.
        """
        return b"".join(
            client.key[:4]
            + bytes(
                (
                    (not client.is_bad(now))
                    | (client.four is not None) << 1
                    | (client.six is not None) << 2
                    | client.announces << 3,
                )
            )
            for client in self
        )

    def has_good(self, now: float) -> bool:
        """Tells whether we are connected: at least one node is good."""
        return any(not client.is_bad(now) for client in self.by_key.values())

    def bad_at(self) -> float:
        """Returns when all nodes become bad unless one of them answers again."""
        return max((client.bad_at() for client in self.by_key.values()), default=NEVER)

    def has_good_wan(self, now: float) -> bool:
        """Tells whether a good node has an address outside local networks."""
        return any(
            not association.is_bad(now) and not is_lan(association.endpoint)
            for client in self.by_key.values()
            for association in client.associations()
        )

    def is_fresh(self, key: bytes, endpoint: Endpoint, now: float) -> bool:
        """Tells whether the node is here and good in the endpoint's family."""
        client = self.by_key.get(key)
        return client is not None and client.is_fresh_at(endpoint, now)

    def has_room(self, key: bytes, endpoint: Endpoint, now: float) -> bool:
        """Tells whether add() would take this node."""
        number = number_of(key)
        if number == self._own:
            return False
        place = bucket_of(self._own, number)
        bucket = self._buckets.get(place, _EMPTY)
        if len(bucket) >= self._size_of(place) and not any(
            client.is_bad(now) for client in bucket
        ):
            return False
        return is_lan(endpoint) or self._prefix_has_room(bucket, prefix_of(endpoint), now)

    def _size_of(self, place: int) -> int:
        """Returns how many nodes a bucket may have."""
        if self.far_size == BUCKET_SIZE:
            return BUCKET_SIZE
        nearer = sum(len(bucket) for other, bucket in self._buckets.items() if other > place)
        return self.far_size if nearer >= NEAR_NODES else BUCKET_SIZE

    def _thin_out(self, nearer_than: int, now: float) -> None:
        """Lets go of nodes of buckets that have become far ones."""
        for place, bucket in list(self._buckets.items()):
            if place >= nearer_than or len(bucket) <= self.far_size:
                continue
            for _ in range(len(bucket) - self._size_of(place)):
                bad = (client for client in bucket if client.is_bad(now))
                self.remove(next(bad, bucket[-1]))

    def _prefix_has_room(self, bucket: list[Client], prefix: bytes, now: float) -> bool:
        if self._prefixes[prefix] < MAX_PREFIX_IN_LIST:
            return True
        if same_prefix(bucket, prefix, now) >= MAX_PREFIX_IN_LIST:
            return False
        if self._prefixes[prefix] < MAX_PREFIX_IN_TABLE:
            return True
        return same_prefix(list(self.by_key.values()), prefix, now) < MAX_PREFIX_IN_TABLE

    def touch(self, key: bytes, endpoint: Endpoint, now: float) -> Client | None:
        """Takes an answer of a node that is in the list; None if it is not.

        A node that had this address under another key is removed: it changed its key by a restart.
        """
        client = self.by_key.get(key)
        if client is not None:
            before = client.association(endpoint)
            old = before.endpoint if before is not None else None
            if client.update(endpoint, now) and old != endpoint:
                self._free(endpoint, client)
                if old is not None:
                    self._unlink(old, client)
                self._link(endpoint, client)
            return client
        self._free(endpoint, None)
        return None

    def _free(self, endpoint: Endpoint, client: Client | None) -> None:
        """Removes whoever had this address before `client`."""
        if self._by_endpoint is None:
            at = [one for one in self.by_key.values() if one is not client and one.is_at(endpoint)]
            for former in at:
                self.remove(former)
            return
        known = self._by_endpoint.get(endpoint)
        if known is not None and known is not client:
            self.remove(known)

    def add(self, key: bytes, endpoint: Endpoint, now: float) -> Client | None:
        """Adds a node that answered, or puts it in place of a bad one; None if no room."""
        if not self.has_room(key, endpoint, now):
            return None
        place = bucket_of(self._own, number_of(key))
        bucket = self._buckets.get(place, _EMPTY)
        if len(bucket) >= self._size_of(place):
            self.remove(next(client for client in bucket if client.is_bad(now)))
        bucket = self._buckets.setdefault(place, [])
        client = Client(key)
        client.place(endpoint, now)
        bucket.append(client)
        self.by_key[key] = client
        self._link(endpoint, client)
        self._changes.came(key, endpoint, len(self.by_key))
        if self.far_size < BUCKET_SIZE:
            self._thin_out(place, now)
        return client

    def remove(self, client: Client) -> None:
        """Forgets a node."""
        if self.by_key.get(client.key) is not client:
            return
        del self.by_key[client.key]
        self._dirty.add(client.key)
        place = bucket_of(self._own, client.number)
        bucket = self._buckets[place]
        bucket.remove(client)
        if not bucket:
            del self._buckets[place]
        for association in client.associations():
            self._unlink(association.endpoint, client)
        endpoint = next((each.endpoint for each in client.associations()), None)
        self._changes.went(client.key, endpoint, len(self.by_key))

    def _link(self, endpoint: Endpoint, client: Client) -> None:
        if self._by_endpoint is not None:
            self._by_endpoint[endpoint] = client
        if not is_lan(endpoint):
            self._prefixes[prefix_of(endpoint)] += 1

    def _unlink(self, endpoint: Endpoint, client: Client) -> None:
        if self._by_endpoint is not None and self._by_endpoint.get(endpoint) is client:
            del self._by_endpoint[endpoint]
        if not is_lan(endpoint):
            prefix = prefix_of(endpoint)
            self._prefixes[prefix] -= 1
            if self._prefixes[prefix] <= 0:
                del self._prefixes[prefix]

    def revive(self, now: float) -> None:
        """Makes killed nodes bad again, so that a node that lost all contact keeps trying."""
        for client in self.by_key.values():
            for association in client.associations():
                association.seen = max(association.seen, now - BAD_NODE_S)
