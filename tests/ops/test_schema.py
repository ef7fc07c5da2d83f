"""The checker of shapes, and the tables of docs/control.md that it reads."""

from typing import Any

import pytest

from tests.ops import shapes
from tests.ops.schema import differences

SHAPE = {
    "rows[].name": "text",
    "rows[].core": "int?",
    "by{}.n": "float",
    "why?": "hex",
    "deep": "object",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"why": "0AFF"}, []),
        ({"why": "0aff"}, ["why is '0aff', not hex"]),
        ({"rows": [{"name": "x"}]}, ["rows[0].core is missing"]),
        ({"rows": [{"name": 1, "core": 2}]}, ["rows[0].name is 1, not text"]),
        ({"rows": [{"name": "x", "core": True}]}, ["rows[0].core is True, not int?"]),
        ({"rows": {}}, ["rows is {}, no list"]),
        ({"rows": [3]}, ["rows[0] is 3, no object"]),
        ({"by": {"a": {"n": "x"}}}, ["by{a}.n is 'x', not float"]),
        ({"more": 1}, ["more is not described"]),
        ({"deep": []}, ["deep is [], not object"]),
    ],
)
def test_every_difference_is_one_sentence(change: dict[str, Any], said: list[str]) -> None:
    good = {"rows": [{"name": "a", "core": None}], "by": {"a": {"n": 1}}, "deep": {"x": [1]}}
    assert differences(SHAPE, {**good, **change}) == said


def test_an_answer_without_a_field_or_of_another_kind_is_no_answer() -> None:
    assert differences({"a.b": "int"}, {}) == ["a is missing"]
    assert differences({"a.b": "int"}, None) == ["the answer is None, no object"]


def test_tables_are_read_with_their_types() -> None:
    requests, events = shapes.read(
        "### ask `one` (full)\n\n| argument | type | meaning |\n|---|---|---|\n"
        "| `key` | text | a key |\n\n| answer | type | meaning |\n|---|---|---|\n"
        "| `rows[].n` | int? | how many |\n\n### event `two`\n"
        "| data | type | meaning |\n|---|---|---|\n| `n` | int | how many |\n"
    )
    assert requests == {"one": shapes.Described(True, {"key": "text"}, {"rows[].n": "int?"})}
    assert events == {"two": shapes.Described(False, {}, {"n": "int"})}
    with pytest.raises(ValueError, match="no row"):
        shapes.read("### ask `one`\n| answer | type | meaning |\n| rows | int | how many |\n")
    with pytest.raises(ValueError, match="twice"):
        shapes.read("### ask `one`\n### ask `one`\n")


def test_the_documentation_uses_types_that_can_be_checked() -> None:
    assert "status" in shapes.REQUESTS
    for described in [*shapes.REQUESTS.values(), *shapes.EVENTS.values()]:
        for shape in (described.arguments, described.answer):
            assert differences(shape, {}) is not None  # reads every path
            assert {kind.rstrip("?") for kind in shape.values()} <= {
                "text", "hex", "int", "float", "bool", "object", "list", "any",
            }  # fmt: skip
