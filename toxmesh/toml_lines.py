"""Lines of TOML: on which each key stands, so that errors name their place; values written.

`tomllib` reads the values but forgets where they stood. This walks over a text that tomllib has
accepted already, so it needs to know only where keys, strings and brackets begin and end.
"""

import json
import re

KeyPath = tuple[str | int, ...]
"""A key in its tables: `("workers", "dht")`, or with an index for a part of an array."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\])*"'),
    re.compile(r"'[^']*'"),
)


class _Walk:
    """One pass over the text; fills `lines`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}

    def note(self, path: KeyPath) -> None:
        """Remembers the current line for `path`, the first time it is met."""
        self.lines.setdefault(path, self.text.count("\n", 0, self.at) + 1)

    def blank(self) -> None:
        """Steps over white space, line ends and comments."""
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def string(self) -> str | None:
        """Steps over a string that begins here and returns its inside, or None."""
        for pattern in _STRINGS:
            found = pattern.match(self.text, self.at)
            if found:
                self.at = found.end()
                return found.group()[1:-1]
        return None

    def key(self) -> KeyPath:
        """Steps over a dotted key and returns its parts."""
        parts: list[str | int] = []
        while self.at < len(self.text):
            self.blank()
            bare = _BARE.match(self.text, self.at)
            if bare:
                self.at = bare.end()
                parts.append(bare.group())
            else:
                inside = self.string()
                if inside is None:
                    break
                parts.append(inside)
            self.blank()
            if self.text[self.at : self.at + 1] != ".":
                break
            self.at += 1
        return tuple(parts)

    def value(self, path: KeyPath) -> None:
        """Steps over a value, noting the lines of what it contains."""
        self.blank()
        opening = self.text[self.at : self.at + 1]
        if opening == "[":
            self.at += 1
            index = 0
            while self.inside("]"):
                self.note((*path, index))
                self.value((*path, index))
                index += 1
        elif opening == "{":
            self.at += 1
            while self.inside("}"):
                self.pair(path)
        elif self.string() is None:
            start = self.at
            while self.at < len(self.text) and self.text[self.at] not in ",]}\n#":
                self.at += 1
            if self.at == start:  # never for a text tomllib accepts: be sure to come to an end
                self.at += 1

    def inside(self, closing: str) -> bool:
        """Tells whether another part follows before `closing`; steps over commas and the end."""
        self.blank()
        while self.text[self.at : self.at + 1] == ",":
            self.at += 1
            self.blank()
        if self.at < len(self.text) and self.text[self.at] != closing:
            return True
        self.at += 1
        return False

    def pair(self, table: KeyPath) -> None:
        """Steps over `key = value`."""
        self.blank()
        start = self.at
        path = table + self.key()
        self.note(path)
        if self.text[self.at : self.at + 1] == "=":
            self.at += 1
            self.value(path)
        if self.at == start:
            self.at += 1


def key_lines(text: str) -> dict[KeyPath, int]:
    """Returns the line (from 1) of each table, key and array part of a valid TOML text."""
    walk = _Walk(text)
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    while True:
        walk.blank()
        if walk.at >= len(text):
            return walk.lines
        if text[walk.at] != "[":
            walk.pair(table)
            continue
        many = text.startswith("[[", walk.at)
        walk.at += 2 if many else 1
        table = walk.key()
        walk.note(table)
        if many:
            counts[table] = counts.get(table, -1) + 1
            table = (*table, counts[table])
            walk.note(table)
        walk.at += 2 if many else 1


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Returns the line of `path`, or of the nearest table around it; 1 if none is known."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def toml_value(value: object) -> str:
    """Returns a value as TOML; JSON's texts, numbers and lists are TOML's as well."""
    if isinstance(value, tuple | list):
        rows = [toml_value(row) for row in value]
        if len(", ".join(rows)) > 60:
            return "[\n" + "".join(f"  {row},\n" for row in rows) + "]"
        return f"[{', '.join(rows)}]"
    if isinstance(value, bool | int):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
