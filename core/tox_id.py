"""Tox IDs: the 76 hexadecimal digits by which people find each other.

A Tox ID is a public key, a nospam value that its owner may change to get rid of unwanted requests,
and a checksum against typing errors.
"""

from typing import NamedTuple

from core.crypto import KEY_SIZE, LOW_ORDER, PublicKey

NOSPAM_SIZE = 4  # WIRE.md W30
CHECKSUM_SIZE = 2  # c-toxcore Messenger.h: FRIEND_ADDRESS_SIZE
TOX_ID_SIZE = KEY_SIZE + NOSPAM_SIZE + CHECKSUM_SIZE
_DIGITS = 2 * TOX_ID_SIZE
_LINK = "tox:"


class ToxIdError(ValueError):
    """This is no Tox ID; the message says what is wrong with it."""


class ToxId(NamedTuple):
    """A public key, and the nospam with which its owner takes friend requests now."""

    key: PublicKey
    nospam: bytes
    """4 bytes, in the order in which the Tox ID shows them and requests carry them."""

    @classmethod
    def parse(cls, text: str) -> "ToxId":
        """Reads 76 hexadecimal digits, or a `tox:` link to them. Raises ToxIdError."""
        digits = text.strip()
        if digits[: len(_LINK)].lower() == _LINK:
            digits = digits[len(_LINK) :].removeprefix("//").partition("?")[0].rstrip("/")
        if len(digits) == 2 * KEY_SIZE:
            raise ToxIdError(f"64 digits are a public key; a Tox ID has {_DIGITS}")
        if len(digits) != _DIGITS:
            raise ToxIdError(f"a Tox ID has {_DIGITS} digits, not {len(digits)}")
        wrong = next((one for one in digits if one not in "0123456789abcdefABCDEF"), None)
        if wrong is not None:
            place = digits.index(wrong) + 1
            raise ToxIdError(f"{wrong!r} at place {place} is none of the digits 0-9 and A-F")
        return cls.decode(bytes.fromhex(digits))

    @classmethod
    def decode(cls, data: bytes) -> "ToxId":
        """Reads the 38 bytes of a Tox ID. Raises ToxIdError."""
        if len(data) != TOX_ID_SIZE:
            raise ToxIdError(f"a Tox ID has {TOX_ID_SIZE} bytes, not {len(data)}")
        body, sum_given = data[:-CHECKSUM_SIZE], data[-CHECKSUM_SIZE:]
        sum_found = _checksum(body)
        if sum_found != sum_given:
            raise ToxIdError(
                f"the checksum is {sum_given.hex().upper()} and should be"
                f" {sum_found.hex().upper()}: a digit is wrong"
            )
        key = PublicKey(body[:KEY_SIZE])
        if not is_key(key):
            raise ToxIdError("its public key is none that anybody can have")
        return cls(key, body[KEY_SIZE:])

    def encode(self) -> bytes:
        """Returns the 38 bytes."""
        body = self.key + self.nospam
        return body + _checksum(body)

    def __str__(self) -> str:
        return self.encode().hex().upper()


def is_key(key: bytes) -> bool:
    """Tells whether somebody can have this public key.

    c-toxcore crypto_core.c: public_key_valid asks for a clear top bit; we, for no low order too.
    """
    return len(key) == KEY_SIZE and not key[-1] & 0x80 and key not in LOW_ORDER


def _checksum(data: bytes) -> bytes:
    """Returns the exclusive or of all pairs of bytes.  c-toxcore Messenger.c: data_checksum."""
    even = odd = 0
    for index in range(0, len(data), 2):
        even ^= data[index]
        odd ^= data[index + 1]
    return bytes((even, odd))
