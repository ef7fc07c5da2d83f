"""Packet numbers of sessions: 32 bits, which begin again at zero."""


def reached(number: int, wanted: int) -> bool:
    """Tells whether a receiver that has all up to `number` has `wanted` as well."""
    return ((number - wanted) & 0xFFFFFFFF) < 1 << 31
