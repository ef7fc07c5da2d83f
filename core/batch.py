"""Many datagrams or messages in one frame between processes: the only user of msgpack.

A frame is a msgpack array `[VERSION, kind, generation, sequence, socket, items]`.
`generation` names the incarnation of the sender, `sequence` counts its frames to this receiver,
`socket` is the index of the UDP socket the datagrams came to (0 for other kinds).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgpack

from core.messages import MESSAGE_NUMBERS, MESSAGE_TYPES, Message
from core.wire import WireError

VERSION = 1
MAX_FRAME = 4 << 20  # bytes; ZeroMQ's MAXMSGSIZE is set to it as well

DATAGRAMS = 1  # items: address, payload, address, payload, ...
MESSAGES = 2  # items: [number, fields], ...
# other kinds: 3-9 links (acknowledge, stop), 10-19 relay

# Its types are not known to the checker: named here, once.
_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Frame(NamedTuple):
    """One decoded frame."""

    kind: int
    generation: int
    sequence: int
    socket: int
    items: tuple[Any, ...]  # lists inside are tuples too


def encode(
    kind: int, generation: int, sequence: int, socket: int, items: Sequence[Any]
) -> bytes:
    """Returns the bytes of one frame; `items` may hold bytes, memoryviews, numbers and lists."""
    return _pack((VERSION, kind, generation, sequence, socket, items))


def decode(data: bytes) -> Frame:
    """Reads one frame. Raises WireError for anything else."""
    try:
        parts = msgpack.unpackb(data, raw=False, use_list=False)
        version, kind, generation, sequence, socket, items = parts
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise WireError("frame", f"not a frame of six parts: {type(error).__name__}") from None
    if version != VERSION:
        raise WireError("frame", f"version {version} is not {VERSION}")
    if not isinstance(items, tuple):
        raise WireError("frame", "items are not a list")
    return Frame(kind, generation, sequence, socket, items)


def rows(messages: list[Message]) -> list[Any]:
    """Turns messages into the items of a MESSAGES frame."""
    return [(MESSAGE_NUMBERS[type(row)], tuple(row)) for row in messages]


def messages(items: Sequence[Any]) -> list[Message]:
    """Reads the items of a MESSAGES frame. Raises WireError for an unknown or misshapen one."""
    result: list[Message] = []
    for item in items:
        try:
            number, fields = item
            result.append(MESSAGE_TYPES[number](*fields))
        except (KeyError, TypeError, ValueError):
            raise WireError("message", f"{str(item)[:40]} is not a known message") from None
    return result
