"""The copy of dht.0's table that every shard answers from, in an order that spares the scan."""

from collections.abc import Iterable
from typing import Any

from core.dht.distance import (
    BUCKET_COUNT,
    BUCKET_SIZE,
    KEY_BITS,
    LAST_BUCKET,
    bucket_of,
    number_of,
)
from core.endpoint import Endpoint, is_lan, pack_compact
from core.messages import NodeRow, TableChange, TableFull

MAX_SENT_NODES = 4  # c-toxcore DHT.h: MAX_SENT_NODES


class KeyIndex:
    """Keys in k-buckets around our own key, from which the closest to any key are read in order.

    Let d be the distance between our key and the searched one. Every key of bucket i is nearer to
    the searched key than all keys of deeper buckets where bit i of d is set, and farther where it
    is not. So the buckets of the set bits come first, from the top down, then the others from the
    bottom up, and only those that are needed are sorted: usually one of at most eight keys.
    """

    __slots__ = ("_buckets", "_filled", "_own", "packed")

    def __init__(self, own: int) -> None:
        self._own = own
        self._buckets: list[list[int]] = [[] for _ in range(BUCKET_COUNT)]
        self._filled: list[int] = []  # numbers of the buckets that are not empty, ascending
        self.packed: dict[int, bytes] = {}
        """The packed node of each key, as it stands in answers."""

    def put(self, number: int, packed: bytes) -> None:
        """Adds a key, or gives one that is there another packed node."""
        if number not in self.packed:
            bucket = bucket_of(self._own, number)
            if not self._buckets[bucket]:
                self._filled = sorted([*self._filled, bucket])
            self._buckets[bucket].append(number)
        self.packed[number] = packed

    def remove(self, number: int) -> None:
        """Forgets a key; nothing happens if it is not here."""
        if self.packed.pop(number, None) is None:
            return
        bucket = bucket_of(self._own, number)
        self._buckets[bucket].remove(number)
        if not self._buckets[bucket]:
            self._filled.remove(bucket)

    def closest(self, target: int, count: int) -> list[int]:
        """Returns up to `count` keys, the closest to `target` first."""
        first = KEY_BITS - (self._own ^ target).bit_length()
        bucket = self._buckets[first if first < LAST_BUCKET else LAST_BUCKET]
        if len(bucket) >= count:
            return sorted(bucket, key=target.__xor__)[:count]
        return self._closest_of_many(target, count)

    def _closest_of_many(self, target: int, count: int) -> list[int]:
        distance = self._own ^ target
        nearer: list[int] = []
        farther: list[int] = []
        for bucket in self._filled:
            if bucket == LAST_BUCKET or distance >> (KEY_BITS - 1 - bucket) & 1:
                nearer.append(bucket)
            else:
                farther.append(bucket)
        found: list[int] = []
        for bucket in nearer + farther[::-1]:
            found += sorted(self._buckets[bucket], key=target.__xor__)[: count - len(found)]
            if len(found) >= count:
                break
        return found

    def in_bucket_of(self, number: int) -> int:
        """Returns how many keys share a key's bucket."""
        return len(self._buckets[bucket_of(self._own, number)])

    def __len__(self) -> int:
        return len(self.packed)


class NodeSnapshot:
    """The usable nodes of dht.0's table on any shard, kept by TableFull and TableChange messages.

    Used by the dht shards for nodes responses and by the onion module for announce and data search
    answers. Addresses of local networks are given to requesters on local networks alone.
    """

    __slots__ = ("_indexes", "_own", "own_key", "rows", "version")

    def __init__(self, own_key: bytes) -> None:
        self.own_key = own_key
        self._own = number_of(own_key)
        self.version: int | None = None
        """Version of the table this is a copy of; None before the first TableFull."""
        self.rows: dict[bytes, NodeRow] = {}
        self._indexes = self._empty_indexes()

    def _empty_indexes(self) -> tuple[KeyIndex, KeyIndex, KeyIndex, KeyIndex]:
        own = self._own
        return KeyIndex(own), KeyIndex(own), KeyIndex(own), KeyIndex(own)

    def handle_full(self, message: TableFull) -> None:
        """Replaces everything by a full table; a table of another identity is ignored."""
        if message.own_key != self.own_key:
            return
        self.rows = {}
        self._indexes = self._empty_indexes()
        self.version = message.version
        self._change(message.rows)

    def handle_change(self, message: TableChange) -> bool:
        """Applies a change; False means that one was missed and TableWanted should be told."""
        if message.own_key != self.own_key:
            return True
        if self.version is None or message.version != self.version + 1:
            return False
        self.version = message.version
        for key in message.removed:
            if self.rows.pop(key, None) is not None:
                number = number_of(key)
                for index in self._indexes:
                    index.remove(number)
        self._change(message.changed)
        return True

    def _change(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for fields in rows:
            row = NodeRow(*fields)
            self.rows[row.key] = row
            self._place(row)

    def _place(self, row: NodeRow) -> None:
        """Puts a row into the indexes: for requesters outside and inside, all and announcers."""
        number = number_of(row.key)
        # The fresher family first, as c-toxcore's get_close_nodes. Where that one is a local
        # address and the requester is not local, the other is given if fresh (c-toxcore: none).
        pair = (row.endpoint6, row.endpoint4) if row.prefers6 else (row.endpoint4, row.endpoint6)
        fresh = [Endpoint(endpoint) for endpoint in pair if endpoint]
        public = [endpoint for endpoint in fresh if not is_lan(endpoint)]
        for offset, choice in ((0, public), (1, fresh)):
            for index, wanted in (
                (self._indexes[offset], True),
                (self._indexes[offset + 2], row.announces),
            ):
                if choice and wanted:
                    index.put(number, pack_compact(choice[0]) + row.key)
                else:
                    index.remove(number)

    def closest_packed(
        self, key: bytes, to_lan: bool, only_announcers: bool = False, count: int = MAX_SENT_NODES
    ) -> tuple[int, bytes]:
        """Returns how many nodes are known (up to `count`) and their packed form, closest first.

        `to_lan` says that the requester's own address is a local one; `only_announcers` leaves out
        nodes that are not known to store announcements.
        """
        index = self._indexes[to_lan + 2 * only_announcers]
        near = index.closest(int.from_bytes(key, "big"), count)
        packed = index.packed
        return len(near), b"".join([packed[number] for number in near])

    def closest(
        self, key: bytes, count: int, to_lan: bool, only_announcers: bool = False
    ) -> list[NodeRow]:
        """Returns up to `count` rows, closest to `key` first, by the rules of closest_packed."""
        index = self._indexes[to_lan + 2 * only_announcers]
        near = index.closest(number_of(key), count)
        return [self.rows[number.to_bytes(32, "big")] for number in near]

    def has_room(self, key: bytes) -> bool:
        """Guesses whether dht.0 could use a node with this key: its bucket shows a free place."""
        return self._indexes[1].in_bucket_of(number_of(key)) < BUCKET_SIZE

    def full(self) -> TableFull | None:
        """Returns the copy as a message, for a dht.0 that was restarted; None if it is empty."""
        if not self.rows:
            return None
        return TableFull(self.version or 0, self.own_key, tuple(self.rows.values()))
