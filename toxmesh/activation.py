"""Takes the sockets that a service manager has opened for the node: systemd's socket activation.

sd_listen_fds(3): $LISTEN_FDS descriptors from 3 on, meant for the process $LISTEN_PID, named by
$LISTEN_FDNAMES. Such a socket keeps queueing while the node is restarted, and its port may be one
that the node's user could not bind.
"""

import os
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

VARIABLES = (
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)
"""What a service manager says to the supervisor alone: no child of it may answer for it."""

FIRST = 3  # sd-daemon.h: SD_LISTEN_FDS_START
MOST = 1024  # descriptors; a node with every lane of 2 x 64 shards on 2 addresses has about 800
_SOL_IPV6_ONLY = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
_NAMES = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


class ActivationError(Exception):
    """An inherited socket cannot be used; the text is one plain sentence with the next step."""

    code = 3


class Inherited(NamedTuple):
    """The sockets of a node that were opened before it."""

    udp: Sequence[socket.socket] = ()  # in the order of the unit; several may share an address
    tcp: Sequence[socket.socket] = ()

    def close(self) -> None:
        """Closes our ends; the manager keeps its own."""
        for row in (*self.udp, *self.tcp):
            row.close()


def announced(environment: Mapping[str, str] | None = None) -> bool:
    """Tells whether sockets were handed over to this process."""
    variables = os.environ if environment is None else environment
    return variables.get("LISTEN_PID") == str(os.getpid())


def inherited(environment: Mapping[str, str] | None = None, first: int = FIRST) -> Inherited:
    """Returns the sockets that were handed over; none where $LISTEN_PID is not this process.

    Raises ActivationError for what is no UDP or listening TCP socket of the internet, and for
    UDP on more than one port; what was taken is closed then.
    """
    variables = os.environ if environment is None else environment
    if not announced(variables):
        return Inherited()
    text = variables.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit() and int(text) <= MOST):
        raise ActivationError(f"LISTEN_FDS={text[:20]!r} is no number of sockets up to {MOST}")
    names = variables.get("LISTEN_FDNAMES", "").split(":")
    udp: list[socket.socket] = []
    tcp: list[socket.socket] = []
    fds = range(first, first + int(text))
    try:
        for fd in fds:
            name = names[fd - first] if fd - first < len(names) else ""
            row = _open(fd, name)
            (udp if row.type == socket.SOCK_DGRAM else tcp).append(row)
        ports = sorted({row.getsockname()[1] for row in udp})
        if len(ports) > 1:
            raise ActivationError(
                f"the UDP sockets handed over are on ports {ports[0]} and {ports[1]}, and a node"
                " has one; give every ListenDatagram= of the .socket unit the same port"
            )
    except ActivationError:
        for row in udp + tcp:
            row.close()
        raise
    return Inherited(tuple(udp), tuple(tcp))


def _open(fd: int, name: str) -> socket.socket:
    """Makes a checked socket of a descriptor. Raises ActivationError and closes it."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        raise ActivationError(
            f"descriptor {fd} ({name or 'no name'}) should be a socket and is not open;"
            " LISTEN_FDS is for whoever started this process"
        ) from None
    if not is_socket:
        os.close(fd)
        raise ActivationError(f"descriptor {fd} ({name or 'no name'}) is no socket")
    row = socket.socket(fileno=fd)
    row.set_inheritable(False)
    row.setblocking(False)
    wrong = _wrong(row, name)
    if wrong:
        row.close()
        raise ActivationError(f"the socket handed over as {name or f'descriptor {fd}'} {wrong}")
    return row


def _wrong(row: socket.socket, name: str) -> str:
    """Says what is wrong with a socket; empty if it can be used."""
    if row.family not in (socket.AF_INET, socket.AF_INET6):
        return "is not of IPv4 or IPv6; a .socket unit for toxmesh lists ports alone"
    if row.type not in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        return "is neither UDP nor TCP; use ListenDatagram= and ListenStream="
    wanted = _NAMES.get(name)
    if wanted is not None and row.type != wanted:
        return "is of the other kind; its FileDescriptorName= says what it is not"
    if not row.getsockname()[1]:
        return "has no port; the .socket unit has to name one"
    if row.family == socket.AF_INET6 and not row.getsockopt(*_SOL_IPV6_ONLY):
        return "takes IPv4 and IPv6 at once; set BindIPv6Only=ipv6-only and list both"
    listening = row.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if row.type == socket.SOCK_STREAM and not listening:
        return "is a TCP connection; Accept=yes is not for toxmesh"
    return ""
