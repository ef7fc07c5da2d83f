"""Announces, searches and data for the announced, as a client sees them through an onion."""

import pytest

from core.endpoint import Endpoint, from_text, pack_ip_port
from core.messages import NodeRow
from core.onion.announce_store import LIFE_S, AnnounceStore
from tests.onion.client import AnnounceAnswer, Client
from tests.onion.node import START, Node, address

HOP = from_text("198.51.100.1", 33445)  # the last hop of the paths that lead to our node
OTHER_HOP = from_text("198.51.100.2", 33445)
RETURN = bytes(range(177))


class Talk:
    """A client that talks to one node by the last hop of its path."""

    def __init__(self, node: Node, client: Client, hop: Endpoint = HOP, tail: bytes = RETURN):
        self.node, self.client, self.hop, self.tail = node, client, hop, tail

    def ask(
        self,
        searched: bytes,
        ping_id: bytes = bytes(32),
        data_key: bytes = bytes(32),
        now: float = START,
        requester: object = None,
        group: bytes | None = None,
    ) -> AnnounceAnswer:
        """Sends one announce request; checks the frame of the answer and opens it."""
        key = self.client.real if requester is None else self.client.dht
        request = self.client.announce_request(
            self.node.keys.public, key, searched, ping_id, data_key, b"8 bytes!", group
        )
        ((target, packet),) = self.node.handle(request + self.tail, self.hop, now)
        assert target == self.hop
        assert packet[:178] == b"\x8c" + self.tail
        answer = self.client.open_announce(key, self.node.keys.public, packet[178:])
        assert answer.sendback == b"8 bytes!"
        assert answer.kind == (0x84 if group is None else 0x88)
        return answer

    def announce(self, now: float = START) -> AnnounceAnswer:
        """Both steps of an announce."""
        own = self.client.real.public
        first = self.ask(own, data_key=self.client.data.public, now=now)
        return self.ask(own, first.payload, self.client.data.public, now)

    def search(self, key: bytes, now: float = START) -> AnnounceAnswer:
        """A search under a temporary key."""
        return self.ask(key, now=now, requester="temporary")


def test_the_is_stored_sequence_is_that_of_the_reference() -> None:
    node = Node("n", address(0))
    alice, bob = Talk(node, Client("alice")), Talk(node, Client("bob"))
    own, data = alice.client.real.public, alice.client.data.public
    assert bob.search(own).is_stored == 0
    first = alice.ask(own, data_key=data)
    assert first.is_stored == 0
    assert bob.search(own).is_stored == 0  # a first contact stores nothing
    second = alice.ask(own, first.payload, data)
    assert (second.is_stored, second.payload) == (2, first.payload)
    found = bob.search(own)
    assert (found.is_stored, found.payload) == (1, data)
    # asked by herself without a ping id: with her data key, and with another
    assert alice.ask(own, data_key=data).is_stored == 2
    other = alice.ask(own, data_key=bytes(31) + b"x")
    assert (other.is_stored, other.payload) == (0, first.payload)
    # a good ping id with another data key replaces it
    assert alice.ask(own, first.payload, bob.client.data.public).is_stored == 2
    assert bob.search(own).payload == bob.client.data.public
    # a good ping id counts for the requester, whatever is searched
    assert bob.announce().is_stored == 2
    assert alice.ask(bob.client.real.public, first.payload, data).is_stored == 2
    assert bob.search(own).payload == data


def test_a_size_that_is_not_the_reference_s_is_refused() -> None:
    node, client = Node("n", address(0)), Client("alice")
    request = client.announce_request(node.keys.public, client.real, client.real.public)
    assert len(request) == 177
    for broken in (request[:-1] + RETURN, request + b"x" + RETURN, b"", request, RETURN):
        assert node.handle(b"\x83" + broken[1:], HOP, START) == []
    assert node.drops == {"announce_size": 5}
    assert node.handle(request[:-1] + b"x" + RETURN, HOP, START) == []
    assert node.drops["announce_not_opened"] == 1


def test_s21_a_ping_id_is_bound_to_key_address_window_and_node_start() -> None:
    first = Talk(Node("n", address(0)), Client("alice"))
    own = first.client.real.public
    start = (START // 300) * 300  # a window's beginning
    given = first.ask(own, now=start).payload
    assert first.ask(own, now=start + 299).payload == given
    assert first.ask(own, now=start + 300).payload != given
    others = [
        Talk(first.node, Client("alice"), OTHER_HOP),
        Talk(first.node, Client("alice"), from_text("198.51.100.1", 33446)),
        Talk(first.node, Client("bob")),
        Talk(Node("restarted", address(0)), Client("alice")),
    ]
    payloads = {talk.ask(talk.client.real.public, now=start).payload for talk in others}
    assert len(payloads | {given}) == 5
    for talk in others:
        answer = talk.ask(talk.client.real.public, given, talk.client.data.public, start)
        assert answer.is_stored == 0
        assert talk.node.drops["ping_id"] > 0
        assert len(talk.node.shards[0].announces.entries) == 0
    # two windows accept it, a third does not
    for later, stored in ((0, 2), (299, 2), (300, 2), (599, 2), (600, 0), (900, 0)):
        talk = Talk(Node("n", address(0)), Client("alice"))
        answer = talk.ask(own, given, talk.client.data.public, start + later)
        assert answer.is_stored == stored


def test_s20_false_ping_ids_store_nothing() -> None:
    node, client = Node("n", address(0)), Client("alice")
    talk = Talk(node, client)
    for number in range(300):
        answer = talk.ask(client.real.public, number.to_bytes(32, "little"), client.data.public)
        assert answer.is_stored == 0
    assert len(node.shards[0].announces.entries) == 0
    assert node.drops == {"ping_id": 299}


def test_an_entry_lives_300_seconds_from_its_last_announce() -> None:
    node = Node("n", address(0))
    alice, bob = Talk(node, Client("alice")), Talk(node, Client("bob"))
    own = alice.client.real.public
    alice.announce(START)
    assert bob.search(own, START + LIFE_S - 1).is_stored == 1
    assert bob.search(own, START + LIFE_S).is_stored == 0
    alice.announce(START + 200)
    assert bob.search(own, START + 499).is_stored == 1
    node.timer(START + 499)
    assert node.shards[0].snapshot()["announce_entries"] == 1
    node.timer(START + 501)
    assert node.shards[0].snapshot()["announce_entries"] == 0


def rows(count: int, lan: int = 0) -> list[NodeRow]:
    """Node rows with public IPv6 addresses, then some on a local network."""
    far = [
        NodeRow(bytes([i]) * 32, b"", from_text(f"2001:db8::{i:x}", 1000 + i), True, bool(i % 2))
        for i in range(1, count + 1)
    ]
    return far + [
        NodeRow(bytes([200 + i]) * 32, from_text("10.0.0.9", 1 + i), b"", False, True)
        for i in range(lan)
    ]


@pytest.mark.parametrize("kind", [0x83, 0x87])
def test_an_answer_carries_the_four_closest_nodes(kind: int) -> None:
    node = Node("n", address(0), known=rows(9, lan=1))
    group = b"" if kind == 0x87 else None
    talk = Talk(node, Client("alice"))
    answer = talk.ask(bytes([8]) * 32, group=group)
    nodes = answer.rest
    if kind == 0x87:
        assert nodes[0] == 4
        nodes = nodes[1:]
    assert len(nodes) == 4 * 51
    keys = [nodes[i + 19] for i in range(0, 204, 51)]
    assert keys == sorted(range(1, 10), key=lambda key: key ^ 8)[:4]
    assert nodes[:19] == b"\x0a" + bytes.fromhex("20010db8") + bytes(11) + b"\x08" + b"\x03\xf0"
    # local addresses go to local requesters alone
    close = Talk(node, Client("alice")).ask(bytes([200]) * 32, group=group).rest
    assert b"\x0a\x00\x00\x09" not in close
    local = Talk(node, Client("alice"), from_text("10.0.0.1", 5)).ask(bytes([200]) * 32)
    assert b"\x02\x0a\x00\x00\x09\x00\x01" + bytes([200]) * 32 in local.rest


def test_a_table_that_is_missing_is_asked_for() -> None:
    node = Node("n", address(0))
    module = node.shards[0]
    module.nodes.version = None
    assert module.next_timer() == 0.0
    module.handle_timer(START)
    ((role, shard, message),) = node.boxes[0].told
    assert (role, shard) == ("dht", 0)
    assert message == ("onion", 0)
    assert module.next_timer() == START + 1


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_data_reaches_the_announced_by_the_return_path_of_the_announce(shards: int) -> None:
    node = Node("n", address(0), shards)
    for number in range(6):
        alice = Talk(node, Client(f"alice {number}"), HOP, bytes([number]) * 177)
        alice.announce()
        key = Talk(node, Client("bob")).search(alice.client.real.public).payload
        request = Client("bob").data_request(alice.client.real.public, key, b"hello")
        sent = node.handle(request + bytes(177), OTHER_HOP, START + 250)
        ((target, packet),) = sent
        assert target == HOP
        assert packet[:178] == b"\x8c" + alice.tail
        assert packet[178] == 0x86
        assert alice.client.open_data(packet[178:]) == b"hello"
    assert not node.drops


def test_data_for_nobody_or_of_a_wrong_size_goes_nowhere() -> None:
    node, client = Node("n", address(0)), Client("alice")
    own, data = client.real.public, client.data.public
    assert node.handle(client.data_request(own, data, b"x") + RETURN, HOP, START) == []
    assert node.drops == {"not_announced": 1}
    Talk(node, client).announce()
    assert node.handle(client.data_request(own, data, b"x") + RETURN, HOP, START + 300) == []
    assert node.handle(client.data_request(own, data, b"") + RETURN, HOP, START) == []
    largest = client.data_request(own, data, bytes(1400 - 283 + 1))
    assert len(largest + RETURN) == 1400
    assert len(node.handle(largest + RETURN, HOP, START)) == 1
    assert node.handle(largest + RETURN + b"x", HOP, START) == []
    assert node.drops == {"not_announced": 2, "data_request_size": 2}


def put(store: AnnounceStore, key: bytes, now: float) -> bool:
    """Stores an entry whose contents do not matter."""
    return bool(store.put(key, HOP, RETURN, bytes(32), now))


def test_s20_a_full_store_keeps_the_nearest_and_lets_expired_ones_go_first() -> None:
    own = bytes(32)
    store = AnnounceStore(own, capacity=1000)
    keys = [(i * 2654435761 % 2**32).to_bytes(4, "big") + bytes(28) for i in range(10_000)]
    accepted = [put(store, key, START) for key in keys]
    assert len(store) == 1000
    kept = [key for key in keys if store.get(key, START)]
    nearest = set(sorted(keys)[:1000])
    assert kept == [key for key in keys if key in nearest]
    assert all(accepted[:1000])
    assert not all(accepted)
    # one that stayed is refreshed, and what it pushed out is not
    assert put(store, kept[0], START + 299)
    farthest = b"\xff" * 32
    assert not put(store, farthest, START + 299)
    assert put(store, farthest, START + 300)  # all but one are expired by now
    assert store.get(farthest, START + 300)
    assert store.get(kept[0], START + 300)
    assert len(store) == 1000
    assert store.expire(START + 300, 2000) == 998


def test_s20_a_refused_announce_is_answered_like_a_first_contact() -> None:
    node = Node("n", address(0), announce_capacity=1)
    talks = [Talk(node, Client(f"client {number}")) for number in range(6)]
    own = int.from_bytes(node.keys.public, "big")
    talks.sort(key=lambda talk: own ^ int.from_bytes(talk.client.real.public, "big"))
    assert talks[1].announce().is_stored == 2
    for talk in talks[2:]:
        refused = talk.announce()
        assert refused.is_stored == 0
        assert refused.payload == talk.ask(talk.client.real.public).payload
    assert talks[0].announce().is_stored == 2
    assert talks[0].search(talks[1].client.real.public).is_stored == 0
    assert node.drops == {"announce_store_full": 4}


@pytest.mark.parametrize("shards", [2, 4])
def test_the_same_requests_get_the_same_answers_from_any_number_of_shards(shards: int) -> None:
    def script(count: int) -> list[AnnounceAnswer]:
        node = Node("n", address(0), count, known=rows(9))
        answers = []
        clients = [Client(f"client {number}") for number in range(12)]
        for client in clients:
            answers += [Talk(node, client).announce()]
        for client in clients:
            asker = Talk(node, clients[0], OTHER_HOP)
            answers += [asker.search(client.real.public), asker.search(client.real.public[::-1])]
            answers += [Talk(node, client).ask(client.real.public, now=START + 400)]
            answers += [Talk(node, client).announce(START + 500)]
        assert sum(len(module.announces.entries) for module in node.shards) == 12
        assert not node.drops
        return answers

    assert script(shards) == script(1)


def test_a_request_told_to_an_owner_that_sees_other_slots_is_answered_there() -> None:
    node = Node("n", address(0), 2)
    alice, bob = Talk(node, Client("alice")), Talk(node, Client("bob"))
    alice.announce()
    # both shards believe that the other one owns everything
    for shard, module in enumerate(node.shards):
        module.context.slots["onion"] = type(node.table)(1, (1 - shard,) * 256)
    assert bob.search(alice.client.real.public).is_stored in (0, 1)


def test_the_ping_id_covers_the_padded_address_of_ipv6_too() -> None:
    node = Node("n", address(0))
    six = from_text("2001:db8::1", 33445)
    assert len(pack_ip_port(six)) == 19
    assert Talk(node, Client("alice"), six).announce().is_stored == 2
