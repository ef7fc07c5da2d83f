"""Clients that are made once: 100,000 take six seconds, and the node's key must stay the same.

They are kept in `.bench/`, together with the node key that they were made for. Every node under
test gets that node key, so that ours and the reference's see the very same packets.
"""

import hashlib
import os
from pathlib import Path

from core.crypto import KEY_SIZE, KeyPair
from core.entropy import SystemEntropy
from toxmesh.bench.clients import Clients, make_rows

FOLDER = Path(__file__).resolve().parents[2] / ".bench"
_ROW = 2 * KEY_SIZE  # public key, shared key
_HEAD = 2 * KEY_SIZE  # the node's public and secret key
_DIGEST = 32


class KeptClients(Clients):
    """Clients of a node whose secret key is known as well."""

    def __init__(self, data: bytes) -> None:
        self.pair = KeyPair.from_secret(data[KEY_SIZE:_HEAD])
        super().__init__(self.pair.public, data[_HEAD:])

    def keys_file(self) -> bytes:
        """Returns the node's 64 bytes as tox-bootstrapd and toxmesh keep them on disk."""
        return self.pair.public + self.pair.secret.reveal()


def make(count: int) -> bytes:
    """Makes a node key and `count` clients of it."""
    node = KeyPair.generate(SystemEntropy())
    return node.public + node.secret.reveal() + make_rows(node.public, count)


def load(count: int, folder: Path = FOLDER) -> KeptClients:
    """Returns at least `count` clients, from the file in `folder` when that has enough of them."""
    path = folder / "clients.bin"
    if path.exists():
        stored = path.read_bytes()
        data, digest = stored[:-_DIGEST], stored[-_DIGEST:]
        if hashlib.sha256(data).digest() == digest and len(data) >= _HEAD + count * _ROW:
            return KeptClients(data)
    data = make(count)
    folder.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data + hashlib.sha256(data).digest())
    half.replace(path)
    return KeptClients(data)
