"""Who may come to the remote door: public keys, each with the role it has."""

from collections.abc import Sequence
from typing import NamedTuple

ROLES = ("read", "full")
MAX_OPERATORS = 64
KEY_DIGITS = 64  # of a CURVE public key, which is a Curve25519 key of 32 bytes


class Operator(NamedTuple):
    """One remote operator."""

    role: str
    key: str  # upper-case hex

    def __str__(self) -> str:
        return f"{self.role}:{self.key}"


def parse(text: str) -> Operator:
    """Reads `read:KEY` or `full:KEY`. Raises ValueError with a sentence."""
    role, colon, key = text.partition(":")
    if not colon or role not in ROLES:
        raise ValueError(f"{text[:20]!r} is not ROLE:KEY with the role read or full")
    if len(key) != KEY_DIGITS or not all(digit in "0123456789abcdefABCDEF" for digit in key):
        raise ValueError(
            f"the key of {text[:20]!r} must have {KEY_DIGITS} hex digits, as `toxmesh ops keys new`"
            " prints it"
        )
    return Operator(role, key.upper())


def parse_all(rows: Sequence[str]) -> tuple[Operator, ...]:
    """Reads the setting `remote_operators`. Raises ValueError with a sentence."""
    if len(rows) > MAX_OPERATORS:
        raise ValueError(f"must have at most {MAX_OPERATORS} operators, not {len(rows)}")
    found = tuple(map(parse, rows))
    if len({row.key for row in found}) != len(found):
        raise ValueError("has a key twice; a key has one role")
    return found
