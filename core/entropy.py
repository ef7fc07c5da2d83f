"""Randomness as a capability: modules draw from the source they were given."""

import os
import random
from typing import Protocol
from weakref import WeakSet

_POOL_SIZE = 8192  # bytes fetched at once: one system call serves some 340 nonces


class Entropy(Protocol):
    """A source of random bytes and small random numbers."""

    def bytes(self, size: int) -> bytes:
        """Returns `size` fresh random bytes."""
        ...

    def below(self, bound: int) -> int:
        """Returns a uniform integer in 0..bound-1; `bound` is at least 1."""
        ...


class SystemEntropy:
    """The kernel's generator, read in larger pieces; a fork never repeats its parent's bytes."""

    __slots__ = ("__weakref__", "_pool", "_position")

    def __init__(self) -> None:
        self._pool = b""
        self._position = _POOL_SIZE  # as if all were handed out
        _sources.add(self)

    def _forget(self) -> None:
        self._pool = b""
        self._position = _POOL_SIZE

    def bytes(self, size: int) -> bytes:
        """Returns `size` fresh random bytes, each handed out once."""
        start = self._position
        end = start + size
        if end > _POOL_SIZE:
            if size > _POOL_SIZE:
                return os.urandom(size)
            self._pool = os.urandom(_POOL_SIZE)
            start, end = 0, size
        self._position = end
        return self._pool[start:end]

    def below(self, bound: int) -> int:
        """Returns a uniform integer in 0..bound-1."""
        width = (bound.bit_length() + 7) // 8 or 1
        limit = (256**width // bound) * bound
        while True:
            number = int.from_bytes(self.bytes(width), "big")
            if number < limit:
                return number % bound


_sources: WeakSet[SystemEntropy] = WeakSet()


def _forget_all() -> None:
    """Runs in the child of a fork. (What is registered there stays for ever: one call for all.)"""
    for source in list(_sources):
        source._forget()


os.register_at_fork(after_in_child=_forget_all)


class SeededEntropy:
    """A repeatable source for simulations and tests; never for keys that guard anything."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def bytes(self, size: int) -> bytes:
        """Returns the next `size` bytes of the seed's sequence."""
        return self._random.randbytes(size)

    def below(self, bound: int) -> int:
        """Returns the next integer of the seed's sequence in 0..bound-1."""
        return self._random.randrange(bound)
