"""The UDP sockets of one identity on an asyncio loop: one a family, on the same port."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakKeyDictionary

from core.endpoint import SOCKADDR4_SIZE, Endpoint
from core.link import mmsg

FIRST_PORT, LAST_PORT = 33445, 33545  # c-toxcore tox.h: TOX_DEFAULT_PORT; network.h: the range
_BATCHES_A_TURN = 4  # of 64 datagrams, before other callbacks of the loop have their turn
_BUFFER = 2 << 20  # bytes.  c-toxcore network.c: new_networking_ex
_GATHER_S = 0.02
"""While datagrams come one behind the other they are read so often, or when a batch has come: to be
woken from sleep costs as much as to handle some fifteen of them. Our word on what has come goes out
less often than that."""
_LEAST_GATHER_S = 0.001
_FAST_READS = 4  # as soon after each other as that, and it begins

OnBatch = Callable[[Sequence[bytes], Sequence[Endpoint]], None]


class PortError(OSError):
    """No UDP port can be had; the text says why."""


class _Batches:
    """The memory in which all sockets of a loop read and send: 0.5 MiB, however many they are."""

    def __init__(self) -> None:
        self._senders: dict[int, mmsg.Sender] = {}
        self._receivers: dict[int, mmsg.Receiver] = {}

    def receiver(self, door: "_Door", drops: Counter[str]) -> mmsg.Receiver:
        """Returns the reader, aimed at a socket."""
        made = self._receivers.get(door.family)
        if made is None:
            made = self._receivers[door.family] = mmsg.receiver(door.fd, door.family, drops)
        else:
            made.aim(door.fd, drops)
        return made

    def sender(self, door: "_Door", drops: Counter[str]) -> mmsg.Sender:
        """Returns the sender, aimed at a socket; it does not wait for room in its buffer, for the
        loop has other callers."""
        made = self._senders.get(door.family)
        if made is None:
            made = mmsg.sender(door.fd, door.family, drops, wait_ms=0)
            self._senders[door.family] = made
        else:
            made.aim(door.fd, drops)
        return made


_batches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batches] = WeakKeyDictionary()


class _Door:
    """One socket, what waits to be sent by it, and how it is read."""

    __slots__ = ("bound", "family", "fd", "pause", "read_at", "streak", "timer", "waiting")

    def __init__(self, bound: socket.socket) -> None:
        self.bound = bound
        self.family, self.fd = int(bound.family), bound.fileno()
        self.waiting: list[tuple[Endpoint, bytes]] = []
        self.read_at = float("-inf")
        self.streak = 0
        """How many reads followed so soon upon the one before."""
        self.pause = _GATHER_S
        self.timer: asyncio.Handle | None = None
        """The next read, while the loop does not watch the socket."""


class UdpPort:
    """Sends and receives datagrams; `on_batch` gets up to 64 at a time.

    `ports` is the first and the last port to try; (0, 0) leaves the choice to the system. The
    families are IPv4 and, where the machine has it, IPv6. Raises PortError where all are taken.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_batch: OnBatch,
        drops: Counter[str],
        ports: tuple[int, int] = (FIRST_PORT, LAST_PORT),
        hosts: tuple[str, ...] = ("0.0.0.0", "::"),
    ) -> None:
        self._loop = loop
        self._on_batch = on_batch
        self._sockets = _bind(ports, hosts)
        self.port: int = self._sockets[0].getsockname()[1]
        """The port they are bound to."""
        self._batches = _batches.setdefault(loop, _Batches())
        self._doors: list[_Door | None] = [None, None]  # by family, IPv4 first
        for bound in self._sockets:
            door = self._doors[bound.family == socket.AF_INET6] = _Door(bound)
            loop.add_reader(door.fd, self._ready, door)
        self.has_ipv4, self.has_ipv6 = (each is not None for each in self._doors)
        self._drops = drops

    def _ready(self, door: _Door) -> None:
        """Reads what the loop says is there; if that is often, the loop watches no more."""
        now = self._loop.time()
        door.streak = door.streak + 1 if now < door.read_at + _GATHER_S else 0
        door.read_at = now
        self._read(door)
        if door.streak >= _FAST_READS and self._sockets:
            self._loop.remove_reader(door.fd)
            door.pause = _GATHER_S
            door.timer = self._loop.call_later(door.pause, self._look, door)

    def _look(self, door: _Door) -> None:
        """Reads what has gathered; the loop watches again when that is nothing."""
        count = self._read(door)
        if not self._sockets:
            return
        if count >= _BATCHES_A_TURN * mmsg.BATCH:  # more may be there
            door.timer = self._loop.call_soon(self._look, door)
        elif count:
            # so long that a batch gathers at this pace
            pause = door.pause * mmsg.BATCH / count
            door.pause = max(_LEAST_GATHER_S, min(pause, _GATHER_S))
            door.timer = self._loop.call_later(door.pause, self._look, door)
        else:
            door.timer = None
            door.streak = 0
            self._loop.add_reader(door.fd, self._ready, door)

    def _read(self, door: _Door) -> int:
        """Hands on what there is; returns how many datagrams that were."""
        count = 0
        for _ in range(_BATCHES_A_TURN):
            receiver = self._batches.receiver(door, self._drops)
            packets, sources = receiver.receive()
            full = receiver.full  # before others read with it
            if packets:
                count += len(packets)
                self._on_batch(packets, sources)
            if not full or not self._sockets:
                break
        return count

    def send(self, endpoint: Endpoint, packet: bytes) -> None:
        """Keeps a datagram until `flush`."""
        door = self._doors[len(endpoint) != SOCKADDR4_SIZE]
        if door is None:
            self._drops["no_socket_for_family"] += 1
        else:
            door.waiting.append((endpoint, packet))

    def flush(self) -> None:
        """Sends what was kept since the last time."""
        for door in self._doors:
            if door is None or not door.waiting:
                continue
            sender = self._batches.sender(door, self._drops)
            for endpoint, packet in door.waiting:
                sender.send(endpoint, packet)
            sender.flush()
            door.waiting.clear()

    def close(self) -> None:
        """Gives the port back; what was kept is sent before."""
        self.flush()
        for door in self._doors:
            if door is None:
                continue
            self._loop.remove_reader(door.fd)
            if door.timer is not None:
                door.timer.cancel()
            door.bound.close()
        self._sockets = []
        self._doors = [None, None]


def _bind(ports: tuple[int, int], hosts: tuple[str, ...]) -> list[socket.socket]:
    """Returns bound sockets of all hosts on the first port that is free for all of them."""
    first, last = ports
    reason: OSError | None = None
    for port in range(first, last + 1):
        try:
            return _bind_all(port, hosts)
        except OSError as error:
            reason = error
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                break
    assert reason is not None  # a range has a port
    text = (reason.strerror or str(reason)).lower()
    raise PortError(reason.errno, f"no UDP port of {first}-{last} can be had: {text}") from None


def _bind_all(port: int, hosts: tuple[str, ...]) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        for host in hosts:
            made = _socket(host)
            if made is None:
                continue
            bound.append(made)
            with suppress(OSError):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            try:
                made.bind((host, port))
            except OSError as error:
                if host == "::" and error.errno == errno.EADDRNOTAVAIL and len(hosts) > 1:
                    bound.pop().close()  # IPv6 is switched off here
                    continue
                raise
            port = port or made.getsockname()[1]  # the others take the one that was chosen
    except OSError:
        for made in bound:
            made.close()
        raise
    if not bound:
        raise OSError(errno.EAFNOSUPPORT, "this machine has no family of these addresses")
    return bound


def _socket(host: str) -> socket.socket | None:
    """Returns a socket of an address's family, or None where the machine has not this family."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made
