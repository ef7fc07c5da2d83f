"""Every process of a node is replaced while friends send: none of them notices."""

import pytest

from ops import client as door
from tests.interop.chat import FILE_TIMEOUT_S, befriend, connect, make_pair
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import Client, wait_until
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_FILE_SIZE = 5_000_000
_TICK_S = 0.1
_TICKS_AFTER = 10
_GOES_ON_TIMEOUT_S = 30


def _heard(client: Client, number: int) -> int:
    """Returns how many numbered messages the client has, none of them lost, doubled or late."""
    texts = client.texts[number]
    assert texts == [f"tick {i}" for i in range(len(texts))]
    return len(texts)


def test_friends_stay_connected_while_every_process_of_the_node_is_replaced(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    node = make_node("ours", workers="dht=2,onion=2,relay=2")
    direct = make_pair(make_client, (NEW, OLD), udp=True)
    relayed = make_pair(make_client, (OLD, NEW), udp=False)
    connect(node, *direct.both(), udp=True)
    connect(node, *relayed.both(), udp=False)
    befriend(direct, relayed)
    sides = relayed.sides()
    for client, number in sides:
        client.call("tick", friend=number, interval_s=_TICK_S)
    digest = direct.alice.call(
        "send_file", friend=direct.alices_number, size=_FILE_SIZE, seed=4
    )
    before = {name: row["pid"] for name, row in node.workers().items()}
    for name in ["broker", *sorted(before)]:
        door.ask(node.state, "worker restart", {"name": name}, timeout_s=60)
        marks = [_heard(client, number) for client, number in sides]
        wait_until(
            lambda marks=marks: all(  # type: ignore[misc]  # mypy cannot infer the default's type
                _heard(client, number) >= mark + _TICKS_AFTER
                for (client, number), mark in zip(sides, marks, strict=True)
            ),
            f"the chat goes on after {name} was replaced",
            _GOES_ON_TIMEOUT_S,
        )
    wait_until(lambda: bool(direct.bob.files), "the file arrives", FILE_TIMEOUT_S)
    assert direct.bob.files == [(_FILE_SIZE, digest)]
    after = node.workers()
    assert not {row["pid"] for row in after.values()} & set(before.values())
    assert {row["restarts"] for row in after.values()} == {0}
    clients = [*direct.both(), *relayed.both()]
    assert [dict(client.losses) for client in clients] == [{}, {}, {}, {}]
