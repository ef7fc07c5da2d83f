"""Group announces: found by chat id, bounded in every direction."""

from collections import Counter

import pytest

from core.endpoint import from_text, pack_compact
from core.onion.group_store import LIFE_S, MAX_ANNOUNCE, MAX_PEERS, GroupStore, read_announce
from core.packets.announce import GroupAnnounce, GroupAnnounceResponseBody
from tests.onion.client import Client, group_announce
from tests.onion.node import START, Node, address
from tests.onion.test_announce import HOP, RETURN, Talk, rows

SIX = pack_compact(from_text("2001:db8::77", 4444))
FOUR = pack_compact(from_text("198.51.100.77", 4444))
RELAY6 = b"\x8a" + SIX[1:] + b"r" * 32
RELAY4 = b"\x82" + FOUR[1:] + b"r" * 32
MAPPED = bytes(10) + b"\xff\xff" + bytes((198, 51, 100, 77))
CHAT = b"chat id of 32 bytes ............"


def peer(number: int) -> bytes:
    """The largest announce there is, of one peer."""
    return group_announce(bytes([number]) * 32, SIX, RELAY6)


def announces(rest: bytes) -> list[bytes]:
    """Reads the group announces behind counted nodes of one family each."""
    body = bytes(33) + rest
    opened = GroupAnnounceResponseBody.decode(body)
    return [found.key[:1] for found in opened.announces]


def test_s03_the_largest_answer_is_right_and_within_the_maximum() -> None:
    node = Node("n", address(0), known=rows(8))
    talk = Talk(node, Client("asker"))
    assert len(peer(1)) == MAX_ANNOUNCE
    for count in range(1, 40):
        answer = talk.ask(CHAT, group=CHAT + peer(count), requester="temporary")
        assert len(node.sent[-1][1]) - 178 <= 703
        found = announces(answer.rest)
        newest = [bytes([number]) for number in range(count - 1, 0, -1)]
        assert found == newest[:4]  # never the asker's own
        assert answer.rest[0] == 4
    assert len(node.sent[-1][1]) - 178 == 703  # c-toxcore: GCA_ANNOUNCE_RESPONSE_MAX_SIZE
    chat = node.shards[0].announces.groups._chats[CHAT]
    assert len(chat.peers) == MAX_PEERS
    assert list(chat.peers) == [bytes([number]) * 32 for number in range(24, 40)]


def test_a_peer_that_announces_again_replaces_itself() -> None:
    node = Node("n", address(0))
    talk = Talk(node, Client("asker"))
    for number in (1, 2, 1, 1, 1):
        talk.ask(CHAT, group=CHAT + peer(number))
    talk.ask(CHAT, group=CHAT + group_announce(bytes([2]) * 32, FOUR))
    answer = talk.ask(CHAT, group=CHAT + peer(3))
    assert announces(answer.rest) == [b"\x02", b"\x01"]
    assert answer.rest[1:] == group_announce(bytes([2]) * 32, FOUR) + peer(1)


def test_an_87_without_a_group_announce_is_a_search_with_a_node_count() -> None:
    node = Node("n", address(0), known=rows(2))
    talk = Talk(node, Client("asker"))
    answer = talk.ask(CHAT, group=b"")
    assert (answer.kind, answer.is_stored, answer.rest[0]) == (0x88, 0, 2)
    assert len(node.shards[0].announces.groups) == 0
    # and it stores its requester like an 83
    own = talk.client.real.public
    assert talk.ask(own, talk.ask(own, group=b"").payload, CHAT, group=b"").is_stored == 2


@pytest.mark.parametrize(
    "announce",
    [
        b"",
        bytes(33),
        group_announce(bytes(32)),
        bytes(32) + b"\x02\x00" + SIX,
        bytes(32) + b"\x00\x02" + RELAY4,
        group_announce(bytes(32), SIX[:-1]),
        group_announce(bytes(32), b"\x82" + SIX[1:]),
        group_announce(bytes(32), SIX, RELAY6[:-1]),
        group_announce(bytes(32), b"", b"\x0c" + RELAY4[1:]),
        group_announce(bytes(32), b"\x0a" + MAPPED + b"\x82\x35"),
        group_announce(bytes(32), b"", b"\x8a" + MAPPED + b"\x82\x35" + bytes(32)),
    ],
)
def test_a_malformed_group_announce_is_not_answered(announce: bytes) -> None:
    node, client = Node("n", address(0)), Client("asker")
    request = client.announce_request(
        node.keys.public, client.dht, CHAT, group=CHAT + announce, sendback=bytes(8)
    )
    assert node.handle(request + RETURN, HOP, START) == []
    assert node.drops == {"group_announce": 1}
    assert len(node.shards[0].announces.groups) == 0


def test_raw_reading_agrees_with_the_declared_packet() -> None:
    for address_part in (b"", FOUR, SIX):
        for relay in (b"", RELAY4, RELAY6):
            if address_part or relay:
                whole = group_announce(b"k" * 32, address_part, relay)
                assert read_announce(whole + b"behind") == whole
                assert GroupAnnounce.decode(whole).encode() == whole


def test_an_87_that_is_too_long_is_refused() -> None:
    node, client = Node("n", address(0)), Client("asker")
    for extra, answers in ((136, 1), (137, 0)):
        group = (CHAT + peer(1) + bytes(1))[:extra].ljust(extra, b"\x00")
        request = client.announce_request(node.keys.public, client.dht, CHAT, group=group)
        assert len(node.handle(request + RETURN, HOP, START)) == answers
    assert node.drops == {"announce_size": 1}


def test_a_chat_goes_30_seconds_after_its_last_announce() -> None:
    node = Node("n", address(0))
    talk = Talk(node, Client("asker"))
    talk.ask(CHAT, group=CHAT + peer(1))
    talk.ask(CHAT, group=CHAT + peer(2), now=START + 20)
    answer = talk.ask(CHAT, group=CHAT + peer(3), now=START + 20 + LIFE_S - 1)
    assert announces(answer.rest) == [b"\x02", b"\x01"]
    answer = talk.ask(CHAT, group=CHAT + peer(4), now=START + 49 + LIFE_S)
    assert announces(answer.rest) == []
    node.timer(START + 78 + LIFE_S)
    assert node.shards[0].snapshot()["group_chats"] == 1
    node.timer(START + 79 + LIFE_S)
    assert node.shards[0].snapshot()["group_chats"] == 0


def test_a_full_store_loses_the_chat_that_was_announced_longest_ago() -> None:
    drops: Counter[str] = Counter()
    store = GroupStore(drops, capacity=3, budget=100)
    chats = [bytes([number]) * 32 for number in range(5)]
    for chat in chats[:3]:
        store.put(chat, peer(1), HOP, START)
    store.put(chats[0], peer(2), HOP, START + 1)
    store.put(chats[3], peer(1), HOP, START + 2)
    assert store.newest(chats[1], b"", START + 2) == []
    assert store.newest(chats[0], b"", START + 2) == [peer(2), peer(1)]
    assert len(store) == 3
    assert drops == {"group_chats_full": 1}


def test_one_network_opens_only_so_many_chats() -> None:
    drops: Counter[str] = Counter()
    store = GroupStore(drops, capacity=1000, budget=5)
    near = from_text("198.51.100.200", 1)
    far = from_text("198.51.101.200", 1)
    for number in range(20):
        store.put(bytes([number]) * 32, peer(1), near, START)
    assert len(store) == 5
    assert drops == {"group_budget": 15}
    assert not store.put(bytes([5]) * 32, peer(1), near, START)
    assert store.put(bytes([5]) * 32, peer(1), far, START)
    assert store.put(bytes([5]) * 32, peer(2), near, START)  # it is open already
    assert store.put(bytes([9]) * 32, peer(2), near, START + LIFE_S)  # the others are gone
    assert len(store) == 1


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_groups_are_found_from_any_shard(shards: int) -> None:
    node = Node("n", address(0), shards, known=rows(3))
    for chat_number in range(8):
        chat = bytes(range(chat_number, chat_number + 32))
        other_chat = chat[::-1]
        seen = []
        for number in range(1, 7):
            talk = Talk(node, Client(f"peer {chat_number} {number}"))
            # each comes under another temporary key; the searched key may differ from the chat
            searched = chat if number % 2 else other_chat
            answer = talk.ask(searched, group=chat + peer(number), requester="temporary")
            assert answer.is_stored == 0
            seen.append(announces(answer.rest))
        assert seen[-1] == [b"\x05", b"\x04", b"\x03", b"\x02"]
    assert sum(len(module.announces.groups) for module in node.shards) == 8
    assert not node.drops


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_an_87_can_announce_and_store_a_group_at_once(shards: int) -> None:
    node = Node("n", address(0), shards)
    for number in range(8):
        talk = Talk(node, Client(f"peer {number}"))
        own, data = talk.client.real.public, talk.client.data.public
        chat = own[::-1]
        first = talk.ask(own, data_key=data, group=chat + peer(1))
        second = talk.ask(own, first.payload, data, group=chat + peer(2))
        assert (first.is_stored, second.is_stored) == (0, 2)
        assert announces(second.rest) == [b"\x01"]
        assert Talk(node, Client("bob")).search(own).payload == data
