"""How many cookie requests are answered: junk is paid for by those from whom it comes.

The reference has one bucket for a whole instance and charges it before it decrypts, so that ten
junk packets a second silence it (c-toxcore net_crypto.c: COOKIE_REQUEST_MAX_TOKENS). Here a peer
that we have a session with, or build one with, pays from a purse of its own, a stranger from that
of its source, and what all strangers share is charged only for what is surely sealed for us.
"""

BURST = 10.0  # c-toxcore net_crypto.c: COOKIE_REQUEST_MAX_TOKENS
PER_SECOND = 10.0  # c-toxcore net_crypto.c: COOKIE_REQUEST_TOKEN_INTERVAL, 100 ms
ALL_PER_SECOND = 200.0  # answers to strangers, and curve products for them; 31 us each
MAX_PURSES = 1024


class Purse:
    """A token bucket: `burst` at once, then `per_second`."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self._burst, self._rate = burst, per_second
        self._tokens, self._at = burst, now

    def pay(self, now: float) -> bool:
        """Takes one token; False if there is none."""
        tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if tokens < 1:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1
        return True


class Purses:
    """One purse for each key, for at most `MAX_PURSES` of those that were used last.

    When the young half is full, the old one is forgotten; whoever was in it begins anew. That gives
    an attacker with many prefixes no more than what all strangers share.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, Purse] = {}
        self._old: dict[bytes, Purse] = {}

    def pay(self, key: bytes, now: float) -> bool:
        """Takes one token of this key's purse; False if it is empty."""
        purse = self._young.get(key)
        if purse is None:
            purse = self._old.pop(key, None) or Purse(BURST, PER_SECOND, now)
            if len(self._young) >= MAX_PURSES // 2:
                self._old, self._young = self._young, {}
            self._young[key] = purse
        return purse.pay(now)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class CookieLimits:
    """The limits of one way in: over UDP a source is a prefix, through relays a DHT key."""

    __slots__ = ("_answers", "_known", "_products", "_strangers")

    def __init__(self, now: float) -> None:
        self._known = Purses()
        self._strangers = Purses()
        self._products = Purse(ALL_PER_SECOND, ALL_PER_SECOND, now)
        self._answers = Purse(ALL_PER_SECOND, ALL_PER_SECOND, now)

    def may_compute(self, source: bytes, now: float) -> str:
        """Asked before a key is multiplied; returns whose purse is empty, or nothing."""
        if not self._strangers.pay(source, now):
            return "source"
        return "" if self._products.pay(now) else "all"

    def may_answer(self, source: bytes, dht_key: bytes, expected: bool, now: float) -> str:
        """Asked when the box is good; `expected`: there is a session with this DHT key."""
        if expected:
            return "" if self._known.pay(dht_key, now) else "peer"
        if not self._strangers.pay(source, now):
            return "source"
        return "" if self._answers.pay(now) else "all"
