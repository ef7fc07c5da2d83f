"""How a node to ask is written: `HOST:PORT:PUBLICKEY`, with an IPv6 address in brackets."""

import re
import string
from functools import lru_cache
from typing import NamedTuple

from core import endpoint

KEY_DIGITS = 64  # hexadecimal digits of a 32-byte key
MAX_HOST = 253  # RFC 1035: characters of a host name

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_HEX = frozenset(string.hexdigits)


class BootstrapNode(NamedTuple):
    """A node that is asked first: where it is and which key it has."""

    host: str  # an address or a host name, without brackets
    port: int
    key: bytes  # 32 bytes

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}:{self.key.hex().upper()}"


def _is_host(host: str) -> bool:
    """Tells whether this could be a host name or an IPv4 address."""
    if re.fullmatch(r"[0-9.]+", host):
        try:
            endpoint.from_text(host, 1)
        except ValueError:
            return False
        return True
    labels = host.removesuffix(".").split(".")
    return len(host) <= MAX_HOST and all(_LABEL.fullmatch(label) for label in labels)


@lru_cache(maxsize=256)
def parse(text: str) -> BootstrapNode:
    """Reads `HOST:PORT:PUBLICKEY`. ValueError says what is wrong. (Thousands of identities of a
    process are given the same ones.)"""
    place, colon, key_text = text.strip().rpartition(":")
    if not colon or ":" not in place:
        raise ValueError(
            f"{text!r} is not HOST:PORT:PUBLICKEY, as in node.example.org:33445:F404AB…"
        )
    if len(key_text) != KEY_DIGITS or not set(key_text) <= _HEX:
        host = place.rpartition(":")[0]
        raise ValueError(
            f"the public key of {host!r} must have {KEY_DIGITS} hexadecimal digits, "
            f"not {len(key_text)} characters {key_text[:8]!r}…"
            if len(key_text) > 8
            else f"{text!r} must end in a public key of {KEY_DIGITS} hexadecimal digits"
        )
    host, port = parse_place(place, ":…")
    return BootstrapNode(host, port, bytes.fromhex(key_text))


def parse_place(text: str, behind: str = "") -> tuple[str, int]:
    """Reads `HOST:PORT`; returns the host without brackets. ValueError says what is wrong.

    `behind` is what follows it where it came from, for the message alone.
    """
    place, colon, port_text = text.strip().rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} is not HOST:PORT, as in node.example.org:33445")
    if not (port_text.isascii() and port_text.isdigit() and 1 <= int(port_text[:6]) <= 65535):
        raise ValueError(f"the port of {place!r} must be 1-65535, not {port_text!r}")
    host = place
    if place.startswith("[") and place.endswith("]"):
        host = place[1:-1]
        try:
            endpoint.from_text(host, 1)
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv6 address") from None
    elif ":" in place:
        raise ValueError(f"write an IPv6 address in brackets: [{place}]:{port_text}{behind}")
    elif not _is_host(place):
        raise ValueError(f"{place!r} is neither an address nor a host name")
    return host, int(port_text)
