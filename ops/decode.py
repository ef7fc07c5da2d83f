"""What a datagram or a relay packet says, field by field, by the classes in `core.packets`.

The classes decide what is a packet. The walk here goes through the same fields again, to know where
each stands, and on which byte a reading fails. Boxes stay closed: no secret key is ever asked for.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from core import endpoint
from core.packets import ALL, UDP_PACKETS, NodeInfo
from core.packets.nodes import Compact, Padded
from core.packets.relay import FIRST_LINK, RELAY_PACKETS, RelayData
from core.wire import Field, Fixed, Maybe, Number, Record, Variable, WireError

AUTO, UDP, RELAY = "auto", "udp", "relay"
CLASSES: dict[str, type[Record]] = {cls.__name__: cls for cls in ALL}
"""Every declared layout by its name, what is inside boxes too."""

MAX_INNER = 3  # packets inside packets that are followed: an onion response around a forwarding
_SEALED = frozenset({"sealed", "onion_return", "cookie"})
"""Fields that only a holder of some key can read; a sendback may be anything."""
_TEXT = frozenset({"motd", "message"})
_INNER = {
    "OnionResponse1": "payload", "OnionResponse2": "payload", "OnionResponse3": "payload",
    "ForwardRequest": "data", "Forwarding": "data", "ForwardReply": "data",
    "RelayOnionResponse": "data", "RelayForwardRequest": "data", "RelayForwarding": "data",
}  # fmt: skip
"""Fields that carry another packet in the clear."""


class NoPacket(Exception):
    """These bytes are no packet: as which layout they were read, why not, and at which byte."""

    def __init__(self, layout: str, reason: str, at: int) -> None:
        super().__init__(f"{layout}: {reason} (byte {at})")
        self.layout = layout
        self.reason = reason
        self.at = at


class Part(NamedTuple):
    """One field: where it stands and what it holds."""

    name: str
    at: int  # byte of the packet
    size: int
    value: Any  # plain: a number, a text, bytes in hexadecimal, an address, a list of these
    sealed: bool = False
    holds: str = ""
    """The layout inside the box, if one is declared."""
    inner: "Decoded | None" = None
    """The packet that the field is."""
    meaning: str = ""
    """What a constant or a count is for, or text that bytes are."""


class Decoded(NamedTuple):
    """A packet that was read."""

    transport: str  # udp, relay or record
    layout: str  # name of its class
    kind: int | None  # its first byte
    size: int
    about: str  # one sentence
    parts: tuple[Part, ...]

    def plain(self) -> dict[str, Any]:
        """Returns what JSON takes."""
        return {
            "transport": self.transport,
            "packet": self.layout,
            "kind": None if self.kind is None else f"0x{self.kind:02x}",
            "size": self.size,
            "fields": [_plain_part(part) for part in self.parts],
        }


def _plain_part(part: Part) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": part.name,
        "at": part.at,
        "size": part.size,
        "value": part.value,
        "sealed": part.sealed,
    }
    if part.holds:
        row["holds"] = part.holds
    if part.inner is not None:
        row["inner"] = part.inner.plain()
    return row


def decode(data: bytes, how: str = AUTO) -> Decoded:
    """Reads a packet as `udp`, `relay` (the plain text of a frame), a layout's name, or by itself.

    By itself means UDP first, and then a relay packet with a kind of its own. Data on a relay's
    link, which begins with any byte from 0x10, is read where `relay` is said alone. Raises
    NoPacket, and ValueError for a layout that there is none of.
    """
    return _decode(data, how, 0)


def _decode(data: bytes, how: str, depth: int) -> Decoded:
    if how not in (AUTO, UDP, RELAY):
        cls = CLASSES.get(how)
        if cls is None:
            raise ValueError(f"{how!r} is neither udp, relay nor a layout of docs/packets.md")
        return _read(cls, "record", data, depth)
    kind = data[0] if data else -1
    named = (RELAY_PACKETS[kind],) if kind in RELAY_PACKETS else ()
    if how == RELAY:
        return _first_of((RelayData,) if kind >= FIRST_LINK else named, RELAY, data, depth)
    try:
        return _first_of(UDP_PACKETS.get(kind, ()), UDP, data, depth)
    except NoPacket:
        if how == UDP or not named:
            raise
        try:
            return _first_of(named, RELAY, data, depth)
        except NoPacket:
            if kind not in UDP_PACKETS:
                raise
        raise  # as the datagram it would be, for that is what most bytes are taken from


def _first_of(
    classes: tuple[type[Record], ...], transport: str, data: bytes, depth: int
) -> Decoded:
    """Reads the first of the classes that fits; raises what came farthest."""
    if not data:
        raise NoPacket(f"{transport} packet", "has no byte", 0)
    errors = []
    for cls in classes:
        try:
            return _read(cls, transport, data, depth)
        except NoPacket as error:
            errors.append(error)
    if not errors:
        raise NoPacket(f"{transport} packet", f"no packet begins with 0x{data[0]:02x}", 0)
    raise max(errors, key=lambda error: error.at)


def _read(cls: type[Record], transport: str, data: bytes, depth: int) -> Decoded:
    try:
        record = cls.decode(data)
    except WireError as error:
        raise _place(cls, data, error) from None
    parts = tuple(_parts(cls, record, data, depth))
    about = (cls.__doc__ or "").strip().partition(".")[0].replace("\n", " ")
    return Decoded(transport, cls.__name__, cls.kind, len(data), " ".join(about.split()), parts)


def _place(cls: type[Record], data: bytes, error: WireError) -> NoPacket:
    """Finds the byte at which the reading of `cls` fails."""
    if cls.kind is not None and data[:1] != bytes([cls.kind]):
        return NoPacket(cls.__name__, error.rule, 0)
    for field, at, value in _walk(cls, data):
        if isinstance(value, WireError):
            return NoPacket(cls.__name__, f"{field.name}: {value.rule}", at)
    # all fields were read, so that too much follows, or the limit of the whole is exceeded
    return NoPacket(cls.__name__, error.rule, min(len(data), cls.MAX_SIZE))


def _walk(cls: type[Record], data: bytes) -> Iterator[tuple[Field, int, Any]]:
    """Yields each field, the byte at which it begins and its value, or a WireError as the last."""
    at, end = (0 if cls.kind is None else 1), len(data)
    counts: dict[str, int] = {}
    for index, field in enumerate(cls.FIELDS):
        rule = field.rule
        try:
            if isinstance(rule, Variable):
                behind = sum(later.rule.low for later in cls.FIELDS[index + 1 :])
                stop = end - behind if rule.greedy else end
                if stop < at:
                    raise WireError(cls.__name__, f"{end - at} bytes are left of {behind}")
                value, after = rule.read(data, at, stop, counts.get(field.name))
            else:
                value, after = _fixed(field, rule, data, at), at + rule.low
        except WireError as error:
            yield field, at, error
            return
        if field.counts:
            counts[field.counts] = value
        yield field, at, value
        at = after
    if at != end and cls.FIELDS:
        last = cls.FIELDS[-1]
        yield last, at, WireError(cls.__name__, f"{end - at} bytes too many behind it")


def _fixed(field: Field, rule: Fixed | Number, data: bytes, at: int) -> Any:
    raw = data[at : at + rule.low]
    if len(raw) < rule.low:
        raise WireError(field.name, f"{len(raw)} bytes are left of {rule.low}")
    if isinstance(rule, Fixed):
        return raw
    number = int.from_bytes(raw, "big")
    if field.value is not None and number != field.value:
        raise WireError(field.name, f"{number} is not {field.value}")
    if not rule.allows(number):
        raise WireError(field.name, f"{number} is not {rule.text}")
    return number


def _parts(cls: type[Record], record: Record, data: bytes, depth: int) -> Iterator[Part]:
    rows = list(_walk(cls, data))
    ends = [at for _, at, _ in rows[1:]] + [len(data)] * bool(rows)  # some are a kind alone
    for (field, at, value), end in zip(rows, ends, strict=True):
        inner, meaning = None, ""
        if _INNER.get(cls.__name__) == field.name and depth < MAX_INNER:
            try:
                inner = _decode(value, UDP, depth + 1)
            except NoPacket:
                meaning = "no packet that is known"
        if field.value is not None:
            meaning = "always"
        elif field.counts:
            meaning = f"count of {field.counts}"
        elif field.name in _TEXT and isinstance(value, bytes):
            meaning = repr(value.rstrip(b"\0").decode("utf-8", "replace"))
        yield Part(
            field.name, at, end - at, _plain(value, field.rule), field.name in _SEALED,
            field.body.__name__ if field.body else "", inner, meaning,
        )  # fmt: skip


def _plain(value: Any, rule: Any) -> Any:
    """Returns a field's value as JSON has it."""
    if isinstance(rule, Maybe):
        rule = rule.inner
    if value is None:
        return None
    if isinstance(rule, Compact | Padded):
        return endpoint.to_text(value)
    if isinstance(value, NodeInfo):
        where = endpoint.to_text(value.endpoint)
        return {"key": value.key.hex().upper(), "address": where, "tcp": value.tcp}
    if isinstance(value, Record):
        return {
            field.name: _plain(getattr(value, field.name), field.rule)
            for field in value.FIELDS
            if field.value is None and not field.counts
        }
    if isinstance(value, tuple):
        return [_plain(one, None) for one in value]
    return value.hex().upper() if isinstance(value, bytes) else value


def lines(decoded: Decoded, indent: str = "") -> list[str]:
    """Returns what a person sees of a packet."""
    kind = "" if decoded.kind is None else f" (0x{decoded.kind:02x})"
    transport = {UDP: "UDP", RELAY: "relay"}.get(decoded.transport, "inside a box")
    found = [
        f"{indent}{decoded.layout}{kind}, {decoded.size:,} bytes, {transport}: {decoded.about}"
    ]
    wide = max((len(part.name) for part in decoded.parts), default=0)
    for part in decoded.parts:
        head = f"{indent}  {part.at:>4} {part.size:>5}  {part.name:<{wide}}  "
        found += [(head if i == 0 else " " * len(head)) + row for i, row in enumerate(_said(part))]
        if part.inner is not None:
            found += lines(part.inner, indent + "      ")
    return found


def _said(part: Part) -> list[str]:
    """Returns a field's value in words, a line for each part of a list."""
    if part.inner is not None:
        return ["is another packet:"]
    if part.sealed:
        inside = f"{part.holds}, " if part.holds else ""
        return [f"sealed: {inside}{part.size} bytes"]
    value = part.value
    if isinstance(value, list):
        return [_flat(one) for one in value] or ["none"]
    said = "none" if value is None else _flat(value) if isinstance(value, dict) else str(value)
    said = said or "empty"
    return [f"{said}  {part.meaning}" if part.meaning else said]


def _flat(value: Any) -> str:
    """Returns a small table on one line."""
    if not isinstance(value, dict):
        return str(value)
    if set(value) == {"key", "address", "tcp"}:
        return f"{value['key']} {value['address']}{' TCP' if value['tcp'] else ''}"
    shown = (
        f"{name} {_flat(part) if not isinstance(part, list) else ', '.join(map(_flat, part))}"
        for name, part in value.items()
        if part not in (None, [])
    )
    return "; ".join(shown)
