"""Any process of a node that hosts an identity is killed during a flood: no message is lost.

The bot answers each message of a client of libtoxcore with itself, so both ways are full; each
number has to come back once, in its place.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import client as door
from tests.interop import nodes
from tests.interop.conftest import MakeClient
from tests.interop.driver import Client, wait_until
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD
from tests.processes.hosted import SERVING, make_profile, settings

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_MEET_S = 120.0
_BACK_S = 10.0  # data has to flow again within this time
_FLOOD = 600  # messages that the client hands to the library at once
_BEGUN, _AGAIN = 100, 50  # answers of a flood before a kill, and after it: then all is well again
_END_S = 60.0
_ROLES = ("dht", "onion", "relay", "net_crypto", "messenger")


class Hosting:
    """A node that hosts an echo bot."""

    def __init__(self, folder: Path, udp: bool) -> None:
        self.profile = make_profile(folder / "identities", "bot")
        ports = "udp_ports = [33445, 33545]" if udp else "udp_ports = [0]"
        lines = (ports, "echo = true", "accept = true")
        words = settings(folder / "node.toml", folder / "identities", *lines)
        self.node: Node = nodes.start_ours(
            folder, workers=SERVING, arguments=(*words, "--http", "off")
        )

    def kill(self, role: str) -> None:
        """Ends the process of a role, and waits until its successor is there."""
        name = f"{role}.0"
        pid = self.node.workers()[name]["pid"]
        os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            row = self.node.workers().get(name)
            return row is not None and row["pid"] != pid and row["state"] == "good"

        wait_until(back, f"{name} is back", _BACK_S, poll_s=0.05)


@pytest.fixture(params=[True, False], ids=["udp", "relay"])
def udp(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def hosting(tmp_path: Path, udp: bool) -> Iterator[Hosting]:
    made = Hosting(tmp_path, udp)
    yield made
    made.node.stop()
    print(made.node.story())


def _heard(client: Client, number: int) -> int:
    """Returns how many answers have come, none of them lost, doubled or out of place."""
    texts = list(client.texts[number])  # more may come while we look
    assert texts == _texts(0, len(texts))
    return len(texts)


def _texts(first: int, end: int) -> list[str]:
    return [f"message {number} " + "x" * (number % 500) for number in range(first, end)]


def _meet(hosting: Hosting, client: Client, udp: bool) -> int:
    """Makes the client a friend of the bot; returns the bot's number there."""
    node = hosting.node
    client.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=udp)
    wait_until(lambda: bool(client.connection), "Bob is connected", _MEET_S)
    number = int(client.call("friend_add", address=str(hosting.profile.tox_id), text="hello"))
    wait_until(lambda: bool(client.friends.get(number)), "they are friends", _MEET_S)
    return number


@pytest.mark.parametrize("version", [NEW, OLD])
def test_nothing_is_lost_or_doubled_whichever_process_is_killed(
    hosting: Hosting, make_client: MakeClient, udp: bool, version: str
) -> None:
    client = make_client(version, name="Bob", udp=udp)
    number = _meet(hosting, client, udp)
    sent = 0

    def answered(count: int, what: str, timeout_s: float) -> None:
        wait_until(lambda: _heard(client, number) >= count, what, timeout_s, poll_s=0.05)

    for role in (*_ROLES, *_ROLES[::-1]):
        client.call("send", friend=number, texts=_texts(sent, sent + _FLOOD))
        answered(sent + _BEGUN, "the flood has begun", _END_S)
        sent += _FLOOD
        mark = _heard(client, number)
        assert mark < sent - _AGAIN
        hosting.kill(role)
        answered(mark + _AGAIN, f"the flood goes on after {role} was killed", _BACK_S)
        answered(sent, f"all answers come after {role} was killed", _END_S)
    wait_until(lambda: client.receipts[number] >= sent, "all receipts come", _END_S)
    assert (_heard(client, number), client.receipts[number]) == (sent, sent)
    assert not client.losses  # the session itself has outlived them all
    assert hosting.node.status()["totals"]["drops"].get("bug", 0) == 0


def test_all_processes_are_replaced_during_a_flood(
    hosting: Hosting, make_client: MakeClient, udp: bool
) -> None:
    client = make_client(NEW, name="Bob", udp=udp)
    number = _meet(hosting, client, udp)
    texts = _texts(0, 3 * _FLOOD)
    client.call("send", friend=number, texts=texts)
    before = hosting.node.workers()
    door.ask(hosting.node.state, "worker restart", {"name": "*"}, timeout_s=60)
    after = hosting.node.workers()
    assert all(after[name]["pid"] != row["pid"] for name, row in before.items())
    assert sum(row["restarts"] for row in after.values()) == 0
    wait_until(lambda: client.receipts[number] >= len(texts), "all receipts come", _END_S)
    wait_until(lambda: _heard(client, number) >= len(texts), "all answers come", _END_S)
    assert not client.losses
    assert hosting.node.status()["totals"]["drops"].get("bug", 0) == 0
