"""Who is shut out of a real node: datagrams, streams, after a worker's death and after a restart.

Each answer is compared with its description in docs/control.md.
"""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.crypto import KeyPair
from core.entropy import SystemEntropy
from ops import client
from tests.cli.commands import Said, call
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, free_port, running, until
from tests.processes.streams import Stream

pytestmark = pytest.mark.process

ELSEWHERE = "127.0.0.77"  # of this machine, and not where the other tests come from


@pytest.fixture(scope="module", params=["kernel", "broker"])
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    place = tmp_path_factory.mktemp("ban")
    words = ("--tcp-port", str(free_port(socket.SOCK_STREAM)), "--dispatch", request.param)
    with running(place, *words, workers="dht=2,onion=1,relay=2") as made:
        assert made.status()["node"]["dispatch"] == request.param
        yield made


@pytest.fixture(autouse=True)
def nobody_stays_banned(node: Node) -> Iterator[None]:
    yield
    client.ask(node.state_dir, "ban remove", {"all": True})


def ask(node: Node, request: str, **args: Any) -> dict[str, Any]:
    """Asks a node, and compares the answer with its description."""
    answer = client.ask(node.state_dir, request, args)
    described = shapes.REQUESTS[request]
    assert differences(described.answer, answer) == []
    assert set(args) <= set(described.arguments)
    return answer


def ops(capsys: pytest.CaptureFixture[str], state_dir: Path, *words: object) -> Said:
    return call(capsys, "ops", *words, "--state-dir", state_dir)


def pinger(node: Node, host: str = "127.0.0.1") -> Pinger:
    made = Pinger(node.key, node.udp_port)
    made.socket.bind((host, 0))
    return made


def answered(node: Node, host: str) -> bool:
    with closing(pinger(node, host)) as made:
        return made.answered(2.0)


def drops(node: Node, reason: str) -> int:
    return int(node.status()["totals"]["drops"].get(reason, 0))


def test_a_banned_address_gets_no_answer_and_no_stream_and_others_do(node: Node) -> None:
    before = drops(node, "banned:prefix")
    with closing(Stream(node, host=ELSEWHERE)) as inside, closing(Stream(node)) as outside:
        inside.confirmed()
        outside.confirmed()
        answer = ask(node, "ban add", what=ELSEWHERE, force=True, note="flood")
        assert answer["rows"][0]["ban"] == "127.0.0.77/32"
        assert answer["kept"]
        assert inside.shut_out()
        with closing(pinger(node, ELSEWHERE)) as banned:
            assert not banned.answered(0.3)
        with closing(Stream(node, host=ELSEWHERE)) as again:
            assert again.shut_out()
            assert not again.client.ready
        assert answered(node, "127.0.0.1")
        pong = b"\x05" + bytes(7) + b"\x02"
        outside.send(b"\x04" + pong[1:])
        until(lambda: outside.pull(0.05) and pong in outside.client.packets, 5)
    until(lambda: drops(node, "banned:prefix") > before, 10)
    until(lambda: drops(node, "relay_banned_prefix") >= 2, 10)
    listed = ask(node, "ban list", match=ELSEWHERE)
    assert [row["note"] for row in listed["rows"]] == ["flood"]
    assert listed["refused"]["banned:prefix"] > before
    ask(node, "ban remove", what=[ELSEWHERE])
    assert answered(node, ELSEWHERE)
    with closing(Stream(node, host=ELSEWHERE)) as again:
        again.confirmed()


def test_a_banned_key_is_refused_wherever_it_can_be_read(node: Node) -> None:
    with closing(pinger(node)) as made:
        assert made.answered(2.0)
        ask(node, "ban add", what=[made.pair.public.hex()])
        assert not made.answered(0.3)
        until(lambda: drops(node, "banned:key"), 10)
        with closing(Stream(node, made.pair)) as stream:
            assert stream.shut_out()
        ask(node, "ban remove", what=made.pair.public.hex())
        assert made.answered(2.0)
        with closing(Stream(node, made.pair)) as stream:
            stream.confirmed()
    until(lambda: drops(node, "relay_banned_key"), 10)


def test_processes_that_begin_later_know_the_bans(node: Node) -> None:
    keys = KeyPair.generate(SystemEntropy())
    ask(node, "ban add", what=[ELSEWHERE, keys.public.hex()], force=True)
    for name in ("dht.0", "dht.1", "broker"):
        row = node.child(name)
        os.kill(row["pid"], signal.SIGKILL)
        until(partial(_is_new, node, name, row["pid"]), 20)
    for name in ("broker", "dht"):
        client.ask(node.state_dir, "worker restart", {"name": name}, 60)
    with closing(pinger(node, ELSEWHERE)) as banned:
        assert not banned.answered(0.3)
    assert answered(node, "127.0.0.1")
    with closing(Stream(node, keys)) as stream:
        assert stream.shut_out()


def _is_new(node: Node, name: str, pid: int) -> bool:
    row = node.child(name)
    return bool(row["pid"] != pid and row["state"] == "good")


def test_a_kick_with_a_time_bans_until_then_and_is_followed(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[client.Event] = []

    def watch() -> None:
        for event in client.follow(node.state_dir, "watch", {"names": ["ban"]}):
            events.append(event)
            if event.data["change"] == "over":
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with closing(Stream(node)) as one:
        one.confirmed()
        until(lambda: _made_event(node, events), 10)
        said = ops(capsys, node.state_dir, "relay", "kick", one.key, "--for", "2s", "--reason", "x")
        assert (said.code, said.err) == (0, "")
        assert "the key is refused for 2 s" in said.out
        assert one.shut_out()
        with closing(Stream(node, one.keys)) as again:
            assert again.shut_out()
        until(lambda: not ask(node, "ban list", match=one.key)["rows"], 10)
        with closing(Stream(node, one.keys)) as again:
            again.confirmed()
    watcher.join(10)
    assert not watcher.is_alive()
    for event in events:
        assert differences(shapes.EVENTS["ban"].answer, event.data) == []
    assert [row.data["change"] for row in events if row.data["ban"] == one.key] == ["added", "over"]


def _made_event(node: Node, events: list[client.Event]) -> bool:
    """Bans and lets in again until that is seen."""
    ask(node, "ban add", what="192.0.2.1")
    ask(node, "ban remove", what="192.0.2.1")
    return bool(events)


def test_the_commands_say_what_they_did_and_what_they_refuse(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ops(capsys, node.state_dir, "ban", "add", "192.0.2.0/24", "2001:db8::", "--for", "1h30m")
    assert said.code == 0
    assert "192.0.2.0/24" in said.out
    assert said.out.endswith("2 banned\n")
    said = ops(capsys, node.state_dir, "ban", "list", "--kind", "prefix")
    assert "2001:db8::/128" in said.out
    assert "banned:prefix" in said.out
    listed = json.loads(ops(capsys, node.state_dir, "ban", "list", "192.0.2.9", "--json").out)
    assert [row["ban"] for row in listed["rows"]] == ["192.0.2.0/24"]
    assert 5300 < listed["rows"][0]["left_s"] <= 5400
    for words, code, text in (
        (("add", "0.0.0.0/0"), 2, "add --force"),
        (("add", "127.0.0.1"), 2, "this machine itself"),
        (("add", node.key.hex()), 2, "own key"),
        (("add", "shoes"), 3, "neither a prefix"),
        (("add", "192.0.2.1", "--for", "soon"), 3, "is no time"),
        (("add", "192.0.2.1", "--for", "0"), 3, "at least one second"),
        (("add", "192.0.2.1", "--note", "x" * 300), 3, "at most 200"),
        (("add", "192.0.2.1", "--for", "9999w"), 3, "seconds must be"),
        (("remove", "192.0.2.9"), 1, "192.0.2.0/24 is, in which it lies"),
        (("remove", "198.51.100.1"), 1, "not banned"),
        (("remove",), 3, "--all"),
        (("list", "shoes"), 3, "neither a prefix"),
    ):
        said = ops(capsys, node.state_dir, "ban", *words)
        assert said.code == code, words
        assert text in said.err
        assert said.out == ""
    assert ops(capsys, node.state_dir, "ban", "remove", "--all").out.endswith("no longer banned\n")


def test_bans_outlive_the_node(tmp_path: Path) -> None:
    port = str(free_port(socket.SOCK_STREAM))
    keys = KeyPair.generate(SystemEntropy())
    with running(tmp_path, "--tcp-port", port, workers="dht=1,onion=0,relay=1") as first:
        ask(first, "ban add", what=[keys.public.hex(), ELSEWHERE], force=True, note="still")
    with running(tmp_path, "--tcp-port", port, workers="dht=1,onion=0,relay=1") as second:
        assert {row["note"] for row in ask(second, "ban list")["rows"]} == {"still"}
        with closing(pinger(second, ELSEWHERE)) as banned:
            assert not banned.answered(0.3)
        assert answered(second, "127.0.0.1")
        with closing(Stream(second, keys)) as stream:
            assert stream.shut_out()
