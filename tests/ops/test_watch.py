"""`ops stat` and `ops watch`: a line every second, a line for whatever happens."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from core.crypto import KeyPair
from core.entropy import SystemEntropy
from ops import client, repeat, stat, watch
from ops.client import Event
from tests.cli.commands import Said, call
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, free_port, running, until
from tests.relay.client import RelayClient


def test_turns_are_even_and_late_ones_follow_at_once() -> None:
    now, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(seconds, 3))
        now += seconds

    turns = repeat.turns(1.0, 4, lambda: now, sleep)
    assert next(turns) == 0
    now += 0.25
    assert next(turns) == 1
    now += 1.5
    assert next(turns) == 2
    assert next(turns) == 3
    assert list(turns) == []
    assert slept == [0.75, 0.0, 0.5]


def test_a_line_of_stat_stays_in_its_columns() -> None:
    rates = {
        "state": "good", "cpu_percent": 123.45, "received_per_s": 1234.0, "sent_per_s": 0.4,
        "queue_bytes": 4096, "rss": 5 << 20,
        "relay": {"connections": 3, "bytes_in_per_s": 2048.0, "bytes_out_per_s": 0.0},
    }  # fmt: skip
    line = stat.line(stat.cells(rates))
    assert line.split() == [
        "good", "123.5", "1,234", "0.4", "0", "0", "0", "4", "3", "2.0K", "0", "5",
    ]  # fmt: skip
    assert len(stat.line(stat.cells({}))) == len(line)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("worker", {"what": "up", "name": "dht.0", "pid": 7}, "dht.0 is at work, process 7"),
        (
            "worker",
            {"what": "down", "name": "dht.0", "how": "was ended by SIGKILL"},
            "dht.0 was ended by SIGKILL and is started again",
        ),
        ("worker", {"what": "moved", "name": "dht.0"}, "what moved, name dht.0"),
        ("node", {"state": "good", "was": "starting"}, "the node is good (it was starting)"),
        (
            "relay",
            {"change": "out", "key": "AB", "address": "192.0.2.1:5", "age_s": 61.0,
             "why": "relay_ended", "clients": 1234},
            "AB at 192.0.2.1:5 has gone after 1 min 1 s: relay_ended; 1,234 clients",
        ),
        (
            "relay",
            {"change": "in", "key": "AB", "address": "192.0.2.1:5", "worker": "relay.0"},
            "AB at 192.0.2.1:5 has come to relay.0; 0 clients",
        ),
        (
            "link",
            {"change": "up", "key": "AB", "peer": "CD", "why": "both_asked"},
            "AB and CD are linked",
        ),
        (
            "link",
            {"change": "down", "key": "AB", "peer": "CD", "why": "relay_gone"},
            "AB and CD are linked no more: relay_gone",
        ),
        (
            "dht",
            {"change": "bad", "key": "AB", "address": None, "close": 3},
            "AB at - does not answer any more; 3 close nodes",
        ),
        (
            "log",
            {"level": "info", "from": "dht.0", "logger": "x", "message": "a\x1b[2Jb"},
            "info dht.0 x: a?[2Jb",
        ),
        ("drops", {"drops": {"empty": 1200, "dht_box": 1}}, "empty 1,200, dht_box 1"),
        ("lost", {"count": 5}, "5 events were lost: this reader was too slow"),
        ("new", {"a": 1}, "a 1"),
    ],
)  # fmt: skip
def test_events_are_sentences(name: str, data: dict[str, Any], said: str) -> None:
    line = watch.line(Event(name, 1_000_000_000.25, data))
    assert line.split(None, 2)[2] == said
    assert line[8:12] == ".250"


# A real node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("watch") / "state"
    options = ("--tcp-port", "0", "--http", "off")
    with running(folder, *options, workers="dht=1,onion=1,relay=0") as node:
        yield node


def ops(capsys: pytest.CaptureFixture[str], node: Node, *words: object) -> Said:
    return call(capsys, "ops", *words, "--state-dir", node.state_dir)


def events(node: Node, names: list[str], count: int, act: Callable[[], object]) -> list[Event]:
    """Follows, acts when the node knows of it, and returns the first events."""
    found: list[Event] = []
    followed = threading.Event()

    def follow() -> None:
        args = {"names": names}
        rows = client.follow(node.state_dir, "watch", args, begin=lambda answer: followed.set())
        with closing(rows):
            for event in rows:
                found.append(event)
                if len(found) >= count:
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    assert followed.wait(10)
    act()
    thread.join(30)
    assert not thread.is_alive()
    return found


@pytest.mark.process
def test_a_worker_that_dies_is_told_with_the_nodes_state_as_it_is_described(node: Node) -> None:
    pid = node.child("onion.0")["pid"]
    found = events(node, ["worker", "node"], 4, lambda: os.kill(pid, signal.SIGKILL))
    for event in found:
        assert differences(shapes.EVENTS[event.name].answer, event.data) == []
    told = [(event.name, event.data.get("what", event.data.get("state"))) for event in found]
    assert sorted(told) == [("node", "degraded"), ("node", "good"), ("worker", "down"),
                            ("worker", "up")]  # fmt: skip
    assert told.index(("worker", "down")) < told.index(("worker", "up"))
    (down,) = [event for event in found if event.data.get("what") == "down"]
    assert down.data["how"] == "was ended by SIGKILL"
    assert abs(down.at - time.time()) < 60


@pytest.mark.process
def test_a_worker_that_is_replaced_is_told(node: Node) -> None:
    found = events(
        node, ["worker"], 2, lambda: client.ask(node.state_dir, "worker restart", {"name": "dht.0"})
    )
    assert [event.data["what"] for event in found] == ["successor", "replaced"]
    assert all(differences(shapes.EVENTS["worker"].answer, row.data) == [] for row in found)


@pytest.mark.process
def test_a_broker_that_was_replaced_tells_as_the_one_before(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    port = free_port(socket.SOCK_STREAM)
    options = ("--tcp-port", str(port), "--http", "off")
    folder = tmp_path_factory.mktemp("replaced")
    with running(folder, *options, workers="dht=1,onion=0,relay=1") as node:

        def replace_and_connect() -> None:
            client.ask(node.state_dir, "worker restart", {"name": "broker"}, 60.0)
            with socket.create_connection(("127.0.0.1", port), 10) as stream:
                entropy = SystemEntropy()
                guest = RelayClient(node.key, KeyPair.generate(entropy), entropy)
                stream.sendall(guest.hello())
                while not guest.ready:
                    guest.receive(stream.recv(4096))
                stream.sendall(guest.frames(b"\x04" + bytes(7) + b"\x01"))  # a ping
                while not guest.take():
                    guest.receive(stream.recv(4096))

        came, left = events(node, ["relay"], 2, replace_and_connect)
    assert (came.data["change"], left.data["change"]) == ("in", "out")
    assert differences(shapes.EVENTS["relay"].answer, came.data) == []


@pytest.mark.process
def test_drops_are_told_once_a_second(node: Node) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(7):
                stranger.sendto(b"\x77 no packet of Tox", ("127.0.0.1", node.udp_port))

    (event,) = events(node, ["drops"], 1, send)
    assert differences(shapes.EVENTS["drops"].answer, event.data) == []
    assert event.data["drops"] == {"unknown_kind:0x77": 7}


@pytest.mark.process
def test_the_answer_to_watch_is_as_it_is_described(node: Node) -> None:
    answers: list[dict[str, Any]] = []
    victim = node.child("dht.0")["pid"]

    def begin(answer: dict[str, Any]) -> None:
        """The events follow from here on: only now is there something to log."""
        answers.append(answer)
        os.kill(victim, signal.SIGKILL)

    rows = client.follow(node.state_dir, "watch", {"names": ["log"]}, begin=begin, seconds=20.0)
    with closing(rows):
        assert next(rows).name == "log"
    assert differences(shapes.REQUESTS["watch"].answer, answers[0]) == []
    until(lambda: node.status()["node"]["state"] == "good", 20.0)


@pytest.mark.process
def test_watch_prints_lines_or_json(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    timer = threading.Timer(0.5, os.kill, (node.child("onion.0")["pid"], signal.SIGKILL))
    timer.start()
    said = ops(capsys, node, "watch", "worker", "-n", 1)
    timer.join()
    assert (said.code, said.err) == (0, "")
    assert "onion.0 was ended by SIGKILL and is started again" in said.out
    until(lambda: node.status()["node"]["state"] == "good", 20.0)
    timer = threading.Timer(0.5, os.kill, (node.child("onion.0")["pid"], signal.SIGKILL))
    timer.start()
    said = ops(capsys, node, "watch", "worker", "node", "-n", 1, "--json")
    timer.join()
    assert json.loads(said.out)["event"] in ("worker", "node")
    until(lambda: node.status()["node"]["state"] == "good", 20.0)
    wrong = ops(capsys, node, "watch", "everything")
    assert (wrong.code, "everything" in wrong.err) == (3, True)


@pytest.mark.process
def test_stat_prints_as_many_lines_as_wanted(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ops(capsys, node, "stat", "-i", "0.1", "-n", 22)
    assert said.code == 0
    lines = said.out.splitlines()
    assert len(lines) == 24
    assert [number for number, line in enumerate(lines) if line.startswith("state")] == [0, 21]
    said = ops(capsys, node, "stat", "-i", "0.1", "-n", 2, "--json")
    looks = [json.loads(line) for line in said.out.splitlines()]
    assert [look.pop("at") > 0 for look in looks] == [True, True]
    assert differences(shapes.REQUESTS["rates"].answer, looks[0]) == []


@pytest.mark.process
def test_who_follows_a_node_that_stops_is_told_so(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path_factory.mktemp("stops"), "--tcp-port", "0", "--http", "off") as node:
        timer = threading.Timer(0.5, node.process.terminate)
        timer.start()
        said = ops(capsys, node, "watch", "log", "-n", 1_000)
        timer.join()
        assert said.code == 4
        assert "closed the door" in said.err
    assert ops(capsys, node, "stat").code == 4


def test_ctrl_c_is_a_good_end() -> None:
    @repeat.until_stopped
    def command() -> int:
        raise KeyboardInterrupt

    assert command() == 0
