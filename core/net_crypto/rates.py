"""What decides how fast a session sends."""

from typing import NamedTuple, Protocol


class Sent:
    """A lossless packet on its way: until the peer has it, it may have to be sent again."""

    __slots__ = ("data", "delivered", "delivered_at", "first_sent_at", "lost", "sends", "sent_at")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent_at = 0.0
        self.sends = 0
        self.lost = False  # it waits to be sent again
        self.delivered = 0  # what the rule had seen when this was sent
        self.delivered_at = 0.0
        self.first_sent_at = 0.0


class Feedback(NamedTuple):
    """What one packet of the peer said of ours."""

    delivered: int
    """How many more have arrived."""
    lost: int
    """How many have turned out to be lost."""
    newest: Sent | None
    """Of those that arrived and were sent once, the one that was sent last."""
    rtt_s: float | None
    """The round trip of that one. If anything is missing it may be too long, for the peer does not
    say what it has behind the last gap."""
    exact: bool
    """Whether nothing is missing."""


class RateRule(Protocol):
    """Decides when packets leave; one for each session. Numbers are packets, times seconds."""

    def allowance(self, again: bool, queued: int, in_flight: int, now: float) -> int:
        """Returns how many packets may leave now; `again`: those that are sent once more.

        `queued` is how many numbers are in use, from the oldest that the peer waits for.
        """
        ...

    def next_time(self, again: bool, queued: int, in_flight: int, now: float) -> float | None:
        """Returns when more may leave if `allowance` gave none; None: when the peer is heard."""
        ...

    def on_send(self, sent: Sent, again: bool, in_flight: int, now: float) -> None:
        """One leaves; `sent.sent_at` is set already. `in_flight` is without it."""
        ...

    def on_feedback(self, feedback: Feedback, in_flight: int, now: float) -> None:
        """The peer said what it has."""
        ...

    def on_idle(self, in_flight: int, now: float) -> None:
        """Nothing is left to be sent, although more might be."""
        ...

    def room(self, unsent: int, in_flight: int) -> int:
        """Returns how many more packets of bulk data should be queued."""
        ...

    def rate(self) -> float:
        """Returns the packets a second at which it sends."""
        ...
