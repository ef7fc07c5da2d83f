"""TCP relay: the two hellos of the handshake, and the packets inside its frames."""

from typing import Annotated, ClassVar

from core.crypto import MAC_SIZE, Nonce, PublicKey
from core.packets.forwarding import MAX_FORWARD_SIZE
from core.packets.nodes import CompactEndpoint, PaddedEndpoint
from core.wire import U8, U64, Body, Number, Record, Rest, Sealed

MAX_FRAME_SIZE = 2048  # c-toxcore TCP_common.h: MAX_PACKET_SIZE, the box in a frame
MAX_PLAIN_SIZE = MAX_FRAME_SIZE - MAC_SIZE
MAX_OOB_SIZE = 1024  # c-toxcore TCP_common.h: TCP_MAX_OOB_DATA_LENGTH
FIRST_LINK = 16  # c-toxcore TCP_common.h: NUM_RESERVED_PORTS
# c-toxcore onion.c: onion_send_1, so that the packet to the next hop is not above 1400 bytes
MAX_RELAY_ONION_SIZE = 1 + 24 + 1400 + 19 - (1 + 24 + 59)

RELAY_PACKETS: "dict[int, type[RelayPacket]]" = {}
"""The packets of frames by their first byte; RelayData, whose first byte is a link, is not here."""


class HelloBody(Body):
    """The keys of a relay connection."""

    temporary_key: PublicKey
    base_nonce: Nonce
    """With which the sender of this packet begins; c-toxcore, not the spec, says whose."""


class ClientHello(Record):
    """The first 128 bytes from a client.  Spec: TCP server, handshake."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[HelloBody]


class RelayHello(Record):
    """The relay's 96 bytes.  Spec: TCP server, handshake."""

    nonce: Nonce
    sealed: Sealed[HelloBody]


class RelayPacket(Record, abstract=True):
    """What a frame carries."""

    kind: ClassVar[int]

    def __init_subclass__(cls, kind: int = -1, **options: object) -> None:
        super().__init_subclass__(kind=kind, **options)  # type: ignore[arg-type]  # as they came
        RELAY_PACKETS[kind] = cls


class RouteRequest(RelayPacket, kind=0x00):
    """From a client: wants a link to the peer with this key."""

    peer: PublicKey


class RouteResponse(RelayPacket, kind=0x01):
    """From the relay: the link, or 0 when it is refused."""

    link: Annotated[int, Number(1, low=FIRST_LINK, others=(0,))]
    peer: PublicKey


class ConnectNotice(RelayPacket, kind=0x02):
    """From the relay: the other side of the link is there. A relay ignores one from a client."""

    link: U8


class DisconnectNotice(RelayPacket, kind=0x03):
    """From the relay: the other side is gone. From a client: the link is not wanted any more."""

    link: Annotated[int, Number(1, low=FIRST_LINK)]


class RelayPing(RelayPacket, kind=0x04):
    """Asks whether the connection lives."""

    ping_id: U64


class RelayPong(RelayPacket, kind=0x05):
    """Answers a ping. An id of 0 breaks the protocol: c-toxcore closes the connection."""

    ping_id: Annotated[int, Number(8, low=1)]


class OobSend(RelayPacket, kind=0x06):
    """From a client: data for a peer without a link."""

    peer: PublicKey
    data: Annotated[bytes, Rest(1, MAX_OOB_SIZE)]


class OobReceive(RelayPacket, kind=0x07):
    """From the relay: data of a peer without a link."""

    peer: PublicKey
    data: Annotated[bytes, Rest(1, MAX_OOB_SIZE)]


class RelayOnionRequest(RelayPacket, kind=0x08):
    """From a client: the relay is the first hop, so the outer layer is left out."""

    nonce: Nonce
    next_hop: PaddedEndpoint
    sender: PublicKey
    sealed: Annotated[bytes, Rest(84, MAX_RELAY_ONION_SIZE - 1 - 24 - 19 - 32)]


class RelayOnionResponse(RelayPacket, kind=0x09):
    """From the relay: what came back through the onion."""

    data: Annotated[bytes, Rest(1, MAX_PLAIN_SIZE - 1)]


class RelayForwardRequest(RelayPacket, kind=0x0A):
    """From a client: the relay is to send this as a forwarding to an address."""

    destination: CompactEndpoint
    data: Annotated[bytes, Rest(0, MAX_FORWARD_SIZE)]


class RelayForwarding(RelayPacket, kind=0x0B):
    """From the relay: the answer to a forward request."""

    data: Annotated[bytes, Rest(0, MAX_PLAIN_SIZE - 1)]


class RelayData(Record):
    """Data on a link: the first byte is the link itself."""

    link: Annotated[int, Number(1, low=FIRST_LINK)]
    data: Annotated[bytes, Rest(0, MAX_PLAIN_SIZE - 1)]
