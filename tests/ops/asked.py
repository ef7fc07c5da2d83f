"""Asks a real node and compares each answer with its description in docs/control.md."""

from typing import Any

from ops import client
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node


def ask(node: Node, request: str, **args: Any) -> dict[str, Any]:
    """Asks, and asserts that arguments and answer are as they are described."""
    described = shapes.REQUESTS[request]
    assert set(args) <= set(described.arguments)
    answer = client.ask(node.state_dir, request, args)
    assert differences(described.answer, answer) == []
    return answer
