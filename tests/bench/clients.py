"""The clients that the load pretends to be: their keys, and what they share with the node.

A key agreement costs 30 us and a key pair 18 us, so 100,000 clients are made once and kept in
`.bench/`, together with the node key that they were made for. Every node under test gets that
node key, so that ours and the reference's see the very same packets. It guards nothing.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from core import crypto
from core.crypto import KEY_SIZE, KeyPair, SharedKey
from core.entropy import SystemEntropy

FOLDER = Path(__file__).resolve().parents[2] / ".bench"
_ROW = 2 * KEY_SIZE  # public key, shared key
_HEAD = 2 * KEY_SIZE  # the node's public and secret key
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class Client:
    """One client as the load needs it: who it is, and the key it shares with the node."""

    public: bytes
    shared: SharedKey


class Clients:
    """The node under test and its clients, by number."""

    def __init__(self, data: bytes) -> None:
        self.node = KeyPair.from_secret(data[KEY_SIZE:_HEAD])
        self._data = data
        self._count = (len(data) - _HEAD) // _ROW

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Client:
        if not 0 <= index < self._count:
            raise IndexError(index)
        start = _HEAD + index * _ROW
        row = self._data[start : start + _ROW]
        return Client(row[:KEY_SIZE], SharedKey(row[KEY_SIZE:]))

    def keys_file(self) -> bytes:
        """Returns the node's 64 bytes as tox-bootstrapd and toxmesh keep them on disk."""
        return self._data[:_HEAD]


def make(count: int) -> bytes:
    """Makes a node key and `count` clients of it (50 us each)."""
    entropy = SystemEntropy()
    node = KeyPair.generate(entropy)
    parts = [node.public, node.secret.reveal()]
    for _ in range(count):
        client = KeyPair.generate(entropy)
        shared = crypto.precompute(node.secret, client.public)
        assert shared is not None
        parts += [client.public, shared]
    return b"".join(parts)


def load(count: int, folder: Path = FOLDER) -> Clients:
    """Returns at least `count` clients, from the file in `folder` when that has enough of them."""
    path = folder / "clients.bin"
    if path.exists():
        stored = path.read_bytes()
        data, digest = stored[:-_DIGEST], stored[-_DIGEST:]
        if hashlib.sha256(data).digest() == digest and len(data) >= _HEAD + count * _ROW:
            return Clients(data)
    data = make(count)
    folder.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data + hashlib.sha256(data).digest())
    half.replace(path)
    return Clients(data)
