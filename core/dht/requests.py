"""DHT requests (0x20): passed on to a node we know, or opened; and the NAT pings inside them."""

from collections.abc import Callable

from core.crypto import SharedKeys, open_sealed, seal
from core.dht.lists import CloseList
from core.dht.punching import MIN_REPORTS, MIN_ROUTERS, reported_addresses, routers
from core.dht.searches import STEP_S, SearchEntry
from core.endpoint import Endpoint
from core.module import Context

KIND_DHT_REQUEST = 0x20
MIN_SIZE = 106  # kind 1, addressee 32, sender 32, nonce 24, MAC 16, inner kind 1
MAX_SIZE = 1024  # to its addressee.  c-toxcore DHT.h: MAX_CRYPTO_REQUEST_SIZE
MAX_FORWARDED_SIZE = MAX_SIZE + 16  # c-toxcore DHT.c: cryptopacket_handle
INNER_FRIEND_REQUEST = 0x20  # c-toxcore DHT.h: CRYPTO_PACKET_FRIEND_REQ
INNER_DHT_KEY = 0x9C  # c-toxcore DHT.h: CRYPTO_PACKET_DHTPK
INNER_NAT_PING = 0xFE  # c-toxcore DHT.h: CRYPTO_PACKET_NAT_PING
NAT_PING_SIZE = 10  # inner kind 1, request or response 1, id 8
NAT_PING_REQUEST = 0
NAT_PING_RESPONSE = 1
PUNCH_REST_S = 10.0  # while all searched nodes answer us: c-toxcore looks every second, in vain


Served = Callable[[bytes, bytes, Endpoint, float], None]
"""Takes what came inside a DHT request for an identity: the sender's DHT key, the text (kind byte
first: 20 or 9c), who passed it on, and the time."""


class DhtRequests:
    """Handles DHT requests and punches holes for the searched keys."""

    def __init__(
        self,
        context: Context,
        keys: SharedKeys,
        close: CloseList,
        searches: dict[bytes, SearchEntry],
        send_ping: Callable[[Endpoint, bytes, float], None],
        served: Served | None = None,
    ) -> None:
        self._out = context.out
        self._entropy = context.entropy
        self._own_key = bytes(context.keys.public)
        self._keys = keys
        self._close = close
        self._searches = searches
        self._send_ping = send_ping
        self._served = served

    def handle(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes one 0x20 packet."""
        size = len(packet)
        if not MIN_SIZE <= size <= MAX_FORWARDED_SIZE:
            self._out.drops["dht_request_size"] += 1
        elif packet[1:33] != self._own_key:
            self._forward(packet, now)
        elif size > MAX_SIZE:
            self._out.drops["dht_request_size"] += 1
        else:
            self._open(packet, source, now)

    def _forward(self, packet: bytes, now: float) -> None:
        """Passes the packet unchanged to its addressee, if that is a node of the close list.

        A good address is preferred, IPv6 first; a bad one still gets it, as in the reference.
        """
        client = self._close.by_key.get(packet[1:33])
        if client is None:
            self._out.drops["dht_request_no_route"] += 1
            return
        endpoint = client.best(now)
        if endpoint is None:
            endpoint = next(client.associations()).endpoint
        self._out.send(endpoint, packet)

    def _open(self, packet: bytes, source: Endpoint, now: float) -> None:
        sender = packet[33:65]
        shared = None if sender == self._own_key else self._keys.sender(sender)
        plain = None if shared is None else open_sealed(shared, packet[65:89], packet[89:])
        if plain is None:
            self._out.drops["dht_box"] += 1
        elif plain[0] == INNER_NAT_PING:
            self._handle_nat_ping(sender, plain, now)
        elif plain[0] in (INNER_FRIEND_REQUEST, INNER_DHT_KEY):
            if self._served is None:
                self._out.drops["dht_request_not_served"] += 1  # the node is no identity
            else:
                self._served(sender, plain, source, now)
        else:
            self._out.drops["dht_request_unknown"] += 1

    def _handle_nat_ping(self, sender: bytes, plain: bytes, now: float) -> None:
        search = self._searches.get(sender)
        if len(plain) != NAT_PING_SIZE:
            self._out.drops["dht_nat_ping_size"] += 1
        elif search is None:
            self._out.drops["dht_nat_ping_stranger"] += 1
        elif plain[1] == NAT_PING_REQUEST:
            search.punching.heard_at = now
            ways = [endpoint for way in routers(search.clients, now) for endpoint in way]
            if ways:  # the answer goes by one random node
                way = ways[self._entropy.below(len(ways))]
                self._send_nat_ping(search, NAT_PING_RESPONSE, plain[2:], [way])
        elif plain[1] == NAT_PING_RESPONSE and plain[2:] == search.punching.nat_ping_id:
            search.punching.nat_ping_id = self._entropy.bytes(8)
            search.punching.answered = True
        else:
            self._out.drops["dht_nat_ping_id"] += 1

    def _send_nat_ping(
        self, search: SearchEntry, kind: int, ping_id: bytes, ways: list[Endpoint]
    ) -> None:
        self._send(search.key, bytes((INNER_NAT_PING, kind)) + ping_id, ways)

    def _send(self, key: bytes, plain: bytes, ways: list[Endpoint]) -> None:
        shared = self._keys.get(key)
        if shared is None:
            return
        nonce = self._entropy.bytes(24)
        sealed = seal(shared, nonce, plain)
        packet = bytes((KIND_DHT_REQUEST,)) + key + self._own_key + nonce + sealed
        for way in ways:
            self._out.send(way, packet)

    def send(self, key: bytes, plain: bytes, now: float) -> int:
        """Sends a text (kind byte first, at most 919 bytes) to a searched node.

        It goes by all nodes that know the searched one (c-toxcore DHT.c: route_to_friend), and to
        itself where it answers. Returns by how many ways.
        """
        search = self._searches.get(key)
        if search is None:
            return 0
        ways = [way[0] for way in routers(search.clients, now)]
        client = search.find(key)
        direct = None if client is None else client.best(now)
        if direct is not None:
            ways.append(direct)
        if ways:
            self._send(key, plain, ways)
        return len(ways)

    def punch(self, now: float) -> float:
        """Sends the NAT pings and hole punching pings that are due; returns in how many seconds it
        is to be called again."""
        rest = PUNCH_REST_S
        for search in self._searches.values():
            client = search.find(search.key)
            if search.punching.nat_ping_id and (client is None or client.is_bad(now)):
                rest = STEP_S  # it is somebody's, not one of our own for a random key
            reported = reported_addresses(search.clients, search.key, now)
            if len(reported) < MIN_REPORTS:  # connected, unknown, or too few voices
                continue
            punching = search.punching
            if punching.may_ping(now):
                punching.pinged_at = now
                ways = [way[0] for way in routers(search.clients, now)]
                if len(ways) >= MIN_ROUTERS:
                    self._send_nat_ping(search, NAT_PING_REQUEST, punching.nat_ping_id, ways)
            if punching.may_punch(now):
                for endpoint in punching.round(reported, now):
                    self._send_ping(endpoint, search.key, now)
        return rest
