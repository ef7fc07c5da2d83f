"""The nodes that the identities of one process know together.

Each identity is a node of the DHT with a key of its own, and keeps the nodes near that key. What
goes beyond that it borrows: answers to others, nodes for onion paths and where to begin a search
come from one table of what any of them knows to be good.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Any

from core.crypto import PublicKey
from core.dht.distance import BUCKET_SIZE, KEY_BITS, bucket_of, number_of
from core.dht.lists import FAR_SIZE, NEAR_NODES
from core.dht.snapshot import MAX_SENT_NODES, Answer, NodeSnapshot, choices
from core.endpoint import Endpoint, pack_compact
from core.entropy import Entropy
from core.messages import NodeRow, TableFull
from core.packets.nodes import NodeInfo


class _Shared:
    """A node, and how many identities know it to be good."""

    __slots__ = ("holders", "info", "row")

    def __init__(self, row: NodeRow) -> None:
        self.row = row
        self.holders = 1
        endpoint = row.endpoint6 if row.prefers6 or not row.endpoint4 else row.endpoint4
        self.info = NodeInfo(PublicKey(row.key), Endpoint(endpoint))


class HostTable:
    """Who is here, and the nodes they know; at most as many as all their lists have places.

    The first of them is `wide`: it keeps some far nodes and looks for random keys as a lone node
    must. The others do not: nodes near to thousands of keys are nodes from everywhere.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self.members: dict[bytes, None] = {}
        """DHT keys of the identities, the oldest first."""
        self._rows: dict[bytes, _Shared] = {}
        # As in NodeSnapshot: for requesters outside and inside, all and announcers; by number.
        self._orders: tuple[list[int], ...] = ([], [], [], [])
        self._outside: list[int] = []  # those that are no identities of this process

    def __len__(self) -> int:
        return len(self._rows)

    def join(self, key: bytes) -> "HostedSnapshot":
        """Takes an identity in; returns what is its own of the table."""
        self.members[key] = None
        return HostedSnapshot(key, self)

    def is_wide(self, key: bytes) -> bool:
        """Tells whether this identity is the one that keeps far nodes too."""
        return next(iter(self.members), key) == key

    def hold(self, row: NodeRow, held: bool) -> NodeRow:
        """Takes what an identity knows of a node, which it did already if it is `held`; returns the
        one row of this node."""
        shared = self._rows.get(row.key)
        if shared is None:
            self._rows[row.key] = _Shared(row)
            self._place(row.key, row)
            if row.key not in self.members:
                insort(self._outside, number_of(row.key))
            return row
        shared.holders += not held
        if shared.row != row:
            # That it knows announcements one of them may have learned before the others.
            row_of_all = row._replace(announces=row.announces or shared.row.announces)
            if shared.row != row_of_all:
                holders = shared.holders
                shared = self._rows[row.key] = _Shared(row_of_all)
                shared.holders = holders
                self._place(row.key, row_of_all)
        return shared.row if shared.row == row else row

    def release(self, key: bytes) -> None:
        """An identity does not know a node any more; the last one to say so has it forgotten."""
        shared = self._rows[key]
        shared.holders -= 1
        if shared.holders:
            return
        del self._rows[key]
        self._place(key, None)
        if key not in self.members:
            _set(self._outside, number_of(key), False)

    def _place(self, key: bytes, row: NodeRow | None) -> None:
        """Puts a node where it belongs, or nowhere."""
        number = number_of(key)
        given = (False, False) if row is None else tuple(map(bool, choices(row)))
        announces = row is not None and row.announces
        for place, order in enumerate(self._orders):
            _set(order, number, given[place & 1] and (place < 2 or announces))

    def same(self, key: bytes, endpoint: Endpoint) -> tuple[bytes, Endpoint]:
        """Returns an equal key and address that are kept anyway, if there are such."""
        shared = self._rows.get(key)
        if shared is None:
            return key, endpoint
        known = shared.info.endpoint
        return shared.row.key, known if known == endpoint else endpoint

    def node(self, node: NodeInfo) -> NodeInfo:
        """Returns an equal node that is kept anyway, if there is one."""
        shared = self._rows.get(node.key)
        return shared.info if shared is not None and shared.info == node else node

    def closest(
        self, key: bytes, count: int, to_lan: bool, only_announcers: bool, asked: bytes
    ) -> list[NodeRow]:
        """Returns up to `count` rows, closest to `key` first, without the identity that is asked:
        see NodeSnapshot."""
        target, order = number_of(key), self._orders[to_lan + 2 * only_announcers]
        place, wanted = bisect_left(order, target), count + 1
        # What is nearest shares most bits, and stands around the target's own place: so many
        # there are not all of the nearest, but say how far away these are at most.
        near = sorted(number ^ target for number in order[max(0, place - wanted) : place + wanted])
        below = near[count].bit_length() if len(near) > count else KEY_BITS
        low = target >> below << below
        first = bisect_left(order, low)
        last = bisect_left(order, low + (1 << below), first)
        found = sorted(order[first:last], key=target.__xor__)[:wanted]
        rows = [self._rows[number.to_bytes(32, "big")].row for number in found]
        return [row for row in rows if row.key != asked][:count]

    def path_nodes(self, most: int) -> list[NodeInfo]:
        """Returns up to `most` random nodes; identities of this process only if there are no
        others, for who sees this host's address learns nothing new from them."""
        order = self._outside or self._orders[1]
        count = len(order)
        places = (
            range(count)
            if count <= most
            else {self._entropy.below(count): None for _ in range(most)}
        )
        return [self._rows[order[place].to_bytes(32, "big")].info for place in places]

    def leave(self, snapshot: "HostedSnapshot") -> None:
        """An identity is gone, with what it alone knew."""
        snapshot.clear()
        key = snapshot.own_key
        if self.members.pop(key, 0) is None and key in self._rows:
            insort(self._outside, number_of(key))


def _set(order: list[int], number: int, here: bool) -> None:
    """Has a number stand in an ascending list or not."""
    place = bisect_left(order, number)
    if (order[place : place + 1] == [number]) is not here:
        if here:
            order.insert(place, number)
        else:
            del order[place]


class HostedSnapshot(NodeSnapshot):
    """The good nodes of one identity's lists; questions are answered from the whole table."""

    __slots__ = ("_host",)

    def __init__(self, own_key: bytes, host: HostTable) -> None:
        super().__init__(own_key)
        self._host = host

    def _empty_indexes(self) -> tuple[()]:
        return ()

    def clear(self) -> None:
        """Forgets all."""
        for key in self.rows:
            self._host.release(key)
        self.rows = {}

    def handle_full(self, message: TableFull) -> None:
        """Replaces everything by a full table."""
        if message.own_key == self.own_key:
            self.clear()
        super().handle_full(message)

    def _forget(self, key: bytes) -> None:
        self._host.release(key)

    def _change(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for fields in rows:
            row = NodeRow(*fields)
            row = self._host.hold(row, row.key in self.rows)
            self.rows[row.key] = row

    def closest_packed(self, key: bytes, to_lan: bool, only_announcers: bool = False) -> Answer:
        """Returns how many nodes are known (up to 4) and their packed form, closest first."""
        rows = self.closest(key, MAX_SENT_NODES, to_lan, only_announcers)
        packed = [pack_compact(choices(row)[to_lan]) + row.key for row in rows]
        return len(packed), b"".join(packed)

    def closest(
        self, key: bytes, count: int, to_lan: bool, only_announcers: bool = False
    ) -> list[NodeRow]:
        """Returns up to `count` rows, closest to `key` first."""
        return self._host.closest(key, count, to_lan, only_announcers, self.own_key)

    def has_room(self, key: bytes) -> bool:
        """Guesses whether the identity could use a node with this key."""
        own, number = self._own, number_of(key)
        place, nearer, beside = bucket_of(own, number), 0, 0
        for other in self.rows:
            bucket = bucket_of(own, number_of(other))
            nearer += bucket > place
            beside += bucket == place
        size = BUCKET_SIZE
        if nearer >= NEAR_NODES:
            size = FAR_SIZE if self._host.is_wide(self.own_key) else 0
        return beside < size
