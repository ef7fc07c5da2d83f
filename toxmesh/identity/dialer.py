"""TCP connections to relays, on the event loop of a program that has identities.

The loop watches the sockets themselves, without transports: 6,000 connections of 2,000
identities cost 2 KB each, not 5.
"""

import asyncio
import errno
import socket
from typing import Protocol
from weakref import WeakKeyDictionary

from core.endpoint import ip_of, is_ipv4, port_of
from core.relay_client import Target

_READ_SIZE = 65_536  # bytes read at once: some thirty frames of the greatest size
_BURST_SIZE = 65_536  # bytes that are sent before the turn's end
_MAX_ADDRESSES = 4  # of a name that are tried
_ADDRESS_S = 3.0  # how long an address of a name is tried while there are others
_GOING_ON = (0, errno.EINPROGRESS, errno.EAGAIN)

_Place = tuple[socket.AddressFamily, tuple[str, int]]

_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()
"""Into which all connections of a loop are read, one after the other: none has room of its own."""


class LineListener(Protocol):
    """Who hears of connections: a `RelayPool`, or what stands before it."""

    def handle_connected(self, line: int, now: float) -> None:
        """A dial has led to a connection."""
        ...

    def handle_bytes(self, line: int, data: bytes, now: float) -> None:
        """Bytes came."""
        ...

    def handle_writable(self, line: int, now: float) -> None:
        """A connection that had not taken all takes bytes again."""
        ...

    def handle_closed(self, line: int, now: float) -> None:
        """A connection has ended, or a dial has come to nothing."""
        ...


class AsyncDialer:
    """The sockets of one identity's relay connections: `core.relay_client.Dialer` with asyncio.

    Times are the loop's. The listener is never called from inside a method of the dialer, and hears
    nothing more of a connection that was hung up.
    """

    __slots__ = ("_lines", "_loop", "_names", "buffer", "listener")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._lines: dict[int, _Line] = {}
        self._names: dict[int, asyncio.Task[None]] = {}  # lines whose name is being resolved
        buffer = _buffers.get(self._loop)
        if buffer is None:
            _buffers[self._loop] = buffer = memoryview(bytearray(_READ_SIZE))
        self.buffer = buffer
        """Where connections read to; what is there is another's in the next moment."""
        self.listener: LineListener | None = None
        """Who hears of connections; to be set before the first dial."""

    def dial(self, line: int, target: Target) -> None:
        """Opens a connection; a name is resolved here, in the loop's threads."""
        if isinstance(target, tuple):
            self._names[line] = self._loop.create_task(self._resolve(line, *target))
            return
        family = socket.AF_INET if is_ipv4(target) else socket.AF_INET6
        host = socket.inet_ntop(family, ip_of(target))
        self._lines[line] = known = _Line(
            self, self._loop, line, [(family, (host, port_of(target)))]
        )
        self._loop.call_soon(known.connect)

    def write(self, line: int, data: bytes) -> int:
        """Takes all bytes, or none while the kernel has no room; the listener hears when it has."""
        known = self._lines.get(line)
        return 0 if known is None else known.write(data)

    def hang_up(self, line: int) -> None:
        """Closes a connection, or gives a dial up; the kernel sends on what it has taken."""
        task = self._names.pop(line, None)
        if task is not None:
            task.cancel()
        known = self._lines.pop(line, None)
        if known is not None:
            known.close()

    def close(self) -> None:
        """Hangs up all."""
        for line in [*self._names, *self._lines]:
            self.hang_up(line)

    def __len__(self) -> int:
        return len(self._lines)

    async def _resolve(self, line: int, host: str, port: int) -> None:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError):  # no such name, nobody to ask; nothing that can be a name
            found = []
        if self._names.pop(line, None) is None:
            return
        places: list[_Place] = [
            (family, (str(address[0]), int(address[1])))
            for family, *_, address in found[:_MAX_ADDRESSES]
            if family in (socket.AF_INET, socket.AF_INET6)
        ]
        self._lines[line] = known = _Line(self, self._loop, line, places)
        known.connect()

    # What connections tell

    def opened(self, line: int) -> None:
        """A connection is there."""
        if self.listener is not None:
            self.listener.handle_connected(line, self._loop.time())

    def came(self, line: int, size: int) -> None:
        """So many bytes are in the buffer."""
        if self.listener is not None:
            self.listener.handle_bytes(line, bytes(self.buffer[:size]), self._loop.time())

    def writable(self, line: int) -> None:
        """The kernel has room again."""
        if self.listener is not None:
            self.listener.handle_writable(line, self._loop.time())

    def lost(self, line: int) -> None:
        """A connection has ended or could not be made."""
        self.hang_up(line)
        if self.listener is not None:
            self.listener.handle_closed(line, self._loop.time())


class _Line:
    """One connection: the addresses that are left to try, then a socket."""

    __slots__ = (
        "_dialer",
        "_line",
        "_loop",
        "_places",
        "_size",
        "_socket",
        "_unsent",
        "_waits",
        "_watch",
    )

    def __init__(
        self,
        dialer: AsyncDialer,
        loop: asyncio.AbstractEventLoop,
        line: int,
        places: list[_Place],
    ) -> None:
        self._dialer = dialer
        self._loop = loop
        self._line = line
        self._places = places
        self._socket: socket.socket | None = None
        self._unsent: list[bytes] = []
        self._size = 0  # of what is unsent, in bytes
        self._waits = False  # for the kernel to have room
        self._watch: asyncio.TimerHandle | None = None  # over an address while others are left

    def connect(self) -> None:
        """Tries the next address; tells that the line is lost where none is left."""
        self._end_socket()
        if self._dialer._lines.get(self._line) is not self:
            return  # hung up meanwhile
        while self._places:
            family, address = self._places.pop(0)
            try:
                self._socket = made = socket.socket(family, socket.SOCK_STREAM)
                made.setblocking(False)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if made.connect_ex(address) not in _GOING_ON:
                    raise OSError
            except OSError:  # no such family here, no route, no descriptors
                self._end_socket()
                continue
            self._loop.add_writer(made, self._connected)
            if self._places:
                self._watch = self._loop.call_later(_ADDRESS_S, self.connect)
            return
        self._dialer.lost(self._line)

    def _connected(self) -> None:
        made = self._socket
        if made is None:
            return
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.connect()
            return
        self._loop.remove_writer(made)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._places.clear()
        self._loop.add_reader(made, self._read)
        self._dialer.opened(self._line)

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            size = self._socket.recv_into(self._dialer.buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if size:
            self._dialer.came(self._line, size)
        else:
            self._dialer.lost(self._line)

    def write(self, data: bytes) -> int:
        """Takes bytes for the end of the loop's turn: what a turn writes is one segment for the
        kernel and one for the relay. Takes none while the kernel has no room."""
        if self._socket is None or self._waits:
            return 0
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)
        self._size += len(data)
        if self._size >= _BURST_SIZE:
            self._flush()
        return len(data)

    def _flush(self) -> None:
        if self._socket is None or not self._unsent:
            return
        data = b"".join(self._unsent)
        try:
            taken = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError:
            taken = len(data)  # the connection is gone, as the next read will say
        rest = data[taken:]
        self._unsent = [rest] if rest else []
        self._size = len(rest)
        if rest and not self._waits:
            self._waits = True
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        self._flush()
        if self._socket is not None and not self._unsent:
            self._waits = False
            self._loop.remove_writer(self._socket)
            self._dialer.writable(self._line)

    def close(self) -> None:
        """Ends the connection."""
        self._places.clear()
        self._flush()
        self._end_socket()

    def _end_socket(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        made, self._socket = self._socket, None
        if made is not None:
            self._loop.remove_reader(made)
            self._loop.remove_writer(made)
            made.close()
