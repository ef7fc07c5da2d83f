"""The client's side of the relay handshake; `core.relay.handshake` is the relay's."""

from typing import NamedTuple

from core.crypto import NONCE_SIZE, KeyPair, Nonce, PublicKey, SharedKey, precompute
from core.entropy import Entropy
from core.packets.relay import ClientHello, HelloBody, RelayHello
from core.wire import WireError

ANSWER_SIZE = RelayHello.MAX_SIZE
"""Bytes of the relay's hello: 96 (WIRE.md W20)."""


class Session(NamedTuple):
    """The cipher of a connection whose handshake is done."""

    shared: SharedKey  # of the two temporary keys
    send_nonce: Nonce  # of our first frame
    receive_nonce: Nonce  # of the relay's first frame

    def __repr__(self) -> str:
        return "Session(hidden)"


class Greeting:
    """One handshake with a relay: `hello` goes out, its answer makes the session."""

    __slots__ = ("_send_nonce", "_shared", "_temporary", "hello")

    def __init__(self, own: KeyPair, shared: SharedKey, entropy: Entropy) -> None:
        """`shared` is the combined key of our DHT key and the relay's key."""
        self._shared = shared
        self._temporary = KeyPair.generate(entropy)
        self._send_nonce = Nonce(entropy.bytes(NONCE_SIZE))
        nonce = Nonce(entropy.bytes(NONCE_SIZE))
        sealed = HelloBody(self._temporary.public, self._send_nonce).seal(shared, nonce)
        self.hello = ClientHello(own.public, nonce, sealed).encode()
        """The 128 bytes that open the connection."""

    @classmethod
    def to(cls, relay_key: PublicKey, own: KeyPair, entropy: Entropy) -> "Greeting | None":
        """Begins a handshake (65 us); None for a relay key of low order."""
        shared = precompute(own.secret, relay_key)
        return None if shared is None else cls(own, shared, entropy)

    def session(self, answer: bytes) -> Session | None:
        """Returns what the relay's 96 bytes lead to; None if they were not sealed for us."""
        try:
            hello = RelayHello.decode(answer)
            body = HelloBody.open(self._shared, hello.nonce, hello.sealed)
        except WireError:
            return None
        shared = precompute(self._temporary.secret, body.temporary_key)
        return None if shared is None else Session(shared, self._send_nonce, body.base_nonce)
