"""Nodes to begin with: how one is written, the shipped list, host names looked up."""

import re
import socket
import string
import threading
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

from core import endpoint
from core.endpoint import Endpoint

KEY_DIGITS = 64  # hexadecimal digits of a 32-byte key
MAX_HOST = 253  # RFC 1035: characters of a host name
SHIPPED_FILE = "bootstrap_nodes.txt"

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_HEX = frozenset(string.hexdigits)


class BootstrapNode(NamedTuple):
    """A node that a new node asks first: where it is and which key it has."""

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


def parse(text: str) -> BootstrapNode:
    """Reads `HOST:PORT:PUBLICKEY`, an IPv6 address in brackets. ValueError says what is wrong."""
    try:
        place, port_text, key_text = text.strip().rsplit(":", 2)
    except ValueError:
        raise ValueError(
            f"{text!r} is not HOST:PORT:PUBLICKEY, as in node.example.org:33445:F404AB…"
        ) from None
    if len(key_text) != KEY_DIGITS or not set(key_text) <= _HEX:
        raise ValueError(
            f"the public key of {place!r} must have {KEY_DIGITS} hexadecimal digits, "
            f"not {len(key_text)} characters {key_text[:8]!r}…"
            if len(key_text) > 8
            else f"{text!r} must end in a public key of {KEY_DIGITS} hexadecimal digits"
        )
    if not (port_text.isascii() and port_text.isdigit() and 1 <= int(port_text) <= 65535):
        raise ValueError(f"the port of {place!r} must be 1-65535, not {port_text!r}")
    if place.startswith("[") and place.endswith("]"):
        host = place[1:-1]
        try:
            endpoint.from_text(host, 1)
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv6 address") from None
    elif ":" in place:
        raise ValueError(f"write an IPv6 address in brackets: [{place}]:{port_text}:…")
    elif not _is_host(place):
        raise ValueError(f"{place!r} is neither an address nor a host name")
    else:
        host = place
    return BootstrapNode(host, int(port_text), bytes.fromhex(key_text))


def shipped() -> tuple[BootstrapNode, ...]:
    """Returns the list that comes with toxmesh (its file says where it is from)."""
    text = resources.files("toxmesh").joinpath(SHIPPED_FILE).read_text("utf-8")
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return tuple(parse(line) for line in lines if line)


def resolve(
    nodes: Iterable[BootstrapNode], timeout_s: float = 3.0
) -> tuple[tuple[tuple[Endpoint, bytes], ...], tuple[BootstrapNode, ...]]:
    """Looks all host names up at once; returns endpoints with keys, and the nodes not found.

    A name with IPv4 and IPv6 addresses gives both. A resolver that hangs costs `timeout_s`.
    """
    asked = tuple(nodes)
    found: dict[BootstrapNode, list[tuple[Endpoint, bytes]]] = {}
    threads: list[threading.Thread] = []

    def look_up(node: BootstrapNode) -> None:
        try:
            rows = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return
        texts = dict.fromkeys(str(row[4][0]).split("%")[0] for row in rows)
        found[node] = [(endpoint.from_text(text, node.port), node.key) for text in texts]

    for node in dict.fromkeys(asked):
        try:
            found[node] = [(endpoint.from_text(node.host, node.port), node.key)]
        except ValueError:
            thread = threading.Thread(target=look_up, args=(node,), daemon=True)
            thread.start()
            threads.append(thread)
    share = timeout_s / len(threads) if threads else 0.0
    for thread in threads:
        thread.join(share)
    known = dict(found)  # a late thread may still add to `found`
    rows = [row for node in dict.fromkeys(asked) for row in known.get(node, [])]
    return tuple(rows), tuple(node for node in dict.fromkeys(asked) if not known.get(node))
