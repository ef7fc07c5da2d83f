"""Makes wrong bytes of right ones."""

import random
from collections.abc import Sequence

_NUMBERS = (0, 1, 2, 10, 16, 17, 0x7F, 0x80, 0x82, 0x8A, 0xFE, 0xFF)
_TAILS = (1, 2, 16, 39, 512)


def mutate(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Returns `data` changed in one to four of the ways in which packets go wrong."""
    for _ in range(1 + (chance.random() < 0.3) + (chance.random() < 0.1)):
        data = _once(data, chance, others)
    return data[:4096]


def _once(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    size = len(data)
    way = int(chance.random() * 10)
    if size == 0 or way == 0:  # longer
        return data + chance.randbytes(chance.choice(_TAILS))
    at = int(chance.random() * size)
    if way <= 2:  # shorter
        return data[:at]
    if way <= 4:  # one byte: a bit, or a number that means something
        value = data[at] ^ 1 << (at & 7) if way == 3 else chance.choice(_NUMBERS)
        return data[:at] + bytes((value,)) + data[at + 1 :]
    if way == 5:  # a piece missing in the middle
        return data[:at] + data[at + 1 + int(chance.random() * 40) :]
    if way == 6:  # a piece put in
        return data[:at] + chance.randbytes(1 + int(chance.random() * 40)) + data[at:]
    if way == 7:  # a run of equal bytes
        length = min(size - at, 1 + int(chance.random() * 36))
        return data[:at] + bytes((chance.choice(_NUMBERS),)) * length + data[at + length :]
    if way == 8:  # a piece twice
        end = at + 1 + int(chance.random() * 60)
        return data[:end] + data[at:]
    if others:  # the head of this and the tail of another
        other = others[int(chance.random() * len(others))]
        return data[:at] + other[int(chance.random() * (len(other) + 1)) :]
    return chance.randbytes(size)
