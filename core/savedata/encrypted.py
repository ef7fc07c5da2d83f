"""Files under a passphrase, as clients encrypt profiles and what they keep beside them (toxEsave).

magic 8 · salt 32 · nonce 24 · box of the file (MAC 16): 80 bytes more than the file.  c-toxcore
toxencryptsave.c, spec of the format: WIRE.md E1
"""

from core.crypto import MAC_SIZE, NONCE_SIZE, SharedKey, open_file, passphrase_key, seal_file
from core.entropy import Entropy

MAGIC = b"toxEsave"
SALT_SIZE = 32  # toxencryptsave.h: TOX_PASS_SALT_LENGTH
EXTRA_SIZE = len(MAGIC) + SALT_SIZE + NONCE_SIZE + MAC_SIZE
"""80.  toxencryptsave.h: TOX_PASS_ENCRYPTION_EXTRA_LENGTH"""


class PassphraseError(ValueError):
    """The file cannot be opened with this passphrase; the message says why."""


def is_encrypted(data: bytes) -> bool:
    """Tells whether a file is under a passphrase."""
    return data[: len(MAGIC)] == MAGIC


class FileKey:
    """The key that a passphrase gives with one salt: made once (0.1 s and 16 MiB), used often."""

    __slots__ = ("_key", "salt")

    def __init__(self, key: SharedKey, salt: bytes) -> None:
        self._key = key
        self.salt = salt

    @classmethod
    def derive(cls, passphrase: str | bytes, salt: bytes) -> "FileKey":
        """Makes the key for files with this salt of 32 bytes; text counts as UTF-8."""
        if isinstance(passphrase, str):
            passphrase = passphrase.encode()
        return cls(passphrase_key(passphrase, salt), salt)

    @classmethod
    def new(cls, passphrase: str | bytes, entropy: Entropy) -> "FileKey":
        """Makes the key for new files."""
        return cls.derive(passphrase, entropy.bytes(SALT_SIZE))

    def encrypt(self, data: bytes, entropy: Entropy) -> bytes:
        """Returns the encrypted file."""
        nonce = entropy.bytes(NONCE_SIZE)
        return MAGIC + self.salt + nonce + seal_file(self._key, nonce, data)

    def decrypt(self, data: bytes) -> bytes:
        """Returns what is in a file. Raises PassphraseError."""
        if salt_of(data) != self.salt:
            raise PassphraseError("it was encrypted with another salt: derive its own key")
        start = len(MAGIC) + SALT_SIZE
        nonce, box = data[start : start + NONCE_SIZE], data[start + NONCE_SIZE :]
        plain = open_file(self._key, nonce, box)
        if plain is None:
            raise PassphraseError("the passphrase is wrong, or the file is damaged")
        return plain

    def __repr__(self) -> str:
        return "FileKey(hidden)"


def salt_of(data: bytes) -> bytes:
    """Returns the salt of an encrypted file. Raises PassphraseError for any other file."""
    if not is_encrypted(data):
        raise PassphraseError("it is not encrypted")
    if len(data) < EXTRA_SIZE:
        raise PassphraseError(f"it has {len(data)} bytes, fewer than any encrypted file")
    return data[len(MAGIC) : len(MAGIC) + SALT_SIZE]


def encrypt(data: bytes, passphrase: str | bytes, entropy: Entropy) -> bytes:
    """Returns a file under a passphrase."""
    return FileKey.new(passphrase, entropy).encrypt(data, entropy)


def decrypt(data: bytes, passphrase: str | bytes) -> bytes:
    """Returns what is in a file under a passphrase. Raises PassphraseError."""
    return FileKey.derive(passphrase, salt_of(data)).decrypt(data)
