"""What the machine has: interfaces to search the local network on, and how many descriptors."""

import resource
import socket
from contextlib import suppress

import psutil

from core import endpoint
from core.endpoint import Endpoint


def lan_targets() -> tuple[Endpoint, ...]:
    """Returns the IPv4 broadcast addresses of this machine's interfaces."""
    found = {}
    for rows in psutil.net_if_addrs().values():
        for row in rows:
            if row.family == socket.AF_INET and row.broadcast:
                found[row.broadcast] = endpoint.from_text(row.broadcast, 0)
    return tuple(found.values())


def raise_limits() -> None:
    """Allows as many descriptors as the system lets this user have: a relay client needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
