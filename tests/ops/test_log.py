"""`toxmesh ops log`: levels that change while the node runs, and the last that was said."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest

from ops import client
from tests.cli.commands import call
from tests.ops import shapes
from tests.ops.asked import ask
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, running, until

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("state") / "s", workers="dht=2,onion=1,relay=0") as node:
        yield node


def levels(node: Node) -> dict[str, tuple[str, str, bool]]:
    return {
        row["name"]: (row["level"], row["normal"], row["back_in_s"] is not None)
        for row in ask(node, "log levels")["rows"]
    }


def test_levels_change_for_one_for_a_role_and_for_all_and_successors_keep_them(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    stays = {name: ("info", "info", False) for name in ("supervisor", "broker", "dht.0", "dht.1",
                                                        "onion.0")}  # fmt: skip
    assert levels(node) == stays
    state = ("--state-dir", node.state_dir)
    assert call(capsys, "ops", "log", "level", "dht", "error", *state).code == 0
    said = call(capsys, "ops", "log", "level", "dht.1", "debug", "--for", "1h", *state)
    assert "dht.1    debug  error in 59 min" in said.out or "error in 1 h" in said.out
    loud = {**stays, "dht.0": ("error", "error", False), "dht.1": ("debug", "error", True)}
    assert levels(node) == loud
    client.ask(node.state_dir, "worker restart", {"name": "dht"}, 20)
    assert levels(node) == loud
    os.kill(node.child("dht.0")["pid"], signal.SIGKILL)
    until(lambda: node.child("dht.0")["restarts"] == 1, 10)
    until(lambda: node.child("dht.0")["state"] == "good", 10)
    assert levels(node) == loud
    said = call(capsys, "ops", "log", "level", "all", "info", "--json", *state)
    assert len(json.loads(said.out)["rows"]) == 5
    assert levels(node) == stays


def test_what_cannot_be_set_is_said_with_the_next_step(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ("--state-dir", node.state_dir)
    said = call(capsys, "ops", "log", "level", "dht.9", "info", *state)
    assert (said.code, "there are supervisor, broker, dht.0" in said.err) == (1, True)
    said = call(capsys, "ops", "log", "level", "dht.0", *state)
    assert (said.code, "say which level" in said.err) == (3, True)
    said = call(capsys, "ops", "log", "level", "dht.0", "loud", *state)
    assert said.code == 3
    said = call(capsys, "ops", "log", "level", "dht.0", "debug", "--for", "long", *state)
    assert (said.code, "is no time" in said.err) == (3, True)


def _said_something(node: Node, follower: IO[str]) -> bool:
    """Makes the supervisor say a line; tells whether the follower was there already to hear it."""
    client.ask(node.state_dir, "worker restart", {"name": "onion.0"}, 20)
    return bool(select.select([follower], [], [], 0.5)[0])


def test_the_last_records_are_there_and_those_that_come_are_followed(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [sys.executable, "-m", "toxmesh", "ops", "log", "tail", "-f", "-n", "0", "--json"]
    line += ["--from", "supervisor", "--state-dir", str(node.state_dir)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as follower:
        stdout = follower.stdout
        assert stdout is not None
        try:
            until(lambda: _said_something(node, stdout), 30)
            record = json.loads(stdout.readline())
            follower.send_signal(signal.SIGINT)
            assert follower.wait(10) == 0
        finally:
            follower.kill()
    assert differences(shapes.EVENTS["log"].answer, record) == []
    assert record["message"].startswith("onion.0 is now process")
    rows = ask(node, "log tail", limit=1000, level="info", name="supervisor")["rows"]
    assert record in rows
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert ask(node, "log tail", name="nobody")["rows"] == []
    shown = call(capsys, "ops", "log", "tail", "-n", "1", "--from", "supervisor",
                 "--state-dir", node.state_dir)  # fmt: skip
    assert shown.out.endswith("INFO supervisor toxmesh.supervisor: " + rows[-1]["message"] + "\n")


def test_no_packet_makes_a_line_good_or_bad_even_at_level_debug(node: Node) -> None:
    ask(node, "log level", name="*", level="debug")
    before = ask(node, "log tail")["total"]
    pinger = Pinger(node.key, node.udp_port)
    try:
        for size in range(200):
            for kind in (0x00, 0x02, 0x21, 0x80, 0x83, 0xF0, 0xFF):
                packet = bytes([kind]) + os.urandom(size)
                pinger.socket.sendto(packet, ("127.0.0.1", node.udp_port))
        assert until(lambda: pinger.answered(), 10)
        received = node.status()["totals"]["kinds"]
        until(lambda: node.status()["totals"]["kinds"] != received, 10)  # a heartbeat later
    finally:
        pinger.close()
    assert ask(node, "log tail")["total"] == before
    ask(node, "log level", name="*", level="info")
