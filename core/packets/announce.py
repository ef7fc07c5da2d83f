"""Announce store packets: announcing, searching, and data by way of an announced key.

Requests reach the storing node with the third hop's return behind them; `payload` gives them as the
client wrapped them into the onion.
"""

from typing import Annotated

from core.crypto import Nonce, PublicKey
from core.packets.nodes import CountedNodeList, MaybeEndpoint, NodeInfo, NodeList, Nodes
from core.packets.onion import MAX_ONION_SIZE, RETURN3_SIZE
from core.wire import (
    U8,
    Body,
    Bytes8,
    Bytes32,
    Fixed,
    Number,
    Packet,
    Record,
    Rest,
    Sealed,
    Several,
    constant,
    count_of,
    packet,
)

MAX_FRIEND_MESSAGE_SIZE = 921  # c-toxcore friend_requests.h: MAX_FRIEND_REQUEST_DATA_SIZE
MAX_ANNOUNCE_RELAYS = 1  # c-toxcore group_announce.h: GCA_MAX_ANNOUNCED_TCP_RELAYS
MAX_SENT_ANNOUNCES = 4  # c-toxcore group_announce.h: GCA_MAX_SENT_ANNOUNCES
NO_RETURN = bytes(RETURN3_SIZE)
"""Stands in for the return where a client makes the request and only its payload is wanted."""

NOT_STORED = 0  # the key is a ping id; said also to the owner who comes with another data key
STORED_BY_OTHER = 1  # the key is the data key of the searched peer
STORED_BY_SENDER = 2  # the key is a ping id for the refresh


class _AtStore(Packet, abstract=True):
    """What all requests to an announce store share."""

    def payload(self) -> bytes:
        """Returns the packet as a client puts it into the onion: without the return."""
        return self.encode()[:-RETURN3_SIZE]


class AnnounceRequestBody(Body):
    """The same for an announcement and for a search."""

    ping_id: Bytes32
    """Zeros at first, then what the node's answer said."""
    searched: PublicKey
    data_key: PublicKey
    """For others to seal data to us with; zeros when only searching."""
    sendback: Bytes8


@packet(kind=0x83, role="onion", slot_byte=33)
class AnnounceRequest(_AtStore):
    """Announces a key, or searches one.  Spec: Announce Request (0x83)."""

    nonce: Nonce
    requester: PublicKey
    """The real key for one's own announcement, a temporary one for a search."""
    sealed: Sealed[AnnounceRequestBody]
    onion_return: Annotated[bytes, Fixed(RETURN3_SIZE)]


class AnnounceResponseBody(Body):
    """What the store knows, and nodes closer to the searched key, without a count."""

    is_stored: Annotated[int, Number(1, high=STORED_BY_SENDER)]
    key: Bytes32
    """A data key if `is_stored` is 1, else a ping id."""
    nodes: NodeList


@packet(kind=0x84)
class AnnounceResponse(Packet):
    """The store's answer.  Spec: Announce Response (0x84)."""

    sendback: Bytes8
    nonce: Nonce
    sealed: Sealed[AnnounceResponseBody]


class GroupAnnounce(Record):
    """Where one peer of a group can be reached: an address, a relay, or both."""

    key: PublicKey
    has_endpoint: U8 = count_of("endpoint")
    relay_count: U8 = count_of("relays")
    endpoint: MaybeEndpoint
    relays: Annotated[
        tuple[NodeInfo, ...], Nodes(most=MAX_ANNOUNCE_RELAYS, tcp=True, counted=True)
    ]


class GroupAnnounceRequestBody(Body):
    """An announce request's body with the peer's own announcement behind it."""

    ping_id: Bytes32
    searched: PublicKey
    data_key: PublicKey
    sendback: Bytes8
    chat_id: PublicKey
    announce: GroupAnnounce


@packet(kind=0x87, role="onion", slot_byte=33)
class GroupAnnounceRequest(_AtStore):
    """Announces a peer of a group and asks for others.  In c-toxcore since 0.2.19, not in the
    spec."""

    nonce: Nonce
    requester: PublicKey
    sealed: Sealed[GroupAnnounceRequestBody]
    onion_return: Annotated[bytes, Fixed(RETURN3_SIZE)]


class GroupAnnounceResponseBody(Body):
    """As the answer to 0x83, but with a count of nodes, and peers of the group behind them."""

    is_stored: Annotated[int, Number(1, high=STORED_BY_SENDER)]
    key: Bytes32
    node_count: U8 = count_of("nodes")
    nodes: CountedNodeList
    announces: Annotated[tuple[GroupAnnounce, ...], Several(GroupAnnounce, MAX_SENT_ANNOUNCES)]


@packet(kind=0x88)
class GroupAnnounceResponse(Packet):
    """The store's answer with group announces.  In c-toxcore since 0.2.19, not in the spec."""

    sendback: Bytes8
    nonce: Nonce
    sealed: Sealed[GroupAnnounceResponseBody]


class FriendRequest(Body):
    """Asks to become a friend (20); the innermost text of a data to route request."""

    type: U8 = constant(0x20)
    nospam: Annotated[bytes, Fixed(4)]
    message: Annotated[bytes, Rest(1, MAX_FRIEND_MESSAGE_SIZE)]


class DataToRouteBody(Body):
    """Who writes, and a second box from real key to real key under the same nonce: inside it a
    DhtKeyPacket or a FriendRequest."""

    real_key: PublicKey
    sealed: Annotated[bytes, Rest(17, MAX_ONION_SIZE - 1 - 32 - 24 - 32 - 16 - RETURN3_SIZE - 32)]


@packet(kind=0x85, role="onion", slot_byte=9)
class DataToRouteRequest(_AtStore, max_size=MAX_ONION_SIZE):
    """Data for whoever announced a key here.  Spec: Data to Route Request (0x85)."""

    destination: PublicKey
    nonce: Nonce
    temporary_key: PublicKey
    sealed: Annotated[bytes, Rest(17, MAX_ONION_SIZE - 1 - 32 - 24 - 32 - RETURN3_SIZE)]
    """A box of DataToRouteBody from the temporary to the data key; the store cannot look into it,
    and c-toxcore passes on anything of at least one byte."""
    onion_return: Annotated[bytes, Fixed(RETURN3_SIZE)]


@packet(kind=0x86)
class DataToRouteResponse(Packet):
    """The same data on its way to the one who announced.  Spec: Data to Route Response (0x86)."""

    nonce: Nonce
    temporary_key: PublicKey
    sealed: Annotated[bytes, Rest(17, MAX_ONION_SIZE - 1 - 32 - 24 - 32 - RETURN3_SIZE)]
