"""Chance and keys for simulations: repeatable, and not more expensive than needed."""

import random

from core.crypto import KeyPair, SecretKey, SharedKey, SharedKeys, precompute


class StreamedEntropy:
    """A seeded source with a stream of its own for each size of draw.

    A node's choices (numbers, ids of 8 bytes) so do not depend on how many nonces (24 bytes) it
    drew before, and a node with four shards chooses as the same node with one.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._streams: dict[int, random.Random] = {}

    def _stream(self, name: int) -> random.Random:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self._seed}/{name}")
        return stream

    def bytes(self, size: int) -> bytes:
        """Returns the next `size` bytes of this size's stream."""
        return self._stream(size).randbytes(size)

    def below(self, bound: int) -> int:
        """Returns the next number in 0..bound-1."""
        return self._stream(0).randrange(bound)


class KeyPool:
    """The combined keys of all pairs of nodes of a world: each pair's is computed once, not twice.

    This is the one thing in which simulated crypto differs from the real: boxes, nonces and keys
    are real, only the curve product of (a, b) is remembered for (b, a), to which it is equal.
    """

    def __init__(self) -> None:
        self._pairs: dict[bytes, SharedKey | None] = {}

    def product(self, own: bytes, secret: SecretKey, public: bytes) -> SharedKey | None:
        """Returns the combined key of our secret and another's public key."""
        pair = own + public if own < public else public + own
        if pair not in self._pairs:
            self._pairs[pair] = precompute(secret, public)
        return self._pairs[pair]


class PooledKeys(SharedKeys):
    """A worker's key cache that looks into the world's pool before it computes."""

    __slots__ = ("_keys", "_pair", "_pool")

    def __init__(self, pair: KeyPair, pool: KeyPool) -> None:
        super().__init__(pair.secret)
        self._pair = pair
        self._pool = pool
        self._keys: dict[bytes, SharedKey | None] = {}

    def get(self, public: bytes) -> SharedKey | None:
        """Returns the combined key with `public`, or None for a key of low order."""
        if public in self._keys:
            return self._keys[public]
        self.misses += 1
        shared = self._pool.product(self._pair.public, self._pair.secret, public)
        self._keys[public] = shared
        return shared

    def known(self, public: bytes) -> SharedKey | None:
        """Returns the combined key if it is at hand."""
        return self._keys.get(public)

    def __len__(self) -> int:
        return len(self._keys)
