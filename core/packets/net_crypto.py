"""Packets of net_crypto sessions: sizes and clear fields; what is sealed is not looked into yet."""

from typing import Annotated

from core.crypto import Nonce, PublicKey
from core.wire import Fixed, Packet, Rest, packet

COOKIE_SIZE = 112  # c-toxcore net_crypto.h: COOKIE_LENGTH
MAX_CRYPTO_SIZE = 1400  # c-toxcore net_crypto.h: MAX_CRYPTO_PACKET_SIZE


@packet(kind=0x18, role="net_crypto")
class CookieRequest(Packet):
    """Begins a session.  Spec: cookie request packet (0x18)."""

    sender: PublicKey
    nonce: Nonce
    sealed: Annotated[bytes, Fixed(88)]


@packet(kind=0x19, role="net_crypto")
class CookieResponse(Packet):
    """Hands out a cookie.  Spec: cookie response packet (0x19)."""

    nonce: Nonce
    sealed: Annotated[bytes, Fixed(COOKIE_SIZE + 8 + 16)]


@packet(kind=0x1A, role="net_crypto")
class CryptoHandshake(Packet):
    """Agrees on session keys.  Spec: Handshake packet (0x1a)."""

    cookie: Annotated[bytes, Fixed(COOKIE_SIZE)]
    nonce: Nonce
    sealed: Annotated[bytes, Fixed(248)]


@packet(kind=0x1B, role="net_crypto")
class CryptoData(Packet):
    """Session data.  Spec: Encrypted packets (0x1b)."""

    nonce_end: Annotated[bytes, Fixed(2)]
    sealed: Annotated[bytes, Rest(17, MAX_CRYPTO_SIZE - 3)]
