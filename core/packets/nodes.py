"""Addresses and packed nodes inside packets.

Each form is read strictly: what `endpoint` would write otherwise (bytes in the padding, an IPv4
address mapped into IPv6) is no address here, so that decoded bytes encode to themselves.
"""

from collections.abc import Iterable
from typing import Annotated, NamedTuple, TypeAlias

from core.crypto import KEY_SIZE, PublicKey
from core.endpoint import (
    FAMILY_TCP4,
    FAMILY_TCP6,
    FAMILY_UDP4,
    FAMILY_UDP6,
    IP_PORT_SIZE,
    Endpoint,
    is_ipv4,
    pack_compact,
    pack_ip_port,
    udp4,
    udp6,
    unpack_ip_port,
)
from core.wire import Maybe, Variable, WireError

PACKED_NODE4_SIZE = 39  # c-toxcore DHT.h: PACKED_NODE_SIZE_IP4
PACKED_NODE6_SIZE = 51  # c-toxcore DHT.h: PACKED_NODE_SIZE_IP6
MAX_NODES = 4  # c-toxcore DHT.h: MAX_SENT_NODES

_TCP = FAMILY_TCP4 - FAMILY_UDP4  # the protocol bit of a packed address's first byte
_SIZES = {FAMILY_UDP4: 7, FAMILY_UDP6: 19, FAMILY_TCP4: 7, FAMILY_TCP6: 19}


class NodeInfo(NamedTuple):
    """A packed node: a DHT key and where it listens."""

    key: PublicKey
    endpoint: Endpoint
    tcp: bool = False
    """The address is of a TCP relay, not of a UDP socket."""


def read_compact(data: bytes, offset: int, end: int) -> tuple[Endpoint, bool, int]:
    """Reads a 7 or 19 byte address; returns it, whether it is TCP, and the offset behind it."""
    family = data[offset] if offset < end else -1
    size = _SIZES.get(family, 0)
    if not size:
        raise WireError("endpoint", f"family {family} is none of 2, 10, 130, 138")
    if end - offset < size:
        raise WireError("endpoint", f"{end - offset} bytes are left of {size}")
    if size == 7:
        port = data[offset + 5] << 8 | data[offset + 6]
        return udp4(data[offset + 1 : offset + 5], port), family == FAMILY_TCP4, offset + 7
    port = data[offset + 17] << 8 | data[offset + 18]
    endpoint = udp6(data[offset + 1 : offset + 17], port)
    if is_ipv4(endpoint):
        raise WireError("endpoint", "an IPv4 address in 19 bytes, not in 7")
    return endpoint, family == FAMILY_TCP6, offset + 19


def pack_node(node: NodeInfo) -> bytes:
    """Returns the 39 or 51 bytes of a packed node."""
    packed = pack_compact(node.endpoint)
    if node.tcp:
        packed = bytes((packed[0] | _TCP,)) + packed[1:]
    return packed + node.key


def pack_nodes(nodes: Iterable[NodeInfo]) -> bytes:
    """Returns the packed nodes one behind the other."""
    return b"".join(map(pack_node, nodes))


def unpack_nodes(data: bytes, most: int = MAX_NODES, tcp: bool = False) -> tuple[NodeInfo, ...]:
    """Reads packed nodes up to the end. Raises WireError; TCP nodes are none unless `tcp`."""
    nodes, offset = _read_nodes(data, 0, len(data), most, tcp)
    if offset != len(data):
        raise WireError("packed nodes", f"{len(data) - offset} bytes behind node {most}")
    return nodes


def _read_nodes(
    data: bytes, offset: int, end: int, most: int, tcp: bool
) -> tuple[tuple[NodeInfo, ...], int]:
    nodes: list[NodeInfo] = []
    while offset < end and len(nodes) < most:
        endpoint, is_tcp, offset = read_compact(data, offset, end)
        if is_tcp and not tcp:
            raise WireError("packed nodes", "a TCP node, where only 2 and 10 may stand")
        if end - offset < KEY_SIZE:
            raise WireError("packed nodes", f"{end - offset} bytes are left of {KEY_SIZE}")
        key = PublicKey(data[offset : offset + KEY_SIZE])
        offset += KEY_SIZE
        nodes.append(NodeInfo(key, endpoint, is_tcp))
    return tuple(nodes), offset


class Nodes(Variable):
    """Up to `most` packed nodes, counted by an earlier field or running to the end."""

    def __init__(self, most: int = MAX_NODES, tcp: bool = False, counted: bool = False) -> None:
        self.most, self.tcp, self.counted = most, tcp, counted
        self.greedy = not counted
        self.low, self.high = 0, most * PACKED_NODE6_SIZE
        kind = "UDP or TCP" if tcp else "UDP"
        self.text = f"0-{most} packed {kind} nodes (39 or 51 bytes each)"

    def read(
        self, data: bytes, offset: int, end: int, count: int | None
    ) -> tuple[tuple[NodeInfo, ...], int]:
        """Reads `count` nodes, or all up to `end`."""
        most = self.most if count is None else count
        if most > self.most:
            raise WireError("packed nodes", f"count {most} is more than {self.most}")
        nodes, offset = _read_nodes(data, offset, end, most, self.tcp)
        if count is not None and len(nodes) != count:
            raise WireError("packed nodes", f"{len(nodes)} nodes, not {count}")
        return nodes, offset

    def write(self, value: tuple[NodeInfo, ...]) -> bytes:
        """Returns the packed nodes."""
        if len(value) > self.most:
            raise ValueError(f"{len(value)} nodes, more than {self.most}")
        if not self.tcp and any(node.tcp for node in value):
            raise ValueError("a TCP node in a list of UDP nodes")
        return pack_nodes(value)


class Compact(Variable):
    """A UDP address of 7 or 19 bytes."""

    low, high, text = 7, 19, "address (7 or 19 bytes)"

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[Endpoint, int]:
        """Reads the address."""
        endpoint, tcp, offset = read_compact(data, offset, end)
        if tcp:
            raise WireError("endpoint", "a TCP address, where only 2 and 10 may stand")
        return endpoint, offset

    def write(self, value: Endpoint) -> bytes:
        """Returns 7 or 19 bytes."""
        return pack_compact(value)


class Padded(Variable):
    """A UDP address in the 19 bytes of the onion, IPv4 with twelve zeros behind it."""

    low = high = IP_PORT_SIZE
    text = "padded address (19 bytes)"

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[Endpoint, int]:
        """Reads the address."""
        packed = data[offset : offset + IP_PORT_SIZE]
        if offset + IP_PORT_SIZE > end:
            raise WireError("endpoint", f"{end - offset} bytes are left of {IP_PORT_SIZE}")
        endpoint = unpack_ip_port(packed)
        if endpoint is None:
            raise WireError("endpoint", f"family {packed[0]} is neither 2 nor 10")
        if pack_ip_port(endpoint) != packed:
            raise WireError("endpoint", "padding behind the 4 address bytes is not 0")
        return endpoint, offset + IP_PORT_SIZE

    def write(self, value: Endpoint) -> bytes:
        """Returns 19 bytes."""
        return pack_ip_port(value)


NodeList: TypeAlias = Annotated[tuple[NodeInfo, ...], Nodes()]
"""UDP nodes up to the end."""
CountedNodeList: TypeAlias = Annotated[tuple[NodeInfo, ...], Nodes(counted=True)]
"""UDP nodes, counted by an earlier field."""
CompactEndpoint: TypeAlias = Annotated[Endpoint, Compact()]
PaddedEndpoint: TypeAlias = Annotated[Endpoint, Padded()]
MaybeEndpoint: TypeAlias = Annotated[Endpoint | None, Maybe(Compact())]
