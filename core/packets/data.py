"""Data announcements: small data stored near a key.  In c-toxcore since 0.2.18, not in the spec.

All six packets are DHT frames whose body ends with the 8-byte ping id.
"""

from typing import Annotated

from core.crypto import Nonce, PublicKey
from core.packets.nodes import CountedNodeList
from core.wire import (
    U8,
    U32,
    U64,
    Body,
    Bytes8,
    Bytes32,
    Fixed,
    Maybe,
    Number,
    Packet,
    Rest,
    Sealed,
    constant,
    count_of,
    packet,
)

MAX_DATA_SIZE = 512  # c-toxcore announce.h: MAX_ANNOUNCEMENT_SIZE
STORE_DATA = 0  # c-toxcore announce.c: announcement type
STORE_KEEP_ALIVE = 1  # the content is the SHA-256 of the stored data; another hash deletes it


class DataSearchRequestBody(Body):
    """The key to search, and perhaps the SHA-256 of the previous answer."""

    data_key: PublicKey
    previous_hash: Annotated[bytes, Rest(0, 32, sizes=(0, 32))]
    ping_id: Bytes8


@packet(kind=0x93, role="onion", slot_byte=9)
class DataSearchRequest(Packet):
    """Asks whether data is stored here; also a probe whether a node stores any."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[DataSearchRequestBody]


class DataUnchangedBody(Body):
    """The short answer: all is as in the reply whose hash was sent."""

    data_key: PublicKey
    ping_id: Bytes8


class DataSearchResponseBody(Body):
    """What is stored, a token for retrieving and storing, and nodes closer to the key."""

    data_key: PublicKey
    exists: U8 = count_of("data_hash")
    data_hash: Annotated[bytes | None, Maybe(Fixed(32))]
    token: Bytes32
    accepts: Annotated[int, Number(1, high=1)]
    """1: data for this key would be stored."""
    node_count: U8 = count_of("nodes")
    nodes: CountedNodeList
    ping_id: Bytes8


@packet(kind=0x94, role="dht")
class DataSearchResponse(Packet):
    """The answer to a search: a box of DataSearchResponseBody or DataUnchangedBody."""

    sender: PublicKey
    nonce: Nonce
    sealed: Annotated[
        bytes, Rest(DataUnchangedBody.MIN_SIZE + 16, DataSearchResponseBody.MAX_SIZE + 16)
    ]


class DataRetrieveRequestBody(Body):
    """The token proves that the sender's address is its own."""

    data_key: PublicKey
    zero: U8 = constant(0)
    token: Bytes32
    ping_id: Bytes8


@packet(kind=0x95, role="onion", slot_byte=9)
class DataRetrieveRequest(Packet):
    """Asks for the stored data."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[DataRetrieveRequestBody]


class DataRetrieveResponseBody(Body):
    """The stored data."""

    data_key: PublicKey
    one: U8 = constant(1)
    data: Annotated[bytes, Rest(0, MAX_DATA_SIZE)]
    ping_id: Bytes8


@packet(kind=0x96)
class DataRetrieveResponse(Packet):
    """Hands the stored data out."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[DataRetrieveResponseBody]


class DataStoreContentBody(Body):
    """What the owner of the data key seals: so only the owner can store."""

    token: Bytes32
    timeout: U32
    """Seconds the data should be kept."""
    type: Annotated[int, Number(1, high=STORE_KEEP_ALIVE)]
    content: Annotated[bytes, Rest(0, MAX_DATA_SIZE)]


class DataStoreRequestBody(Body):
    """The data key, and a box from it to the node."""

    data_key: PublicKey
    nonce: Nonce
    sealed: Sealed[DataStoreContentBody]
    ping_id: Bytes8


@packet(kind=0x97, role="onion", slot_byte=9)
class DataStoreRequest(Packet):
    """Stores data under a key, or keeps what is stored alive."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[DataStoreRequestBody]


class DataStoreResponseBody(Body):
    """For how long it is kept."""

    data_key: PublicKey
    timeout: U32
    """Seconds that were granted."""
    time: U64
    """The node's own clock in seconds."""
    ping_id: Bytes8


@packet(kind=0x98)
class DataStoreResponse(Packet):
    """Confirms that the data is stored."""

    sender: PublicKey
    nonce: Nonce
    sealed: Sealed[DataStoreResponseBody]
