"""Addresses of peers: the form the kernel uses, and the forms the wire uses.

An `Endpoint` is the 16 bytes of Linux's sockaddr_in or the 28 of sockaddr_in6 (flow and scope kept
at zero but for link-local peers), so that a source goes from recvmmsg to sendmmsg untouched.
All other code treats it as opaque and hashable, and asks this module for its parts.
"""

import ipaddress
import struct
from collections.abc import Callable
from typing import NewType, cast

from core.wire import WireError

Endpoint = NewType("Endpoint", bytes)

FAMILY_UDP4 = 2  # spec: Node Info, IP Type
FAMILY_UDP6 = 10
FAMILY_TCP4 = 130
FAMILY_TCP6 = 138
FAMILY_TCP_CLIENT = 11  # c-toxcore net.h: TCP_INET family; only inside our own sendbacks
IP_PORT_SIZE = 19  # c-toxcore onion.h: SIZE_IPPORT, the zero-padded form

_AF_INET = 2  # Linux: bits/socket.h
_HEAD4 = struct.pack("=H", _AF_INET)
_HEAD6 = struct.pack("=H", 10)
_PAD8 = bytes(8)
_ZERO4 = bytes(4)
_MAPPED = bytes(10) + b"\xff\xff"

SOCKADDR4_SIZE = 16
SOCKADDR6_SIZE = 28

# Family, port, address: a sockaddr_in.  Cast, for a NewType costs a call.
_pack4 = cast("Callable[[int, bytes, bytes], Endpoint]", struct.Struct("=H2s4s8x").pack)
_pack_ip_port4 = struct.Struct("B4s12x2s").pack  # family, address, padding, port

_LAN_HEADS = bytes(first in (10, 100, 127, 169, 172, 192) for first in range(256))
"""By the first byte of an IPv4 address: whether any local network begins so."""
_LOOPBACK6 = bytes(15) + b"\x01"


def udp4(address: bytes, port: int) -> Endpoint:
    """Makes an endpoint of 4 address bytes and a port."""
    return Endpoint(_HEAD4 + port.to_bytes(2, "big") + address + _PAD8)


def udp6(address: bytes, port: int) -> Endpoint:
    """Makes an endpoint of 16 address bytes and a port; a v4-mapped address becomes IPv4."""
    if address[:12] == _MAPPED:
        return udp4(address[12:], port)
    return Endpoint(_HEAD6 + port.to_bytes(2, "big") + _ZERO4 + address + _ZERO4)


def from_text(host: str, port: int) -> Endpoint:
    """Makes an endpoint of an address written as text; ValueError if it is none."""
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is not a port number")
    address = ipaddress.ip_address(host)
    return udp4(address.packed, port) if address.version == 4 else udp6(address.packed, port)


def is_ipv4(endpoint: Endpoint) -> bool:
    """Tells IPv4 (True) from IPv6 (False)."""
    return len(endpoint) == SOCKADDR4_SIZE


def ip_of(endpoint: Endpoint) -> bytes:
    """Returns the 4 or 16 address bytes."""
    return endpoint[4:8] if len(endpoint) == SOCKADDR4_SIZE else endpoint[8:24]


def port_of(endpoint: Endpoint) -> int:
    """Returns the port."""
    return endpoint[2] << 8 | endpoint[3]


def with_port(endpoint: Endpoint, port: int) -> Endpoint:
    """Returns the same address with another port."""
    return Endpoint(endpoint[:2] + port.to_bytes(2, "big") + endpoint[4:])


def to_text(endpoint: Endpoint) -> str:
    """Returns `192.0.2.1:33445` or `[2001:db8::1]:33445`."""
    address = ipaddress.ip_address(ip_of(endpoint))
    port = port_of(endpoint)
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def pack_ip_port(endpoint: Endpoint) -> bytes:
    """Returns the 19-byte form of the onion: family, 16 address bytes padded with zeros, port."""
    if len(endpoint) == SOCKADDR4_SIZE:
        return _pack_ip_port4(FAMILY_UDP4, endpoint[4:8], endpoint[2:4])
    return b"\x0a" + endpoint[8:24] + endpoint[2:4]


def unpack_ip_port(packed: bytes) -> Endpoint | None:
    """Returns the endpoint of a 19-byte UDP form, or None for another family."""
    family = packed[0]
    if family == FAMILY_UDP4:
        return _pack4(_AF_INET, packed[17:19], packed[1:5])
    if family == FAMILY_UDP6:
        return udp6(packed[1:17], packed[17] << 8 | packed[18])
    return None


def pack_compact(endpoint: Endpoint) -> bytes:
    """Returns the form without padding (7 or 19 bytes): the head of a packed node."""
    if len(endpoint) == SOCKADDR4_SIZE:
        return b"\x02" + endpoint[4:8] + endpoint[2:4]
    return b"\x0a" + endpoint[8:24] + endpoint[2:4]


def unpack_compact(data: bytes, offset: int = 0) -> tuple[Endpoint, int]:
    """Reads a UDP endpoint without padding; returns it and the offset behind it."""
    family = data[offset] if offset < len(data) else -1
    if family == FAMILY_UDP4 and len(data) >= offset + 7:
        ip, port = data[offset + 1 : offset + 5], data[offset + 5 : offset + 7]
        return Endpoint(_HEAD4 + port + ip + _PAD8), offset + 7
    if family == FAMILY_UDP6 and len(data) >= offset + 19:
        port_number = data[offset + 17] << 8 | data[offset + 18]
        return udp6(data[offset + 1 : offset + 17], port_number), offset + 19
    raise WireError("endpoint", f"no UDP address of family {family} in {len(data) - offset} bytes")


def is_lan(endpoint: Endpoint) -> bool:
    """Tells whether the address belongs to a local network or to this machine.

    The set is c-toxcore's (LAN_discovery.c: ip_is_lan): 127/8, 10/8, 172.16/12, 192.168/16,
    169.254.1-254/16, 100.64/10, ::1, fe80::/10, ff00-ff02::1 and the v4-mapped forms of these.
    """
    if len(endpoint) == SOCKADDR4_SIZE:
        a = endpoint[4]
        if not _LAN_HEADS[a]:
            return False
        b, c = endpoint[5], endpoint[6]
        return (
            a in (10, 127)
            or (a == 172 and 16 <= b <= 31)
            or (a == 192 and b == 168)
            or (a == 169 and b == 254 and c not in (0, 255))
            or (a == 100 and b & 0xC0 == 64)
        )
    ip = endpoint[8:24]
    if ip[0] == 0xFE and ip[1] & 0xC0 == 0x80:
        return True
    if ip[0] == 0xFF and ip[1] < 3 and ip[2:15] == bytes(13) and ip[15] == 1:
        return True
    return ip == _LOOPBACK6


def is_private(endpoint: Endpoint) -> bool:
    """Tells whether nobody beyond a local network can reach the address: as `is_lan`, or unique
    local (fc00::/7, RFC 4193)."""
    return is_lan(endpoint) or (len(endpoint) == SOCKADDR6_SIZE and endpoint[8] & 0xFE == 0xFC)


def prefix_of(endpoint: Endpoint) -> bytes:
    """Returns what budgets per source count by: the /24 of an IPv4 address, the /64 of an IPv6."""
    return endpoint[4:7] if len(endpoint) == SOCKADDR4_SIZE else endpoint[8:16]


def prefix_text(prefix: bytes) -> str:
    """Returns what `prefix_of` returned for people: `192.0.2.0/24` or `2001:db8::/64`."""
    if len(prefix) == 3:
        return f"{prefix[0]}.{prefix[1]}.{prefix[2]}.0/24"
    return f"{ipaddress.IPv6Address(prefix + bytes(8))}/64"
