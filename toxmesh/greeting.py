"""What a person reads when a node begins to listen: its key, its addresses, how others find it."""

import ipaddress
import socket
from collections.abc import Sequence

from toxmesh import activation
from toxmesh.settings import PORT_RANGE, Settings

_OUTSIDE = (
    (socket.AF_INET, "192.0.2.1"),  # RFC 5737, RFC 3849: documentation addresses; nothing is sent
    (socket.AF_INET6, "2001:db8::1"),
)
_WITHOUT = (
    ("dht", "nobody finds this node or can bootstrap from it", "--workers dht=1 serves them"),
    ("onion", "clients cannot announce here or find each other", "--workers onion=1 serves them"),
    ("relay", "TCP connections are closed at once", "--tcp-port 0 does not even listen"),
)
"""What a node without workers of a role does not do, and what to do about it."""


def own_addresses() -> list[str]:
    """Returns the addresses this machine would send from to the internet; no packet leaves."""
    found = []
    for family, target in _OUTSIDE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                found.append(str(probe.getsockname()[0]).split("%")[0])
        except OSError:
            continue  # no route of this family
    return found


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _reachable(settings: Settings, own: Sequence[str]) -> list[str]:
    """Returns the addresses others may know this node by, best first."""
    listen = [ipaddress.ip_address(text) for text in settings.listen]
    named = [str(address) for address in listen if not address.is_unspecified]
    families = {address.version for address in listen if address.is_unspecified} or {4, 6}
    if listen and not any(address.is_unspecified for address in listen):
        return named
    return named + [text for text in own if ipaddress.ip_address(text).version in families]


def lines(
    settings: Settings,
    public_key: bytes,
    addresses: Sequence[str],
    udp_port: int,
    tcp_ports: Sequence[int],
    own: Sequence[str],
) -> list[str]:
    """Returns the greeting, line by line.

    `addresses` are those bound ("udp 0.0.0.0:33445"); `own` are this machine's, as far as it knows;
    `udp_port` is 0 and `tcp_ports` empty where a transport is off.
    """
    key = public_key.hex().upper()
    result = [f"public key  {key}"]
    result += [f"listens on  {address}" for address in addresses]
    first = PORT_RANGE[0]
    taken = "            port {} was taken for {}; {} was the next free one"
    searched = not activation.announced()
    if searched and settings.udp_port is None and udp_port not in (0, first):
        result.append(taken.format(first, "UDP", udp_port))
    if searched and settings.tcp_ports is None and tcp_ports and first not in tcp_ports:
        result.append(taken.format(first, "TCP", tcp_ports[0]))
    for role, what, mend in _WITHOUT:
        if not settings.workers.get(role) and (role != "relay" or tcp_ports):
            result.append(f"{role} is off  {what}; {mend}")
    port = udp_port or (tcp_ports[0] if tcp_ports else first)
    known = _reachable(settings, own)
    place = _place(known[0], port) if known else f"YOUR-ADDRESS:{port}"
    if udp_port:
        result.append(f"others join with  --bootstrap {place}:{key}")
        if tcp_ports and udp_port not in tcp_ports:
            place = _place(known[0], tcp_ports[0]) if known else f"YOUR-ADDRESS:{tcp_ports[0]}"
            result.append(f"clients relay by  {place}:{key}")
    else:  # nobody bootstraps over TCP
        result.append(f"clients relay by  {place}:{key}")
    if known and ipaddress.ip_address(known[0]).is_private and not settings.dev:
        result.append(
            f"            {known[0]} is a private address: from outside, name your public one and "
            "let these ports through"
        )
    result.append(f"look at it with   toxmesh ops status --state-dir '{settings.state_dir}'")
    return result
