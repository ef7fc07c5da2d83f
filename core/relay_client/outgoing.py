"""What waits to be sent to one relay: control packets first, data only as far as there is room.

Packets are sealed when the socket takes them, for frames are numbered by their nonces and so may
not change places any more once they are sealed.
"""

from collections.abc import Callable

from core.crypto import NONCE_SIZE, SharedKey, seal
from core.relay_client.greeting import Session

MAX_CONTROL = 512  # packets: both directions of all 240 links, and pings
MAX_DATA_SIZE = 16_384  # bytes of packets; the kernel's own queue is the greater one
_BURST_SIZE = 16_384  # bytes that are sealed for one write
_PONG = 0x05

Write = Callable[[bytes], int]
"""Gives bytes to the socket; returns how many it took."""


class Outgoing:
    """The bounded queue of one connection."""

    __slots__ = (
        "_control",
        "_data",
        "_data_size",
        "_nonce",
        "_shared",
        "_unsent",
        "_write",
        "sent",
    )

    def __init__(self, write: Write) -> None:
        self._write = write
        self._unsent = b""  # what the socket has not taken yet of what is sealed
        self._shared: SharedKey | None = None
        self._nonce = 0  # of the next frame, as a number
        self._control: list[bytes] = []
        self._data: list[bytes] = []
        self._data_size = 0
        self.sent = 0
        """Bytes that the socket took."""

    @property
    def waiting(self) -> int:
        """How many bytes wait."""
        return len(self._unsent) + self._data_size + sum(map(len, self._control))

    def begin(self, session: Session) -> None:
        """Frames are sealed from now on."""
        self._shared = session.shared
        self._nonce = int.from_bytes(session.send_nonce, "big")

    def put_raw(self, data: bytes) -> None:
        """Sends bytes before the session: hellos, and what a proxy is told."""
        self._unsent += data
        self.flush()

    def put_control(self, packet: bytes) -> bool:
        """Sends a packet that must not be lost; False if more wait than ever should.

        Of pongs that wait only the last is kept: a relay that pings on and on fills nothing.
        """
        control = self._control
        if packet[0] == _PONG:
            for index, other in enumerate(control):
                if other[0] == _PONG:
                    control[index] = packet
                    return True
        if len(control) >= MAX_CONTROL:
            return False
        control.append(packet)
        self.flush()
        return True

    def put_data(self, packet: bytes) -> bool:
        """Sends a packet if there is room."""
        if self._data_size + len(packet) > MAX_DATA_SIZE:
            return False
        self._data.append(packet)
        self._data_size += len(packet)
        if not self._unsent:
            self.flush()
        return True

    def flush(self) -> None:
        """Gives the socket what it takes."""
        while True:
            unsent = self._unsent
            if unsent:
                taken = self._write(unsent)
                self.sent += taken
                self._unsent = unsent[taken:]
                if self._unsent:
                    return
            if not (self._control or self._data) or self._shared is None:
                return
            self._unsent = self._sealed(self._shared)

    def _sealed(self, shared: SharedKey) -> bytes:
        frames = []
        size = 0
        nonce = self._nonce
        for waiting in (self._control, self._data):
            taken = 0
            for packet in waiting:
                if size >= _BURST_SIZE:
                    break
                box = seal(shared, nonce.to_bytes(NONCE_SIZE, "big"), packet)
                nonce = (nonce + 1) % (1 << 8 * NONCE_SIZE)
                frames.append(len(box).to_bytes(2, "big") + box)
                size += len(box)
                taken += 1
                if waiting is self._data:
                    self._data_size -= len(packet)
            del waiting[:taken]
        self._nonce = nonce
        return b"".join(frames)
