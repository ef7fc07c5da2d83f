"""What docs/control.md says of each request and event, and docs/json.md of commands, by its tables.

A request has the heading ``### ask `name` ``, an event ``### event `name` ``, and a command of
docs/json.md ``### command `name` ``. Tables below it whose first heading is `argument`, `answer` or
`data` have a row for each path: path, type, meaning.
"""

import re
from pathlib import Path
from typing import NamedTuple

CONTROL = Path(__file__).resolve().parents[2] / "docs" / "control.md"
JSON = CONTROL.with_name("json.md")

_HEADING = re.compile(r"### (?P<what>ask|event|command) `(?P<name>[^`]+)`(?P<full> \(full\))?\s*\Z")
_ROW = re.compile(r"\| `(?P<path>[^`]+)` \| (?P<kind>[a-z]+\??) \| (?P<meaning>.+) \|\Z")


class Described(NamedTuple):
    """One request or event as the documentation has it."""

    full: bool
    arguments: dict[str, str]
    answer: dict[str, str]
    """Of an event: its data."""


def read(text: str) -> tuple[dict[str, Described], dict[str, Described]]:
    """Returns requests and events by name. Raises ValueError for a table that cannot be read."""
    found = read_all(text)
    return found["ask"], found["event"]


def read_all(text: str) -> dict[str, dict[str, Described]]:
    """Returns what is described, by `ask`, `event` or `command`, and by name."""
    found: dict[str, dict[str, Described]] = {"ask": {}, "event": {}, "command": {}}
    current: Described | None = None
    table: dict[str, str] | None = None
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading is not None:
            current = Described(bool(heading["full"]), {}, {})
            if heading["name"] in found[heading["what"]]:
                raise ValueError(f"{heading['name']} is described twice")
            found[heading["what"]][heading["name"]] = current
        elif line.startswith("#"):
            current = None
        if not line.startswith("|"):
            table = None
            continue
        if current is None or set(line) <= set("|-: "):
            continue
        first = line.strip("| ").split("|")[0].strip()
        if first in ("argument", "answer", "data"):
            table = current.arguments if first == "argument" else current.answer
        elif table is not None:
            row = _ROW.match(line)
            if row is None:
                raise ValueError(f"no row of path, type and meaning: {line}")
            table[row["path"]] = row["kind"]
    return found


REQUESTS, EVENTS = read(CONTROL.read_text("utf-8"))
COMMANDS = read_all(JSON.read_text("utf-8"))["command"]
