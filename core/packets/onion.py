"""Onion packets: three hops out, three hops back.

One nonce serves all layers of a request. Each hop adds or takes off its part of the return, 59
bytes that it alone can open.
"""

from typing import Annotated

from core.crypto import Nonce, PublicKey
from core.packets.nodes import PaddedEndpoint
from core.wire import Body, Fixed, Packet, Rest, Sealed, packet

MAX_ONION_SIZE = 1400  # c-toxcore onion.h: ONION_MAX_PACKET_SIZE
RETURN1_SIZE = 59  # c-toxcore onion.h: ONION_RETURN_1
RETURN2_SIZE = 118  # c-toxcore onion.h: ONION_RETURN_2
RETURN3_SIZE = 177  # c-toxcore onion.h: ONION_RETURN_3
MAX_PAYLOAD_SIZE = 1174  # c-toxcore onion.h: ONION_MAX_DATA_SIZE, what a client may send


class OnionRequest2Body(Body):
    """What the third hop opens: the destination, and what it is sent."""

    destination: PaddedEndpoint
    payload: Annotated[bytes, Rest(1, MAX_ONION_SIZE - 1 - 24 - 32 - 16 - 19 - RETURN2_SIZE)]
    """c-toxcore's hops pass on what fits into the packet, a little more than its clients send."""


@packet(kind=0x82, role="onion", slot_byte=33)
class OnionRequest2(Packet, max_size=MAX_ONION_SIZE):
    """From the second hop to the third.  Spec: Onion Request packet 2 (0x82)."""

    nonce: Nonce
    sender: PublicKey
    """The second key of the path."""
    sealed: Sealed[OnionRequest2Body]
    onion_return: Annotated[bytes, Fixed(RETURN2_SIZE)]


class OnionRequest1Body(Body):
    """What the second hop opens: the third hop, and the packet for it without its return."""

    next_hop: PaddedEndpoint
    sender: PublicKey
    sealed: Sealed[OnionRequest2Body]


@packet(kind=0x81, role="onion", slot_byte=33)
class OnionRequest1(Packet, max_size=MAX_ONION_SIZE):
    """From the first hop to the second.  Spec: Onion Request packet 1 (0x81)."""

    nonce: Nonce
    sender: PublicKey
    """The first key of the path."""
    sealed: Sealed[OnionRequest1Body]
    onion_return: Annotated[bytes, Fixed(RETURN1_SIZE)]


class OnionRequest0Body(Body):
    """What the first hop opens: the second hop, and the packet for it without its return."""

    next_hop: PaddedEndpoint
    sender: PublicKey
    sealed: Sealed[OnionRequest1Body]


@packet(kind=0x80, role="onion", slot_byte=33)
class OnionRequest0(Packet, max_size=MAX_ONION_SIZE):
    """From the client to the first hop.  Spec: Onion Request packet 0 (0x80)."""

    nonce: Nonce
    sender: PublicKey
    sealed: Sealed[OnionRequest0Body]


@packet(kind=0x8C, role="onion", slot_byte=9)
class OnionResponse3(Packet):
    """From the destination to the third hop.  Spec: Onion Response packet 3 (0x8c)."""

    onion_return: Annotated[bytes, Fixed(RETURN3_SIZE)]
    payload: Annotated[bytes, Rest(1, MAX_ONION_SIZE - 1 - RETURN3_SIZE)]


@packet(kind=0x8D, role="onion", slot_byte=9)
class OnionResponse2(Packet):
    """From the third hop to the second.  Spec: Onion Response packet 2 (0x8d)."""

    onion_return: Annotated[bytes, Fixed(RETURN2_SIZE)]
    payload: Annotated[bytes, Rest(1, MAX_ONION_SIZE - 1 - RETURN2_SIZE)]


@packet(kind=0x8E, role="onion", slot_byte=9)
class OnionResponse1(Packet):
    """From the second hop to the first.  Spec: Onion Response packet 1 (0x8e)."""

    onion_return: Annotated[bytes, Fixed(RETURN1_SIZE)]
    payload: Annotated[bytes, Rest(1, MAX_ONION_SIZE - 1 - RETURN1_SIZE)]
