"""What both halves of an identity remember of the packets that pass in a session.

A friend says once in a session that it has us in its list, what its name is and so on, and each
file is offered once. Whoever comes later, because the process before was killed, has to be told.
"""

from collections.abc import Sequence

from core.identity.messages import Row
from core.packets.messenger import (
    FILE_DATA_SIZE,
    FileControl,
    FileData,
    FileRequest,
    Name,
    Offline,
    Online,
    Status,
    StatusMessage,
    Typing,
)

_WHOLE = FILE_DATA_SIZE + 2  # bytes of a packet of file data that is not the file's last
_LASTING = frozenset((Online.kind, Name.kind, StatusMessage.kind, Status.kind, Typing.kind))
_FILES = range(FileRequest.kind, FileData.kind + 1)
_CANCEL = 2  # Spec: FILE_CONTROL
_SENDING = 0  # in a control packet: of a file that its sender sends
_BITS = 32  # bytes: one bit for each of 256 file numbers


class Passed:
    """What was seen of one session: the friend's last word of each kind, and files under way."""

    __slots__ = ("_last", "incoming", "outgoing")

    def __init__(self, row: Row = ()) -> None:
        """Begins anew, or with what `row` returned."""
        self._last: dict[int, bytes] = {}
        self.incoming = self.outgoing = 0
        """A bit for each file that may be under way, by its number on the wire."""
        if row:
            packets, incoming, outgoing = row
            self._last = {packet[0]: packet for packet in packets}
            self.incoming = int.from_bytes(incoming, "little")
            self.outgoing = int.from_bytes(outgoing, "little")

    @classmethod
    def assumed(cls) -> "Passed":
        """Returns what is most likely where nobody has seen the session begin: that the friend has
        said that it has us in its list, as it does first of all."""
        return cls(((Online().encode(),), b"", b""))

    def row(self) -> Row:
        """Returns all of it as a row of bytes."""
        if not (self._last or self.incoming or self.outgoing):
            return ()
        return (
            self.packets(),
            self.incoming.to_bytes(_BITS, "little"),
            self.outgoing.to_bytes(_BITS, "little"),
        )

    def packets(self) -> tuple[bytes, ...]:
        """Returns the friend's last word of each kind, Online first."""
        return tuple(packet for _, packet in sorted(self._last.items()))

    def came(self, packets: Sequence[bytes]) -> None:
        """Sees packets of the friend."""
        for packet in packets:
            kind = packet[0]
            if kind in _FILES:
                self._see_file(packet, True)
            elif kind in _LASTING:
                self._last[kind] = packet
            elif kind == Offline.kind:
                self._last.clear()
                self.incoming = self.outgoing = 0

    def went(self, packet: bytes) -> None:
        """Sees a packet of ours."""
        if packet[0] in _FILES:
            self._see_file(packet, False)

    def _see_file(self, packet: bytes, theirs: bool) -> None:
        kind = packet[0]
        if kind == FileData.kind:
            if len(packet) < _WHOLE and len(packet) > 1:
                self._over(theirs, packet[1])
        elif kind == FileRequest.kind:
            if len(packet) > 1:
                bit = 1 << packet[1]
                if theirs:
                    self.incoming |= bit
                else:
                    self.outgoing |= bit
        elif len(packet) == FileControl.MAX_SIZE and packet[3] == _CANCEL:
            self._over(theirs == (packet[1] == _SENDING), packet[2])

    def _over(self, incoming: bool, number: int) -> None:
        if incoming:
            self.incoming &= ~(1 << number)
        else:
            self.outgoing &= ~(1 << number)

    def cancels(self) -> list[bytes]:
        """Returns the packets that end all files under way, and forgets these."""
        packets = [
            FileControl(direction, number, _CANCEL).encode()
            for direction, bits in ((_SENDING, self.outgoing), (1 - _SENDING, self.incoming))
            for number in range(bits.bit_length())
            if bits >> number & 1
        ]
        self.incoming = self.outgoing = 0
        return packets
