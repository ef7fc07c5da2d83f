"""Our onion client and clients of libtoxcore find each other through one node's onion."""

from collections.abc import Iterator

import pytest

from core.crypto import PublicKey
from core.endpoint import from_text
from core.packets.nodes import NodeInfo
from core.tox_id import ToxId
from tests.interop import peers
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import Client
from tests.interop.nodes import HOST, Node
from tests.onion_client.real import RealSearcher

pytestmark = [pytest.mark.interop, pytest.mark.process]
VERSIONS = (peers.OLD, peers.NEW)
NOSPAM = b"spam"


@pytest.fixture
def searchers() -> Iterator[list[RealSearcher]]:
    """The searchers of a test, which are closed with it."""
    made: list[RealSearcher] = []
    yield made
    for one in made:
        one.close()


def begin(
    make_node: MakeNode,
    make_client: MakeClient,
    searchers: list[RealSearcher],
    version: str,
    kind: str,
    *,
    in_dht: bool,
) -> tuple[RealSearcher, Client, Node]:
    """Returns us, a client of libtoxcore, and the node that both know."""
    node, client = make_node(kind), make_client(version)
    client.meet(HOST, node.udp_port, node.tcp_port, node.key, udp=True)
    us = RealSearcher([NodeInfo(PublicKey(node.key), from_text(HOST, node.udp_port))], in_dht)
    searchers.append(us)
    return us, client, node


@pytest.mark.parametrize("kind", ["ours", "bootstrapd"])
@pytest.mark.parametrize("version", VERSIONS)
def test_libtoxcore_finds_us_asks_for_friendship_and_tells_its_dht_key(
    make_node: MakeNode,
    make_client: MakeClient,
    searchers: list[RealSearcher],
    version: str,
    kind: str,
) -> None:
    us, client, _ = begin(make_node, make_client, searchers, version, kind, in_dht=False)
    tox_id = ToxId(us.real.public, NOSPAM)
    client.call("friend_add", address=str(tox_id), text="a friend request")
    request = (PublicKey(client.public_key), b"\x20" + NOSPAM + b"a friend request")
    assert us.pump(lambda: request in us.heard, 60), us.drops
    us.client.add_friend(request[0], us.now())
    assert us.pump(lambda: us.found, 60), us.drops
    real_key, dht_key, _ = us.found[0]
    assert (real_key, dht_key) == (client.public_key, client.dht_id)


@pytest.mark.parametrize("version", VERSIONS)
def test_we_find_libtoxcore_and_ask_for_friendship_and_it_learns_our_dht_key(
    make_node: MakeNode,
    make_client: MakeClient,
    searchers: list[RealSearcher],
    version: str,
) -> None:
    us, client, _ = begin(make_node, make_client, searchers, version, "bootstrapd", in_dht=True)
    friend = PublicKey(client.public_key)
    us.client.add_friend(friend, us.now())
    letter = b"\x20" + bytes.fromhex(client.address)[32:36] + b"hello from us"
    assert us.pump(lambda: us.client.send(friend, letter, us.now()), 60), us.drops
    wanted = (us.real.public.hex().upper(), "hello from us")

    def asked() -> bool:
        return wanted in [(key.upper(), text) for key, text in client.requests]

    assert us.pump(asked, 10), client.story()
    client.call("friend_accept", key=us.real.public.hex())
    # It takes our DHT key from a letter, and then sends cookie requests to us and searches us.
    assert us.pump(lambda: us.cookie_requests, 60), us.drops
    assert us.pump(lambda: us.found, 60), us.drops
