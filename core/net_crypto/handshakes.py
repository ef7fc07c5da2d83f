"""The four packets that come before data, made and opened; no state but keys."""

from collections import Counter

from core import crypto
from core.crypto import LOW_ORDER, NONCE_SIZE, KeyPair, Nonce, PublicKey, SharedKey, SharedKeys
from core.entropy import Entropy
from core.net_crypto.cookies import Cookie, CookieJar
from core.net_crypto.limits import CookieLimits
from core.net_crypto.session import Session
from core.packets.net_crypto import (
    CookieRequest,
    CookieRequestBody,
    CookieResponse,
    CookieResponseBody,
    CryptoHandshake,
    CryptoHandshakeBody,
)
from core.wire import WireError

REAL_KEYS = 256  # combined keys with peers' real keys that are kept
ECHO_SIZE = 8

_ZEROS = bytes(32)


class Handshakes:
    """What an identity seals and opens with its own two key pairs. Refusals are counted."""

    def __init__(
        self,
        real: KeyPair,
        dht: KeyPair,
        dht_keys: SharedKeys,
        cookie_key: SharedKey | None,
        entropy: Entropy,
        drops: Counter[str],
    ) -> None:
        self._real, self._dht = real, dht
        self._dht_keys = dht_keys
        self.real_keys = SharedKeys(real.secret, REAL_KEYS)
        self._entropy = entropy
        self._cookies = CookieJar(cookie_key or SharedKey(entropy.bytes(32)), entropy)
        self.drops = drops

    def _nonce(self) -> Nonce:
        return Nonce(self._entropy.bytes(NONCE_SIZE))

    def can_meet(self, real_key: PublicKey, dht_key: PublicKey) -> bool:
        """Tells whether keys can be combined with both of a peer's; counted if not."""
        if self._dht_keys.get(dht_key) is None or self.real_keys.get(real_key) is None:
            self.drops["crypto_weak_key"] += 1
            return False
        return True

    def ask_cookie(self, session: Session) -> bytes:
        """Returns a cookie request, whose answer must bring back the session's echo."""
        session.echo = self._entropy.bytes(ECHO_SIZE)
        nonce = self._nonce()
        body = CookieRequestBody(self._real.public, _ZEROS, session.echo)
        sealed = _seal(body, self._dht_keys.get(session.dht_key), nonce)
        return CookieRequest(self._dht.public, nonce, sealed).encode()

    def answer_request(
        self,
        request: CookieRequest,
        limits: CookieLimits,
        source: bytes,
        expected: bool,
        now: float,
    ) -> bytes | None:
        """Returns the answer to a cookie request, or None if there is to be none.

        `expected`: there is a session with the sender's DHT key.
        """
        sender = request.sender
        shared = self._dht_keys.known(sender)
        if shared is None:
            # strangers may have pushed out the key of one whom we look for; it pays for it below
            empty = "" if expected else limits.may_compute(source, now)
            if empty:
                self.drops[f"crypto_cookie_limit:{empty}"] += 1
                return None
            shared = self._dht_keys.get(sender)
            if shared is None:
                self.drops["crypto_weak_key"] += 1
                return None
        try:
            body = CookieRequestBody.open(shared, request.nonce, request.sealed)
        except WireError:
            self.drops["crypto_cookie_box"] += 1
            return None
        empty = limits.may_answer(source, sender, expected, now)
        if empty:
            self.drops[f"crypto_cookie_limit:{empty}"] += 1
            return None
        cookie = self._cookies.bake(body.real_key, sender, now)
        nonce = self._nonce()
        sealed = CookieResponseBody(cookie, body.echo).seal(shared, nonce)
        return CookieResponse(nonce, sealed).encode()

    def open_response(self, response: CookieResponse, session: Session) -> bytes | None:
        """Returns the cookie if the session has asked for it."""
        shared = self._dht_keys.get(session.dht_key)
        if shared is None:
            return None
        try:
            body = CookieResponseBody.open(shared, response.nonce, response.sealed)
        except WireError:
            return None
        return body.cookie if crypto.equal(body.echo, session.echo) else None

    def shake(self, session: Session, cookie: bytes, now: float) -> bytes:
        """Returns our handshake for the peer's cookie, with a cookie of ours for its answer."""
        body = CryptoHandshakeBody(
            session.base_nonce,
            session.keys.public,
            crypto.sha512(cookie),
            self._cookies.bake(session.real_key, session.dht_key, now),
        )
        nonce = self._nonce()
        sealed = _seal(body, self.real_keys.get(session.real_key), nonce)
        return CryptoHandshake(cookie, nonce, sealed).encode()

    def open_handshake(
        self, handshake: CryptoHandshake, now: float
    ) -> tuple[Cookie, CryptoHandshakeBody] | None:
        """Returns whom a handshake is from and what it says; None (and counted) if it is none."""
        cookie = self._cookies.read(handshake.cookie, now)
        if isinstance(cookie, str):
            self.drops[cookie] += 1
            return None
        shared = self.real_keys.get(cookie.real_key)
        if shared is None:
            self.drops["crypto_weak_key"] += 1
            return None
        try:
            body = CryptoHandshakeBody.open(shared, handshake.nonce, handshake.sealed)
        except WireError:
            self.drops["crypto_handshake_box"] += 1
            return None
        if not crypto.equal(body.cookie_hash, crypto.sha512(handshake.cookie)):
            self.drops["crypto_cookie_hash"] += 1
            return None
        if body.session_key in LOW_ORDER:
            self.drops["crypto_weak_key"] += 1
            return None
        return cookie, body


def _seal(
    body: CookieRequestBody | CryptoHandshakeBody, shared: SharedKey | None, nonce: Nonce
) -> bytes:
    assert shared is not None  # `can_meet` was asked, or the peer's own packet was opened
    return body.seal(shared, nonce)
