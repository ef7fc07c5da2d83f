"""An onion client beside a DHT node on a real UDP socket: for tests with libtoxcore."""

import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from core.crypto import KeyPair, PublicKey, SharedKeys
from core.dht.light import LightDht
from core.dht.requests import INNER_DHT_KEY
from core.endpoint import Endpoint, from_text, ip_of, port_of
from core.entropy import SystemEntropy
from core.module import NodeOptions, ProtocolViolation
from core.onion import OnionModule
from core.onion_client import OnionClient
from core.packets.nodes import NodeInfo
from core.wire import WireError
from tests.onion_client.told import Told

HOST = "127.0.0.1"
DHT_KINDS = frozenset((0x00, 0x01, 0x02, 0x04, 0x20, 0x21, 0x94))
COOKIE_REQUEST = 0x18


class RealSearcher(Told):
    """An identity that announces itself and searches, and is a whole node to others.

    `in_dht` False: nobody knows it as a node of the DHT, so nobody expects it to be a hop.
    """

    def __init__(self, nodes: list[NodeInfo], in_dht: bool) -> None:
        super().__init__()
        entropy = SystemEntropy()
        self.real, self.dht = KeyPair.generate(entropy), KeyPair.generate(entropy)
        self.nodes = nodes
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HOST, 0))
        self.socket.setblocking(False)
        self.drops: Counter[str] = Counter()
        self.cookie_requests = 0
        """How often somebody who knows our DHT key and address wanted a session."""
        now = time.monotonic()
        offset = time.time() - now
        shared = SharedKeys(self.dht.secret)
        options = NodeOptions(lan_discovery=False)
        self.node = LightDht(self.dht, shared, entropy, self, self, self.drops, options, now)
        self.serving = OnionModule(self.node.context, 160, 64, 64, self.node.table)
        self.node.add_onion(self.serving)
        if in_dht:
            self.node.bootstrap([(node.endpoint, node.key) for node in nodes], now)
        self.client = OnionClient(self.real, self.dht, entropy, self, self, self.drops, now, offset)

    def pump(self, done: Callable[[], object], timeout_s: float) -> bool:
        """Serves the socket and the timers until `done`; False when the time is over."""
        end = time.monotonic() + timeout_s
        while not done():
            now = time.monotonic()
            if now >= end:
                return False
            parts = self.client, self.node, self.serving
            timers = [one.next_timer() for one in parts]
            timer = min(when for when in timers if when is not None)
            if timer <= now:
                for one in parts:
                    one.handle_timer(now)
                continue
            if select.select([self.socket], [], [], min(0.2, timer - now, end - now))[0]:
                packet, (host, port) = self.socket.recvfrom(2048)
                self._take(packet, from_text(host, port), time.monotonic())
        return True

    def _take(self, packet: bytes, source: Endpoint, now: float) -> None:
        if packet[0] in DHT_KINDS:
            with suppress(WireError, ProtocolViolation):
                self.node.handle_packet(packet, source, now)
        elif self.serving.handlers[packet[0]] is not None:
            with suppress(WireError, ProtocolViolation):
                self.serving.handle_packet(packet, source, now)
        elif packet[0] == COOKIE_REQUEST:
            self.cookie_requests += 1
        else:
            self.client.handle_packet(packet, source, now)

    @staticmethod
    def now() -> float:
        """Returns the time."""
        return time.monotonic()

    def close(self) -> None:
        """Lets go of the socket."""
        self.socket.close()

    # OnionWays

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        self.socket.sendto(packet, (socket.inet_ntoa(ip_of(endpoint)), port_of(endpoint)))

    def path_nodes(self) -> list[NodeInfo]:
        return self.nodes

    def onion_relays(self) -> list[NodeInfo]:
        return []

    def send_onion(self, relay_key: PublicKey, packet: bytes, now: float) -> bool:
        return False

    def uses_udp(self) -> bool:
        return True

    def send_dht_request(self, dht_key: PublicKey, plain: bytes, now: float) -> int:
        return self.node.send_request(dht_key, plain, now)

    def own_nodes(self, most: int) -> list[NodeInfo]:
        return self.nodes[:most]

    # DhtListener

    def address_found(self, dht_key: bytes, endpoint: Endpoint, now: float) -> None:
        """Nobody here connects to friends."""

    def dht_request(
        self, sender_dht_key: bytes, plain: bytes, source: Endpoint, now: float
    ) -> None:
        if plain[0] == INNER_DHT_KEY:
            self.client.dht_key_heard(PublicKey(sender_dht_key), plain, now)

    def dht_connected(self, connected: bool, now: float) -> None:
        self.client.network_changed(now)
