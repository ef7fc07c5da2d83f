"""Clients get no more ahead of their reading than stock ones can take.

libtoxcore reads a frame when all of it is there, and counts what is there in 16 bits (c-toxcore
network.c: net_socket_data_recv_buffer; TCP_common.c: read_tcp_packet). One with 64 KiB and a little
more in its kernel waits for bytes that are there already, and has 64 KiB too little from then on.
And one whose kernel has no room left may wait for the rest of a frame that is not let in: what it
has read is kept as long as anything behind it in the same buffer is not. Either way its ping runs
out after 23 s, and it connects anew.

No kernel tells what its program has read. But the window that it offers shrinks by about as much as
was not read. So at each 24 KiB the window is looked at; where it is smaller than it was, or where a
client gets 24 KiB and more in 20 ms, a ping goes along with what is sent, and its answer says how
far the client is. One that does not answer in time gets no more than the stream up to the next ping
until it has: then its kernel holds nothing, and takes as much again.
"""

import socket
import struct
from collections import deque
from typing import Any

from core.link.streams import Stream
from core.relay.limits import BOX_EXTRA

LOOK_AFTER = 24 << 10  # bytes; one commit brings no more than 32 KiB and a frame
_FAST_S = 0.02  # stock clients read about so often while much comes
_UNREAD = 16 << 10  # bytes that a window may be smaller, for frames that are being read
MOST_UNREAD = 58 << 10  # bytes: below 64 KiB, and no less than is between two pings
_PING = b"\x04"
ONLY_ASKS = (0, 0)  # in place of a peer: the worker does not wait for this ping's answer
_PING_SIZE = 1 + 8 + BOX_EXTRA
_PING_HEAD = (_PING_SIZE - 2).to_bytes(2, "big")
_INFO_SIZE = 232  # linux/tcp.h: struct tcp_info, up to and with tcpi_snd_wnd (Linux 5.4)
_window_of = struct.Struct("=228xI").unpack

Gate = tuple[int, bytes]
"""Where in the stream the frame of a ping ends, and its id."""


def window_of(stream: Stream) -> int:
    """Returns how many bytes a client's kernel last said it would take; 0: unknown."""
    try:
        info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except OSError:
        return 0  # no TCP
    if len(info) < _INFO_SIZE:
        return 0  # an older kernel
    (window,) = _window_of(info)
    return int(window)


class Pace:
    """How far one client has read its stream, as far as it is known; in bytes from its begin."""

    __slots__ = ("asked", "asking", "behind", "gates", "looked", "read", "window")

    def __init__(self) -> None:
        self.asked = 0  # where it was asked last
        self.asking: bytes | None = None  # id of a ping in the inbox that was not sealed yet
        self.gates: deque[Gate] = deque()  # pings that were sealed and not answered
        self.read = 0  # it has read as much
        self.looked = 0.0  # when its window was looked at last
        self.window = 0  # the greatest that was seen
        self.behind = False  # it did not answer in time: each gate is shut until it has

    def to_body(self) -> list[Any]:
        """Returns all of it as plain data, for the next broker."""
        return [
            self.asked, self.asking, [list(gate) for gate in self.gates], self.behind, self.read,
            self.window,
        ]  # fmt: skip

    @classmethod
    def from_body(cls, body: list[Any]) -> "Pace":
        """Goes on with what the broker before has handed over."""
        pace = cls()
        pace.asked, pace.asking, gates, pace.behind, pace.read, pace.window = body
        pace.gates.extend((gate[0], gate[1]) for gate in gates)
        return pace

    def may_get(self) -> int | None:
        """Returns up to where the stream may be sent now; None: all of it."""
        if not self.gates:
            return None
        gate = self.gates[0][0]
        return gate if self.behind else max(gate, self.read + MOST_UNREAD)

    def is_asked_now(self, stream: Stream, end: int, sent: int, now: float) -> bool:
        """Tells whether to ask a client whose stream is sealed up to `end`, `sent` of it sent."""
        if end - self.asked < LOOK_AFTER or self.asking is not None:
            return False
        fast = now - self.looked < _FAST_S
        self.looked = now
        window = window_of(stream)
        lag = self.window - window
        if lag < 0:
            self.window = window
        if fast or self.gates or not window or lag > _UNREAD:
            return True
        self.asked = end
        self.read = sent
        return False

    def ask(self, end: int) -> bytes:
        """Returns a ping for a client whose stream is sealed up to `end`."""
        self.asked = end
        self.asking = end.to_bytes(8, "big")
        return _PING + self.asking

    def may_have(self, size: int, sent: int) -> bool:
        """Tells whether so much more than was sent may be sent now."""
        end = self.may_get()
        return end is None or sent + size <= end

    def sealed(self, data: memoryview, begin: int) -> None:
        """Learns of a part of the stream that begins there, and has the ping in front."""
        if self.asking is not None and data[:2] == _PING_HEAD:
            self.asked = begin + _PING_SIZE
            self.gates.append((self.asked, self.asking))
        self.asking = None

    def answered(self, ping_id: bytes, sent: int, stream: Stream) -> bool:
        """Learns of an answer, when so much was sent; tells whether it was to a ping that asked."""
        gates = self.gates
        if all(ping_id != gate[1] for gate in gates):
            return False
        while True:
            self.read, asked = gates.popleft()
            if asked == ping_id:
                break
        if self.read == sent:
            self.behind = False
            self.window = window_of(stream)  # all that it has
        return True

    def open(self) -> None:
        """Waits for no answer any more."""
        self.gates.clear()
        self.behind = False
