"""Limits of a real node, shown and set: in all processes, those that begin later as well.

Each answer is compared with its description in docs/control.md.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.asking import CannotAnswer
from ops import client
from tests.cli.commands import Said, call
from tests.ops.asked import ask
from tests.processes.node import Node, free_port, running, until
from tests.processes.streams import Stream
from tests.web import inventory
from toxmesh.limits import LIMITS, Limit, Limits, checked

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    place = tmp_path_factory.mktemp("limits")
    port = str(free_port(socket.SOCK_STREAM))
    with running(place, "--tcp-port", port, workers="dht=2,onion=2,relay=1") as made:
        yield made


def ops(capsys: pytest.CaptureFixture[str], state_dir: Path, *words: object) -> Said:
    return call(capsys, "ops", "limits", *words, "--state-dir", state_dir)


def row(node: Node, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = ask(node, "limits show", name=name)["rows"]
    return rows[0]


def test_every_limit_has_a_value_and_its_default_may_be_set(node: Node) -> None:
    rows = {row["name"]: row for row in ask(node, "limits show")["rows"]}
    assert list(rows) == [row.name for row in LIMITS]
    for limit in LIMITS:
        shown = rows[limit.name]
        assert shown["value"] == shown["default"] is not None, limit.name
        if limit.most:
            assert limit.least <= shown["default"] <= limit.most, limit.name


def test_reasons_are_those_that_are_documented() -> None:
    known = inventory.in_docs()
    families = {reason.partition(":")[0] for reason in known if ":" in reason}
    for limit in LIMITS:
        for reason in limit.reasons:
            assert reason in known or reason.partition(":")[0] in families, reason


def test_a_limit_holds_at_once_and_in_processes_that_begin_later(node: Node) -> None:
    name = "relay.per_address"
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(Stream(node))).confirmed()
        answer = ask(node, "limits set", name=name, value=3)
        assert (answer["value"], answer["default"], answer["changed"]) == (3, 64, True)
        assert answer["use"] >= 3
        with closing(Stream(node)) as fourth:
            assert fourth.shut_out()
        until(lambda: row(node, name)["refused"] >= 1, 10)
    client.ask(node.state_dir, "worker restart", {"name": "broker"}, 60)
    assert row(node, name)["value"] == 3
    ask(node, "limits set", name="onion.data_entries", value=99)
    pid = node.child("onion.0")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(partial(_is_new, node, "onion.0", pid), 20)
    assert row(node, "onion.data_entries")["value"] == 99
    assert {row["name"] for row in ask(node, "limits show", changed=True)["rows"]} == {
        name,
        "onion.data_entries",
    }
    for changed in (name, "onion.data_entries"):
        assert ask(node, "limits set", name=changed)["changed"] is False
    assert row(node, name)["value"] == 64


def _is_new(node: Node, name: str, pid: int) -> bool:
    found = node.child(name)
    return bool(found["pid"] != pid and found["state"] == "good")


def test_a_limit_for_a_time_goes_back_by_itself(node: Node) -> None:
    answer = ask(node, "limits set", name="info.per_prefix", value=100, seconds=1)
    assert 0 < answer["left_s"] <= 1
    until(lambda: row(node, "info.per_prefix")["value"] == 8, 10)
    assert row(node, "info.per_prefix")["changed"] is False


def test_the_commands_say_what_they_did_and_what_they_refuse(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ops(capsys, node.state_dir, "set", "keys.waiting", "128", "--for", "10m")
    assert said.out == "keys.waiting is 128 datagrams for 9 min 59 s, then 4,096 again\n" or (
        said.out == "keys.waiting is 128 datagrams for 10 min 0 s, then 4,096 again\n"
    )
    said = ops(capsys, node.state_dir, "show", "--changed")
    assert len(said.out.splitlines()) == 2
    assert "128*" in said.out
    assert ops(capsys, node.state_dir, "set", "keys.waiting", "default").code == 0
    said = ops(capsys, node.state_dir, "set", "relay.per_prefix", "99")
    assert said.out.endswith("to keep it, set relay_per_prefix\n")
    assert ops(capsys, node.state_dir, "set", "relay.per_prefix", "default").code == 0
    listed = json.loads(ops(capsys, node.state_dir, "show", "relay.", "--json").out)
    assert {row["name"].split(".")[0] for row in listed["rows"]} == {"relay"}
    for words, code, text in (
        (("set", "relay.links", "9"), 2, "built in"),
        (("set", "relay.links", "default"), 2, "built in"),
        (("set", "shoes", "9"), 1, "no limit 'shoes'"),
        (("set", "keys.waiting", "1"), 3, "from 64 to 65,536"),
        (("set", "keys.waiting", "100.5"), 3, "whole number"),
        (("set", "keys.waiting", "many"), 3, "neither a number"),
        (("set", "keys.waiting", "default"), 1, "its default already"),
        (("set", "relay.queue_bytes", "200000"), 2, "change the other one first"),
        (("show", "shoes"), 1, "no limit"),
    ):
        said = ops(capsys, node.state_dir, *words)
        assert said.code == code, words
        assert text in said.err
        assert said.out == ""


@pytest.mark.parametrize("value", [True, "9", [], float("nan"), float("inf"), -1, 10**40])
def test_what_is_no_value_is_refused(value: object) -> None:
    for limit in LIMITS:
        with pytest.raises(CannotAnswer):
            checked(limit, value)
    assert checked(Limit("x_s", "s", "", (), 1, 9), 1.5) == 1.5


def test_what_is_laid_down_is_kept_where_the_life_of_the_node_is() -> None:
    kept: dict[str, list[Any]] = {}
    one = Limits(kept)
    one.lay("a", 5, None)
    one.lay("b", 6, 100.0)
    other = Limits(kept)  # as after an upgrade
    assert other.values() == {"a": 5, "b": 6}
    assert other.next_end == 100.0
    assert other.over(99.0) == []
    assert other.over(100.0) == ["b"]
    assert other.values() == {"a": 5}
    other.lay("a", None, None)
    assert kept == {}
