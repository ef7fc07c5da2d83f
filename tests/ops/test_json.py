"""docs/json.md: what commands print with --json, asked of a real node, field by field."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.cli.commands import call
from tests.ops.schema import differences
from tests.ops.shapes import COMMANDS, JSON, REQUESTS
from tests.ops.test_operations import names
from tests.processes.node import Node, running
from toxmesh import cli

TABLE = re.findall(r"(?m)^\| `([^`]+)` \| `([^`]+)` \|$", JSON.read_text("utf-8"))
ELSEWHERE = {
    "session close", "session trace",  # need a session: tests/processes
    "relay client", "relay kick",  # need a client: tests/ops/test_relay.py has one
    "upgrade", "worker add", "worker remove", "worker drain",  # tests/processes
}  # fmt: skip
VALUES = {"PREFIX": "192.0.2.0/24", "TEXT": "hello", "NAME": "onion.0", "ROLE": "onion"}
NOTHING_STORED = 1


def test_the_page_names_commands_and_requests_that_exist() -> None:
    assert len(TABLE) > 30
    for line, request in TABLE:
        assert request in REQUESTS
        command: click.Command = cli.ops
        words = line.split()
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        assert any("--json" in row.opts for row in command.params), line
    assert {"check", "doctor", "decode", "replay", "report"} <= set(COMMANDS)


def test_every_command_of_the_operator_with_json_is_on_the_page() -> None:
    text = JSON.read_text("utf-8")
    missing = []
    for name in names(cli.ops):
        command: click.Command = cli.ops
        for word in name:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), word)
            assert found is not None
            command = found
        if any("--json" in row.opts for row in command.params):
            missing += [name] * (f"`{' '.join(name)}" not in text)
    assert missing == []


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    place = tmp_path_factory.mktemp("node")
    with running(place, "--http", "off", workers="dht=1,onion=1,relay=1") as found:
        yield found


@pytest.mark.process
def test_what_asks_the_node_prints_its_answer_as_described(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {**VALUES, "KEY": node.key.hex()}
    for line, request in TABLE:
        if request in ELSEWHERE:
            continue
        words = [values.get(word, word) for word in line.split()]
        said = call(capsys, "ops", *words, "--json", "--state-dir", node.state_dir)
        assert said.code in (0, NOTHING_STORED), (line, said)
        assert differences(REQUESTS[request].answer, json.loads(said.out)) == [], line


@pytest.mark.process
def test_each_look_of_stat_and_top_is_a_line_as_described(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--state-dir", node.state_dir, "--json", "--count")
    said = call(capsys, "ops", "stat", "-i", 0.1, *where, 2)
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert row.pop("at") > 1e9
        assert differences(REQUESTS["rates"].answer, row) == []
    for view in ("workers", "kinds", "prefixes", "clients", "drops"):
        (line,) = call(capsys, "ops", "top", view, *where, 1).out.splitlines()
        row = json.loads(line)
        assert (set(row), row["view"]) == ({"at", "view", "rates", "rows"}, view)
        assert differences(REQUESTS["rates"].answer, row["rates"]) == []


@pytest.mark.process
def test_a_report_tells_what_is_in_it(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.tar.gz"
    said = call(capsys, "ops", "report", file, "--json", "--state-dir", node.state_dir)
    assert differences(COMMANDS["report"].answer, json.loads(said.out)) == []


@pytest.mark.parametrize("packet", ["01" + "00" * 81, "f0" + "00" * 77, "fe00", "00"])
def test_packets_are_decoded_as_described(
    packet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, "ops", "decode", "--json", packet)
    assert differences(COMMANDS["decode"].answer, json.loads(said.out)) == []
