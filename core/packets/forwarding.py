"""Forwarding: a packet sent by way of a DHT node.  In c-toxcore since 0.2.18, not in the spec."""

from typing import Annotated

from core.crypto import PublicKey
from core.wire import U8, Number, Packet, Rest, Run, count_of, packet

MAX_SENDBACK_SIZE = 254  # c-toxcore forwarding.h: MAX_SENDBACK_SIZE; 255 is reserved
MAX_FORWARD_SIZE = 1792  # c-toxcore forwarding.h: MAX_FORWARD_DATA_SIZE
MIN_SENDBACK_SIZE = 33  # c-toxcore forwarding.c: handle_forward_reply, a tag and its kind


@packet(kind=0x90, role="onion", slot_byte=9)
class ForwardRequest(Packet):
    """Asks a node to forward data to another, named by its DHT key; data may be a request again."""

    next_key: PublicKey
    data: Annotated[bytes, Rest(0, MAX_FORWARD_SIZE)]


@packet(kind=0x91, role="onion", slot_byte=9)
class Forwarding(Packet):
    """Forwarded data. With a sendback it is a request to answer, without one it is the answer."""

    sendback_size: Annotated[int, Number(1, high=MAX_SENDBACK_SIZE)] = count_of("sendback")
    sendback: Annotated[bytes, Run(0, MAX_SENDBACK_SIZE)]
    data: Annotated[bytes, Rest(0, MAX_FORWARD_SIZE)]


@packet(kind=0x92, role="onion", slot_byte=9)
class ForwardReply(Packet):
    """The answer on its way back to the node that forwarded."""

    sendback_size: U8 = count_of("sendback")
    sendback: Annotated[bytes, Run(MIN_SENDBACK_SIZE, MAX_SENDBACK_SIZE)]
    data: Annotated[bytes, Rest(0, MAX_FORWARD_SIZE)]
