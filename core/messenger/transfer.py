"""One file transfer: its states, and who may move it from which to which."""

from collections.abc import Sequence
from enum import Enum

from core.messenger.events import Control
from core.packets.messenger import FILE_DATA_SIZE, UNKNOWN_SIZE

INCOMING = 256
"""What is added to the number of a file that the friend sends: both sides count from 0."""
PIECE_PACKETS = 47
"""So many packets' data is asked for at once: 64,437 bytes."""


class State(Enum):
    """Where a transfer stands."""

    OFFERED = "offered"
    RUNNING = "running"
    PAUSED_HERE = "paused here"
    PAUSED_THERE = "paused there"
    PAUSED_BOTH = "paused on both sides"
    FINISHING = "finishing"
    """All of our file is sent; the friend has not acknowledged all of it."""


class Who(Enum):
    """Whose command it is."""

    WE = "we"
    THEY = "they"


# Who paused may resume. Only what runs can be paused, and cancelling is always allowed.
# Spec: File transfers; c-toxcore Messenger.c: file_control, handle_filecontrol
MOVES: dict[tuple[State, Who, Control], State] = {
    (State.RUNNING, Who.WE, Control.PAUSE): State.PAUSED_HERE,
    (State.RUNNING, Who.THEY, Control.PAUSE): State.PAUSED_THERE,
    (State.PAUSED_HERE, Who.WE, Control.RESUME): State.RUNNING,
    (State.PAUSED_HERE, Who.THEY, Control.PAUSE): State.PAUSED_BOTH,
    (State.PAUSED_THERE, Who.THEY, Control.RESUME): State.RUNNING,
    (State.PAUSED_THERE, Who.WE, Control.PAUSE): State.PAUSED_BOTH,
    (State.PAUSED_BOTH, Who.WE, Control.RESUME): State.PAUSED_THERE,
    (State.PAUSED_BOTH, Who.THEY, Control.RESUME): State.PAUSED_HERE,
}
FLOWING = frozenset(State) - {State.OFFERED, State.FINISHING}
"""Data may be given: also while it is paused, for it was asked for before."""


class Transfer:
    """What both directions have."""

    __slots__ = ("file_id", "kind", "number", "position", "size", "state")

    receiver = Who.WE
    """Who may accept the offer, and seek before that."""

    def __init__(self, number: int, kind: int, size: int | None, file_id: bytes) -> None:
        self.number = number
        """As callers name it: 0-255 ours, 256-511 the friend's."""
        self.kind = kind
        self.size = size
        """None: a stream."""
        self.file_id = file_id
        self.state = State.OFFERED
        self.position = 0
        """Up to where it is received, or handed to the session."""

    @property
    def wire_number(self) -> int:
        """The number in packets."""
        return self.number % INCOMING

    @property
    def end(self) -> int:
        """Where the file ends: for a stream, where no file does."""
        return UNKNOWN_SIZE if self.size is None else self.size

    def moved(self, who: Who, control: Control) -> State | None:
        """Returns the state in which the command would leave it; None: it is not allowed."""
        if self.state is State.OFFERED and control is Control.RESUME and who is self.receiver:
            return State.RUNNING
        return MOVES.get((self.state, who, control))

    def may_seek(self, who: Who, position: int) -> bool:
        """Tells whether the transfer may begin at `position`."""
        return self.state is State.OFFERED and who is self.receiver and position < self.end

    def why_not(self, control: Control) -> str:
        """Says why our own command is not allowed."""
        if self.state is State.OFFERED:
            return "the friend has not accepted it" if self.number < INCOMING else "not accepted"
        if control is Control.RESUME and self.state is State.PAUSED_THERE:
            return "only the friend paused it, and only the friend may resume it"
        return f"it is {self.state.value}"


class Incoming(Transfer):
    """A file that the friend sends."""

    __slots__ = ()

    def take(self, pieces: Sequence[bytes]) -> tuple[bytes, int | None]:
        """Takes the data of packets; returns what of it belongs to the file, and how many of them
        are behind its end: None if it goes on."""
        room = self.end - self.position
        size, count, ends = 0, 0, False
        for piece in pieces:
            count += 1
            size += len(piece)
            if len(piece) < FILE_DATA_SIZE or size >= room:
                ends = True
                break
        data = b"".join(pieces[:count])[:room]
        self.position += len(data)
        return data, len(pieces) - count if ends else None


class Outgoing(Transfer):
    """A file that we send. What the caller gave waits here until the session has room for it."""

    __slots__ = ("_buffer", "asked", "ended", "last_packet", "source")

    receiver = Who.THEY

    def __init__(
        self, number: int, kind: int, size: int | None, file_id: bytes, source: bytes | None
    ) -> None:
        super().__init__(number, kind, size, file_id)
        self.source = source
        """The whole file, where it is small enough to be kept here; then nobody is asked."""
        self.asked = 0
        """How many bytes the caller has been asked for and has not given."""
        self.ended = False
        """The stream has no more data than what waits."""
        self.last_packet = 0
        """The packet number with which all is sent, while FINISHING."""
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        """How many bytes wait for room."""
        return len(self._buffer)

    @property
    def given(self) -> int:
        """Up to where the caller has given the file."""
        return self.position + self.waiting

    def want(self, packets: int) -> int:
        """Returns how many bytes are to be asked for now, for `packets` packets."""
        piece = packets * FILE_DATA_SIZE
        if self.asked or self.ended or self.waiting >= piece:
            return 0
        return min(piece, self.end - self.given)

    def give(self, data: bytes) -> None:
        """Appends data; an end of the stream if it is empty."""
        self.asked = 0
        if data:
            self._buffer += data
        else:
            self.ended = True

    def has_packet(self) -> bool:
        """Tells whether the data of a whole packet is here, or the last."""
        rest = len(self._buffer)
        return rest >= FILE_DATA_SIZE or self.ended or self.position + rest >= self.end

    def next_packet(self) -> bytearray:
        """Returns the data of the next packet, which stays here until it is sent."""
        return self._buffer[:FILE_DATA_SIZE]

    def sent(self, size: int) -> bool:
        """Counts a packet of `size` bytes as sent; tells whether it was the last."""
        del self._buffer[:size]
        self.position += size
        return size < FILE_DATA_SIZE or self.position >= self.end

    def seek(self, position: int) -> None:
        """Begins at `position`."""
        self.position = position
