"""DHT packets: pings, nodes, requests routed through others, LAN discovery."""

from typing import Annotated

from core.crypto import Nonce, PublicKey
from core.packets.nodes import MAX_NODES, CountedNodeList, NodeInfo, Nodes
from core.wire import (
    U8,
    U64,
    Body,
    Bytes8,
    Number,
    Packet,
    Rest,
    Sealed,
    constant,
    count_of,
    packet,
)

MAX_DHT_REQUEST_SIZE = 1040  # c-toxcore DHT.c: cryptopacket_handle, what is still forwarded
NAT_PING_REQUEST = 0  # c-toxcore DHT.h: NAT_PING_REQUEST
NAT_PING_RESPONSE = 1  # c-toxcore DHT.h: NAT_PING_RESPONSE


class PingRequestBody(Body):
    """Repeats the kind: both directions have the same shared key, so an echo must not pass."""

    type: U8 = constant(0x00)
    ping_id: Bytes8


class PingResponseBody(Body):
    """Hands the ping id back."""

    type: U8 = constant(0x01)
    ping_id: Bytes8


@packet(kind=0x00, role="dht", slot_byte=9)
class PingRequest(Packet):
    """Asks a node whether it is there.  Spec: Ping Service, Ping Request (0x00)."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[PingRequestBody]


@packet(kind=0x01, role="dht")
class PingResponse(Packet):
    """Says so.  Spec: Ping Service, Ping Response (0x01)."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[PingResponseBody]


class NodesRequestBody(Body):
    """The key whose neighbours are wanted."""

    searched: PublicKey
    request_id: Bytes8


@packet(kind=0x02, role="dht", slot_byte=9)
class NodesRequest(Packet):
    """Asks for the four nodes closest to a key.  Spec: Nodes Request (0x02)."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[NodesRequestBody]


class NodesResponseBody(Body):
    """At most four UDP nodes. c-toxcore answers with none where the spec says to be silent."""

    count: U8 = count_of("nodes")
    nodes: CountedNodeList
    request_id: Bytes8


@packet(kind=0x04, role="dht")
class NodesResponse(Packet):
    """The nodes closest to the key.  Spec: Nodes Response (0x04)."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[NodesResponseBody]


class NatPingBody(Body):
    """Asks through a third node whether the other still wants to be reached (fe)."""

    type: U8 = constant(0xFE)
    answer: Annotated[int, Number(1, high=NAT_PING_RESPONSE)]
    ping_id: Bytes8


class DhtKeyPacket(Body):
    """Tells a friend our DHT key and nodes by which we can be reached (9c), by onion or inside
    DhtKeyRequestBody.  Spec: DHT public key packet."""

    type: U8 = constant(0x9C)
    no_replay: U64
    dht_key: PublicKey
    nodes: Annotated[tuple[NodeInfo, ...], Nodes(MAX_NODES, tcp=True)]


class DhtKeyRequestBody(Body):
    """The DHT key packet as it travels in a DHT request: sealed once more, from real key to real
    key, because the DHT request names DHT keys alone."""

    type: U8 = constant(0x9C)
    real_key: PublicKey
    nonce: Nonce
    sealed: Sealed[DhtKeyPacket]


@packet(kind=0x20, role="dht")
class DhtRequest(Packet):
    """A message that a third node passes on; the first byte in the box tells which (20 friend
    request, 9c DHT key, fe NAT ping).  Spec: DHT Request Packets (0x20)."""

    addressee: PublicKey
    sender: PublicKey
    nonce: Nonce
    sealed: Annotated[bytes, Rest(17, MAX_DHT_REQUEST_SIZE - 89)]


@packet(kind=0x21, role="dht")
class LanDiscovery(Packet):
    """A node of the local network says that it is there.  Spec: LAN discovery (0x21)."""

    sender: PublicKey
