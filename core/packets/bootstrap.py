"""The bootstrap info packets: version and message of the day of a bootstrap node."""

from typing import Annotated

from core.wire import U32, Fixed, Packet, Rest, packet

MAX_MOTD_SIZE = 256  # c-toxcore bootstrap_node_packets.h: MAX_MOTD_LENGTH


@packet(kind=0xF0, role="broker")
class BootstrapInfoRequest(Packet):
    """Asks for version and message; the padding keeps the answer from being much larger."""

    padding: Annotated[bytes, Fixed(77)]


@packet(kind=0xF0, role="broker")
class BootstrapInfo(Packet):
    """The answer; tox-bootstrapd ends its message with a zero.  Spec: Bootstrap Info Packet."""

    version: U32
    motd: Annotated[bytes, Rest(0, MAX_MOTD_SIZE)]
