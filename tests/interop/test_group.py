"""A group that was announced only through our node is found and joined by its chat id alone."""

import pytest

from tests.interop.chat import connect
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import free_port, wait_until
from tests.interop.nodes import Address, LibraryNode
from tests.interop.peers import NEW

pytestmark = [pytest.mark.interop, pytest.mark.process]

_TWO = "dht=2,onion=2,relay=2"
_JOIN_TIMEOUT_S = 120
_SPEAK_TIMEOUT_S = 30


def _group_story(node: Address, make_client: MakeClient, *, udp: bool) -> None:
    founder = make_client(NEW, name="founder", udp=udp, dht_parity=0, real_parity=0)
    guest = make_client(NEW, name="guest", udp=udp, dht_parity=1, real_parity=1)
    connect(node, founder, guest, udp=udp)

    founded = founder.call("group_new", name="the group", nick="founder")
    place = int(guest.call("group_join", chat_id=founded["chat_id"], nick="guest"))
    wait_until(
        lambda: place in guest.joined
        and bool(founder.group_peers[founded["group"]])
        and bool(guest.group_peers[place]),
        "the guest joins by the chat id",
        _JOIN_TIMEOUT_S,
    )

    for client, group in ((founder, founded["group"]), (guest, place)):
        client.call("group_send", group=group, text=f"{client.name} speaks")
    wait_until(
        lambda: guest.groups[place] == ["founder speaks"]
        and founder.groups[founded["group"]] == ["guest speaks"],
        "both hear each other",
        _SPEAK_TIMEOUT_S,
    )


def test_a_group_is_joined_by_its_chat_id_over_udp(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    _group_story(make_node("ours", workers=_TWO), make_client, udp=True)


@pytest.mark.slow
def test_a_group_is_joined_by_its_chat_id_through_our_relay_alone(
    make_node: MakeNode, make_client: MakeClient
) -> None:
    _group_story(make_node("ours", workers=_TWO), make_client, udp=False)


@pytest.mark.slow
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "tcp"])
def test_the_group_story_holds_with_a_library_as_the_node(
    make_client: MakeClient, udp: bool
) -> None:
    relay = free_port()  # Debian 12 has no tox-bootstrapd that keeps group announces
    server = make_client(NEW, name="server", tcp_port=relay)
    _group_story(LibraryNode(server.dht_id, server.port, relay), make_client, udp=udp)
