"""What an identity may be called: `NAME.tox` is its profile."""

import re

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def is_name(text: str) -> bool:
    """Tells whether an identity may be called so."""
    return _NAME.fullmatch(text) is not None
