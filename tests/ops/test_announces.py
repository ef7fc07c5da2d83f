"""Looking into what clients announced at a real node; each answer is as docs/control.md has it."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from core.endpoint import from_text, pack_compact
from core.slots import slot_of
from ops import client
from tests.cli.commands import Said, call
from tests.onion.client import AnnounceAnswer, Client, group_announce
from tests.ops.asked import ask
from tests.processes.node import Node, running, until

pytestmark = pytest.mark.process

RETURN = bytes(range(177))  # what the last hop gets back with the answer; it is asked for nothing
SHARDS = 3
CHAT = bytes(range(100, 132))
ADDRESS = from_text("198.51.100.7", 4444)


class LastHop:
    """A client and the last hop of its path, in one: it talks to the node as that hop does."""

    def __init__(self, node: Node, name: str) -> None:
        self.client = Client(name)
        self.node = node
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.to = ("127.0.0.1", node.udp_port)

    def ask(self, ping_id: bytes, group: bytes | None = None) -> AnnounceAnswer:
        """Sends 83 or 87 for the client's own key and opens the answer."""
        real = self.client.real
        request = self.client.announce_request(
            self.node.key, real, real.public, ping_id, self.client.data.public, group=group
        )
        self.socket.sendto(request + RETURN, self.to)
        answer = self.socket.recv(2048)
        assert answer[:178] == b"\x8c" + RETURN
        return self.client.open_announce(real, self.node.key, answer[178:])

    def announce(self) -> None:
        """Announces the client in two steps."""
        assert self.ask(self.ask(bytes(32)).payload).is_stored == 2

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.socket.getsockname()[1]}"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    workers = f"dht=1,onion={SHARDS},relay=0"
    with running(tmp_path_factory.mktemp("announces"), workers=workers) as node:
        yield node


def ops(capsys: pytest.CaptureFixture[str], node: Node, *words: object) -> Said:
    """Runs `toxmesh ops WORDS` against a node."""
    return call(capsys, "ops", *words, "--state-dir", node.state_dir)


def test_an_announced_client_is_found_on_the_shard_that_owns_its_slot(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    hop = LastHop(node, "found")
    key = hop.client.real.public.hex().upper()
    nothing = ask(node, "announces find", key=key)
    assert (nothing["entry"], nothing["data"], nothing["chat"]) == (None, None, None)
    hop.announce()
    answer = ask(node, "announces find", key=key)
    owner = f"onion.{slot_of(hop.client.real.public) % SHARDS}"
    assert (answer["owner"], answer["entry"]["shard"]) == (owner, owner)
    assert answer["entry"]["last_hop"] == hop.address
    assert answer["entry"]["data_key"] == hop.client.data.public.hex().upper()
    assert 0.0 <= answer["entry"]["age_s"] < 60.0 < answer["entry"]["expires_s"]
    assert len(answer["others"]) == SHARDS - 1
    until(
        lambda: {row["believes"] for row in ask(node, "announces find", key=key)["others"]}
        == {"stored"},
        10.0,
    )
    said = ops(capsys, node, "announces", "find", key)
    assert (said.code, hop.address in said.out) == (0, True)
    said = ops(capsys, node, "announces", "find", "00" * 32)
    assert (said.code, said.out.splitlines()[0][:17]) == (1, "nothing is stored")
    assert ops(capsys, node, "announces", "find", "00").code == 3


def test_the_store_tells_how_full_it_is_and_why_it_refused(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    hops = [LastHop(node, f"one of many {number}") for number in range(9)]
    for hop in hops:
        hop.announce()
    hops[0].ask(b"!" * 32)

    def told() -> dict[str, Any] | None:
        found = ask(node, "announces stats")
        heard: int = found["kinds"][0]["received"]  # of this test 19; shards tell it in their time
        return found if heard >= 19 and found["refusals"] else None

    answer = until(told, 10.0)
    assert answer["entries"] >= 9
    assert answer["sampled"] == answer["entries"] == sum(row["entries"] for row in answer["ages"])
    assert answer["entries"] == sum(row["entries"] for row in answer["shards"])
    assert (answer["local"], answer["ipv6"]) == (answer["entries"], 0)
    assert answer["prefixes"] == [
        {"prefix": "127.0.0.0/24", "entries": answer["entries"], "share": 1.0}
    ]
    assert answer["refusals"][0]["reason"] == "ping_id"
    assert answer["searches"]["filters_wanted"] == SHARDS * (SHARDS - 1)
    said = ops(capsys, node, "announces", "stats")
    assert said.code == 0
    assert "127.0.0.0/24" in said.out
    assert "ping_id" in said.out


def test_chats_and_their_peers_are_listed(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = b"\x82" + pack_compact(ADDRESS)[1:] + b"r" * 32
    for number in range(3):
        hop = LastHop(node, f"peer {number}")
        row = group_announce(bytes([number]) * 32, pack_compact(ADDRESS), relay)
        hop.ask(bytes(32), group=CHAT + row)
    answer = ask(node, "announces groups")
    (chat,) = answer["chats"]
    assert (chat["chat_id"], chat["peers"]) == (CHAT.hex().upper(), 3)
    assert chat["opened_from"] == "127.0.0.0/24"
    answer = ask(node, "announces groups", key=CHAT.hex())
    assert [peer["key"][:2] for peer in answer["peers"]] == ["02", "01", "00"]
    assert answer["peers"][0]["address"] == "198.51.100.7:4444"
    assert answer["peers"][0]["relays"] == [
        {"key": (b"r" * 32).hex().upper(), "address": "198.51.100.7:4444"}
    ]
    assert len(ask(node, "announces find", key=CHAT.hex())["chat"]["peers"]) == 3
    said = ops(capsys, node, "announces", "groups")
    assert (said.code, said.out.splitlines()[-1]) == (0, "1 chats")
    said = ops(capsys, node, "announces", "groups", CHAT.hex(), "--json")
    assert json.loads(said.out)["total"] == 3
    assert ops(capsys, node, "announces", "groups", "00" * 32).code == 1
    assert ops(capsys, node, "announces", "groups", "--limit", "501").code == 3
    with pytest.raises(client.AskError, match="from 1 to 500"):
        client.ask(node.state_dir, "announces groups", {"limit": 501})


def test_data_for_a_client_is_counted_passed_on_or_refused_by_reason(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    hop = LastHop(node, "reached")
    hop.announce()
    writer = Client("writer")
    for to in (hop.client.real.public, writer.real.public):
        request = writer.data_request(to, hop.client.data.public, b"hello")
        hop.socket.sendto(request + RETURN, hop.to)
    answer = hop.socket.recv(2048)
    assert hop.client.open_data(answer[178:]) == b"hello"
    found = until(lambda: (row := ask(node, "data"))["requests"] >= 2 and row, 10.0)
    assert found["routes"] >= 1
    assert (found["requests"], found["passed_on"]) == (2, 1)
    assert [(row["reason"], row["count"]) for row in found["refusals"]] == [("not_announced", 1)]
    assert found["capacity"] == SHARDS * 10_000
    said = ops(capsys, node, "data")
    assert (said.code, "not_announced" in said.out) == (0, True)


def test_hops_are_counted_by_kind_with_refusals_and_the_age_of_secrets(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    hop = LastHop(node, "broken layers")
    hop.socket.sendto(b"\x80" + bytes([5]) * 300, hop.to)
    found = until(lambda: (row := ask(node, "onion"))["refusals"] and row, 10.0)
    (row,) = found["refusals"]
    assert (row["reason"], row["count"]) == ("onion_not_opened", 1)
    assert (found["hops"][0]["kind"], found["hops"][0]["received"]) == ("0x80", 1)
    assert found["return_key"]["age_s"] + found["return_key"]["next_s"] == pytest.approx(7200, 1)
    assert 0 < found["token_next_s"] <= 60
    assert found["shards"] == SHARDS
    said = ops(capsys, node, "onion")
    assert (said.code, "onion_not_opened" in said.out) == (0, True)


def test_a_node_without_onion_workers_says_so(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as node:
        said = ops(capsys, node, "onion")
    assert (said.code, "no onion is up" in said.err) == (1, True)
