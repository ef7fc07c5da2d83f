"""Reads the settings files of other Tox nodes, for `toxmesh config migrate`.

Both formats are small, bounded subsets of our own making: a file is read once in a node's life, and
a library for that would be a dependency for ever. What a subset does not know is refused with its
line, never guessed.
"""

from typing import NamedTuple, TypeAlias, Union

MAX_FILE = 1 << 18  # bytes; the longest list of nodes there is takes a tenth
MAX_DEPTH = 8  # of groups in lists in groups; both nodes need two
MAX_ENTRIES = 4096  # in one file


class Entry(NamedTuple):
    """A value and the line (from 1) on which it begins."""

    value: "Value"
    line: int


Value: TypeAlias = Union[
    bool, int, float, str, "list[Entry]", "tuple[Entry, ...]", "dict[str, Entry]", None
]
"""A tuple is what libconfig calls a list, in parentheses; a list is its array."""
Settings: TypeAlias = dict[str, Entry]


class TextError(Exception):
    """The text is not of its format: why, and on which line (from 1)."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


def decode(data: bytes) -> str:
    """Returns a file's text. Raises TextError for one that is too long or not UTF-8."""
    if len(data) > MAX_FILE:
        raise TextError(1, f"the file is longer than {MAX_FILE} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TextError(line, "is not UTF-8 text") from None
    if "\0" in text:
        raise TextError(text.count("\n", 0, text.index("\0")) + 1, "has a zero byte")
    return text.removeprefix("\ufeff")
