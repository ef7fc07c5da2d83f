"""TCP connections to relays, on the event loop of a program that has identities."""

import asyncio
import ipaddress
from typing import Protocol
from weakref import WeakKeyDictionary

from core.endpoint import ip_of, port_of
from core.relay_client import Target

_READ_SIZE = 65_536  # bytes read at once: some thirty frames of the greatest size
_EYEBALLS_S = 0.25  # RFC 8305, 5: how long the second family waits, for names

_buffers: "WeakKeyDictionary[asyncio.AbstractEventLoop, bytearray]" = WeakKeyDictionary()
"""Into which all connections of a loop are read, one after the other: 6,000 need no room each."""


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

    __slots__ = ("_buffer", "_dials", "_lines", "_loop", "listener")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._buffer = _buffers.get(self._loop) or _buffers.setdefault(
            self._loop, bytearray(_READ_SIZE)
        )
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._lines: dict[int, _Line] = {}
        self.listener: LineListener | None = None
        """Who hears of connections; to be set before the first dial."""

    def dial(self, line: int, target: Target) -> None:
        """Opens a connection; a name is resolved here, in the loop's threads."""
        if isinstance(target, tuple):
            host, port = target
        else:
            host, port = str(ipaddress.ip_address(ip_of(target))), port_of(target)
        self._dials[line] = self._loop.create_task(self._connect(line, host, port))

    def write(self, line: int, data: bytes) -> int:
        """Sends bytes: all of them, or none while the kernel has no room for earlier ones."""
        known = self._lines.get(line)
        return 0 if known is None else known.write(data)

    def hang_up(self, line: int) -> None:
        """Closes a connection, or gives a dial up."""
        dial = self._dials.pop(line, None)
        if dial is not None:
            dial.cancel()
        known = self._lines.pop(line, None)
        if known is not None:
            known.hang_up()

    def close(self) -> None:
        """Hangs up all."""
        for line in [*self._dials, *self._lines]:
            self.hang_up(line)

    def __len__(self) -> int:
        return len(self._lines)

    async def _connect(self, line: int, host: str, port: int) -> None:
        try:
            await self._loop.create_connection(
                lambda: _Line(self, line), host, port, happy_eyeballs_delay=_EYEBALLS_S
            )
        except (OSError, ValueError):  # refused, unreachable, no such name, out of descriptors
            if self._dials.pop(line, None) is not None and self.listener is not None:
                self.listener.handle_closed(line, self._loop.time())
        else:
            self._dials.pop(line, None)

    # What connections tell

    def _opened(self, line: int, known: "_Line") -> bool:
        """Takes a new connection; False if it is not wanted any more."""
        if line not in self._dials or self.listener is None:
            return False
        self._lines[line] = known
        self.listener.handle_connected(line, self._loop.time())
        return True

    def _came(self, line: int, size: int) -> None:
        if line in self._lines and self.listener is not None:
            self.listener.handle_bytes(line, bytes(self._buffer[:size]), self._loop.time())

    def _writable(self, line: int) -> None:
        if line in self._lines and self.listener is not None:
            self.listener.handle_writable(line, self._loop.time())

    def _lost(self, line: int) -> None:
        if self._lines.pop(line, None) is not None and self.listener is not None:
            self.listener.handle_closed(line, self._loop.time())


class _Line(asyncio.BufferedProtocol):
    """One connection."""

    __slots__ = ("_dialer", "_line", "_paused", "_transport")

    def __init__(self, dialer: AsyncDialer, line: int) -> None:
        self._dialer = dialer
        self._line = line
        self._paused = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # told as soon as the kernel does not take all
        if not self._dialer._opened(self._line, self):
            transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._dialer._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._dialer._came(self._line, nbytes)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._dialer._writable(self._line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._dialer._lost(self._line)

    def write(self, data: bytes) -> int:
        """Gives the transport all, which keeps what the kernel does not take: one write at most."""
        if self._transport is None or self._paused:
            return 0
        self._transport.write(data)
        return len(data)

    def hang_up(self) -> None:
        """Ends the connection; what a relay does not take is not waited for."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
