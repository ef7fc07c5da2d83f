"""The relay's side of the TCP handshake."""

from typing import NamedTuple

from core.crypto import (
    KEY_SIZE,
    NONCE_SIZE,
    KeyPair,
    Nonce,
    SharedKey,
    SharedKeys,
    open_sealed,
    precompute,
    seal,
)
from core.entropy import Entropy


class Accepted(NamedTuple):
    """What a good client hello leads to."""

    answer: bytes  # 96 bytes for the client
    shared: SharedKey  # of the two temporary keys
    receive_nonce: Nonce  # of the first frame from the client
    send_nonce: Nonce  # of the first frame to the client

    def __repr__(self) -> str:
        return "Accepted(hidden)"


def answer_hello(hello: bytes, keys: SharedKeys, entropy: Entropy) -> Accepted | None:
    """Opens a client hello of 128 bytes; None if it was not made for our key.

    Each side's base nonce is the one it sends with itself, other than the spec's text says.
    """
    shared = keys.get(hello[:32])
    if shared is None:
        return None
    plain = open_sealed(shared, hello[32:56], hello[56:])
    if plain is None or len(plain) != 56:
        return None
    drawn = entropy.bytes(KEY_SIZE + 2 * NONCE_SIZE)
    own = KeyPair.from_secret(drawn[:KEY_SIZE])
    session = precompute(own.secret, plain[:32])
    if session is None:
        return None
    send_nonce = Nonce(drawn[KEY_SIZE:-NONCE_SIZE])
    nonce = drawn[-NONCE_SIZE:]
    answer = nonce + seal(shared, nonce, own.public + send_nonce)
    return Accepted(answer, session, Nonce(plain[32:]), send_nonce)
