"""Compares an answer with the shape that the documentation gives it: `{"rows[].name": "text"}`.

The language of paths and types stands in docs/control.md, *Tables*.
"""

import re
from collections.abc import Mapping
from typing import Any

Shape = Mapping[str, str]

_PART = re.compile(r"(?P<name>[^\[\]{}?]+)(?P<many>(?:\[\]|\{\})*)(?P<may>\??)\Z")


class _Place:
    """What may stand at one place: a type, or further places by name."""

    def __init__(self) -> None:
        self.kind = ""
        self.missing = False
        self.parts: dict[str, _Place] = {}


def _tree(shape: Shape) -> _Place:
    root = _Place()
    for path, kind in shape.items():
        place = root
        for part in path.split("."):
            match = _PART.match(part)
            if match is None:
                raise ValueError(f"{path} is no path")
            place = place.parts.setdefault(match["name"], _Place())
            place.missing = place.missing or bool(match["may"])
            for step in re.findall(r"\[\]|\{\}", match["many"]):
                place = place.parts.setdefault(step, _Place())
        place.kind = kind
    return root


def _is(kind: str, value: Any) -> bool:
    if kind.endswith("?"):
        return value is None or _is(kind[:-1], value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "text": isinstance(value, str),
        "hex": isinstance(value, str) and re.fullmatch(r"([0-9A-F]{2})*", value) is not None,
        "int": number and isinstance(value, int),
        "float": number,
        "bool": isinstance(value, bool),
        "object": isinstance(value, dict),
        "list": isinstance(value, list),
        "any": True,
    }[kind]


def differences(shape: Shape, value: Any) -> list[str]:
    """Returns in what a value differs from its shape, one sentence each; none: it is as said."""
    return _differences(_tree(shape), value, "")


def _differences(place: _Place, value: Any, path: str) -> list[str]:
    if place.kind and not _is(place.kind, value):
        return [f"{path or 'the answer'} is {value!r:.60}, not {place.kind}"]
    if value is None and place.kind.endswith("?"):
        return []
    if "[]" in place.parts:
        if not isinstance(value, list):
            return [f"{path} is {value!r:.60}, no list"]
        rows = [(f"{path}[{index}]", row) for index, row in enumerate(value)]
        return [line for at, row in rows for line in _differences(place.parts["[]"], row, at)]
    if "{}" in place.parts:
        if not isinstance(value, dict):
            return [f"{path} is {value!r:.60}, no object"]
        rows = [(f"{path}{{{name}}}", row) for name, row in value.items()]
        return [line for at, row in rows for line in _differences(place.parts["{}"], row, at)]
    if not place.parts:
        return []
    if not isinstance(value, dict):
        return [f"{path or 'the answer'} is {value!r:.60}, no object"]
    head = path + "." if path else ""
    found = [f"{head}{name} is not described" for name in value if name not in place.parts]
    for name, part in place.parts.items():
        if name in value:
            found += _differences(part, value[name], head + name)
        elif not part.missing:
            found.append(f"{head}{name} is missing")
    return found
