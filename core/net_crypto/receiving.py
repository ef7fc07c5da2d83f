"""The receiving half of a session's lossless data: put in order, and what is missing asked for."""

from collections.abc import Callable

from core.net_crypto import requests
from core.net_crypto.sending import NEVER, U32, WINDOW

REQUEST_S = 0.05  # c-toxcore net_crypto.c: PACKET_COUNTER_AVERAGE_INTERVAL, its shortest pause
ACK_S = 0.01  # waits so long for more that it can tell of
QUIET_S = 1.0  # but not after a pause like this, when one packet comes alone: no timer for it
MAX_REQUEST_S = 1.0  # c-toxcore net_crypto.h: CRYPTO_SEND_PACKET_INTERVAL

Deliver = Callable[[bytes], None]
"""deliver(data): hands a packet upward."""


class ReceiveStream:
    """Hands packets upward in order, each once, and keeps those that came too early.

    It says when the peer is to be told what is here and what is missing: 10 ms behind the first
    packet after a pause, and not more often than each 50 ms. The reference does that from a timer
    by a formula (WIRE: W29), up to a second late.
    """

    __slots__ = (
        "_asked_at",
        "_deliver",
        "_quiet",
        "end",
        "held",
        "held_bytes",
        "request_at",
        "start",
    )

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self.start = 0  # the number that is waited for
        self.end = 0  # behind the greatest number that the peer is known to have sent
        self.held: dict[int, bytes] = {}
        self.held_bytes = 0
        self.request_at = NEVER  # when the peer is to be told
        self._asked_at = -NEVER
        self._quiet = 0  # requests since anything came

    def take(self, number: int, data: bytes, now: float) -> str:
        """Takes a packet; returns why it is refused, or nothing."""
        ahead = (number - self.start) & U32
        if ahead >= WINDOW:
            if U32 + 1 - ahead > WINDOW:
                return "crypto_data_window"
            self._plan(now)  # our word that it is here was lost, or the peer is in a hurry
            return "crypto_data_repeated"
        if ahead:
            if number in self.held:
                self._plan(now)
                return "crypto_data_repeated"
            self.held[number] = data
            self.held_bytes += len(data)
            if ahead >= (self.end - self.start) & U32:
                self.end = (number + 1) & U32
            self._plan(now)
            return ""
        if self.end == number:
            self.end = (number + 1) & U32
        self.start = (number + 1) & U32
        self._plan(now)
        self._deliver(data)
        if self.held:
            self._deliver_held()
        return ""

    def _deliver_held(self) -> None:
        while (data := self.held.pop(self.start, None)) is not None:
            self.held_bytes -= len(data)
            self.start = (self.start + 1) & U32
            self._deliver(data)
        if not self.held:
            self.held = {}  # a dict that was great does not get small by itself

    def learn_end(self, number: int, now: float) -> None:
        """Takes the peer's next number: what is before it and not here is missing."""
        ahead = (number - self.start) & U32
        if (self.end - self.start) & U32 < ahead <= WINDOW:
            self.end = number
            self._plan(now)

    def _plan(self, now: float) -> None:
        """Lets the peer be told soon."""
        self._quiet = 0
        wait = ACK_S if now < self._asked_at + QUIET_S else 0.0
        if self.request_at > now + wait:
            self.request_at = min(self.request_at, max(now + wait, self._asked_at + REQUEST_S))

    def told_in_passing(self) -> None:
        """Our header went with some other packet: if nothing is missing, that was enough."""
        if self.start == self.end:
            self.request_at = NEVER

    def request(self, rtt: float, most: int, now: float) -> bytes:
        """Returns the request packet that is due, and plans the next if anything is missing."""
        self._asked_at = now
        self.request_at = NEVER
        if self.start != self.end:
            pause = max(REQUEST_S, 1.25 * rtt) * (1 << min(self._quiet, 5))
            self.request_at = now + min(pause, MAX_REQUEST_S)
            self._quiet += 1
        return requests.encode(self.start, self.end, self.held, most)

    def missing(self) -> int:
        """Returns how many packets are known to be missing."""
        return ((self.end - self.start) & U32) - len(self.held)
