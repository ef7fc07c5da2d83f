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
FULL_S = 1.0  # after that without a payment all purses are full again, and need not be kept


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


class _All:
    """The purses of all who pay."""

    __slots__ = ("answers", "known", "products", "strangers")

    def __init__(self, now: float) -> None:
        self.known = Purses()
        self.strangers = Purses()
        self.products = Purse(ALL_PER_SECOND, ALL_PER_SECOND, now)
        self.answers = Purse(ALL_PER_SECOND, ALL_PER_SECOND, now)


class CookieLimits:
    """The limits of one way in: over UDP a source is a prefix, through relays a DHT key.

    An identity has two of these, and is asked for cookies now and then: purses are there while
    somebody pays.
    """

    __slots__ = ("_paid", "_purses")

    def __init__(self) -> None:
        self._purses: _All | None = None
        self._paid = 0.0

    def __len__(self) -> int:
        """Returns how many have a purse of their own."""
        purses = self._purses
        return 0 if purses is None else len(purses.known) + len(purses.strangers)

    def _all(self, now: float) -> _All:
        self._paid = now
        if self._purses is None:
            self._purses = _All(now)
        return self._purses

    def tidy(self, now: float) -> None:
        """Lets go of the purses if all are full."""
        if self._paid + FULL_S <= now:
            self._purses = None

    def may_compute(self, source: bytes, now: float) -> str:
        """Asked before a key is multiplied; returns whose purse is empty, or nothing."""
        purses = self._all(now)
        if not purses.strangers.pay(source, now):
            return "source"
        return "" if purses.products.pay(now) else "all"

    def may_answer(self, source: bytes, dht_key: bytes, expected: bool, now: float) -> str:
        """Asked when the box is good; `expected`: there is a session with this DHT key."""
        purses = self._all(now)
        if expected:
            return "" if purses.known.pay(dht_key, now) else "peer"
        if not purses.strangers.pay(source, now):
            return "source"
        return "" if purses.answers.pay(now) else "all"
