"""Tags that prove "we gave you this a moment ago" without remembering to whom they were given."""

from core.crypto import SecretKey, Tagger, derive_key, equal

TAG_SIZE = 32  # c-toxcore timed_auth.h: TIMED_AUTH_SIZE


class TimedAuth:
    """Keyed tags over data and a time window; valid in the window they were made in and the next.

    The key is derived from the master secret, so all shards make and accept the same tags. Used for
    ping ids (300 s), tokens of data announcements (60 s) and sendbacks of forwarding (3600 s). The
    reference uses HMAC; only the node that made a tag ever reads it, so a faster MAC does.
    """

    __slots__ = ("_before", "_from", "_key", "_now", "_until", "_window_s")

    def __init__(self, master: SecretKey, purpose: str, window_s: int) -> None:
        self._key = derive_key(master.reveal(), purpose)
        self._window_s = window_s
        self._from = self._until = float("inf")  # its taggers are made when they are needed
        self._before: Tagger | None = None

    def _turn(self, now: float) -> None:
        """Makes what is good while the window of `now` lasts."""
        window = int(now // self._window_s)
        self._from = float(window * self._window_s)
        self._until = self._from + self._window_s
        self._now = Tagger(self._key, window.to_bytes(8, "big"))
        self._before = None

    def make(self, data: bytes, now: float) -> bytes:
        """Returns the 32-byte tag of `data` for the window of `now`."""
        if not self._from <= now < self._until:
            self._turn(now)
        return self._now.make(data)

    def made_before(self, given: bytes, data: bytes, now: float) -> bool:
        """Tells whether `given` is the tag of `data` of the previous window."""
        if not self._from <= now < self._until:
            self._turn(now)
        if self._before is None:
            # there is none before the first: the present one again
            before = max(0, int(now // self._window_s) - 1)
            self._before = Tagger(self._key, before.to_bytes(8, "big"))
        return equal(given, self._before.make(data))

    def check(self, given: bytes, data: bytes, now: float) -> bool:
        """Tells whether `given` is the tag of `data` of this window or the previous one."""
        return equal(given, self.make(data, now)) or self.made_before(given, data, now)
