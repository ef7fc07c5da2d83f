"""Packets between peers of a group: sizes and clear fields; the boxes are not looked into yet."""

from typing import Annotated

from core.crypto import Nonce, PublicKey
from core.wire import Packet, Rest, packet

MAX_UDP_SIZE = 2048  # c-toxcore network.h: MAX_UDP_PACKET_SIZE
_HEAD = 1 + 32 + 24
_HANDSHAKE = 16 + 1 + 32 + 32 + 1 + 1  # c-toxcore group_chats.c: GC_MIN_HS_PACKET_PAYLOAD_SIZE


@packet(kind=0x5A, role="messenger")
class GroupHandshake(Packet):
    """Agrees on session keys of two peers; ends with at most one packed relay."""

    sender: PublicKey
    receiver: PublicKey
    nonce: Nonce
    sealed: Annotated[bytes, Rest(_HANDSHAKE, _HANDSHAKE + 51)]


@packet(kind=0x5B, role="messenger")
class GroupLossless(Packet):
    """A numbered packet of a group; the box holds at least a type and a message number."""

    sender: PublicKey
    nonce: Nonce
    sealed: Annotated[bytes, Rest(16 + 1 + 8, MAX_UDP_SIZE - _HEAD)]


@packet(kind=0x5C, role="messenger")
class GroupLossy(Packet):
    """A packet of a group without number; the box holds at least a type."""

    sender: PublicKey
    nonce: Nonce
    sealed: Annotated[bytes, Rest(16 + 1, MAX_UDP_SIZE - _HEAD)]
