"""Processes of a node are replaced, killed and halted while friends send: none of them notices."""

import os
import signal
from functools import partial

import pytest

from ops import client as door
from tests.interop.chat import FILE_TIMEOUT_S, Pair, befriend, connect, make_pair
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import Client, wait_until
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_FILE_SIZE = 5_000_000
_STEP = 250_000  # bytes between two words of a client about a file
_TICK_S = 0.1
_TICKS_AFTER = 10
_GOES_ON_TIMEOUT_S = 30
_BACK_WITHIN_S = 15.0  # a halted one is ended after 3 s


def _heard(client: Client, number: int) -> int:
    """Returns how many numbered messages the client has, none of them lost, doubled or late."""
    texts = client.texts[number]
    assert texts == [f"tick {i}" for i in range(len(texts))]
    return len(texts)


class _Files:
    """Files from each alice to her bob, one after the other, as long as they are wanted."""

    def __init__(self, *pairs: Pair) -> None:
        self.pairs = pairs
        self._sent: dict[str, list[str]] = {pair.alice.name: [] for pair in pairs}

    def _keep_sending(self) -> None:
        for pair in self.pairs:
            sent = self._sent[pair.alice.name]
            if len(pair.bob.files) == len(sent):
                digest = pair.alice.call(
                    "send_file", friend=pair.alices_number, size=_FILE_SIZE, seed=len(sent)
                )
                sent.append(str(digest))

    def _received(self) -> list[int]:
        """Returns the bytes that each bob has of all files."""
        return [
            sum(event["event"] == "progress" for _, event in pair.bob.log) * _STEP
            for pair in self.pairs
        ]

    def go_on(self, what: str) -> None:
        """Waits until each pair is further in a file than it was."""
        marks = self._received()

        def further() -> bool:
            self._keep_sending()
            return all(
                now > mark for now, mark in zip(self._received(), marks, strict=True)
            )

        wait_until(further, what, _GOES_ON_TIMEOUT_S)

    def finish(self) -> None:
        """Waits for the last ones; each has arrived once and as it was sent."""
        for pair in self.pairs:
            what = f"the files of {pair.alice.name} arrive"
            wait_until(partial(self._have_arrived, pair), what, FILE_TIMEOUT_S)
            sent = self._sent[pair.alice.name]
            assert pair.bob.files == [(_FILE_SIZE, digest) for digest in sent]

    def _have_arrived(self, pair: Pair) -> bool:
        return len(pair.bob.files) == len(self._sent[pair.alice.name])


def _end(node: Node, name: str, how: signal.Signals) -> None:
    """Kills or halts a worker; waits until another is in its place."""
    old = node.workers()[name]["pid"]
    os.kill(old, how)

    def back() -> bool:
        row = node.workers()[name]
        return row["pid"] not in (0, old) and row["state"] == "good"

    wait_until(back, f"{name} is back", _BACK_WITHIN_S, poll_s=0.05)


class _Friends:
    """Three pairs of friends at one node: files over UDP and over the relay, and a chat there."""

    def __init__(self, make_node: MakeNode, make_client: MakeClient) -> None:
        self.node = make_node("ours", workers="dht=2,onion=2,relay=2")
        direct = make_pair(make_client, (NEW, OLD), udp=True)
        relayed = make_pair(make_client, (OLD, NEW), udp=False)
        talking = make_pair(make_client, (NEW, OLD), udp=False)
        self.pairs = (direct, relayed, talking)
        connect(self.node, *direct.both(), udp=True)
        connect(self.node, *relayed.both(), *talking.both(), udp=False)
        befriend(*self.pairs)
        self._sides = talking.sides()
        for client, number in self._sides:
            client.call("tick", friend=number, interval_s=_TICK_S)
        self._files = _Files(direct, relayed)
        self._files.go_on("the files begin")

    def go_on(self, after: str) -> None:
        """Waits until files and chat have gone on."""
        marks = [_heard(client, number) for client, number in self._sides]
        self._files.go_on(f"the files go on after {after}")
        wait_until(
            lambda: all(
                _heard(client, number) >= mark + _TICKS_AFTER
                for (client, number), mark in zip(self._sides, marks, strict=True)
            ),
            f"the chat goes on after {after}",
            _GOES_ON_TIMEOUT_S,
        )

    def finish(self) -> None:
        """Waits for the files; checks that nobody was ever without his friend."""
        self._files.finish()
        clients = [client for pair in self.pairs for client in pair.both()]
        assert [dict(client.losses) for client in clients] == [{}] * len(clients)
        assert all(pair.are_friends() for pair in self.pairs)


def test_friends_stay_connected_while_every_process_is_replaced_and_the_node_upgraded(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    friends = _Friends(make_node, make_client)
    node = friends.node
    before = {name: row["pid"] for name, row in node.workers().items()}
    for name in ["broker", *sorted(before)]:
        door.ask(node.state, "worker restart", {"name": name}, timeout_s=60)
        friends.go_on(f"{name} was replaced")
    after = node.workers()
    assert not {row["pid"] for row in after.values()} & set(before.values())
    assert {row["restarts"] for row in after.values()} == {0}
    door.ask(node.state, "upgrade", {}, timeout_s=60)
    friends.go_on("the upgrade")
    upgraded = node.workers()
    assert not {row["pid"] for row in upgraded.values()} & {row["pid"] for row in after.values()}
    friends.finish()


def test_friends_stay_connected_while_relay_workers_are_killed_and_halted(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    friends = _Friends(make_node, make_client)
    for how in (signal.SIGKILL, signal.SIGSTOP):
        for name in ("relay.0", "relay.1"):
            _end(friends.node, name, how)
            friends.go_on(f"{how.name} for {name}")
    friends.finish()
