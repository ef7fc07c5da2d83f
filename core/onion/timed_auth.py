"""Tags that prove "we gave you this a moment ago" without remembering to whom they were given."""

from core.crypto import SecretKey, derive_key, equal, tagger

TAG_SIZE = 32  # c-toxcore timed_auth.h: TIMED_AUTH_SIZE


class TimedAuth:
    """Keyed tags over data and a time window; valid in the window they were made in and the next.

    The key is derived from the master secret, so all shards make and accept the same tags. Used for
    ping ids (300 s), tokens of data announcements (60 s) and sendbacks of forwarding (3600 s). The
    reference uses HMAC; only the node that made a tag ever reads it, so a faster MAC does.
    """

    __slots__ = ("_tag", "_window_s")

    def __init__(self, master: SecretKey, purpose: str, window_s: int) -> None:
        self._tag = tagger(derive_key(master.reveal(), purpose))
        self._window_s = window_s

    def make(self, data: bytes, now: float) -> bytes:
        """Returns the 32-byte tag of `data` for the window of `now`."""
        return self._tag(int(now // self._window_s).to_bytes(8, "big") + data)

    def made_before(self, given: bytes, data: bytes, now: float) -> bool:
        """Tells whether `given` is the tag of `data` of the previous window."""
        window = int(now // self._window_s) - 1
        if window < 0:
            return False
        return equal(given, self._tag(window.to_bytes(8, "big") + data))

    def check(self, given: bytes, data: bytes, now: float) -> bool:
        """Tells whether `given` is the tag of `data` of this window or the previous one."""
        return equal(given, self.make(data, now)) or self.made_before(given, data, now)
