"""Options and nodes as plain rows, for the way from one process to another."""

from collections.abc import Iterable
from typing import Any, Literal

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.identity.carrier import KnownNodes
from core.identity.messages import NodesRow, Row
from core.identity.options import EngineOptions
from core.packets.nodes import NodeInfo
from core.relay_client import Proxy

MOST_NODES = 256
"""Nodes of a kind that are told at once (ours): a profile may name 2,080, and a few lead back."""


def nodes_row(nodes: Iterable[NodeInfo]) -> Row:
    """Returns nodes as a row; what is beyond 256 stays behind."""
    rows = tuple((bytes(node.key), bytes(node.endpoint), node.tcp) for node in nodes)
    return rows[:MOST_NODES]


def nodes_of(row: Row) -> tuple[NodeInfo, ...]:
    """Reads what `nodes_row` made."""
    return tuple(NodeInfo(PublicKey(key), Endpoint(place), tcp) for key, place, tcp in row)


def known_row(known: KnownNodes) -> Row:
    """Returns the nodes by which an identity comes back as a row."""
    return NodesRow(*(nodes_row(each) for each in known))


def known_of(row: Row) -> KnownNodes:
    """Reads what `known_row` made."""
    return KnownNodes(*(nodes_of(each) for each in row))


def options_row(options: EngineOptions) -> Row:
    """Returns options as a row, but for the nodes to begin with."""
    proxy = options.proxy
    return (
        options.udp,
        options.has_ipv4,
        options.has_ipv6,
        options.lan_discovery,
        tuple(bytes(each) for each in options.lan_targets),
        options.serves,
        options.standing_relays,
        None if proxy is None else (proxy.kind, proxy.address, proxy.user, proxy.password),
    )


def options_of(row: Row) -> EngineOptions:
    """Reads what `options_row` made."""
    udp, has_ipv4, has_ipv6, lan_discovery, lan_targets, serves, standing, proxy = row
    return EngineOptions(
        udp=udp,
        has_ipv4=has_ipv4,
        has_ipv6=has_ipv6,
        lan_discovery=lan_discovery,
        lan_targets=tuple(Endpoint(each) for each in lan_targets),
        serves=serves,
        standing_relays=standing,
        proxy=None if proxy is None else _proxy_of(*proxy),
    )


def _proxy_of(kind: Literal["http", "socks5"], address: Any, user: str | None, word: str) -> Proxy:
    target = (address[0], address[1]) if isinstance(address, tuple) else Endpoint(address)
    return Proxy(kind, target, user, word)
