"""What an operator may ask a running module, and what a module may tell without being asked.

A question reaches one process through its control channel, between two turns of its loop; it must
be answered at once and shortly, for packets wait meanwhile. Events are made only while somebody
follows them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

MOST_ROWS = 10_000  # of one answer: a megabyte of text, and some 20 ms of a worker's time
_MOST_EVENTS = 2_000  # that wait for the end of a turn

USAGE, NOT_FOUND, REFUSED, BUSY, TIMEOUT, PERMISSION = (
    "usage",
    "not_found",
    "refused",
    "busy",
    "timeout",
    "permission",
)


class CannotAnswer(Exception):
    """No answer: a code (`usage`, `not_found`, ...) and a sentence with the next step."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Askable(Protocol):
    """A module that operators can look into."""

    def ask(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers one question with plain data; raises CannotAnswer."""
        ...


def listing(rows: Sequence[Any], args: dict[str, Any], total: int | None = None) -> dict[str, Any]:
    """Returns the form that every listing has, with at most `limit` (100) of the rows."""
    most = whole_number(args, "limit", 100, 1, MOST_ROWS)
    shown = list(rows[:most])
    return {"rows": shown, "total": len(rows) if total is None else total, "shown": len(shown)}


def whole_number(args: dict[str, Any], name: str, default: int, least: int, most: int) -> int:
    """Returns a whole number of the arguments; raises CannotAnswer for what is none."""
    value = args.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise CannotAnswer(USAGE, f"{name} must be a whole number from {least} to {most}")
    return value


def key_of(args: dict[str, Any], name: str = "key") -> bytes:
    """Returns a 32-byte key that was given as 64 (or as a Tox id of 76) hex digits."""
    text = args.get(name)
    if isinstance(text, str) and len(text) in (64, 76):
        try:
            return bytes.fromhex(text)[:32]
        except ValueError:
            pass
    raise CannotAnswer(USAGE, f"{name} must be a public key of 64 hex digits")


def text_of(args: dict[str, Any], name: str, default: str | None = None, most: int = 256) -> str:
    """Returns a text of the arguments; raises CannotAnswer where it is missing or too long."""
    value = args.get(name, default)
    if not isinstance(value, str) or len(value) > most:
        raise CannotAnswer(USAGE, f"{name} must be a text of at most {most} characters")
    return value


class Events:
    """What followers are told at the end of a turn; costs one look at a set while nobody follows.

    `if "relay" in events.wanted: events.emit("relay", {...})`
    """

    __slots__ = ("_lost", "_waiting", "wanted")

    def __init__(self) -> None:
        self.wanted: frozenset[str] = frozenset()
        """Names that somebody follows now."""
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._lost = 0

    def follow(self, names: Iterable[str]) -> None:
        """Sets what is wanted from now on."""
        self.wanted = frozenset(names)

    def emit(self, name: str, data: dict[str, Any]) -> None:
        """Keeps an event for the end of the turn; beyond 2,000 they are counted only."""
        if len(self._waiting) >= _MOST_EVENTS:
            self._lost += 1
        else:
            self._waiting.append((name, data))

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._lost > 0

    def take(self) -> tuple[list[tuple[str, dict[str, Any]]], int]:
        """Returns the events that wait, and how many were lost since."""
        rows, lost = list(self._waiting), self._lost
        self._waiting.clear()
        self._lost = 0
        return rows, lost


Ask = Callable[[str, dict[str, Any], float], Any]
