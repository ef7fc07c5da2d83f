"""What stock clients see of a kick and of a ban: they come back, or stay out until they may."""

from typing import Any

import pytest

from ops import client as door
from tests.interop.chat import FRIENDS_TIMEOUT_S, Pair, befriend, connect, make_pair
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import Client, wait_until
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_BACK_TIMEOUT_S = 90  # a stock client notices within some 30 s, and tries again


def _ask(node: Node, request: str, **args: Any) -> dict[str, Any]:
    return door.ask(node.state, request, args)


def _place(node: Node, client: Client) -> str | None:
    """Returns where a client is connected to the relay from, or None."""
    key = client.dht_id.hex()
    rows = _ask(node, "relay clients", key=key, state="confirmed")["rows"]
    return str(rows[0]["address"]) if rows else None


def _linked(node: Node, pair: Pair) -> bool:
    """Tells whether the two have a link that is up."""
    keys = {one.dht_id.hex().upper() for one in pair.both()}
    rows = _ask(node, "relay links", state="up")["rows"]
    return any({row["key"], row["peer"]} == keys for row in rows)


def _met_again(node: Node, client: Client) -> bool:
    """Tells a client of the node once more: a stock one forgets a relay that has refused it."""
    client.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=False)
    return _place(node, client) is not None


def _refused(node: Node, reason: str) -> int:
    return int(node.status()["totals"]["drops"].get(reason, 0))


def test_a_kicked_client_comes_back_and_a_banned_one_stays_out(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    node = make_node("ours", workers="dht=1,onion=1,relay=2")
    pair = make_pair(make_client, (NEW, OLD), udp=False)
    connect(node, *pair.both(), udp=False)
    befriend(pair)
    assert _linked(node, pair)

    before, key = _place(node, pair.bob), pair.bob.dht_id.hex()
    assert before is not None
    assert _ask(node, "relay kick", key=key)["closed"] >= 1
    assert not _linked(node, pair)
    wait_until(
        lambda: _place(node, pair.bob) not in (None, before) and _linked(node, pair),
        "the kicked client connects again by itself",
        _BACK_TIMEOUT_S,
    )

    assert _ask(node, "relay kick", key=key, seconds=600)["until"]
    wait_until(
        lambda: _refused(node, "relay_banned_key") > 0,
        "the banned client tries and is refused",
        _BACK_TIMEOUT_S,
    )
    assert _place(node, pair.bob) is None
    assert _place(node, pair.alice) is not None
    _ask(node, "ban remove", what=key)
    wait_until(lambda: _met_again(node, pair.bob), "it is let in", _BACK_TIMEOUT_S, poll_s=2.0)
    wait_until(
        lambda: _linked(node, pair) and pair.are_friends(),
        "the friends are online again",
        FRIENDS_TIMEOUT_S,
    )


def test_a_banned_key_and_a_banned_address_do_not_connect_over_udp(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    node = make_node("ours", tcp=False)
    banned, free = make_client(NEW, name="banned"), make_client(OLD, name="free")
    _ask(node, "ban add", what=banned.dht_id.hex())
    banned.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=True)
    free.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=True)
    wait_until(lambda: bool(free.connection), "who is not banned connects", _BACK_TIMEOUT_S)
    wait_until(
        lambda: _refused(node, "banned:key") >= 1,
        "what the banned one sends is refused",
        _BACK_TIMEOUT_S,
    )
    assert not banned.connection
    _ask(node, "ban remove", all=True)
    banned.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=True)
    wait_until(lambda: bool(banned.connection), "it is let in", _BACK_TIMEOUT_S)

    _ask(node, "ban add", what=node.host, force=True)
    late = make_client(NEW, name="late")
    late.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=True)
    wait_until(
        lambda: _refused(node, "banned:prefix") >= 1,
        "nothing from a banned address is taken",
        _BACK_TIMEOUT_S,
    )
    assert not late.connection
