"""Keys of nobody."""

from core.crypto import KeyPair, PublicKey
from core.entropy import SeededEntropy


def some_key(number: int) -> PublicKey:
    """Returns a public key, for each number another one."""
    return KeyPair.generate(SeededEntropy(f"some {number}")).public
