"""Texts as they go over the wire."""

from core.messenger.errors import BadValue


def bytes_of(text: str | bytes, what: str, most: int) -> bytes:
    """Returns the bytes that go over the wire. Raises BadValue if they are too many."""
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > most:
        raise BadValue(f"a {what} of {len(raw)} bytes, more than {most}")
    return raw
