"""The nonces of a session's packets: only their last two bytes travel."""

from core.crypto import Nonce, increment

THRESHOLD = 21845  # c-toxcore net_crypto.c: DATA_NUM_THRESHOLD
_WRAP = 1 << 16
REPLAY_WINDOW = 2048  # packets; how late one that has no number may be
_REPLAY_MASK = (1 << REPLAY_WINDOW) - 1


class SendNonce:
    """Counts up from a random base; no value is ever given twice."""

    __slots__ = ("_head", "_low")

    def __init__(self, base: Nonce) -> None:
        self._head = base[:22]
        self._low = base[22] << 8 | base[23]

    def take(self) -> bytes:
        """Returns the nonce of the next packet; its last two bytes travel."""
        low = self._low
        nonce = self._head + low.to_bytes(2, "big")
        if low == _WRAP - 1:
            self._head = increment(Nonce(nonce))[:22]
            low = -1
        self._low = low + 1
        return nonce


class ReceiveNonce:
    """Completes the two bytes that came, in a window of 65,536 that slides behind the peer.

    It also remembers which of the last 2,048 packets without a number of their own came already:
    the reference takes such a packet (lossy data, requests, kill) as often as it is replayed.
    """

    __slots__ = ("_base", "_count", "_head", "_low", "_next_head", "_seen", "_top")

    def __init__(self, base: Nonce, slid: int = 0, top: int = -1) -> None:
        """Stands `slid` packets behind the base; of packets without a number all up to `top` came
        already."""
        self._count = slid  # how far the base has slid
        self._top = top
        self._seen = _REPLAY_MASK if top >= 0 else 0
        self._set(increment(base, slid))

    def _set(self, base: Nonce) -> None:
        self._base = base
        self._head = base[:22]
        self._low = base[22] << 8 | base[23]
        self._next_head = increment(base, _WRAP)[:22]

    def complete(self, end: bytes) -> bytes:
        """Returns the nonce whose last two bytes are `end`."""
        return (self._head if (end[0] << 8 | end[1]) >= self._low else self._next_head) + end

    def used(self, end: bytes) -> int:
        """Slides the window behind a packet that was authentic; returns which one it was."""
        ahead = ((end[0] << 8 | end[1]) - self._low) % _WRAP
        position = self._count + ahead
        if ahead > 2 * THRESHOLD:
            self._count += THRESHOLD
            self._set(increment(self._base, THRESHOLD))
        return position

    def is_new(self, position: int) -> bool:
        """Tells whether this is the first time, and remembers it."""
        ahead = position - self._top
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _REPLAY_MASK if ahead < REPLAY_WINDOW else 1
            self._top = position
            return True
        bit = 1 << -ahead
        if -ahead >= REPLAY_WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True
