"""What a relay worker knows of one connection: its cipher, its links, and what it waits for."""

from typing import Any

from core.endpoint import Endpoint, is_private
from core.relay.frames import GO_ON
from core.relay.limits import RelayLimits

PING_INTERVAL_S = 30.0  # c-toxcore TCP_common.h: TCP_PING_FREQUENCY, for clients as well
_PING_EARLY_S = 1.0
_PING_LATE_S = 15.0
NOWHERE = -1  # nothing was sealed since the last commit

Peer = tuple[int, int]
"""Serial and link id of the other half of a link."""


class Receiver:
    """A connection that frames are for: how much was handed over and not yet seen by the broker."""

    __slots__ = ("ahead", "full", "held", "serial")

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.ahead = 0  # bytes in commits that were not yet applied
        self.full = False  # as the broker says
        self.held = False  # and why: it will be read again by itself


class Session(Receiver):
    """One connection of this shard."""

    __slots__ = (
        "begins",
        "confirmed",
        "consumed",
        "done",
        "dropping",
        "ends",
        "held_since",
        "key",
        "links",
        "past",
        "paused_since",
        "pieces",
        "ping_id",
        "pinged",
        "private",
        "receive",
        "received",
        "rest",
        "routes",
        "send",
        "sent",
        "shared",
        "source",
        "touched",
        "wait",
        "waits_for",
    )

    def __init__(
        self,
        serial: int,
        key: bytes,
        shared: bytes,
        receive: int,
        send: int,
        source: Endpoint,
    ) -> None:
        super().__init__(serial)
        self.source = source
        self.private = is_private(source)
        self.key = key
        self.shared: Any = shared
        self.receive = receive  # nonce of the next frame from the client, as a number
        self.send = send  # nonce of the next frame to the client
        self.confirmed = False
        self.ping_id: bytes | None = None  # of our ping that was not answered yet
        self.pinged: float | None = None  # when the client's last ping came
        self.rest = b""  # input that was not consumed: less than a frame, or waiting
        self.links: dict[int, Peer | None] = {}  # by link id; None: the other side is not linked
        self.routes = 0  # routing requests whose response has not come yet
        # why the rest waits
        self.wait = GO_ON
        self.waits_for: Receiver | None = None
        self.paused_since: float | None = None
        self.past = 0  # bytes of its frames that went to receivers which are full, as it is itself
        self.held_since: float | None = None  # when it began to wait for one whose worker is away
        self.dropping: set[int] | None = None  # serials of receivers its frames are dropped for
        # since the last commit
        self.touched = False
        self.consumed = 0
        self.received = 0
        self.sent = 0
        self.done = 0
        self.begins = 0  # the last run of frames sealed for it: its place in the shard's arena
        self.ends = NOWHERE
        self.pieces: list[tuple[int, int]] | None = None  # and those before it

    def __repr__(self) -> str:
        return f"Session({self.serial})"  # it holds keys

    @property
    def is_behind(self) -> bool:
        """Whether its own queue is full, maybe until an answer comes in its stream that says how
        far its client has read."""
        return self.full and not self.held

    def may_hold(self, held: bool, now: float, longest_s: float) -> bool:
        """Tells whether its stream may wait though a ping is due in it, since a receiver's worker
        is away (`held`) or was of late: once between two pings, while a pong still has time."""
        since = self.held_since
        if held and (since is None or now - since >= PING_INTERVAL_S):
            since = self.held_since = now
        return since is not None and now - since < longest_s

    def may_pause(self, now: float) -> bool:
        """Tells whether its stream may wait: not while an answer is due in it, or a ping."""
        if self.ping_id is not None or self.is_behind:
            return False
        if self.pinged is None:
            self.pinged = now
            return True
        age = now - self.pinged
        if age > PING_INTERVAL_S + _PING_LATE_S:  # this client does not ping
            self.pinged = now
            return True
        return age < PING_INTERVAL_S - _PING_EARLY_S


def has_room(receiver: Receiver, limits: RelayLimits) -> bool:
    """Tells whether more may be handed over for this receiver now."""
    if receiver.full:
        return False
    ahead = limits.ahead_local if type(receiver) is Session else limits.ahead_remote
    return receiver.ahead < ahead
