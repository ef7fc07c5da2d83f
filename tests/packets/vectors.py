"""Reads and writes the vectors that the reference made: see tests/vectors/README.md."""

import json
from pathlib import Path
from typing import Any

from core import endpoint
from core.packets import ALL, FAMILIES, NodeInfo
from core.packets.nodes import Compact, Padded
from core.wire import Maybe, Record

FOLDER = Path(__file__).resolve().parent.parent / "vectors"
CLASSES = {cls.__name__: cls for cls in ALL}


def load() -> list[dict[str, Any]]:
    """Returns every vector of every file."""
    vectors: list[dict[str, Any]] = []
    for path in sorted(FOLDER.glob("*.json")):
        vectors += json.loads(path.read_text())
    return vectors


def save(vectors: list[dict[str, Any]]) -> None:
    """Writes vectors to the file of the family that declares their packet; others stay."""
    kept = {vector["name"]: vector for vector in load()}
    kept.update({vector["name"]: vector for vector in vectors})
    for family in FAMILIES:
        title = family.__name__.rpartition(".")[2]
        mine = [
            vector
            for vector in kept.values()
            if CLASSES[vector["packet"]].__module__ == family.__name__
        ]
        mine.sort(key=lambda vector: str(vector["name"]))
        if mine:
            text = json.dumps(mine, indent=1) + "\n"
            (FOLDER / f"{title}.json").write_text(text)


def shown(record: Record) -> dict[str, Any]:
    """Returns a record's fields as JSON values: bytes in hex, addresses as text."""
    return {
        field.name: _plain(getattr(record, field.name), field.rule)
        for field in record.FIELDS
        if field.value is None and not field.counts
    }


def _plain(value: Any, rule: Any) -> Any:
    if value is None:
        return None
    if isinstance(rule, Maybe):
        rule = rule.inner
    if isinstance(rule, Compact | Padded):
        return endpoint.to_text(value)
    if isinstance(value, NodeInfo):
        address = endpoint.to_text(value.endpoint)
        return {"key": value.key.hex(), "address": address, "tcp": value.tcp}
    if isinstance(value, Record):
        return shown(value)
    if isinstance(value, tuple):
        return [_plain(item, None) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def names_in(vector: dict[str, Any]) -> set[str]:
    """Returns the classes a vector shows: the packet's, and those of what was opened in it."""
    if "packet" not in vector:
        return set()  # what is in the box is not declared
    names = {vector["packet"]}
    for field in CLASSES[vector["packet"]].FIELDS:
        inner = getattr(field.rule, "record", None)
        if inner is not None and vector["fields"].get(field.name):
            names.add(inner.__name__)
    if "body" in vector:
        names |= names_in(vector["body"])
    return names
