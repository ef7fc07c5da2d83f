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


# 20-49: onion, announce store, data announcements, forwarding
# 50-69: relay


@message(50)
class RelayDeliver(NamedTuple):
    """A plain relay packet (kind byte first) for one relay connection, told to the broker."""

    serial: int
    frame: bytes
