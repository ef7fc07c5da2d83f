"""The clients that the load pretends to be: their keys, and what they share with the node.

A key pair and its key agreement cost 60 us each. They guard nothing but made-up data.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from core import crypto
from core.crypto import KEY_SIZE, KeyPair, PublicKey, SharedKey
from core.entropy import SystemEntropy

_ROW = 2 * KEY_SIZE  # public key, shared key
STEP = 1000  # clients made between two reports of progress


@dataclass(frozen=True, slots=True)
class Client:
    """One client as the load needs it: who it is, and the key it shares with the node."""

    public: bytes
    shared: SharedKey


class Clients:
    """The clients of one node, by number; each takes 64 bytes."""

    def __init__(self, node: PublicKey, rows: bytes) -> None:
        self.node = node
        self._rows = rows
        self._count = len(rows) // _ROW

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Client:
        if not 0 <= index < self._count:
            raise IndexError(index)
        row = self._rows[index * _ROW : (index + 1) * _ROW]
        return Client(row[:KEY_SIZE], SharedKey(row[KEY_SIZE:]))

    def part(self, numbers: Iterable[int]) -> "Clients":
        """Returns some of them, in this order, as clients 0 and so on."""
        rows = [self._rows[number * _ROW : (number + 1) * _ROW] for number in numbers]
        return Clients(self.node, b"".join(rows))


def make_rows(
    node: PublicKey, count: int, progress: Callable[[int], None] = lambda done: None
) -> bytes:
    """Makes `count` clients of a node; ValueError if its key is one that nobody can have."""
    entropy = SystemEntropy()
    parts: list[bytes] = []
    for i in range(count):
        client = KeyPair.generate(entropy)
        shared = crypto.precompute(client.secret, node)
        if shared is None:
            raise ValueError("no node has this key: it is of low order")
        parts += (client.public, shared)
        if (i + 1) % STEP == 0:
            progress(i + 1)
    return b"".join(parts)
