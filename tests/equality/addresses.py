"""Addresses of all sorts: those a stranger may name, those he may not, and none at all."""

from typing import NamedTuple

from core.endpoint import Endpoint, from_text, pack_ip_port

_GOOD = (
    "8.8.4.4", "203.0.113.7", "198.51.100.77", "1.2.3.4", "223.255.255.254", "128.0.0.1",
    "2001:db8::7", "2600::1", "2a00:1450::99", "64:ff9b::1",
)  # fmt: skip
_PRIVATE = (
    "127.0.0.1", "127.255.0.9", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.1",
    "192.168.0.1", "192.168.255.255", "169.254.1.1", "169.254.254.9", "100.64.0.1",
    "100.127.255.255", "::1", "fe80::1", "febf::9", "fc00::1", "fdff::2", "ff02::1",
)  # fmt: skip
_NEARLY_PRIVATE = (
    "126.255.255.255", "128.1.1.1", "9.255.255.255", "11.0.0.1", "172.15.255.255", "172.32.0.1",
    "192.167.1.1", "192.169.1.1", "169.254.0.1", "169.254.255.1", "169.253.7.7", "100.63.255.255",
    "100.128.0.1", "::2", "fe7f::1", "fec0::1", "fbff::1", "fe00::1", "1:0:0:1::1",
)  # fmt: skip
_FORBIDDEN = (
    "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
    "203.0.113.255", "::", "ff00::1", "ff02::2", "ff03::1", "ffff::1",
)  # fmt: skip
_PORTS = (33445, 1, 80, 255, 256, 65535)


class Address(NamedTuple):
    """The 19 bytes of an onion layer, and the address that is meant, if any is."""

    packed: bytes
    endpoint: Endpoint | None
    name: str


def _plain(texts: tuple[str, ...]) -> list[Address]:
    rows = []
    for number, text in enumerate(texts):
        endpoint = from_text(text, _PORTS[number % len(_PORTS)])
        rows.append(Address(pack_ip_port(endpoint), endpoint, text))
    return rows


def _mapped(row: Address) -> Address:
    """The same IPv4 address, mapped into IPv6."""
    packed = b"\x0a" + bytes(10) + b"\xff\xff" + row.packed[1:5] + row.packed[17:]
    return Address(packed, row.endpoint, f"{row.name} mapped")


def _padded(row: Address) -> Address:
    """The same IPv4 address with something in the padding."""
    return Address(row.packed[:9] + b"\x5a" + row.packed[10:], row.endpoint, f"{row.name} padded")


def _of_family(row: Address, family: int) -> Address:
    return Address(bytes((family,)) + row.packed[1:], None, f"{row.name} of family {family:02x}")


def _portless(row: Address) -> Address:
    return Address(row.packed[:17] + b"\x00\x00", None, f"{row.name} port 0")


def _is_ipv4(row: Address) -> bool:
    return row.packed[0] == 2


GOOD = _plain(_GOOD)
"""Whoever asks may name these."""
LOCAL = _plain(_PRIVATE)
"""Only who comes from such a one may name these; but for ff02::1."""
EDGES = _plain(_NEARLY_PRIVATE)
"""Next to the local ones."""
FORBIDDEN = _plain(_FORBIDDEN)

ODD = [
    *LOCAL,
    *EDGES,
    *FORBIDDEN,
    *(_mapped(row) for row in [*GOOD, *LOCAL, *FORBIDDEN] if _is_ipv4(row)),
    *(_padded(row) for row in [*GOOD, *LOCAL] if _is_ipv4(row)),
    *(_portless(row) for row in [*GOOD, *LOCAL[:2], *FORBIDDEN[:2]]),
    *(
        _of_family(row, family)
        for row in (GOOD[0], GOOD[6])
        for family in (0x82, 0x8A, 0x0B, 0x00, 0x01, 0x0C, 0x0D, 0xFF)
    ),
]
"""What layers should not name, or name otherwise than we would."""

SOURCES = [
    row.endpoint
    for row in [*GOOD, *LOCAL[:-1], *EDGES[:8]]
    if row.endpoint is not None
] + [
    from_text("203.0.113.7", 7),  # a port next door
    Endpoint(from_text("fe80::2", 9)[:-4] + b"\x03\x00\x00\x00"),  # link local, with its scope
]
"""Where packets come from."""
