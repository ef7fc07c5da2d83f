"""The listening sockets of the relay: they are open while there is room and a descriptor left."""

import errno
import select
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.tcp_admission import most_connections
from core import services
from core.link import streams
from core.module import NodeOptions

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

_ACCEPTS_A_TURN = 64
_BACKLOG = 1024  # as toxmesh.sockets has it
_PAUSE_S = 0.5
_NO_SLOTS_S = 0.02
_SILENT_S = 5  # the kernel keeps a stream without a byte about so long before it is ours to keep
_FULL_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def is_shut(options: NodeOptions) -> bool:
    """Tells whether nobody new is let in: the node is drained, or has no relay for now."""
    return options.draining or services.RELAY in options.services_off


class Door:
    """Lets streams in, as many as there may be, but nobody while it is shut (`is_shut`)."""

    def __init__(
        self, tcp: "RelayTcp", listeners: Sequence[socket.socket], draining: bool = False
    ) -> None:
        self.listeners = {listener.fileno(): listener for listener in listeners}
        self.accepting = False
        self._draining = draining
        self.room = 0
        self._tcp = tcp
        for listener in listeners:
            listener.setblocking(False)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # streams inherit it
            # A client speaks first: its stream is handed out with the hello in it, in one event.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SILENT_S)
        if draining:
            self._shut()
        else:
            self._listen()  # a broker before this one may have shut them, and died
        self.count_room()
        self.resume()

    def count_room(self) -> None:
        """Learns how many connections there may be beside the links to all workers."""
        self.room = most_connections(self._tcp.limits, self._tcp.hooks)

    def accept(self, listener: socket.socket, now: float) -> None:
        """Takes new streams, a few in a turn."""
        tcp = self._tcp
        if tcp.hooks.slots("relay") is None:
            # This broker has begun a moment ago, after a crash, and nobody has told it yet which
            # worker a client belongs to: who calls waits in the kernel instead of being sent away.
            self._pause(now, _NO_SLOTS_S)
            return
        for _ in range(_ACCEPTS_A_TURN):
            if len(tcp.connections) >= self.room:
                tcp.drops["relay_accept_paused"] += 1
                self._pause(now)
                return
            try:
                stream, source = streams.accept(listener)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _FULL_ERRORS:
                    tcp.drops["relay_no_descriptor"] += 1
                    self._pause(now)
                    return
                tcp.drops["relay_accept_failed"] += 1
                continue
            tcp.admit(stream, source, now)

    def _pause(self, now: float, seconds: float = _PAUSE_S) -> None:
        if self.accepting:
            self.accepting = False
            for fd in self.listeners:
                self._tcp.poll.unregister(fd)
            self._tcp.clocks.accept_at = now + seconds

    def resume(self) -> None:
        """Accepts connections (again, after a pause)."""
        if not (self.accepting or self._draining):
            self.accepting = True
            for fd in self.listeners:
                self._tcp.poll.register(fd, select.EPOLLIN)

    def drain(self, draining: bool, now: float) -> None:
        """Lets who connects be refused by the kernel from now on, or lets them in again."""
        if draining == self._draining:
            return
        if draining:
            for listener in self.listeners.values():  # who is through the kernel's door is a client
                for _ in range(_BACKLOG // _ACCEPTS_A_TURN):
                    self.accept(listener, now)
            self._pause(now)
            self._tcp.clocks.accept_at = None
            self._draining = True
            self._shut()
        else:
            self._listen()
            self._draining = False
            self.resume()

    def _shut(self) -> None:
        """Lets the kernel refuse who connects.

        One that the broker before has shut is left alone: Linux would remember the second time
        (inet_shutdown, state TCP_CLOSE), and later each accepted stream would be shut from birth.
        """
        for listener in self.listeners.values():
            if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        """Opens what `drain` has shut; the address was kept meanwhile."""
        for listener in self.listeners.values():
            listener.listen(_BACKLOG)

    def close(self) -> None:
        """Closes the listeners for good."""
        if self._draining:
            self._listen()  # a service manager keeps its own descriptor of them, for the next node
        for fd, listener in self.listeners.items():
            if self.accepting:
                self._tcp.poll.unregister(fd)
            listener.close()
        self.listeners.clear()
