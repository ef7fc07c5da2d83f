"""Every packet once: `ALL` has each declared class, `ROUTES` what the broker needs of them."""

from core.packets import (
    announce,
    bootstrap,
    data,
    dht,
    forwarding,
    group,
    messenger,
    net_crypto,
    onion,
    relay,
)
from core.packets.nodes import (
    MAX_NODES,
    NodeInfo,
    pack_node,
    pack_nodes,
    read_compact,
    unpack_nodes,
)
from core.wire import UDP_PACKETS, Record, Route, routes

__all__ = [
    "ALL",
    "FAMILIES",
    "MAX_NODES",
    "ROUTES",
    "UDP_PACKETS",
    "NodeInfo",
    "Route",
    "pack_node",
    "pack_nodes",
    "read_compact",
    "unpack_nodes",
]

FAMILIES = (dht, onion, announce, data, forwarding, bootstrap, net_crypto, group, relay, messenger)
"""The modules that declare packets, in the order of the packet reference."""

ALL: tuple[type[Record], ...] = tuple(
    declared
    for family in FAMILIES
    for declared in vars(family).values()
    if isinstance(declared, type)
    and issubclass(declared, Record)
    and declared.__module__ == family.__name__
    and (declared.FIELDS or declared.kind is not None)
)
"""Every packet, body and record that is declared anywhere."""

ROUTES: dict[int, Route] = routes()
"""From a datagram's first byte to the role that takes it, and the byte that tells the shard."""
