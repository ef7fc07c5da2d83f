"""The copy of dht.0's table that every shard answers from, in an order that spares the scan."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from core.dht.distance import (
    BUCKET_SIZE,
    KEY_BITS,
    LAST_BUCKET,
    bucket_of,
    number_of,
)
from core.endpoint import Endpoint, is_lan, pack_compact
from core.messages import NodeRow, TableChange, TableFull

MAX_SENT_NODES = 4  # c-toxcore DHT.h: MAX_SENT_NODES


MOST_ANSWERS = 4096
"""Answers kept in an index, forgotten all at once when there are more: 1.4 MB."""

_NONE: list[int] = []
"""What stands for every bucket without keys, of every index: never changed."""

_NO_HEADS = bytes(256)
_NOWHERE = [Endpoint(b"")]

Answer = tuple[int, bytes]
"""How many nodes, and their packed form, closest first."""


def choices(row: NodeRow) -> tuple[Endpoint, Endpoint]:
    """Returns the address that requesters outside are given, and that of local ones; empty: none.

    The fresher family first, as c-toxcore's get_close_nodes. Where that one is a local address and
    the requester is not local, the other is given if fresh (c-toxcore: none).
    """
    pair = (row.endpoint6, row.endpoint4) if row.prefers6 else (row.endpoint4, row.endpoint6)
    fresh = [Endpoint(endpoint) for endpoint in pair if endpoint]
    public = [endpoint for endpoint in fresh if not is_lan(endpoint)]
    return (public or _NOWHERE)[0], (fresh or _NOWHERE)[0]


class KeyIndex:
    """Keys in k-buckets around our own key, from which the closest to any key are read in order.

    Let d be the distance between our key and the searched one. Every key of bucket i is nearer to
    the searched key than all keys of deeper buckets where bit i of d is set, and farther where it
    is not. So the buckets of the set bits come first, from the top down, then the others from the
    bottom up, and only those that are needed are sorted: usually one of at most eight keys.

    The order of keys by distance depends on the target's bits at those positions alone where two
    keys part. So all targets that begin with the same bits, as far down as the keys in question
    part, have the same answer, which is kept until the index changes: a bucket of eight has some 64
    different ones. (Keys that part very late, as somebody may make them, have more than are kept;
    that costs time, and no memory.)
    """

    __slots__ = (
        "_answers",
        "_buckets",
        "_count",
        "_filled",
        "_own",
        "packed",
    )

    def __init__(self, own: int) -> None:
        self._own = own
        self._buckets: dict[int, list[int]] = {}  # those that are not empty
        self._filled: list[int] = []  # numbers of the buckets that are not empty, ascending
        self.packed: dict[int, bytes] = {}
        """The packed node of each key, as it stands in answers."""
        # By the number of the first bit in which a target differs from our key (256: in none): how
        # many of its last bits do not matter, and the answers by the bits that do.
        self._answers: dict[int, tuple[int, dict[int, Answer]]] = {}
        self._count = 0  # of answers

    def put(self, number: int, packed: bytes) -> None:
        """Adds a key, or gives one that is there another packed node."""
        known = self.packed.get(number)
        if known == packed:
            return
        if known is None:
            bucket = bucket_of(self._own, number)
            if bucket not in self._buckets:
                self._filled = sorted([*self._filled, bucket])
                self._buckets[bucket] = []
            self._buckets[bucket].append(number)
        self.packed[number] = packed
        self._forget_answers()

    def remove(self, number: int) -> None:
        """Forgets a key; nothing happens if it is not here."""
        if self.packed.pop(number, None) is None:
            return
        bucket = bucket_of(self._own, number)
        self._buckets[bucket].remove(number)
        if not self._buckets[bucket]:
            self._filled.remove(bucket)
            del self._buckets[bucket]
        self._forget_answers()

    def answer(self, target: int) -> Answer:
        """Returns the up to four nodes closest to `target`, packed."""
        first = KEY_BITS - (self._own ^ target).bit_length()
        kept = self._answers.get(first)
        if kept is not None:
            found = kept[1].get(target >> kept[0])
            if found is not None:
                return found
        return self._new_answer(target, first)

    def _new_answer(self, target: int, first: int) -> Answer:
        near = self.closest(target, MAX_SENT_NODES)
        answer = len(near), b"".join([self.packed[number] for number in near])
        if self._count >= MOST_ANSWERS:
            self._forget_answers()
        kept = self._answers.get(first)
        if kept is None:
            kept = self._answers[first] = (KEY_BITS - self._depth(first), {})
        kept[1][target >> kept[0]] = answer
        self._count += 1
        return answer

    def _forget_answers(self) -> None:
        self._answers.clear()
        self._count = 0

    def _depth(self, first: int) -> int:
        """Returns how many leading bits of a target decide on its answer, if it differs from our
        key first in bit `first`: at least up to where any two keys part that may stand in it."""
        bucket = min(first, LAST_BUCKET)
        concerned = [bucket]
        count = len(self._buckets.get(bucket, _NONE))
        if count < MAX_SENT_NODES:
            deeper = [other for other in self._filled if other > bucket]
            if deeper:  # in which order they come depends on the bits of their numbers
                concerned += deeper
                count += sum(len(self._buckets[other]) for other in deeper)
            for other in reversed(self._filled):
                if other < bucket and count < MAX_SENT_NODES:
                    concerned.append(other)
                    count += len(self._buckets[other])
        depth = max(concerned) + 1
        for other in concerned:
            keys = sorted(self._buckets.get(other, _NONE))
            for low, high in pairwise(keys):
                depth = max(depth, KEY_BITS - (low ^ high).bit_length() + 1)
        return depth

    def closest(self, target: int, count: int) -> list[int]:
        """Returns up to `count` keys, the closest to `target` first."""
        first = KEY_BITS - (self._own ^ target).bit_length()
        bucket = self._buckets.get(first if first < LAST_BUCKET else LAST_BUCKET, _NONE)
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

    def full_heads(self) -> bytes:
        """Returns for each first byte of a key whether it alone tells that its bucket is full."""
        own = self._own >> KEY_BITS - 8
        heads = bytearray(256)
        for bucket in range(8):
            if len(self._buckets.get(bucket, _NONE)) >= BUCKET_SIZE:
                below = 7 - bucket  # bits of the byte that do not matter
                start = (own >> below ^ 1) << below
                heads[start : start + (1 << below)] = b"\x01" * (1 << below)
        return bytes(heads) if any(heads) else _NO_HEADS

    def in_bucket_of(self, number: int) -> int:
        """Returns how many keys share a key's bucket."""
        return len(self._buckets.get(bucket_of(self._own, number), _NONE))

    def __len__(self) -> int:
        return len(self.packed)


class NodeSnapshot:
    """The usable nodes of dht.0's table on any shard, kept by TableFull and TableChange messages.

    Used by the dht shards for nodes responses and by the onion module for announce and data search
    answers. Addresses of local networks are given to requesters on local networks alone.
    """

    __slots__ = ("_full_heads", "_indexes", "_own", "own_key", "rows", "version")

    def __init__(self, own_key: bytes) -> None:
        self.own_key = own_key
        self._own = number_of(own_key)
        self.version: int | None = None
        """Version of the table this is a copy of; None before the first TableFull."""
        self.rows: dict[bytes, NodeRow] = {}
        self._indexes = self._empty_indexes()
        self._full_heads = _NO_HEADS

    def _empty_indexes(self) -> tuple[KeyIndex, ...]:
        return tuple(KeyIndex(self._own) for _ in range(4))

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
                self._forget(key)
        self._change(message.changed)
        return True

    def _forget(self, key: bytes) -> None:
        number = number_of(key)
        for index in self._indexes:
            index.remove(number)

    def _change(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for fields in rows:
            row = NodeRow(*fields)
            self.rows[row.key] = row
            self._place(row)
        self._full_heads = self._indexes[1].full_heads()

    def _place(self, row: NodeRow) -> None:
        """Puts a row into the indexes: for requesters outside and inside, all and announcers."""
        number = number_of(row.key)
        for offset, choice in enumerate(choices(row)):
            for index, wanted in (
                (self._indexes[offset], True),
                (self._indexes[offset + 2], row.announces),
            ):
                if choice and wanted:
                    index.put(number, pack_compact(choice) + row.key)
                else:
                    index.remove(number)

    def closest_packed(self, key: bytes, to_lan: bool, only_announcers: bool = False) -> Answer:
        """Returns how many nodes are known (up to 4) and their packed form, closest first.

        `to_lan` says that the requester's own address is a local one; `only_announcers` leaves out
        nodes that are not known to store announcements.
        """
        index = self._indexes[to_lan + 2 if only_announcers else to_lan]
        return index.answer(int.from_bytes(key, "big"))

    def closest(
        self, key: bytes, count: int, to_lan: bool, only_announcers: bool = False
    ) -> list[NodeRow]:
        """Returns up to `count` rows, closest to `key` first, by the rules of closest_packed."""
        index = self._indexes[to_lan + 2 * only_announcers]
        near = index.closest(number_of(key), count)
        return [self.rows[number.to_bytes(32, "big")] for number in near]

    def has_room(self, key: bytes) -> bool:
        """Guesses whether dht.0 could use a node with this key: its bucket shows a free place."""
        if self._full_heads[key[0]]:
            return False
        return self._indexes[1].in_bucket_of(number_of(key)) < BUCKET_SIZE

    def full(self) -> TableFull | None:
        """Returns the copy as a message, for a dht.0 that was restarted; None if it is empty."""
        if not self.rows:
            return None
        return TableFull(self.version or 0, self.own_key, tuple(self.rows.values()))
