"""Pools of relay connections at real relays, ours and tox-bootstrapd: data, OOB, the onion."""

import asyncio

import pytest

from core.crypto import PublicKey
from core.endpoint import Endpoint, from_text
from tests.interop.conftest import MakeNode
from tests.interop.nodes import Node
from tests.onion.client import Client, Hop
from tests.relay_client.served import Member, meet, members, until

pytestmark = pytest.mark.interop


def tcp(node: Node) -> Endpoint:
    return from_text(node.host, node.tcp_port)


def key(node: Node) -> PublicKey:
    return PublicKey(node.key)


def links(member: Member) -> int:
    return sum(row.linked for row in member.pool.status())


def hop(node: Node) -> Hop:
    return Hop(from_text(node.host, node.udp_port), node.key)


@pytest.mark.parametrize("kind", ["ours", "bootstrapd"])
def test_two_pools_exchange_data_and_out_of_band_data(kind: str, make_node: MakeNode) -> None:
    node = make_node(kind)

    async def story() -> None:
        async with members(2) as (alice, bob):
            for member in (alice, bob):
                member.pool.add_relay(tcp(node), key(node), member.now)
            await until(lambda: alice.pool.is_connected(), "alice's relay")
            await until(lambda: bob.pool.is_connected(), "bob's relay")
            alice.pool.add_peer(bob.key, alice.now)
            alice.pool.add_relay_of(bob.key, tcp(node), key(node), alice.now)
            await until(lambda: alice.pool.send(bob.key, b"\x18" + bytes(111), alice.now), "OOB")
            await until(lambda: len(bob.oob) == 1, "OOB at the other end")
            assert bob.oob == [(node.key, alice.key, b"\x18" + bytes(111))]
            assert bob.pool.send_oob(bob.oob[0][0], alice.key, b"\x19" + bytes(159), bob.now)
            await until(lambda: alice.data == [b"\x19" + bytes(159)], "its answer")
            meet(alice, bob, tcp(node), key(node))
            await until(lambda: alice.pool.is_linked(bob.key), "the link")
            await until(lambda: bob.pool.is_linked(alice.key), "the link back")
            sizes = [1, 500, 1373, 2031] * 50
            for size in sizes:
                while not alice.pool.send(bob.key, bytes(size), alice.now):
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.0005)
            await until(lambda: [len(data) for data in bob.data] == sizes, "data of all sizes")
            alice.pool.remove_peer(bob.key, alice.now)
            await until(lambda: not bob.pool.is_linked(alice.key), "the end of the link")
            assert not alice.drops
            assert not bob.drops

    asyncio.run(asyncio.wait_for(story(), 90))


@pytest.mark.parametrize("kinds", [("ours", "bootstrapd"), ("bootstrapd", "ours")])
def test_an_onion_begins_at_a_relay_and_its_answer_comes_back(
    kinds: tuple[str, str], make_node: MakeNode
) -> None:
    relay = make_node(kinds[0])
    other = make_node(kinds[1], bootstrap=(relay.bootstrap,))

    async def story() -> None:
        async with members(1) as (alice,):
            alice.pool.keep_for_onion(True, alice.now)
            alice.pool.add_relay(tcp(relay), key(relay), alice.now)
            await until(lambda: len(alice.pool.onion_relays()) == 1, "the relay")
            asks = Client("asks")
            request = asks.announce_request(other.key, asks.real, asks.real.public)
            packet = asks.relay_onion(
                [hop(relay), hop(other), hop(relay)], hop(other).endpoint, request
            )
            assert alice.pool.send_onion(alice.pool.onion_relays()[0].key, packet, alice.now)
            await until(lambda: len(alice.onion) == 1, "the answer")
            answer = asks.open_announce(asks.real, other.key, alice.onion[0])
            assert answer.kind == 0x84
            assert answer.sendback == b"sendback"

    asyncio.run(asyncio.wait_for(story(), 90))


def test_when_one_relay_dies_data_goes_by_the_other(make_node: MakeNode) -> None:
    nodes = [make_node("ours"), make_node("bootstrapd")]

    async def story() -> None:
        async with members(2) as (alice, bob):
            for node in nodes:
                meet(alice, bob, tcp(node), key(node))
            await until(lambda: links(alice) == links(bob) == 2, "both links")
            assert alice.pool.send(bob.key, b"before", alice.now)
            await until(lambda: bob.data == [b"before"], "data before")
            carrier = alice.pool._peers[bob.key].carrier
            dying = next(node for node in nodes if node.key == carrier)
            await asyncio.to_thread(dying.stop)
            await until(lambda: links(alice) == links(bob) == 1, "the loss")
            assert alice.pool.send(bob.key, b"after", alice.now)
            await until(lambda: bob.data == [b"before", b"after"], "data after")
            assert alice.pool.is_linked(bob.key)
            assert alice.drops["relay_client_lost"] == 1

    asyncio.run(asyncio.wait_for(story(), 90))
