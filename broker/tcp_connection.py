"""The broker's record of one TCP connection: all of it that has to survive a relay worker."""

from collections import deque
from enum import IntEnum

from broker.tcp_pace import ONLY_ASKS, Pace
from core.endpoint import Endpoint
from core.link.streams import Stream
from core.relay.frames import GO_ON, ROOM
from core.relay.limits import BOX_EXTRA, NONCE_MASK

Peer = tuple[int, int]
Look = tuple[float, tuple[int, int, int, int], tuple[float, float, float, float] | None, float]
"""When an operator last looked; frames in and out, bytes in and out then; the rates he saw, over
how many seconds."""


class State(IntEnum):
    """The life of a connection; it only goes forward."""

    GREETING = 0  # the client hello is not complete
    GREETED = 1  # a worker has to answer the hello
    UNCONFIRMED = 2  # answered; no good frame yet
    CONFIRMED = 3
    CLOSED = 4


# The hot path has them by name: to look into an enum takes 90 ns, and a handshake does it 20 times.
GREETING, GREETED, UNCONFIRMED, CONFIRMED, CLOSED = State

NOT_PINGED, PING_WAITS, PING_GIVEN = range(3)
"""What becomes of a regular ping: none is due or it was sealed, no worker has it yet, one has."""

_NONCE_SIZE = 24


def nonce_after(first: bytes, frames: int) -> bytes:
    """Returns the nonce that comes so many frames after the first one."""
    nonce = (int.from_bytes(first, "big") + frames) & NONCE_MASK
    return nonce.to_bytes(_NONCE_SIZE, "big")


def count_between(first: bytes, nonce: bytes) -> int:
    """Returns how many frames a nonce is after the first one."""
    return (int.from_bytes(nonce, "big") - int.from_bytes(first, "big")) & NONCE_MASK


class Connection:
    """One client. What is committed stands here; what is not can be given to a worker again."""

    __slots__ = (
        "address",
        "bytes_in",
        "bytes_out",
        "crossed",
        "deaths",
        "doubted",
        "ended",
        "fd",
        "flying",
        "frames_in",
        "frames_out",
        "given",
        "inbox",
        "inbox_size",
        "key",
        "listed",
        "looked",
        "moved",
        "note",
        "out",
        "pace",
        "ping_id",
        "pinging",
        "prefix",
        "readable",
        "receive_first",
        "regive",
        "rest",
        "seen",
        "send_first",
        "serial",
        "shard",
        "shared",
        "since",
        "socket",
        "source",
        "state",
        "wait",
        "waiting_mail",
    )

    def __init__(
        self,
        serial: int,
        stream: Stream,
        address: bytes,
        prefix: bytes,
        source: Endpoint,
        now: float,
    ) -> None:
        self.serial = serial
        self.socket = stream
        self.fd = stream.fileno()
        self.source = source
        self.address = address
        self.prefix = prefix
        self.state = State.GREETING
        self.shard = -1
        self.key = b""
        self.shared = b""
        # Nonces count up by one, so that of the next frame is the first and the frames since: a
        # client that only waits has two small numbers here, and not two new ones of 192 bits.
        self.receive_first = self.send_first = b""
        self.frames_in = self.frames_out = 0  # committed
        self.ping_id: bytes | None = None  # of the one that was not answered yet
        self.pinging = NOT_PINGED
        # for operators
        self.since = self.seen = now  # accepted; last byte read
        self.bytes_in = self.bytes_out = 0
        self.looked: Look | None = None
        # input
        self.readable = True  # the socket may have more
        self.ended = False  # the client has closed its side
        self.listed = False  # in its shard's list of connections to read
        self.flying = False  # in a frame that was not committed yet
        self.wait = GO_ON  # why the worker left input where it was
        # input that was read and not consumed; a view while it is where it was read to (`settle`)
        self.rest: bytes | memoryview = b""
        self.regive = False  # `rest` has to be given to a new worker before anything new
        self.deaths = 0  # workers that died with this connection in hand, one after the other
        self.doubted = False  # in hand at the last death, and not yet tried again
        # frames for this client that no commit has taken yet
        self.inbox: deque[tuple[bytes, Peer | None]] | None = None
        self.inbox_size = 0  # bytes that these will be when they are sealed
        self.given = 0  # how many of them the worker has
        self.waiting_mail = False  # in its shard's list of connections with mail
        self.crossed = 0  # frames to other shards since it was last looked at for moving
        # output
        self.out: bytearray | None = None  # sealed, committed, and not taken by the socket
        self.moved = 0.0  # when the socket last took a byte while `out` was there
        self.pace: Pace | None = None  # of one that got more than a little
        self.note = ROOM  # what its senders were told: ROOM, FULL or HELD

    def __repr__(self) -> str:
        return f"Connection({self.serial}, {self.state.name})"  # it holds keys

    @property
    def receive(self) -> bytes:
        """Nonce of the next frame from the client."""
        return nonce_after(self.receive_first, self.frames_in)

    @property
    def send(self) -> bytes:
        """Nonce of the next frame to the client."""
        return nonce_after(self.send_first, self.frames_out)

    @property
    def level(self) -> int:
        """Bytes that wait for this client."""
        return self.inbox_size + (len(self.out) if self.out is not None else 0)

    @property
    def full(self) -> bool:
        """Whether its senders were told to wait."""
        return self.note != ROOM

    @property
    def is_asked(self) -> bool:
        """Whether the first frame in its inbox asks how far it has read."""
        return self.inbox is not None and self.inbox[0][1] == ONLY_ASKS

    def keep_rest(self) -> None:
        """Gives unconsumed input memory of its own: what it was read to is used again."""
        if self.rest.__class__ is memoryview:
            self.rest = bytes(self.rest)

    def post(self, frame: bytes, peer: Peer | None) -> None:
        """Appends a plain frame for the client."""
        if self.inbox is None:
            self.inbox = deque()
        self.inbox.append((frame, peer))
        self.inbox_size += len(frame) + BOX_EXTRA

    def post_first(self, frame: bytes, peer: Peer | None) -> None:
        """Puts a plain frame before all that no worker was given yet."""
        if self.inbox is None:
            self.inbox = deque()
        self.inbox.insert(self.given, (frame, peer))
        self.inbox_size += len(frame) + BOX_EXTRA

    def taken(self, count: int) -> None:
        """Forgets the first `count` frames of the inbox: they are sealed."""
        inbox = self.inbox
        if inbox is None:
            return
        for _ in range(min(count, len(inbox))):
            self.inbox_size -= len(inbox.popleft()[0]) + BOX_EXTRA
        self.given = max(0, self.given - count)
        if not inbox:
            self.inbox = None
