"""Packets of net_crypto sessions, and what is sealed in them."""

from typing import Annotated, ClassVar

from core.crypto import Nonce, PublicKey
from core.wire import U32, Body, Bytes8, Bytes32, Fixed, Packet, Record, Rest, Sealed, packet

COOKIE_SIZE = 112  # c-toxcore net_crypto.c: COOKIE_LENGTH
MAX_CRYPTO_SIZE = 1400  # c-toxcore net_crypto.h: MAX_CRYPTO_PACKET_SIZE
MAX_DATA_SIZE = MAX_CRYPTO_SIZE - 1 - 2 - 16 - 4 - 4  # c-toxcore net_crypto.h: MAX_CRYPTO_DATA_SIZE


class CookieRequestBody(Body):
    """Who asks, and what the answer is to bring back."""

    real_key: PublicKey
    padding: Bytes32
    """Zeros; nobody looks."""
    echo: Bytes8


@packet(kind=0x18, role="net_crypto")
class CookieRequest(Packet):
    """Begins a session.  Spec: cookie request packet (0x18)."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[CookieRequestBody]


class CookieResponseBody(Body):
    """A cookie, which only its maker can read, and the echo of the request."""

    cookie: Annotated[bytes, Fixed(COOKIE_SIZE)]
    echo: Bytes8


@packet(kind=0x19, role="net_crypto")
class CookieResponse(Packet):
    """Hands out a cookie.  Spec: cookie response packet (0x19)."""

    nonce: Nonce
    sealed: Sealed[CookieResponseBody]


class CryptoHandshakeBody(Body):
    """One side's half of a session."""

    base_nonce: Nonce
    """With which the sender of this packet begins; c-toxcore, not the spec, says whose."""
    session_key: PublicKey
    cookie_hash: Annotated[bytes, Fixed(64)]
    """SHA-512 of the cookie in front of the box."""
    cookie: Annotated[bytes, Fixed(COOKIE_SIZE)]
    """For the handshake that answers this one."""


@packet(kind=0x1A, role="net_crypto")
class CryptoHandshake(Packet):
    """Agrees on session keys.  Spec: Handshake packet (0x1a)."""

    cookie: Annotated[bytes, Fixed(COOKIE_SIZE)]
    nonce: Nonce
    sealed: Sealed[CryptoHandshakeBody]


class CryptoDataBody(Body):
    """The header of session data, padding, and what is sent."""

    buffer_start: U32
    """The number that the sender waits for: it has all before."""
    number: U32
    """This packet's, if it is lossless; else the next one the sender will give away."""
    data: Annotated[bytes, Rest(1, MAX_DATA_SIZE)]
    """Up to seven zeros, then the id byte and its data."""


@packet(kind=0x1B, role="net_crypto")
class CryptoData(Packet):
    """Session data.  Spec: Encrypted packets (0x1b)."""

    nonce_end: Annotated[bytes, Fixed(2)]
    sealed: Sealed[CryptoDataBody]


class SessionPacket(Record, abstract=True):
    """What sessions say to each other in their own concern; none has a number of its own."""

    kind: ClassVar[int]


class MissingPackets(SessionPacket, kind=0x01):
    """Asks for lossless packets again, and acknowledges all others.  Spec: packet request."""

    gaps: Annotated[bytes, Rest(0, MAX_DATA_SIZE - 1)]
    """How far it is to each number that is missing: `core.net_crypto.requests`."""


class SessionEnd(SessionPacket, kind=0x02):
    """Ends the session.  Spec: connection kill packet."""
