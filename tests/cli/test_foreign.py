"""The settings files of other nodes are read as they were meant, or refused with their line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxmesh import foreign
from toxmesh.foreign import Entry, TextError, flat_yaml, libconfig

LIBCONFIG = r"""
# three kinds of comment
a = 33445; b : -7, /* over
two lines */ c = 0x1F
d = true  // and this
e = "one \"two\" \x41\n" "joined"
f = [ 1, 2, 3, ]
g = ( "x", { h = FALSE; i = 1.5e3 }, ( ), [ ] )
j = 10L
"""
YAML = r"""---
# a comment
name: plain text # and this
quoted: "a # no comment \"x\" \u00e9"   # this is one
single: 'it''s {{here}}'
empty:
null-too: ~
number: 0010
address: 0.0.0.0:33445
same-indent:
- "[::]:1"
- two # two
deeper:
    - 'a'
brackets: [one, "two, three", 'four' ] # done
tables:
  - pk: A1
    addr: example.org:33445

  - addr: "b"
    pk: B2
"""


def plain(entry: Any) -> Any:
    """Returns values without their lines."""
    value = entry.value if isinstance(entry, Entry) else entry
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(part) for part in value)
    return value


def test_libconfig_is_read_with_all_its_kinds_of_values() -> None:
    assert plain(libconfig.parse(LIBCONFIG)) == {
        "a": 33445,
        "b": -7,
        "c": 31,
        "d": True,
        "e": 'one "two" A\njoined',
        "f": [1, 2, 3],
        "g": ("x", {"h": False, "i": 1500.0}, (), []),
        "j": 10,
    }


def test_libconfig_knows_the_line_of_each_setting() -> None:
    found = libconfig.parse(LIBCONFIG)
    assert {name: entry.line for name, entry in found.items()} == {
        "a": 3, "b": 3, "c": 4, "d": 5, "e": 6, "f": 7, "g": 8, "j": 9,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a = 1\nb 2", 2, "where = should"),
        ("a = 1\n\nb = ", 3, "the end of the file is no value"),
        ("a = 1\na = 2", 2, "a is there twice"),
        ('a = "x\n\n', 1, "does not end"),
        ("/* a", 1, "comment does not end"),
        ("a = [1, true]", 1, "one plain kind"),
        ("a = [(1)]", 1, "one plain kind"),
        ("a = (1 2)", 1, "where , or ) should"),
        ("a = (1", 1, "where , or ) should"),
        ("a = { b = 1", 1, "where a setting's name should"),
        ("a = 033445", 1, "octal"),
        ("a = 99999999999999999999999", 1, "64 bits"),
        ('@include "other.conf"', 1, "@include"),
        ("a = 1 }", 1, "where a setting's name should"),
        ("true = 1", 1, "where a setting's name should"),
        ("a = " + "(" * 20, 1, "nested"),
        ("a = (" + "1," * 5000 + ")", 1, "more than 4096 values"),
        ("a = %", 1, "'%' has no meaning"),
    ],
)
def test_broken_libconfig_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(TextError, match=reason.replace("(", r"\(").replace(")", r"\)")) as error:
        libconfig.parse(text)
    assert error.value.line == line


def test_yaml_is_read_with_all_its_kinds_of_values() -> None:
    assert plain(flat_yaml.parse(YAML)) == {
        "name": "plain text",
        "quoted": 'a # no comment "x" é',
        "single": "it's {{here}}",
        "empty": None,
        "null-too": None,
        "number": "0010",
        "address": "0.0.0.0:33445",
        "same-indent": ["[::]:1", "two"],
        "deeper": ["a"],
        "brackets": ["one", "two, three", "four"],
        "tables": [{"pk": "A1", "addr": "example.org:33445"}, {"addr": "b", "pk": "B2"}],
    }


def test_yaml_knows_the_line_of_each_part() -> None:
    found = flat_yaml.parse(YAML)
    assert [found[name].line for name in ("name", "empty", "tables")] == [3, 6, 16]
    tables = found["tables"].value
    assert isinstance(tables, list)
    assert [table.line for table in tables] == [17, 20]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb", 2, "is not `name: value`"),
        ("a: 1\na: 2", 2, "there twice"),
        ("a:\n  - b: 1\n    b: 2", 3, "there twice"),
        ("a: hello\n  world", 2, "is indented"),
        ("a:\n  b: 1", 2, "a value on its line, or a list"),
        ("a: |\n  text", 1, "is not read"),
        ("a: &x 1", 1, "is not read"),
        ("a: !!int 1", 1, "is not read"),
        ("a: {b: 1}", 1, "braces"),
        ("a: [1, [2]]", 1, "only texts"),
        ("a: [1,\n 2]", 1, "does not end on its line"),
        ("a: [1] 2", 1, "behind a list"),
        ('a: "x', 1, "does not end on its line"),
        ('a: "x" y', 1, "behind a text in quotes"),
        (r'a: "\q"', 1, "no escape"),
        (r'a: "\ud800"', 1, "no character"),
        ("a: b: c", 1, "must stand in quotes"),
        ("a:\n\t- b", 2, "a tab"),
        ("a: 1\n---\nb: 2", 2, "one document"),
        ("%YAML 1.2\na: 1", 1, "one document"),
        ("a: 1\x0c", 1, "does not allow"),
        ("a:\n" + "".join(f"{'  ' * i}- b:\n" for i in range(20)), 10, "nested"),
        ("a:\n" + "- b\n" * 5000, 4098, "more than 4096 values"),
    ],
)
def test_other_yaml_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(TextError, match=reason) as error:
        flat_yaml.parse(text)
    assert error.value.line == line


@given(st.text(alphabet=" \t\n-:#'\"[]{}(),=;\\/*ab01.@true", max_size=60))
def test_whatever_the_text_it_is_read_or_refused_with_a_line_that_is_there(text: str) -> None:
    lines = []
    for parse in (libconfig.parse, flat_yaml.parse):
        try:
            parse(text)
        except TextError as error:
            lines.append(error.line)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"a\nb\xff", 2), (b"a\n\n\0", 3), (b" " * (foreign.MAX_FILE + 1), 1)],
)
def test_a_file_that_is_no_text_is_refused(data: bytes, line: int) -> None:
    with pytest.raises(TextError) as error:
        foreign.decode(data)
    assert error.value.line == line
