"""Which keys somebody may have, in a few bits each: a Bloom filter over public keys.

It says "surely not" or "maybe". A key sets three bits of a field of m bits, so among n keys one
that was never added is taken for one of them with a probability of (1 - e^(-3n/m))^3: 0.07 % with
32 bits a key (a filter that was just made), 0.5 % with 16 (one that is full), 0.24 % with the
100,000 keys of a full announce store in the largest field of 2^21 bits = 256 KiB.

Which bits those are follows from a secret (multiply-shift: Dietzfelbinger et al., "A reliable
randomized algorithm for the closest-pair problem", 1997): a stranger who does not know it can make
no keys that share bits with another's more often than by chance, twice in m for each bit.
"""

import struct
from collections.abc import Iterable

from core.crypto import SecretKey, derive_key

FINGERPRINT_SIZE = 8  # bytes of a fingerprint on its way to another shard
MIN_SIZE = 1 << 10  # bytes of the smallest field: room for 512 keys
MAX_SIZE = 1 << 18  # bytes of the largest: three places of 21 bits each are in a fingerprint
_BITS_A_KEY = 16  # in a full filter
_PLACE_BITS = 21
_FINGERPRINT = (1 << 3 * _PLACE_BITS) - 1


def multiplier(master: SecretKey, purpose: str) -> int:
    """Returns the secret of fingerprints for `purpose`: odd, of 128 bits, the same in all shards.

    The fingerprint of a key is `fingerprint(int.from_bytes(key, "big"), multiplier)`.
    """
    return int.from_bytes(derive_key(master.reveal(), purpose)[:16], "big") | 1


def fingerprint(number: int, factor: int) -> int:
    """Returns 63 bits that stand for a key (as a number, big end first) in filters.

    Three windows of 21 bits, each the top of the product modulo a power of two that leaves 85 bits
    of the key or more, as multiply-shift asks for.
    """
    return number * factor >> 64 & _FINGERPRINT


def pack(fingerprints: Iterable[int]) -> bytes:
    """Returns fingerprints as bytes, 8 each."""
    row = list(fingerprints)
    return struct.pack(f"={len(row)}Q", *row)


def unpack(data: bytes) -> tuple[int, ...]:
    """Returns the fingerprints that `pack` wrote. Raises ValueError for another size."""
    count, rest = divmod(len(data), FINGERPRINT_SIZE)
    if rest:
        raise ValueError("not whole fingerprints")
    return struct.unpack(f"={count}Q", data)


class KeyFilter:
    """One filter; keys can be added and never taken out again."""

    __slots__ = ("added", "bits", "mask")

    def __init__(self, bits: bytearray) -> None:
        """Takes over a field. Raises ValueError unless its size is a power of two in bounds."""
        size = len(bits)
        if not MIN_SIZE <= size <= MAX_SIZE or size & size - 1:
            raise ValueError(f"no filter has {size} bytes")
        self.bits = bits
        self.mask = size * 8 - 1
        """What a fingerprint's window is cut with to be a place in the field."""
        self.added = 0
        """How many keys were added, one that came twice counted twice."""

    @classmethod
    def for_keys(cls, count: int) -> "KeyFilter":
        """Makes an empty filter with room for twice `count` keys, as far as the bounds allow."""
        wanted = count * 2 * _BITS_A_KEY // 8
        return cls(bytearray(min(MAX_SIZE, max(MIN_SIZE, 1 << (wanted - 1).bit_length()))))

    @property
    def room(self) -> int:
        """How many keys it takes before it is full."""
        return len(self.bits) * 8 // _BITS_A_KEY

    def add(self, mark: int) -> None:
        """Adds a key by its fingerprint."""
        bits, mask = self.bits, self.mask
        self.added += 1
        for place in (mark & mask, mark >> _PLACE_BITS & mask, mark >> 2 * _PLACE_BITS & mask):
            bits[place >> 3] |= 1 << (place & 7)

    def may_have(self, mark: int) -> bool:
        """Tells whether the key with this fingerprint may have been added; False: surely not."""
        bits, mask = self.bits, self.mask
        place = mark & mask
        if not bits[place >> 3] >> (place & 7) & 1:
            return False
        place = mark >> _PLACE_BITS & mask
        if not bits[place >> 3] >> (place & 7) & 1:
            return False
        place = mark >> 2 * _PLACE_BITS & mask
        return bool(bits[place >> 3] >> (place & 7) & 1)
