"""Where an operator points: a host name or address with a port, looked up in bounded time."""

import ipaddress
import socket
import threading

from core import endpoint
from core.endpoint import Endpoint

LOOK_UP_S = 5.0  # a resolver that hangs longer is as good as none


class NoAddress(Exception):
    """The host has no address; the text says why."""


def addresses(host: str, port: int, timeout_s: float = LOOK_UP_S) -> list[Endpoint]:
    """Returns all addresses of a host, best first; at least one. Raises NoAddress."""
    try:
        return [endpoint.from_text(host, port)]
    except ValueError:
        pass
    found: list[Endpoint] = []
    reasons: list[str] = [f"nothing was heard from the resolver within {timeout_s:g} s"]

    def look_up() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            reasons.append((getattr(error, "strerror", None) or str(error)).lower())
            return
        texts = dict.fromkeys(str(row[4][0]).partition("%")[0] for row in rows)
        found.extend(endpoint.from_text(text, port) for text in texts)

    thread = threading.Thread(target=look_up, daemon=True)  # getaddrinfo has no time limit
    thread.start()
    thread.join(timeout_s)
    known = list(found)
    if not known:
        raise NoAddress(f"{host} has no address: {reasons[-1]}")
    return known


def is_loopback(place: Endpoint) -> bool:
    """Tells whether an address is this machine's alone."""
    return ipaddress.ip_address(endpoint.ip_of(place)).is_loopback


def family_of(place: Endpoint) -> socket.AddressFamily:
    """Returns the family a socket needs for it."""
    return socket.AF_INET if endpoint.is_ipv4(place) else socket.AF_INET6


def address_of(place: Endpoint) -> tuple[str, int]:
    """Returns what `socket` takes."""
    return socket.inet_ntop(family_of(place), endpoint.ip_of(place)), endpoint.port_of(place)
