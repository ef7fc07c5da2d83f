"""What the bytes of a session's memory mean: rows of identities and sessions, slots of packets.

All begin and end with a number as `core.net_crypto.regions` wants it. The names of the regions in
`core.net_crypto.lasting` change when anything here does.
"""

import struct
from typing import NamedTuple

from core.crypto import PublicKey
from core.packets.net_crypto import MAX_DATA_SIZE

IDENTITY = struct.Struct("=Q32s32sQQ")
"""Number, real key, DHT secret key, UDP port, number."""

SESSION = struct.Struct("=Q10Q56s56s32s32s32s32s32s24s24sQQ")
"""Serial, the words below, endpoints twice, `SessionKeys`, serial."""

STATE = 1
NONCES = 2  # how many of our nonces may have been used
NEXT = 3  # number of the first packet that was never sent
START = 4  # of the first that the peer has not
SEQ = 5  # greatest of the packets that the peer has
LETTER = 6
STORED = 7  # number of the peer's first packet that is not stored
SLID = 8  # how far the window of the peer's nonces stands behind their base
TOP = 9  # behind the latest nonce of the peer's packets without a number
WAYS = 10  # which endpoints there are

UP, ENDED = 1, 2  # what STATE says
V4, V6, BEST4, BEST6, SECOND = 1, 2, 4, 8, 16
"""Bits of WAYS: which there are, through which the peer is reached, and whether they stand in the
second place: they are written into the other one, and count from when WAYS is."""

ENDPOINTS = struct.Struct("=28s28s")
"""IPv4, IPv6."""
ENDPOINTS_AT = 88  # bytes
KEYS = struct.Struct("=32s32s32s32s32s24s24sQ")
KEYS_AT = 200

PACKET = struct.Struct(f"=QQQQIHH{MAX_DATA_SIZE}s3xQ")
"""Number of the writing, serial, seq, letter, packet number, size, way, data, number."""
HEAD = struct.Struct("=8xQQQIHH")
DATA_AT = 40
OUT, IN = 0, 1  # ways


class SessionKeys(NamedTuple):
    """What a session keeps from its beginning."""

    identity: PublicKey
    real_key: PublicKey
    dht_key: PublicKey
    secret: bytes
    """Ours of this session."""
    peer_key: PublicKey
    """The peer's of this session."""
    base_nonce: bytes
    peer_base_nonce: bytes
    cookie_ms: int

    def __repr__(self) -> str:
        return "SessionKeys(...)"  # one of them is secret
