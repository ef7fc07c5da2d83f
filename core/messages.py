"""What modules tell each other, as typed rows that travel between processes unchanged.

A message is a NamedTuple of bytes, numbers, booleans, strings, None and tuples of those. It is
registered under a number that never changes its meaning: a new layout gets a new number, so that
an old and a new worker never misread each other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Message = tuple[Any, ...]
"""Any registered NamedTuple; receivers tell them apart with isinstance."""

MESSAGE_TYPES: dict[int, Callable[..., Message]] = {}
"""From number to constructor."""

MESSAGE_NUMBERS: dict[type, int] = {}
"""From class to number."""

T = TypeVar("T", bound=type)


def message(number: int) -> Callable[[T], T]:
    """Registers a NamedTuple under its number (1..65535)."""

    def register(cls: T) -> T:
        if number in MESSAGE_TYPES:
            raise ValueError(f"message number {number} is taken by {MESSAGE_TYPES[number]}")
        MESSAGE_TYPES[number] = cls
        MESSAGE_NUMBERS[cls] = number
        return cls

    return register


# 1-19: DHT


class NodeRow(NamedTuple):
    """One usable node of dht.0's table, as answers to others need it."""

    key: bytes
    endpoint4: bytes  # Endpoint, or empty: no fresh IPv4 association
    endpoint6: bytes  # Endpoint, or empty
    prefers6: bool  # the IPv6 association is the fresher one
    announces: bool  # the node is known to store announcements (0x94 seen)


@message(1)
class TableFull(NamedTuple):
    """dht.0's whole table of usable nodes; replaces what a shard had."""

    version: int
    own_key: bytes
    rows: tuple[tuple[Any, ...], ...]  # of NodeRow


@message(2)
class TableChange(NamedTuple):
    """What changed in dht.0's table from version-1 to version; a gap makes the shard ask again."""

    version: int
    own_key: bytes
    changed: tuple[tuple[Any, ...], ...]  # of NodeRow, new or altered
    removed: tuple[bytes, ...]  # keys


@message(3)
class TableWanted(NamedTuple):
    """A shard asks dht.0 for a full table."""

    role: str
    shard: int


@message(4)
class Candidate(NamedTuple):
    """A shard saw a node that might belong into the table."""

    key: bytes
    endpoint: bytes


@message(5)
class Bootstrap(NamedTuple):
    """Nodes to begin with whose host names were looked up after dht.0 had started."""

    nodes: tuple[tuple[bytes, bytes], ...]  # Endpoint, DHT public key


# 20-49: onion, announce store, data announcements, forwarding


@message(20)
class AnnounceAsked(NamedTuple):
    """An announce request that one onion shard opened and another has to answer.

    It goes first to the owner of the chat id, if there is a group announce to store, and then to
    the owner of the entry it is about: the requester's own if the ping id was good, else the
    searched key's.
    """

    kind: int  # 0x83 or 0x87
    source: bytes  # Endpoint of the last hop
    onion_return: bytes  # 177 bytes
    shared: bytes  # combined key with the requester
    requester: bytes
    searched: bytes
    data_key: bytes
    sendback: bytes
    proven: bool  # the ping id was one of ours for this requester and source
    chat_id: bytes  # empty: no group announce, or it is stored already
    groups: bytes  # with a chat id the announce to store, without one those to send

    @property
    def subject(self) -> bytes:
        """The key whose owner it is for."""
        return self.chat_id or (self.requester if self.proven else self.searched)

    def __repr__(self) -> str:
        return f"AnnounceAsked(kind={self.kind:#x}, hidden)"  # it carries a key


@message(21)
class DataAsked(NamedTuple):
    """A data announcement request that one onion shard opened and another has to answer."""

    kind: int  # 0x93, 0x95 or 0x97
    source: bytes  # Endpoint of the requester, or of the node that forwarded the request
    sendback: bytes  # of the forwarding node; empty: not forwarded
    shared: bytes  # combined key with the requester
    requester: bytes
    body: bytes  # opened (of a store both boxes), without the ping id; begins with the data key
    ping_id: bytes  # 8 bytes

    @property
    def subject(self) -> bytes:
        """The key whose owner it is for."""
        return self.body[:32]

    def __repr__(self) -> str:
        return f"DataAsked(kind={self.kind:#x}, hidden)"  # it carries a key


@message(22)
class KeysStored(NamedTuple):
    """An onion shard stored announces of these keys, which it had not; once a second without keys.

    Whoever has the shard's filter as it was at `sequence` - 1 adds them; a gap makes it ask for the
    whole filter, and so does another `opened`, and (when there is time) another `built`.
    """

    shard: int
    opened: float  # monotonic seconds; names the incarnation of the shard
    sequence: int  # of this message
    as_of: float  # monotonic seconds: whatever was stored before that was told
    built: int  # how often the filter was made anew, without keys that are gone
    fingerprints: bytes  # 8 bytes a key (core.onion.key_filter)


@message(23)
class StoredFilter(NamedTuple):
    """The whole filter of the keys that an onion shard has announces of."""

    shard: int
    opened: float
    sequence: int  # of the last KeysStored that is in it
    as_of: float
    built: int
    bits: bytes  # 1 KiB to 256 KiB


@message(24)
class FilterWanted(NamedTuple):
    """An onion shard asks another for its StoredFilter."""

    shard: int  # who asks


# 50-59: relay


@message(50)
class RelayDeliver(NamedTuple):
    """A plain relay packet (kind byte first) for one relay connection, told to the broker."""

    serial: int
    frame: bytes


# 60-89: identities (core.identity.messages); a batch of session packets makes them long
IDENTITY_NUMBERS = range(60, 90)
