"""Forwarding: 90 asks a node to pass data on, 91 carries it there, 92 brings the answer back.

A node that forwards remembers nothing: the way back is a sendback, tagged by the node itself, that
the next one returns with the answer. Targets of 90 are nodes of the DHT table alone, so a node is
no open forwarder (c-toxcore forwarding.c).
"""

from core import services
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint, pack_compact, unpack_compact
from core.messages import RelayDeliver
from core.module import Context
from core.onion.data_announce import REQUESTS, DataAnnounces
from core.onion.targets import targets_of
from core.onion.timed_auth import TAG_SIZE, TimedAuth
from core.wire import WireError

MAX_SENDBACK = 254  # c-toxcore forwarding.h: MAX_SENDBACK_SIZE; 255 is reserved
MAX_DATA = 1792  # c-toxcore forwarding.h: MAX_FORWARD_DATA_SIZE
MAX_CHAIN = 4  # c-toxcore forwarding.h: MAX_FORWARD_CHAIN_LENGTH
SENDBACK_WINDOW_S = 3600  # c-toxcore forwarding.c: SENDBACK_TIMEOUT
FORWARD_REQUEST = 0x90

_TO_ADDRESS = 0  # c-toxcore forwarding.h: SENDBACK_IPPORT
_TO_FORWARDER = 1  # SENDBACK_FORWARD
_TO_RELAY_CLIENT = 2  # SENDBACK_TCP
_FORWARDING = b"\x91"
_FORWARD_REPLY = b"\x92"
_RELAY_FORWARDING = b"\x0b"


def _chain_length(packet: bytes) -> int:
    """Counts the forward requests nested in one another at the start of a packet."""
    count = 0
    offset = 0
    while offset < len(packet) and packet[offset] == FORWARD_REQUEST:
        count += 1
        offset += 33
    return count


class Forwarding:
    """Forwards for other nodes and for TCP clients; stateless, so any shard may take the answer."""

    __slots__ = ("_data", "_nodes", "_out", "_tags", "_targets", "takes_data")

    def __init__(
        self, context: Context, nodes: NodeSnapshot, data: DataAnnounces | None = None
    ) -> None:
        """`data` answers requests that were forwarded to us; a relay worker has none."""
        self._out = context.out
        self._nodes = nodes
        self._data = data
        self._targets = targets_of(context)
        self._tags = TimedAuth(context.master, "forwarding sendback", SENDBACK_WINDOW_S)
        self.takes_data = True
        """Whether requests for data announcements that were forwarded to us are answered."""

    def _refuse(self, reason: str) -> None:
        self._out.drops[reason] += 1

    def handle_forward_request(self, packet: bytes, source: Endpoint, now: float) -> None:
        """90: passes what is behind the next key on to that node, with a sendback to the source."""
        self._forward(packet, bytes((_TO_ADDRESS,)) + pack_compact(source), now)

    def _forward(self, packet: bytes, way_back: bytes, now: float) -> None:
        if not 33 <= len(packet) <= 33 + MAX_DATA:
            return self._refuse("forward_size")
        if TAG_SIZE + len(way_back) > MAX_SENDBACK or _chain_length(packet) > MAX_CHAIN:
            return self._refuse("forward_chain")
        row = self._nodes.rows.get(packet[1:33])
        if row is None:
            return self._refuse("forward_unknown_node")
        # c-toxcore DHT.c: route_packet takes the IPv6 address first
        target = Endpoint(row.endpoint6 or row.endpoint4)
        return self._out.send(target, self._forwarding(way_back, packet[33:], now))

    def _forwarding(self, way_back: bytes, data: bytes, now: float) -> bytes:
        sendback = self._tags.make(way_back, now) + way_back
        return b"".join((_FORWARDING, bytes((len(sendback),)), sendback, data))

    def handle_forwarding(self, packet: bytes, source: Endpoint, now: float) -> None:
        """91: a request for us or for the next node of the chain, or an answer to our own."""
        if len(packet) < 2 or len(packet) < 2 + packet[1]:
            return self._refuse("forward_size")
        end = 2 + packet[1]
        sendback, data = packet[2:end], packet[end:]
        if not sendback or not data:
            return self._refuse("forward_not_asked")  # this node asks nobody to forward
        if data[0] == FORWARD_REQUEST:
            way_back = bytes((_TO_FORWARDER,)) + pack_compact(source) + sendback
            return self._forward(data, way_back, now)
        if len(sendback) > MAX_SENDBACK:
            return self._refuse("forward_size")
        if self._data is None or data[0] not in REQUESTS:
            return self._refuse("forward_kind")
        if not self.takes_data:
            return self._refuse(services.reason(services.DATA))
        return self._data.handle_forwarded(data, source, sendback, now)

    def handle_forward_reply(self, packet: bytes, source: Endpoint, now: float) -> None:
        """92: an answer with one of our sendbacks, passed on to where the request came from."""
        size = len(packet)
        if size < 2 + TAG_SIZE + 1 or not TAG_SIZE < packet[1] <= MAX_SENDBACK:
            return self._refuse("forward_size")
        end = 2 + packet[1]
        if not end <= size <= end + MAX_DATA:
            return self._refuse("forward_size")
        way_back, data = packet[2 + TAG_SIZE : end], packet[end:]
        if not self._tags.check(packet[2 : 2 + TAG_SIZE], way_back, now):
            return self._refuse("forward_sendback")
        if way_back[0] == _TO_RELAY_CLIENT:
            serial = int.from_bytes(way_back[1:9], "big")
            deliver = RelayDeliver(serial, _RELAY_FORWARDING + data)
            return self._out.tell_shard("broker", 0, deliver)
        try:
            target, used = unpack_compact(way_back, 1)
        except WireError:
            return self._refuse("forward_sendback")
        if way_back[0] == _TO_ADDRESS:
            return self._out.send(target, _FORWARDING + b"\x00" + data)
        inner = way_back[used:]
        return self._out.send(target, _FORWARD_REPLY + bytes((len(inner),)) + inner + data)

    def relay_forward_request(
        self, packet: bytes, serial: int, now: float, from_private: bool = False
    ) -> bool:
        """Relay packet 10 of the TCP client `serial`: sends its data to the address it names.

        `from_private` tells whether the client's own address is a private one (see Targets).
        Returns False for a malformed packet: the reference closes such a connection.
        """
        try:
            target, end = unpack_compact(packet, 1)
        except WireError:
            return False
        data = packet[end:]
        if len(data) > MAX_DATA:
            return False
        reason = self._targets.refusal(target, from_private)
        if reason is not None:
            self._refuse(reason)
            return True
        way_back = bytes((_TO_RELAY_CLIENT,)) + serial.to_bytes(8, "big")
        self._out.send(target, self._forwarding(way_back, data, now))
        return True
