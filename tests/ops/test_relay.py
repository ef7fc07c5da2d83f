"""Clients of a real relay as its operator sees them, and how one of them is thrown out.

Each answer is compared with its description in docs/control.md.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ops import client
from tests.cli.commands import Said, call
from tests.ops import shapes
from tests.ops.asked import ask
from tests.ops.schema import differences
from tests.processes.node import Node, free_port, running, until
from tests.processes.streams import Stream

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    port = str(free_port(socket.SOCK_STREAM))
    place = tmp_path_factory.mktemp("relay")
    with running(place, "--tcp-port", port, workers="dht=1,onion=1,relay=2") as made:
        yield made


@pytest.fixture
def pair(node: Node) -> Iterator[tuple[Stream, Stream]]:
    with ExitStack() as stack:
        one, other = (stack.enter_context(closing(Stream(node))) for _ in range(2))
        one.confirmed()
        other.confirmed()
        one.send(b"\x00" + other.keys.public)
        other.send(b"\x00" + one.keys.public)
        until(lambda: one.pull(0.05) and any(row[0] == 2 for row in one.client.packets), 10)
        yield one, other


def ops(capsys: pytest.CaptureFixture[str], state_dir: Path, *words: object) -> Said:
    return call(capsys, "ops", "relay", *words, "--state-dir", state_dir)


def test_clients_and_links_are_as_the_documentation_says(
    node: Node, pair: tuple[Stream, Stream]
) -> None:
    one, other = pair
    rows = ask(node, "relay clients", key=one.key, state="confirmed")["rows"]
    port = one.socket.getsockname()[1]
    assert [row["address"] for row in rows] == [f"127.0.0.1:{port}"]
    assert rows[0]["links_up"] == 1
    shown = ask(node, "relay client", key=one.key)
    assert differences(
        {path[7:]: kind for path, kind in shapes.REQUESTS["relay clients"].answer.items()
         if path.startswith("rows[].")},
        shown["connections"][0],
    ) == []  # fmt: skip
    assert shown["links"] == [{"link": 16, "peer": other.key, "peer_link": 16, "state": "up"}]
    assert shown["session"]["waits_for"] == "nothing"
    links = ask(node, "relay links", state="up")
    assert [row for row in links["rows"] if row["key"] == one.key] == [
        {"key": one.key, "link": 16, "peer": other.key, "peer_link": 16, "state": "up"}
    ]


def test_the_commands_print_tables_and_json(
    node: Node, pair: tuple[Stream, Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = pair
    said = ops(capsys, node.state_dir, "clients", "--key", one.key[:12].lower())
    assert said.code == 0
    assert said.out.splitlines()[1].startswith(one.key)
    assert said.out.splitlines()[-1] == "1 clients"
    said = ops(capsys, node.state_dir, "clients", "--json", "--at-once", "--worker", "relay.0")
    assert {row["worker"] for row in json.loads(said.out)["rows"]} <= {"relay.0"}
    said = ops(capsys, node.state_dir, "client", one.key)
    assert other.key in said.out
    assert "waits_for" in said.out
    assert json.loads(ops(capsys, node.state_dir, "client", one.key, "--json").out)["links"]
    said = ops(capsys, node.state_dir, "links")
    assert other.key in said.out
    assert json.loads(ops(capsys, node.state_dir, "links", "--json").out)["total"] >= 1


def test_what_cannot_be_is_one_sentence(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, text in (
        (("client", "AB"), 3, "64 hex digits"),
        (("client", "AB" * 32), 1, "no client ABAB"),
        (("kick", "AB" * 32), 1, "nothing was closed"),
        (("clients", "--worker", "dht.0", "--at-once"), 1, "no such relay worker"),
        (("clients", "--sort", "shoes"), 3, "shoes"),
    ):
        said = ops(capsys, node.state_dir, *words)
        assert said.code == code
        assert text in said.err
        assert said.out == ""


def test_a_node_without_a_relay_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as bare:
        said = ops(capsys, bare.state_dir, "clients", "--at-once")
    assert said.code == 1
    assert "no relay" in said.err


def test_a_kick_closes_and_is_followed_and_the_client_may_come_again(
    node: Node, pair: tuple[Stream, Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = pair
    events: list[client.Event] = []
    done = threading.Event()

    def watch() -> None:
        for event in client.follow(node.state_dir, "watch", {"names": ["relay"]}):
            events.append(event)
            if event.data["change"] == "in" and event.data["key"] == one.key:
                done.set()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    until(lambda: ask(node, "relay clients")["total"] >= 2, 10)
    with closing(Stream(node)) as third:  # so that we know that the watcher watches
        third.confirmed()
        until(lambda: _seen(events, node), 10)
    said = ops(capsys, node.state_dir, "kick", one.key, "--reason", "too loud")
    assert said.code == 0
    assert said.out.startswith(f"closed 1 connection of {one.key} (127.0.0.1:")
    assert one.shut_out()
    until(lambda: other.pull(0.05) and b"\x03\x10" in other.client.packets, 10)
    with closing(Stream(node, one.keys)) as again:
        again.confirmed()
        assert done.wait(10)
    for event in events:
        assert differences(shapes.EVENTS["relay"].answer, event.data) == []
    assert ("out", "relay_kicked") in {(row.data["change"], row.data["why"]) for row in events}
    assert until(lambda: node.status()["totals"]["drops"].get("relay_kicked"), 10) == 1


def _seen(events: list[client.Event], node: Node) -> bool:
    """Makes a client come until its coming is seen."""
    with closing(Stream(node)) as stream:
        stream.confirmed()
    return bool(events)
