"""`toxmesh ops check` finds nothing wrong with our node and with tox-bootstrapd."""

import json
import re

import pytest

from tests.cli.commands import call
from tests.interop.conftest import MakeNode
from tests.interop.driver import wait_until
from tests.interop.nodes import Node
from tests.interop.probe import Probe
from tests.ops.schema import differences
from tests.ops.shapes import COMMANDS

pytestmark = [pytest.mark.interop, pytest.mark.process]

_MEET_TIMEOUT_S = 30


def _of(node: Node) -> str:
    return f"{node.host}:{node.udp_port}:{node.key.hex()}"


@pytest.mark.parametrize("kind", ["ours", "bootstrapd"])
def test_a_node_alone_is_good_in_all_checks(
    capsys: pytest.CaptureFixture[str], make_node: MakeNode, kind: str
) -> None:
    node = make_node(kind, workers="dht=2,onion=2,relay=1", motd="I am there")
    said = call(capsys, "ops", "check", "all", _of(node), "--json", "--count", 3)
    answer = json.loads(said.out)
    assert differences(COMMANDS["check"].answer, answer) == []
    checks = {row["check"]: row for row in answer["checks"]}
    assert said.code == 0, answer
    assert list(checks) == ["ping", "udp", "tcp", "onion", "announce"]
    assert checks["udp"]["motd"] == "I am there"
    maker = {"ours": "toxmesh", "bootstrapd": "tox-bootstrapd"}[kind]
    assert re.fullmatch(rf"{maker} \d+\.\d+\.\d+", checks["udp"]["software"])
    assert (checks["udp"]["nodes"], checks["onion"]["helpers"]) == (0, 0)
    assert all(0 < row["rtt_ms"] < 3000 for row in checks.values())


@pytest.mark.parametrize("kind", ["ours", "bootstrapd"])
def test_paths_lead_through_nodes_that_the_node_names(
    capsys: pytest.CaptureFixture[str], make_node: MakeNode, kind: str
) -> None:
    first, second = make_node("bootstrapd"), make_node("bootstrapd")
    node = make_node(kind, bootstrap=(first.bootstrap, second.bootstrap))
    probe = Probe()
    wait_until(
        lambda: len(probe.nodes(node, node.key)) >= 2, "both are named", _MEET_TIMEOUT_S
    )
    probe.close()
    said = call(capsys, "ops", "check", "onion", _of(node), "--json")
    answer = json.loads(said.out)
    assert said.code == 0, answer
    (row,) = answer["checks"]
    assert row["helpers"] == 2
    assert row["hops_failed"] == []
    assert row["text"] == "as hop 1, 2 and 3, by way of 2 nodes that it names"


def test_a_node_without_onion_workers_fails_the_checks_that_need_them(
    capsys: pytest.CaptureFixture[str], make_node: MakeNode
) -> None:
    node = make_node("ours", workers="dht=1,onion=0,relay=0", tcp=False)
    said = call(capsys, "ops", "check", "all", _of(node), "--json", "--timeout", "0.5")
    verdicts = {row["check"]: row["verdict"] for row in json.loads(said.out)["checks"]}
    assert said.code == 1
    assert verdicts == {
        "ping": "good", "udp": "good", "tcp": "silent", "onion": "failed", "announce": "failed",
    }  # fmt: skip
