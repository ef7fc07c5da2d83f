"""Looking into the protocol of real nodes: two of them, one of which bootstraps from the other.

Each answer is compared with its description in docs/control.md.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import NamedTuple

import pytest

from core.crypto import Nonce
from core.packets.dht import PingRequest, PingRequestBody, PingResponse, PingResponseBody
from ops import client
from tests.cli.commands import Said, call
from tests.ops import shapes
from tests.ops.asked import ask
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, running, until

pytestmark = pytest.mark.process


class Pair(NamedTuple):
    """Two nodes on this machine that know each other."""

    one: Node
    other: Node


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        directories = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
        one = stack.enter_context(running(directories[0], workers="dht=1,onion=2,relay=0"))
        place = f"127.0.0.1:{one.udp_port}:{one.key.hex()}"
        other = stack.enter_context(running(directories[1], "--bootstrap", place))
        for node in (one, other):
            until(partial(knows_somebody, node), 30.0)
        yield Pair(one, other)


def knows_somebody(node: Node) -> bool:
    return bool(ask(node, "dht buckets")["given_to_others"])


def ops(capsys: pytest.CaptureFixture[str], node: Node, *words: object) -> Said:
    """Runs `toxmesh ops WORDS` against a node."""
    return call(capsys, "ops", *words, "--state-dir", node.state_dir)


def upper(node: Node) -> str:
    return node.key.hex().upper()


def test_the_table_of_a_real_node_is_shown(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = pair
    (row,) = ask(one, "dht show")["rows"]
    assert (row["key"], row["address"]) == (upper(other), f"127.0.0.1:{other.udp_port}")
    assert row["state"] == "good"
    assert 0.0 < row["rtt_ms"] < 5_000.0
    said = ops(capsys, one, "dht", "show", "--sort", "rtt", "--state", "good", "--list", "close")
    assert said.code == 0
    assert upper(other) in said.out
    assert said.out.splitlines()[-1] == "1 addresses"
    said = ops(capsys, one, "dht", "show", "--state", "bad", "--json")
    assert json.loads(said.out)["rows"] == []
    assert ops(capsys, one, "dht", "show", "--limit", "0").code == 3

    near = ask(one, "dht near", key=upper(other))
    assert (near["rows"][0]["distance_bits"], near["rows"][0]["named_inside"]) == (0, True)
    assert near["rows"][0]["named_outside"] is False  # nobody outside can reach 127.0.0.1
    said = ops(capsys, one, "dht", "near", upper(other))
    assert said.code == 0
    assert "local" in said.out
    said = ops(capsys, one, "dht", "near", "xyz")
    assert (said.code, "64 hex digits" in said.err) == (3, True)


def test_buckets_and_diversity_of_a_real_node(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(pair.one, "dht buckets")
    assert (answer["close"], answer["total"]) == (1, 1)
    said = ops(capsys, pair.one, "dht", "buckets")
    assert (said.code, said.out.count("#")) == (0, 1)
    answer = ask(pair.one, "dht diversity")
    assert (answer["nodes"], answer["local"], answer["signs"]) == (1, 1, [])
    said = ops(capsys, pair.one, "dht", "diversity")
    assert (said.code, said.out.splitlines()[0]) == (
        0, "no sign that somebody surrounds this node",
    )  # fmt: skip
    for command in ("buckets", "diversity"):
        said = ops(capsys, pair.one, "dht", command, "--json")
        assert differences(shapes.REQUESTS[f"dht {command}"].answer, json.loads(said.out)) == []


def test_a_lookup_is_watched_until_its_end(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = pair
    for event in client.follow(one.state_dir, "lookup", {"key": upper(other)}):
        assert differences(shapes.EVENTS["lookup"].answer, event.data) == []
        if event.data["what"] == "done":
            assert event.data["result"] == "found"
            break
    said = ops(capsys, one, "lookup", upper(other))
    assert said.code == 0
    assert "found: the node itself answered" in said.out
    assert f"at 127.0.0.1:{other.udp_port}, say 1" in said.out
    said = ops(capsys, one, "lookup", "42" * 32, "--json")
    assert said.code == 1
    steps = [json.loads(line)["data"] for line in said.out.splitlines()]
    assert [step["what"] for step in steps] == ["started", "asked", "answered", "done"]
    assert steps[-1]["result"] == "converged"
    assert ops(capsys, one, "lookup", "42").code == 3


def test_lookups_are_few_and_end_when_their_watchers_leave(pair: Pair) -> None:
    one, other = pair
    worker = other.child("dht.0")["pid"]
    os.kill(worker, signal.SIGSTOP)  # so that each lookup would wait two seconds for it
    try:
        begun = time.monotonic()
        with ExitStack() as stack:
            for number in range(9):
                steps = client.follow(one.state_dir, "lookup", {"key": f"{number:064X}"})
                if number < 8:
                    assert next(steps).data["what"] == "started"
                    stack.callback(steps.close)
            with pytest.raises(client.AskError, match="8 lookups are running") as refused:
                next(steps)
            assert refused.value.code == client.FAILED
            assert ask(one, "dht buckets")["lookups"] == 8
        until(lambda: ask(one, "dht buckets")["lookups"] == 0, 1.0)
        assert time.monotonic() - begun < 2.0
    finally:
        os.kill(worker, signal.SIGCONT)


class Neighbour(Pinger):
    """A client that answers pings, so that a node takes it for one."""

    def answer_a_ping(self) -> None:
        """Waits for a ping of the node and answers it."""
        self.socket.settimeout(10)
        data = self.socket.recv(2048)
        while data[0] != 0:
            data = self.socket.recv(2048)
        request = PingRequest.decode(data)
        ping_id = PingRequestBody.open(self._shared, request.nonce, request.sealed).ping_id
        nonce = Nonce(self._entropy.bytes(24))
        sealed = PingResponseBody(ping_id=ping_id).seal(self._shared, nonce)
        answer = PingResponse(self.pair.public, nonce, sealed).encode()
        self.socket.sendto(answer, self._to)


def test_who_follows_is_told_that_the_close_list_changes(pair: Pair) -> None:
    told: list[client.Event] = []
    keys: list[str] = []
    with closing(client.follow(pair.one.state_dir, "watch", {"names": ["dht"]})) as steps:
        thread = threading.Thread(target=lambda: told.append(next(steps)))
        thread.start()
        while not told and len(keys) < 5:  # the first may come before the node knows who follows
            neighbour = Neighbour(pair.one.key, pair.one.udp_port)
            keys.append(neighbour.pair.public.hex().upper())
            assert neighbour.answered(2.0)
            neighbour.answer_a_ping()
            thread.join(1.0)
            neighbour.close()
        thread.join(10)
    (event,) = told
    assert differences(shapes.EVENTS["dht"].answer, event.data) == []
    assert (event.name, event.data["change"]) == ("dht", "in")
    assert event.data["key"] in keys
