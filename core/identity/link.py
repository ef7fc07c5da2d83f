"""One end of a link between the two halves of an identity: it notices whatever is lost on it."""

from collections.abc import Callable
from typing import Any

from core.messages import Message

LINK_SIZE = 8  # bytes; ours


class Link:
    """Numbers what is told, and looks whether what comes is the next of this link."""

    __slots__ = ("_expected", "_identity", "_number", "_tell", "name")

    def __init__(self, identity: bytes, name: bytes, tell: Callable[[Message], None]) -> None:
        self._identity, self.name, self._tell = identity, name, tell
        self._number = 0
        self._expected = 0

    def say(self, kind: Callable[..., Message], *fields: Any) -> None:
        """Tells the other half a message of this kind."""
        number, self._number = self._number, self._number + 1
        self._tell(kind(self._identity, self.name, number, *fields))

    def follows(self, number: int) -> bool:
        """Counts a message of this link; False: there was one before it that never came."""
        if number != self._expected:
            return False
        self._expected += 1
        return True
