"""What dht.0 asks of other nodes, and the opening of the answers: nothing unasked is opened."""

from typing import NamedTuple

from core.crypto import SharedKeys, open_sealed, seal
from core.dht.answers import (
    KIND_NODES_REQUEST,
    KIND_PING_REQUEST,
    KIND_PING_RESPONSE,
    PING_SIZE,
)
from core.dht.pending import ID_SIZE, PendingRequests
from core.dht.snapshot import MAX_SENT_NODES
from core.endpoint import Endpoint, is_ipv4, unpack_compact
from core.module import Context
from core.wire import WireError

KIND_DATA_SEARCH_REQUEST = 0x93
KIND_DATA_SEARCH_RESPONSE = 0x94
MIN_NODES_RESPONSE = 82  # kind 1, sender 32, nonce 24, MAC 16, count 1, request id 8
MAX_NODES_RESPONSE = MIN_NODES_RESPONSE + MAX_SENT_NODES * 51
MIN_SEARCH_RESPONSE = 113  # kind 1, sender 32, nonce 24, MAC 16, data key 32, ..., sendback 8
# And found 1, hash 32, token 32, accepts 1, count 1, nodes.  c-toxcore announce.c
MAX_SEARCH_RESPONSE = MIN_SEARCH_RESPONSE + 67 + MAX_SENT_NODES * 51


class NodesAnswer(NamedTuple):
    """A good answer to a nodes request of ours."""

    request_id: bytes
    rtt: float  # seconds from question to answer, with what both waited in this process
    nodes: list[tuple[bytes, Endpoint]]


class Asker:
    """Sends pings, nodes requests and announce probes, and remembers them for 5 s."""

    def __init__(self, context: Context, keys: SharedKeys) -> None:
        self._out = context.out
        self._entropy = context.entropy
        self._options = context.options
        self._own_key = bytes(context.keys.public)
        self._keys = keys
        self.pings = PendingRequests(context.entropy)
        self.requests = PendingRequests(context.entropy)
        self.probes = PendingRequests(context.entropy)

    def lost(self) -> int:
        """Returns how many requests were forgotten before their time."""
        return self.pings.lost + self.requests.lost + self.probes.lost

    def _may_send(self, endpoint: Endpoint, key: bytes) -> bool:
        if key == self._own_key:
            self._out.drops["dht_own_key"] += 1
            return False
        if self._options.has_ipv4 if is_ipv4(endpoint) else self._options.has_ipv6:
            return True
        self._out.drops["dht_address_family"] += 1
        return False

    def _send(self, kind: int, endpoint: Endpoint, key: bytes, plain: bytes) -> None:
        shared = self._keys.get(key)
        if shared is None:
            self._out.drops["dht_weak_key"] += 1
            return
        nonce = self._entropy.bytes(24)
        packet = bytes((kind,)) + self._own_key + nonce + seal(shared, nonce, plain)
        self._out.send(endpoint, packet)

    def ask(self, endpoint: Endpoint, key: bytes, target: bytes, now: float) -> bytes | None:
        """Sends a nodes request for `target` to a node, and returns its id.

        Nothing (None) goes to ourselves, nor to a family that this node has no socket for.
        """
        if not self._may_send(endpoint, key):
            return None
        request_id = self.requests.add(key, endpoint, now)
        self._send(KIND_NODES_REQUEST, endpoint, key, target + request_id)
        return request_id

    def ping(self, endpoint: Endpoint, key: bytes, now: float) -> None:
        """Sends a ping to a node; nothing goes to ourselves."""
        if self._may_send(endpoint, key):
            ping_id = self.pings.add(key, endpoint, now)
            self._send(KIND_PING_REQUEST, endpoint, key, b"\x00" + ping_id)

    def probe(self, endpoint: Endpoint, key: bytes, now: float) -> None:
        """Asks a node for a random key's data, to learn whether it knows announcements."""
        request_id = self.probes.add(key, endpoint, now)
        self._send(
            KIND_DATA_SEARCH_REQUEST, endpoint, key, self._entropy.bytes(32) + request_id
        )

    def _open(
        self, packet: bytes, source: Endpoint, now: float, asked: PendingRequests
    ) -> bytes | None:
        """Returns the text of an answer from a key and address that were asked."""
        sender = packet[1:33]
        if not asked.expects(sender, source, now):
            self._out.drops["dht_unasked"] += 1
            return None
        shared = self._keys.sender(sender)
        plain = None if shared is None else open_sealed(shared, packet[33:57], packet[57:])
        if plain is None:
            self._out.drops["dht_box"] += 1
        return plain

    def _take(
        self, request_id: bytes, packet: bytes, source: Endpoint, now: float, asked: PendingRequests
    ) -> float | None:
        """Uses up an id; returns how many seconds after its question the answer came."""
        since = asked.asked_at(request_id)
        if since is not None and asked.take(request_id, packet[1:33], source, now):
            return now - since
        self._out.drops["dht_request_id"] += 1
        return None

    def open_ping_response(self, packet: bytes, source: Endpoint, now: float) -> float | None:
        """Returns the round-trip time in seconds if this is the answer to a ping of ours."""
        if len(packet) != PING_SIZE:
            self._out.drops["dht_ping_size"] += 1
            return None
        plain = self._open(packet, source, now, self.pings)
        if plain is None:
            return None
        if plain[0] != KIND_PING_RESPONSE:
            self._out.drops["dht_ping_type"] += 1
            return None
        return self._take(plain[1:], packet, source, now, self.pings)

    def open_nodes_response(
        self, packet: bytes, source: Endpoint, now: float
    ) -> NodesAnswer | None:
        """Returns what is in an answer to a nodes request of ours, else None."""
        if not MIN_NODES_RESPONSE <= len(packet) <= MAX_NODES_RESPONSE:
            self._out.drops["dht_nodes_size"] += 1
            return None
        plain = self._open(packet, source, now, self.requests)
        if plain is None:
            return None
        if plain[0] > MAX_SENT_NODES:
            self._out.drops["dht_nodes_count"] += 1
            return None
        request_id = plain[-ID_SIZE:]
        rtt = self._take(request_id, packet, source, now, self.requests)
        if rtt is None:
            return None
        try:
            return NodesAnswer(request_id, rtt, read_nodes(plain[0], plain[1:-ID_SIZE]))
        except WireError:
            self._out.drops["dht_nodes_body"] += 1
            return None

    def open_search_response(self, packet: bytes, source: Endpoint, now: float) -> bool:
        """Tells whether this is the answer to a probe of ours."""
        if not MIN_SEARCH_RESPONSE <= len(packet) <= MAX_SEARCH_RESPONSE:
            self._out.drops["dht_search_size"] += 1
            return False
        plain = self._open(packet, source, now, self.probes)
        return (
            plain is not None
            and self._take(plain[-ID_SIZE:], packet, source, now, self.probes) is not None
        )


def read_nodes(count: int, data: bytes) -> list[tuple[bytes, Endpoint]]:
    """Reads exactly `count` packed nodes of UDP families. Raises WireError.

    As the declared NodesResponseBody, but an IPv4 address mapped into IPv6 becomes IPv4, as in the
    reference, which takes such nodes too.
    """
    nodes = []
    offset = 0
    for _ in range(count):
        endpoint, offset = unpack_compact(data, offset)
        key = data[offset : offset + 32]
        if len(key) != 32:
            raise WireError("NodesResponse", f"a node's key has {len(key)} bytes, not 32")
        nodes.append((key, endpoint))
        offset += 32
    if offset != len(data):
        raise WireError("NodesResponse", f"{count} nodes take {offset} bytes, not {len(data)}")
    return nodes
