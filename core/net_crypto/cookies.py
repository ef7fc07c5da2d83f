"""Cookies: what we must know of a stranger until its handshake comes, kept by the stranger."""

from typing import NamedTuple

from core import crypto
from core.crypto import NONCE_SIZE, PublicKey, SharedKey
from core.entropy import Entropy

LIFE_S = 15.0  # c-toxcore net_crypto.c: COOKIE_TIMEOUT
FUTURE = "crypto_cookie_future"
OLD = "crypto_cookie_old"
FORGED = "crypto_cookie"


class Cookie(NamedTuple):
    """What one says."""

    baked_ms: int
    """When we made it, in milliseconds of our own clock."""
    real_key: PublicKey
    dht_key: PublicKey


class CookieJar:
    """Bakes cookies and reads them again; it remembers none.

    Whoever has the same key and clock reads the same cookies: all workers of a node can.
    """

    __slots__ = ("_entropy", "_key")

    def __init__(self, key: SharedKey, entropy: Entropy) -> None:
        self._key, self._entropy = key, entropy

    def bake(self, real_key: bytes, dht_key: bytes, now: float) -> bytes:
        """Returns the 112 bytes of a cookie for the peer with these two keys."""
        nonce = self._entropy.bytes(NONCE_SIZE)
        plain = int(now * 1000).to_bytes(8, "big") + real_key + dht_key
        return nonce + crypto.seal(self._key, nonce, plain)

    def read(self, cookie: bytes, now: float) -> Cookie | str:
        """Returns what a cookie says, or the reason why it is refused."""
        plain = crypto.open_sealed(self._key, cookie[:NONCE_SIZE], cookie[NONCE_SIZE:])
        if plain is None:
            return FORGED
        baked_ms = int.from_bytes(plain[:8], "big")
        age_ms = int(now * 1000) - baked_ms
        if age_ms < 0:
            return FUTURE  # as c-toxcore: no cookie of ours can be
        if age_ms > LIFE_S * 1000:
            return OLD
        return Cookie(baked_ms, PublicKey(plain[8:40]), PublicKey(plain[40:72]))
