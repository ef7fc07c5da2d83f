"""What stands at which path, in each state of a node."""

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from tests.web import samples
from toxmesh.children import Child, State
from toxmesh.web import exposition, pages
from toxmesh.web.pages import FRESH_S, Pages


@dataclass
class Node:
    """What the pages look at."""

    children: list[Child] = field(
        default_factory=lambda: [
            Child(role, shard, None)
            for role, shard in (("broker", 0), ("dht", 0), ("dht", 1), ("relay", 0))
        ]
    )
    listening: bool = True
    stopping: bool = False
    state: str = "good"

    def __post_init__(self) -> None:
        for child in self.children:
            child.state = State.UP
            child.beat = samples.beat()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node()
    monkeypatch.setattr(pages, "report", lambda node: samples.report())
    monkeypatch.setattr(pages, "node_state", lambda node: node.state)
    return made


def site(node: Any) -> Pages:
    return Pages(node)


def asked(node: Any, path: str) -> tuple[int, str]:
    answer = site(node).answer(path, 0.0)
    assert answer is not None
    return answer.status, answer.body.decode().strip()


def test_ready_is_who_may_get_clients(node: Node) -> None:
    for state, status in (
        ("starting", 503),
        ("good", 200),
        ("degraded", 200),
        ("draining", 503),
        ("stopping", 503),
    ):
        node.state = state
        assert asked(node, "/readyz") == (status, state)


def test_healthy_is_who_has_somebody_of_each_role_at_work(node: Node) -> None:
    assert asked(node, "/healthz") == (200, "good")
    node.children[1].state = State.DOWN
    assert asked(node, "/healthz") == (200, "good")
    node.children[2].state = State.STARTING
    node.children[3].state = State.DOWN
    assert asked(node, "/healthz") == (503, "nobody does dht, relay")
    node.listening = False
    assert asked(node, "/healthz") == (200, "starting")
    node.stopping = True
    assert asked(node, "/healthz") == (200, "stopping")


def test_metrics_and_status_are_written_when_asked_and_given_again_for_half_a_second(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def report(node: Any) -> dict[str, Any]:
        written.append(node)
        return samples.report()

    monkeypatch.setattr(pages, "report", report)
    there: Any = node
    made = Pages(there)
    first = made.answer("/metrics", 10.0)
    assert first is not None
    assert first.content_type == exposition.CONTENT_TYPE
    assert made.answer("/metrics", 10.0 + FRESH_S - 0.01) is first
    assert len(written) == 1
    assert made.answer("/metrics", 10.0 + FRESH_S) == first
    assert len(written) == 2
    status = made.answer("/status.json", 10.0)
    assert status is not None
    assert orjson.loads(status.body) == samples.report()
    assert made.answer("/nothing", 10.0) is None


def test_the_page_is_one_file_that_runs_what_stands_in_it_and_nothing_else(node: Node) -> None:
    answer = site(node).answer("/", 0.0)
    assert answer is not None
    policy = dict(answer.headers)["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    text = answer.body.decode()
    for word in ("http://", "https://", "innerHTML", " src=", "@import", "style=", "onclick"):
        assert word not in text.replace("http://www.w3.org/2000/svg", "")


def test_an_event_has_what_the_page_draws(node: Node) -> None:
    there: Any = node
    made = Pages(there)
    update = orjson.loads(made.event(100.5))
    assert set(update) == {"node", "kinds", "workers", "relay", "drops", "table"}
    assert update["node"]["state"] == "good"
    assert update["table"]["places"] == "a0b1c2d303" + "0000000109"
