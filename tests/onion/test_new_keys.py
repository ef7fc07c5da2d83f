"""A sender whose key is not at hand: the datagram has no effect before it is given again."""

from collections.abc import Callable

import pytest

from core.crypto import KeyMiss
from core.endpoint import Endpoint
from core.entropy import SeededEntropy
from core.onion import OnionModule
from tests.onion.client import Client, Hop
from tests.onion.node import START, Node, address

LATE = START + 10_000
HOP = address(5)
RETURN = bytes(range(177))


def onion(node: Node, client: Client, layers: int) -> bytes:
    """Returns packet 80, 81 or 82, for a node that is all three hops."""
    here = Hop(node.endpoint, node.keys.public)
    packet = client.onion([here, here, here], address(9), b"\x83" + bytes(176))
    for _ in range(layers):
        ((_, packet),) = node.handle(packet, HOP, LATE)
    return packet


def announce(node: Node, client: Client) -> bytes:
    """Returns a search, which is also every announce's first step."""
    return client.announce_request(node.keys.public, client.real, client.real.public) + RETURN


def group(node: Node, client: Client) -> bytes:
    """Returns 87 of the size of a search."""
    return b"\x87" + announce(node, client)[1:]


def data_search(node: Node, client: Client) -> bytes:
    """Returns 93."""
    return client.data_search(node.keys.public, client.data.public)


def forwarded(node: Node, client: Client) -> bytes:
    """Returns 91 with a 93 in it."""
    return b"\x91\x08sendback" + data_search(node, client)


CASES: dict[str, Callable[[Node, Client], bytes]] = {
    "80": lambda node, client: onion(node, client, 0),
    "81": lambda node, client: onion(node, client, 1),
    "82": lambda node, client: onion(node, client, 2),
    "83": announce,
    "87": group,
    "93": data_search,
    "91": forwarded,
}


def forget(module: OnionModule) -> None:
    """Empties the key cache."""
    module.shared._young.clear()
    module.shared._old.clear()


def drawn(module: OnionModule) -> object:
    """Returns how far the module's source of chance is."""
    entropy = module.context.entropy
    assert isinstance(entropy, SeededEntropy)
    return entropy._random.getstate()


def nothing_happened(node: Node, packet: bytes, source: Endpoint) -> None:
    """Gives a datagram while new keys wait: only KeyMiss comes of it."""
    module = node.shards[0]
    state = (module.snapshot(), drawn(module))
    drops = dict(node.drops)
    module.shared.deferring = True
    with pytest.raises(KeyMiss):
        module.handle_packet(packet, source, LATE)
    module.shared.deferring = False
    assert state == (module.snapshot(), drawn(module))
    assert node.drops == drops
    assert node.settle(LATE) == []


@pytest.mark.parametrize("kind", CASES)
def test_a_deferred_datagram_does_what_it_would_have_done_at_once(kind: str) -> None:
    sent = []
    for deferred in (False, True):
        node, client = Node("n", address(0)), Client("client")
        packet = CASES[kind](node, client)
        forget(node.shards[0])
        if deferred:
            nothing_happened(node, packet, HOP)
        sent.append(node.handle(packet, HOP, LATE))
        assert not node.drops
    assert sent[0] == sent[1] != []


@pytest.mark.parametrize("shards", [1, 2])
def test_a_store_s_data_key_waits_like_its_requester_s(shards: int) -> None:
    # c-toxcore announce.c: handle_store_announce_request; the data key's box proves who owns it
    node, client = Node("n", address(0), shards), Client("client")
    search = client.data_search(node.keys.public, client.data.public)
    ((_, answer),) = node.handle(search, HOP, LATE)
    token = client.open_data_answer(node.keys.public, answer).body[33:65]
    packet = client.data_store(node.keys.public, token, 900, 0, b"content")
    module = node.shards[node.shard_of(packet)]
    assert module.shared.known(client.data.public) is None
    module.shared.deferring = True
    with pytest.raises(KeyMiss):
        module.handle_packet(packet, HOP, LATE)
    assert node.settle(LATE) == []
    module.shared.deferring = False
    ((_, answer),) = node.handle(packet, HOP, LATE)
    assert client.open_data_answer(node.keys.public, answer).kind == 0x98
    assert sum(len(each.data.store) for each in node.shards) == 1
    # whoever owns the entry has computed nothing for it
    assert sum(each.shared.misses for each in node.shards) == 2
