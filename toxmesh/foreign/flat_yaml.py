"""Reads the flat YAML of tox-node's config.yml: settings, lists of texts, lists of small tables.

Every scalar is a text, as tox-node makes numbers and truth values of texts itself; null is None.
Anchors, tags, block texts, texts over several lines and several documents are refused with their
line: no file for tox-node needs them, and a whole YAML library would be one more dependency.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from toxmesh.foreign import MAX_DEPTH, MAX_ENTRIES, Entry, Settings, TextError

_KEY = re.compile(r"""(?P<key>[A-Za-z_][\w.-]*|"[^"\\]*"|'[^']*')[ \t]*:(?=[ \t]|$)[ \t]*""")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SINGLE = re.compile(r"'((?:[^']|'')*)'")
_BREAK = re.compile(r"\r\n|\n|\r")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#.*")
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_ESCAPED = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r",
    "e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0",
}  # fmt: skip
_SPECIAL = "&*!|>%@`,]}#"  # YAML 1.2, 7.3.3: what no plain text begins with; [ and { apart
_NULLS = ("", "~", "null", "Null", "NULL")


class _Line(NamedTuple):
    number: int
    indent: int
    text: str  # without indent, comment and blanks behind


def _lines(text: str) -> Iterator[_Line]:
    """Yields the lines that say something."""
    began = False
    for number, raw in enumerate(_BREAK.split(text), 1):
        strange = _UNPRINTABLE.search(raw)
        if strange is not None:
            raise TextError(number, f"has the character {strange[0]!r}, which YAML does not allow")
        body = raw.strip(" \t")
        if not body or body.startswith("#"):
            continue
        if raw.startswith("---") and not raw[3:].strip() and not began:
            began = True
            continue
        if raw.startswith(("---", "...", "%")):
            raise TextError(number, "only one document without directives is read")
        began = True
        indent = len(raw) - len(raw.lstrip(" "))
        if raw[indent] == "\t":
            raise TextError(number, "a tab stands where YAML wants spaces")
        yield _Line(number, indent, body)


class _Reader:
    """One pass over the lines."""

    def __init__(self, text: str) -> None:
        self._lines = list(_lines(text))
        self._at = 0
        self._entries = 0
        self._depth = 0

    def settings(self) -> Settings:
        """Reads the whole file."""
        found = self._table(0)
        if self._at < len(self._lines):
            raise TextError(self._lines[self._at].number, "is indented where a setting should be")
        return found

    def _table(self, indent: int) -> Settings:
        """Reads `key: value` lines of one indent."""
        found: Settings = {}
        while self._at < len(self._lines) and self._lines[self._at].indent == indent:
            line = self._lines[self._at]
            if line.text == "-" or line.text.startswith("- "):
                break
            self._at += 1
            self._pair(found, line, line.text, indent)
        return found

    def _pair(self, found: Settings, line: _Line, text: str, indent: int) -> None:
        match = _KEY.match(text)
        if match is None:
            raise TextError(line.number, f"{text[:40]!r} is not `name: value`")
        key = match["key"].strip("\"'")
        if key in found:
            raise TextError(line.number, f"{key} is there twice")
        rest = _COMMENT.sub("", text[match.end() :]).strip() if text[match.end() :] else ""
        if rest:
            found[key] = self._inline(text[match.end() :], line.number)
            return
        ahead = self._lines[self._at] if self._at < len(self._lines) else None
        if ahead is not None and ahead.indent >= indent and _is_item(ahead):
            found[key] = Entry(self._items(ahead.indent), line.number)
        elif ahead is not None and ahead.indent > indent:
            raise TextError(ahead.number, f"{key} should have a value on its line, or a list")
        else:
            found[key] = self._entry(None, line.number)

    def _items(self, indent: int) -> list[Entry]:
        """Reads `- item` lines of one indent."""
        found: list[Entry] = []
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TextError(self._lines[self._at].number, f"is nested more than {MAX_DEPTH} deep")
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.indent != indent or not _is_item(line):
                break
            self._at += 1
            inner = line.text[1:].lstrip(" ")
            within = indent + len(line.text) - len(inner)
            if not _KEY.match(inner):
                found.append(self._inline(inner, line.number))
                continue
            table: Settings = {}
            self._pair(table, line, inner, within)
            for key, entry in self._table(within).items():
                if key in table:
                    raise TextError(entry.line, f"{key} is there twice")
                table[key] = entry
            found.append(self._entry(table, line.number))
        if self._at < len(self._lines) and self._lines[self._at].indent > indent:
            raise TextError(self._lines[self._at].number, "is indented more than its list")
        self._depth -= 1
        return found

    def _inline(self, text: str, number: int) -> Entry:
        """Reads a value that stands on one line, with perhaps a comment behind it."""
        if text.startswith("{"):
            raise TextError(number, "write the table in braces as lines of `name: value`")
        if text.startswith("["):
            inside = _COMMENT.sub("", text).strip()
            return self._entry(self._flow(inside, number), number)
        value, rest = _scalar(text, number, "")
        if _COMMENT.sub("", rest).strip():
            raise TextError(number, f"{rest.strip()[:30]!r} stands behind a text in quotes")
        return self._entry(value, number)

    def _flow(self, text: str, number: int) -> list[Entry]:
        """Reads `[one, two]`."""
        found: list[Entry] = []
        at = 1
        while True:
            rest = text[at:].lstrip(" \t")
            if not rest:
                raise TextError(number, "a list in brackets does not end on its line")
            if rest.startswith("]"):
                if rest[1:].strip():
                    raise TextError(number, f"{rest[1:].strip()[:30]!r} stands behind a list")
                return found
            if rest.startswith(("[", "{")):
                raise TextError(number, "only texts may stand in a list in brackets")
            value, rest = _scalar(rest, number, ",]")
            found.append(self._entry(value, number))
            rest = rest.lstrip(" \t")
            if rest.startswith(","):
                rest = rest[1:]
            elif not rest.startswith("]"):
                raise TextError(number, "a list in brackets does not end on its line")
            at = len(text) - len(rest)

    def _entry(self, value: "str | list[Entry] | Settings | None", number: int) -> Entry:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise TextError(number, f"the file has more than {MAX_ENTRIES} values")
        return Entry(value, number)


def _is_item(line: _Line) -> bool:
    return line.text == "-" or line.text.startswith("- ")


def _scalar(text: str, number: int, ends: str) -> tuple[str | None, str]:
    """Reads a text, in quotes or plain up to one of `ends`; returns it and what is behind it."""
    if text.startswith(('"', "'")):
        double = text.startswith('"')
        match = (_DOUBLE if double else _SINGLE).match(text)
        if match is None:
            raise TextError(number, "a text in quotes does not end on its line")
        inside = _unescaped(match[1], number) if double else match[1].replace("''", "'")
        return inside, text[match.end() :]
    plain = _COMMENT.sub("", text)
    size = min((plain.find(end) for end in ends if end in plain), default=len(plain))
    value, rest = plain[:size].strip(), plain[size:]
    if value[:1] and value[0] in _SPECIAL:
        raise TextError(number, f"{value[:30]!r} is not read: only plain and quoted texts are")
    if ": " in value or value.endswith(":") or value in ("-", "?") or value[:2] in ("- ", "? "):
        raise TextError(number, f"{value[:30]!r} must stand in quotes")
    return (None if value in _NULLS else value), rest


def _unescaped(inside: str, number: int) -> str:
    def one(match: re.Match[str]) -> str:
        found = match[1]
        if found[0] in "xuU" and len(found) > 1:
            code = int(found[1:], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise TextError(number, f"\\{found} is no character")
            return chr(code)
        if found not in _ESCAPED:
            raise TextError(number, f"\\{found} is no escape of YAML")
        return _ESCAPED[found]

    return _ESCAPE.sub(one, inside)


def parse(text: str) -> Settings:
    """Returns all settings of a file's text. Raises TextError."""
    return _Reader(text).settings()
