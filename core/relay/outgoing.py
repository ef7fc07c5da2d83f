"""What a relay shard has sealed since its last commit: one piece of memory for all its clients."""

from typing import Any

from core.crypto import MAC_SIZE, box_arena
from core.relay.limits import MAX_BOX, NONCE_MASK
from core.relay.session import NOWHERE, Receiver, Session

_ARENA = 4 << 20  # bytes: as great as a frame between processes, and each commit is smaller
_SIZES = [size.to_bytes(2, "big") for size in range(MAX_BOX + 1)]


class Outgoing:
    """Sealed frames in the order in which they were sealed, and whose they are.

    Frames for one client that stand behind one another are one piece of it, so that a stream of
    frames from one client to another becomes one piece, whose bytes are copied once.
    """

    def __init__(self) -> None:
        self.arena = box_arena(_ARENA)
        self.used = 0
        """Bytes of the arena that hold frames; what is behind may be written at any time."""
        self._memory = memoryview(self.arena.memory)
        self._touched: list[Session] = []

    def forget(self) -> None:
        """Forgets all of it."""
        self.used = 0
        self._touched = []

    def touch(self, session: Session) -> None:
        """Makes a session part of the next commit."""
        if not session.touched:
            session.touched = True
            self._touched.append(session)

    def seal(self, session: Session, plain: bytes) -> None:
        """Seals a frame for a client of this shard, whose send nonce nobody else uses."""
        memory, _, _, seal_box = self.arena
        used = self.used
        text = len(plain)
        size = text + MAC_SIZE
        end = used + 2 + size
        memory[end - text : end] = plain
        seal_box(used + 2, text, session.send.to_bytes(24, "big"), session.shared)
        memory[used : used + 2] = _SIZES[size]
        session.send = (session.send + 1) & NONCE_MASK
        session.sent += 1
        session.ahead += size + 2
        if session.ends != used:
            self.begin_piece(session, used)
        session.ends = self.used = end

    def put(self, session: Session, data: bytes) -> None:
        """Puts bytes as they are behind what was sealed for a client."""
        used = self.used
        end = used + len(data)
        self.arena.memory[used:end] = data
        if session.ends != used:
            self.begin_piece(session, used)
        session.ends = self.used = end

    def begin_piece(self, session: Session, used: int) -> None:
        """Begins a new piece: what is sealed next for a client is not behind its last piece."""
        self.touch(session)
        if session.ends != NOWHERE:
            if session.pieces is None:
                session.pieces = []
            session.pieces.append((session.begins, session.ends))
        session.begins = used

    def collect(self, handed: list[tuple[Receiver, int]]) -> tuple[list[Any], bytes]:
        """Returns the rows of a commit and the bytes for all of them, and begins anew.

        Adds to `handed` who gets how many bytes of frames.
        """
        rows: list[Any] = []
        pieces: list[memoryview] = []
        memory = self._memory
        first = last = 0  # pieces that stand behind one another are copied as one: many pings
        for session in self._touched:
            size = 0
            ends = session.ends
            if ends != NOWHERE:
                begins = session.begins
                if session.pieces is not None:
                    for begin, end in session.pieces:
                        if begin != last:
                            pieces.append(memory[first:last])
                            first = begin
                        last = end
                        size += end - begin
                    session.pieces = None
                if begins != last:
                    pieces.append(memory[first:last])
                    first = begins
                last = ends
                size += ends - begins
                session.ends = NOWHERE
            rows += (
                session.serial,
                session.consumed,
                session.received,
                session.sent,
                session.done,
                session.wait,
                size,
            )
            if session.sent:
                handed.append((session, size))
                session.sent = 0
            session.touched = False
            session.consumed = session.received = session.done = 0
        pieces.append(memory[first:last])
        self.forget()
        return rows, b"".join(pieces)
