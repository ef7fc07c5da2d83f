"""The halves of a session that outlives this process: as the others, but what they do is kept."""

from core.crypto import Nonce
from core.net_crypto import layout
from core.net_crypto.kept import Kept
from core.net_crypto.nonces import ReceiveNonce, SendNonce
from core.net_crypto.rates import RateRule, Sent
from core.net_crypto.receiving import MAX_REQUEST_S, Deliver, ReceiveStream
from core.net_crypto.sending import NEVER, U32, WINDOW, Emit, SendStream
from core.net_crypto.tags import NO_TAG, Tag

FULL = "crypto_kept_full"


class KeptSendNonce(SendNonce):
    """Counts up within what the row says may have been used."""

    __slots__ = ("_kept", "_left")

    def __init__(self, base: Nonce, kept: Kept) -> None:
        super().__init__(base)
        self._kept = kept
        self._left = 0

    def take(self) -> bytes:
        """Returns the nonce of the next packet."""
        if not self._left:
            self._left = self._kept.reserve()
        self._left -= 1
        return SendNonce.take(self)


class KeptReceiveNonce(ReceiveNonce):
    """Says where its window stands, and what came of packets without a number.

    Who takes it up refuses all of these that are not later than the latest: a few lossy packets
    may be lost so, none is taken twice.
    """

    __slots__ = ("_kept",)

    def __init__(self, base: Nonce, kept: Kept) -> None:
        self._kept = kept
        super().__init__(base, kept.word(layout.SLID), kept.word(layout.TOP) - 1)

    def _set(self, base: Nonce) -> None:
        super()._set(base)
        self._kept.set_word(layout.SLID, self._count)

    def is_new(self, position: int) -> bool:
        """Tells whether this is the first time, and remembers it."""
        if position > self._top:
            self._kept.set_word(layout.TOP, position + 1)
        return super().is_new(position)


class KeptSendStream(SendStream):
    """Keeps each packet, with its tag, until the peer has all before it as well.

    It begins with what an earlier process has queued. Of what that had sent the peer tells what has
    come; no round trip can be learnt from it.
    """

    __slots__ = ("_kept",)

    def __init__(self, emit: Emit, rule: RateRule, kept: Kept) -> None:
        super().__init__(emit, rule)
        self._kept = kept
        self.start = kept.word(layout.START)
        self.next = kept.word(layout.NEXT)
        self.end = (self.start + len(kept.outgoing)) & U32
        self.in_flight = (self.next - self.start) & U32
        for offset, (place, _) in enumerate(kept.outgoing):
            sent = Sent(kept.data(place))
            if offset < self.in_flight:
                sent.sends, sent.sent_at = 2, -NEVER
            self._packets[(self.start + offset) & U32] = sent

    def queue(self, data: bytes, tag: Tag = NO_TAG) -> int | None:
        """Gives a packet its number; None if there is no room for it."""
        number = self.end
        if (number - self.start) & U32 >= WINDOW:
            return None
        if not self._kept.keep_outgoing(number, data, tag):
            return None
        self._packets[number] = Sent(data)
        self.end = (number + 1) & U32
        return number

    def acknowledge(self, start: int, now: float) -> bool | None:
        """Takes the number the peer waits for, as any stream, and lets go of all before."""
        count = (start - self.start) & U32
        fresh = SendStream.acknowledge(self, start, now)
        if fresh and count:
            self._kept.acknowledged(start, count)
        return fresh

    def _send(self, number: int, sent: Sent, now: float) -> bool:
        if not sent.sends:
            self._kept.set_word(layout.NEXT, (number + 1) & U32)
        return SendStream._send(self, number, sent, now)


class KeptReceiveStream(ReceiveStream):
    """Takes a packet only when it is kept; the peer sends it again otherwise.

    It begins with what has come to an earlier process.
    """

    __slots__ = ("_kept",)

    def __init__(self, deliver: Deliver, kept: Kept) -> None:
        super().__init__(deliver)
        self._kept = kept
        self.start = self.end = kept.in_order()
        for number, place in kept.incoming.items():
            ahead = (number - self.start) & U32
            if ahead < WINDOW:  # not one that is in order, and to be handed up again
                self.held[number] = data = kept.data(place)
                self.held_bytes += len(data)
                if ahead >= (self.end - self.start) & U32:
                    self.end = (number + 1) & U32

    def take(self, number: int, data: bytes, now: float) -> str:
        """Takes a packet if it can be kept; returns why it is refused, or nothing."""
        ahead = (number - self.start) & U32
        is_new = ahead < WINDOW and number not in self.held
        if is_new and not self._kept.keep_incoming(number, data, not ahead):
            self._ask_later(ahead, now)
            return FULL
        return ReceiveStream.take(self, number, data, now)

    def _ask_later(self, ahead: int, now: float) -> None:
        """Knows of a packet that there was no room for; `stored` asks for it sooner."""
        if ahead >= (self.end - self.start) & U32:
            self.end = (self.start + ahead + 1) & U32
        if self.request_at == NEVER:
            self.request_at = now + MAX_REQUEST_S

    def stored(self, number: int, now: float) -> bool:
        """The layer above has stored all up to this; True: the peer is to be told so soon."""
        if not self._kept.stored(number, self.start) or self.start == self.end:
            return False
        self._plan(now)
        return True
