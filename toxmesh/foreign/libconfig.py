"""Reads libconfig, the language of tox-bootstrapd.conf: settings, groups, arrays and lists.

The grammar is that of libconfig 1.5 to 1.7 without `@include`. Numbers with leading zeros are
refused, since libconfig takes them for octal, and so is a comment that never ends.
"""

import re
from typing import NamedTuple

from toxmesh.foreign import MAX_DEPTH, MAX_ENTRIES, Entry, Settings, TextError

_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t\r\n\f]+ | (?:\#|//)[^\n]* | /\*.*?\*/)
    | (?P<float>[-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)? | [-+]?\d+[eE][-+]?\d+)
    | (?P<hex>0[xX][0-9A-Fa-f]+(?:LL?)?)
    | (?P<integer>[-+]?\d+(?:LL?)?)
    | (?P<name>[A-Za-z*][-A-Za-z0-9_*]*)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<mark>[=:,;{}()\[\]])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r'\\([nrtf\\"]|[xX][0-9A-Fa-f]{2})')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "\\": "\\", '"': '"'}
_CLOSING = {"{": "}", "(": ")", "[": "]"}


class _Token(NamedTuple):
    kind: str  # float, hex, integer, name, string, mark or end
    text: str
    line: int

    def shown(self) -> str:
        """Returns the token for a message."""
        return repr(self.text[:30]) if self.text else "the end of the file"


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise TextError(line, _no_token(text, at))
        kind, part = match.lastgroup or "", match.group()
        if kind != "blank":
            found.append(_Token(kind, part, line))
        line += part.count("\n")
        at = match.end()
    found.append(_Token("end", "", line))
    return found


def _no_token(text: str, at: int) -> str:
    if text[at] == '"':
        return "a text in quotes does not end"
    if text.startswith("/*", at):
        return "a comment does not end"
    if text.startswith("@include", at):
        return "@include is not followed: put the other file's lines here"
    return f"{text[at]!r} has no meaning here"


class _Parser:
    """One pass over the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._entries = 0

    def settings(self, end: str, depth: int) -> Settings:
        """Reads `name = value` up to the mark `end` (empty: the end of the file)."""
        found: Settings = {}
        while True:
            token = self._take()
            if token.text == end and token.kind in ("mark", "end"):
                return found
            if token.kind != "name" or token.text.lower() in ("true", "false"):
                raise TextError(token.line, f"{token.shown()} stands where a setting's name should")
            if token.text in found:
                raise TextError(token.line, f"{token.text} is there twice")
            equals = self._take()
            if equals.text not in ("=", ":"):
                raise TextError(
                    equals.line, f"{equals.shown()} follows {token.text}, where = should"
                )
            found[token.text] = Entry(self._value(depth).value, token.line)
            if self._peek().kind == "mark" and self._peek().text in (";", ","):
                self._at += 1

    def _value(self, depth: int) -> Entry:
        self._entries += 1
        token = self._take()
        if self._entries > MAX_ENTRIES:
            raise TextError(token.line, f"the file has more than {MAX_ENTRIES} values")
        if token.kind == "string":
            return Entry(self._string(token), token.line)
        if token.kind == "name" and token.text.lower() in ("true", "false"):
            return Entry(token.text.lower() == "true", token.line)
        if token.kind in ("integer", "hex"):
            return Entry(_integer(token), token.line)
        if token.kind == "float":
            return Entry(float(token.text), token.line)
        if token.kind != "mark" or token.text not in _CLOSING:
            raise TextError(token.line, f"{token.shown()} is no value")
        if depth == MAX_DEPTH:
            raise TextError(token.line, f"is nested more than {MAX_DEPTH} deep")
        end = _CLOSING[token.text]
        if token.text == "{":
            return Entry(self.settings(end, depth + 1), token.line)
        values = self._values(end, depth + 1)
        if token.text == "(":
            return Entry(tuple(values), token.line)
        for value in values:
            if type(value.value) is not type(values[0].value) or isinstance(
                value.value, tuple | list | dict
            ):
                raise TextError(value.line, "the parts of an array must be of one plain kind")
        return Entry(values, token.line)

    def _values(self, end: str, depth: int) -> list[Entry]:
        found: list[Entry] = []
        while True:
            token = self._peek()
            if token.kind == "mark" and token.text == end:
                self._at += 1
                return found
            if found:
                if token.text != "," or token.kind != "mark":
                    raise TextError(
                        token.line, f"{token.shown()} follows a value, where , or {end} should"
                    )
                self._at += 1
                if self._peek().kind == "mark" and self._peek().text in (",", end):
                    continue  # libconfig takes commas with nothing behind them
            found.append(self._value(depth))

    def _string(self, token: _Token) -> str:
        """Joins texts that stand behind one another."""
        parts = [_unescaped(token.text)]
        while self._peek().kind == "string":
            parts.append(_unescaped(self._take().text))
        return "".join(parts)

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token


def _unescaped(quoted: str) -> str:
    """Returns the inside of a text in quotes; a backslash before anything else stays itself."""
    return _ESCAPE.sub(
        lambda match: _ESCAPED.get(match[1]) or chr(int(match[1][1:], 16)), quoted[1:-1]
    )


def _integer(token: _Token) -> int:
    digits = token.text.rstrip("L")
    if token.kind == "hex":
        return int(digits, 16)
    if len(digits.lstrip("+-")) > 1 and digits.lstrip("+-").startswith("0"):
        raise TextError(token.line, f"{digits[:20]} begins with 0, which libconfig reads as octal")
    if len(digits) > 20:  # characters of the least 64-bit number
        raise TextError(token.line, f"{digits[:20]}... is no number of 64 bits")
    return int(digits)


def parse(text: str) -> Settings:
    """Returns all settings of a file's text. Raises TextError."""
    return _Parser(text).settings("", 0)
