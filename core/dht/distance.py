"""Distance between keys: the exclusive or, and the k-bucket that follows from it."""

from typing import Final

KEY_BITS: Final = 256
BUCKET_COUNT: Final = 128  # c-toxcore DHT.h: LCLIENT_LENGTH; deeper bits share the last bucket
BUCKET_SIZE: Final = 8  # c-toxcore DHT.h: LCLIENT_NODES
LAST_BUCKET: Final = BUCKET_COUNT - 1


def number_of(key: bytes) -> int:
    """Returns a 32-byte key as the big-endian number that distances are made of."""
    return int.from_bytes(key, "big")


def bucket_of(own: int, other: int) -> int:
    """Returns the number of the first bit in which the keys differ, at most LAST_BUCKET."""
    first = KEY_BITS - (own ^ other).bit_length()
    return first if first < LAST_BUCKET else LAST_BUCKET
