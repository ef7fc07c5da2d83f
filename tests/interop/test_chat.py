"""Two unmodified clients that know one node alone become friends and talk.

The same story is told with tox-bootstrapd as the node, which shows that it tests the node and not
the test.
"""

import pytest

from tests.interop.chat import (
    OVER_TCP,
    OVER_UDP,
    Pair,
    befriend,
    chat,
    connect,
    make_pair,
    send_file,
    shards_differ,
)
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.nodes import HOST, HOST6, has_address
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process]

ONE = "dht=1,onion=1,relay=1"
TWO = "dht=2,onion=2,relay=2"
SAME_VERSIONS = ((OLD, OLD), (NEW, NEW))


def _story(
    make_node: MakeNode,
    make_client: MakeClient,
    versions: tuple[tuple[str, str], ...],
    *,
    udp: bool,
    workers: str = ONE,
    kind: str = "ours",
    host: str = HOST,
) -> None:
    node = make_node(kind, workers=workers, host=host)
    pairs: list[Pair] = [
        make_pair(make_client, wanted, udp=udp, ipv6=host == HOST6) for wanted in versions
    ]
    if workers == TWO:
        assert all(shards_differ(pair, 2) for pair in pairs)
    connect(node, *(client for pair in pairs for client in pair.both()), udp=udp)
    befriend(*pairs)
    chat(*pairs)
    send_file(*pairs)
    over = OVER_UDP if udp else OVER_TCP
    assert all(pair.are_friends((over,)) for pair in pairs)
    assert not any(client.losses for pair in pairs for client in pair.both())


def test_friends_meet_and_chat_over_udp(make_node: MakeNode, make_client: MakeClient) -> None:
    _story(make_node, make_client, ((OLD, NEW),), udp=True)


def test_friends_on_different_shards_chat_through_our_relay_alone(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    _story(make_node, make_client, ((NEW, OLD),), udp=False, workers=TWO)


@pytest.mark.slow
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "tcp"])
@pytest.mark.parametrize("workers", [ONE, TWO], ids=["1shard", "2shards"])
def test_two_pairs_of_equal_versions_chat_at_once(
    make_node: MakeNode, make_client: MakeClient, workers: str, udp: bool
) -> None:
    _story(make_node, make_client, SAME_VERSIONS, udp=udp, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "tcp"])
def test_the_story_holds_for_tox_bootstrapd_too(
    make_node: MakeNode, make_client: MakeClient, udp: bool
) -> None:
    _story(make_node, make_client, ((OLD, NEW),), udp=udp, kind="bootstrapd")


@pytest.mark.slow
@pytest.mark.skipif(not has_address(HOST6), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("kind", ["ours", "bootstrapd"])
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "tcp"])
def test_friends_meet_and_chat_over_ipv6(
    make_node: MakeNode, make_client: MakeClient, udp: bool, kind: str
) -> None:
    _story(make_node, make_client, ((OLD, NEW),), udp=udp, workers=TWO, kind=kind, host=HOST6)
