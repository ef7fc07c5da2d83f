"""A worker that is killed during a chat comes back, and the friends notice nothing."""

import os
import signal

import pytest

from tests.interop.chat import (
    FILE_SIZE,
    FILE_TIMEOUT_S,
    befriend,
    connect,
    make_pair,
)
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import Client, wait_until
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_BACK_WITHIN_S = 2.0
_GOES_ON_TIMEOUT_S = 15
_TICK_S = 0.1
_TICKS_AFTER = 20


def _kill(node: Node, name: str) -> float:
    """Kills a worker; returns the seconds until it is back and good, with all others untouched."""
    before = node.workers()
    os.kill(before[name]["pid"], signal.SIGKILL)

    def back() -> bool:
        row = node.workers().get(name)
        return row is not None and row["pid"] != before[name]["pid"] and row["state"] == "good"

    took = wait_until(back, f"{name} is back", 4 * _BACK_WITHIN_S, poll_s=0.05)
    after = node.workers()
    assert {other: row["pid"] for other, row in after.items() if other != name} == {
        other: row["pid"] for other, row in before.items() if other != name
    }
    assert {other: row["restarts"] for other, row in after.items()} == {
        other: row["restarts"] + (other == name) for other, row in before.items()
    }
    return took


def _heard(client: Client, number: int) -> int:
    """Returns how many numbered messages the client has, none of them lost, doubled or late."""
    texts = list(client.texts[number])  # more may come while we look
    assert texts == [f"tick {i}" for i in range(len(texts))]
    return len(texts)


@pytest.mark.parametrize("workers", ["dht=1,onion=1,relay=1", "dht=2,onion=2,relay=2"])
def test_the_chat_goes_on_while_each_worker_is_killed(
    make_node: MakeNode, make_client: MakeClient, workers: str
) -> None:
    node = make_node("ours", workers=workers)
    direct = make_pair(make_client, (NEW, OLD), udp=True)
    relayed = make_pair(make_client, (OLD, NEW), udp=False)
    connect(node, *direct.both(), udp=True)
    connect(node, *relayed.both(), udp=False)
    befriend(direct, relayed)
    sides = [*direct.sides(), *relayed.sides()]
    for client, number in sides:
        client.call("tick", friend=number, interval_s=_TICK_S)

    took: dict[str, float] = {}
    for name in sorted(node.workers()):
        took[name] = _kill(node, name)
        marks = [_heard(client, number) for client, number in sides]
        wait_until(
            lambda marks=marks: all(  # type: ignore[misc]  # mypy cannot infer the default's type
                _heard(client, number) >= mark + _TICKS_AFTER
                for (client, number), mark in zip(sides, marks, strict=True)
            ),
            f"the chat goes on after {name} was killed",
            _GOES_ON_TIMEOUT_S,
        )
    assert not any(client.losses for client, _ in sides)
    assert all(seconds <= _BACK_WITHIN_S for seconds in took.values()), took

    late = make_pair(make_client, (OLD, NEW), udp=False)
    connect(node, *late.both(), udp=False)
    befriend(late)  # who comes afterwards meets as if nothing had happened


def test_a_file_on_its_way_survives_the_death_of_each_relay_worker(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    node = make_node("ours", workers="dht=1,onion=1,relay=2")
    pair = make_pair(make_client, (NEW, OLD), udp=False)
    connect(node, *pair.both(), udp=False)
    befriend(pair)
    digest = pair.alice.call("send_file", friend=pair.alices_number, size=FILE_SIZE, seed=9)
    for name in ("relay.0", "relay.1"):
        mark = pair.bob.progress
        wait_until(
            lambda mark=mark: pair.bob.progress > mark,  # type: ignore[misc]  # as above
            "the file is on its way",
            FILE_TIMEOUT_S,
        )
        assert not pair.bob.files
        _kill(node, name)
    wait_until(lambda: bool(pair.bob.files), "the file arrives", FILE_TIMEOUT_S)
    assert pair.bob.files == [(FILE_SIZE, digest)]
    assert not any(client.losses for client in pair.both())
