"""A node that is watched closely, and peers that answer it as told."""

from core.dht import DhtModule
from core.dht.keeper import TableKeeper
from core.endpoint import Endpoint, from_text, pack_compact
from core.module import NodeOptions
from tests.simulation import Node, Peer, World

QUIET = NodeOptions(lan_discovery=False)


def keeper_of(node: Node) -> TableKeeper:
    """Returns the table of a node's dht.0."""
    keeper = module_of(node).keeper
    assert keeper is not None
    return keeper


def module_of(node: Node, shard: int = 0) -> DhtModule:
    """Returns the module of a dht shard."""
    module = node.modules["dht"][shard]
    assert isinstance(module, DhtModule)
    return module


def packed(key: bytes, endpoint: Endpoint) -> bytes:
    """Returns a packed node."""
    return pack_compact(endpoint) + key


def key_at(own: bytes, bucket: int, number: int) -> bytes:
    """Returns a key that differs from `own` first in bit `bucket`; `number` tells them apart."""
    value = int.from_bytes(own, "big") ^ 1 << 255 - bucket
    return (value ^ number + 1).to_bytes(32, "big")


def public(number: int, port: int = 33445) -> Endpoint:
    """Returns a public address in a /24 of its own."""
    return from_text(f"30.{number >> 8 & 255}.{number & 255}.1", port)


def good_friend(
    world: World, name: str, nodes: bytes = b"\x00", endpoint: Endpoint | None = None
) -> Peer:
    """Adds a peer that answers every ping and every nodes request (with `nodes`, count first)."""
    peer = world.add_peer(name, endpoint=endpoint)

    def answer(packet: bytes, source: Endpoint) -> None:
        sender = packet[1:33]
        if packet[0] == 0x00:
            text = peer.opened(0x00)[-1]
            peer.send(source, peer.sealed(0x01, sender, b"\x01" + text[1:]))
        elif packet[0] == 0x02:
            text = peer.opened(0x02)[-1]
            peer.send(source, peer.sealed(0x04, sender, nodes + text[32:]))

    peer.handler = answer
    return peer


def introduce(world: World, peer: Peer, node: Node) -> None:
    """Has the peer ping the node, so that it is a candidate, and waits until it is taken in."""
    peer.send(node.endpoint, peer.sealed(0x00, node.key, b"\x00pingping"))
    assert world.run_until(lambda: peer.key in keeper_of(node).close.by_key, limit=10.0, every=0.1)
