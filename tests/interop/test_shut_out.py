"""What stock clients see of a ban: they stay out until they may come."""

from typing import Any

import pytest

from ops import client as door
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import wait_until
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_BACK_TIMEOUT_S = 90


def _ask(node: Node, request: str, **args: Any) -> dict[str, Any]:
    return door.ask(node.state, request, args)


def _refused(node: Node, reason: str) -> int:
    return int(node.status()["totals"]["drops"].get(reason, 0))


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
