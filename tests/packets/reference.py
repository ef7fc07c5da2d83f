"""Writes docs/packets.md from the packet table: `python -m tests.packets.reference`."""

import inspect
from pathlib import Path

from core.packets import ALL, FAMILIES
from core.wire import Packet, Record, Variable

PAGE = Path(__file__).resolve().parents[2] / "docs" / "packets.md"

_TOP = """# Packets

Every packet toxmesh reads or writes, as declared in `core/packets`. This page is made from those
declarations by `python -m tests.packets.reference`; a test fails when it is out of date.

Sizes are in bytes and count everything, numbers are big endian, and *at* is the place of a field
where it is always the same. A box is 16 bytes larger than the body inside it. A *padded address*
has 19 bytes (family 2 or 10, 16 address bytes, port), an *address* 7 or 19, and a packed node is an
address and a 32-byte key. Families 130 and 138 are TCP.
"""


def page() -> str:
    """Returns the whole page."""
    return "\n".join([_TOP, *_index(), *(line for family in FAMILIES for line in _family(family))])


def _index() -> list[str]:
    lines = ["## First byte of a datagram", ""]
    lines += ["| byte | packet | size | goes to |", "|---|---|---|---|"]
    packets = [cls for cls in ALL if issubclass(cls, Packet)]
    packets.sort(key=lambda cls: (cls.kind, cls.__name__))
    lines += [
        f"| {cls.kind:02x} | {cls.__name__} | {_size(cls)} | {_route(cls)} |" for cls in packets
    ]
    return [*lines, ""]


def _route(cls: type[Packet]) -> str:
    if not cls.role:
        return "nobody yet: we only send it"
    if cls.role in ("broker", "net_crypto", "messenger"):
        return cls.role
    if cls.slot_byte is None:
        return f"{cls.role}, shard 0"
    return f"{cls.role}, by byte {cls.slot_byte}"


def _size(cls: type[Record]) -> str:
    return str(cls.MIN_SIZE) if cls.MIN_SIZE == cls.MAX_SIZE else f"{cls.MIN_SIZE}-{cls.MAX_SIZE}"


def _family(family: object) -> list[str]:
    assert inspect.ismodule(family)
    lines = [f"## {family.__name__.rpartition('.')[2]}", "", inspect.getdoc(family) or "", ""]
    for cls in ALL:
        if cls.__module__ == family.__name__:
            lines += _packet(cls)
    return lines


def _packet(cls: type[Record]) -> list[str]:
    kind = "" if cls.kind is None else f" ({cls.kind:02x})"
    lines = [f"### {cls.__name__}{kind}", "", " ".join((inspect.getdoc(cls) or "").split()), ""]
    lines += ["| at | field | layout |", "|---|---|---|"]
    place: int | None = 0
    if cls.kind is not None:
        lines.append(f"| 0 | | u8 = 0x{cls.kind:02x} |")
        place = 1
    for field in cls.FIELDS:
        shown = "" if place is None else str(place)
        lines.append(f"| {shown} | {field.name} | {field.text} |")
        moving = isinstance(field.rule, Variable) and field.rule.low != field.rule.high
        place = None if place is None or moving else place + field.rule.low
    return [*lines, "", f"{_size(cls)} bytes.", ""]


if __name__ == "__main__":
    PAGE.write_text(page())
