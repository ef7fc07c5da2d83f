"""What decides how fast a session sends."""

from typing import Protocol


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


class RateRule(Protocol):
    """Decides when packets leave; one for each session. Numbers are packets, times seconds."""

    def allowance(self, again: bool, queued: int, in_flight: int, now: float) -> int:
        """Returns how many packets may leave now; `again`: those that are sent once more.

        `queued` is how many are not acknowledged, sent or not.
        """
        ...

    def next_time(self, queued: int, in_flight: int, now: float) -> float | None:
        """Returns when more may leave if `allowance` gave none; None: when the peer is heard."""
        ...

    def on_send(self, sent: Sent, again: bool, in_flight: int, now: float) -> None:
        """One leaves; `sent.sent_at` is set already. `in_flight` is without it."""
        ...

    def on_feedback(
        self, delivered: int, newest: Sent | None, rtt_s: float | None, in_flight: int, now: float
    ) -> None:
        """The peer said what it has: `delivered` more packets, the `newest` of them by time.

        `rtt_s` is a new sample, if there was one.
        """
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
