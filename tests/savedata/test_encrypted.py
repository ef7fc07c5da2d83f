"""Files under a passphrase."""

import pytest

from core.entropy import SeededEntropy
from core.savedata.encrypted import (
    EXTRA_SIZE,
    FileKey,
    PassphraseError,
    decrypt,
    encrypt,
    is_encrypted,
    salt_of,
)

ENTROPY = SeededEntropy("encrypted")
PLAIN = b"a profile" * 20_000  # greater than any packet


def test_what_was_encrypted_opens_with_its_passphrase_alone() -> None:
    sealed = encrypt(PLAIN, "correct horse", ENTROPY)
    assert len(sealed) == len(PLAIN) + EXTRA_SIZE
    assert is_encrypted(sealed)
    assert not is_encrypted(PLAIN)
    assert decrypt(sealed, "correct horse") == PLAIN
    with pytest.raises(PassphraseError, match="passphrase is wrong, or the file is damaged"):
        decrypt(sealed, "correct house")
    with pytest.raises(PassphraseError, match="passphrase is wrong, or the file is damaged"):
        decrypt(sealed[:-1] + bytes((sealed[-1] ^ 1,)), "correct horse")


def test_a_key_serves_many_files_of_its_salt() -> None:
    made = FileKey.new("words", ENTROPY)
    first, second = made.encrypt(PLAIN, ENTROPY), made.encrypt(PLAIN, ENTROPY)
    assert first != second
    assert made.decrypt(first) == made.decrypt(second) == PLAIN
    assert FileKey.derive(b"words", salt_of(first)).decrypt(second) == PLAIN
    other = encrypt(PLAIN, "words", ENTROPY)
    with pytest.raises(PassphraseError, match="another salt"):
        made.decrypt(other)


def test_other_files_are_told_apart() -> None:
    with pytest.raises(PassphraseError, match="not encrypted"):
        decrypt(b"plain", "words")
    with pytest.raises(PassphraseError, match="79 bytes, fewer than any"):
        decrypt(encrypt(b"", "words", ENTROPY)[:-1], "words")


def test_a_key_does_not_show_itself() -> None:
    assert repr(FileKey.new("words", ENTROPY)) == "FileKey(hidden)"
