"""The hops of an onion path: each takes one layer off, and puts the way back into the packet.

Everything here runs on raw slices: most packets of a node are these. A request layer names the next
address; the way back is sealed with our own key and travels behind the payload. One nonce serves
all layers of a request (c-toxcore onion.c).
"""

from core.crypto import open_sealed, seal
from core.endpoint import FAMILY_UDP4, FAMILY_UDP6, Endpoint, pack_ip_port, unpack_ip_port
from core.messages import RelayDeliver
from core.module import Context
from core.onion.return_keys import ReturnKeys
from core.onion.targets import pack_relay_client, targets_of, unpack_relay_client

MAX_PACKET = 1400  # c-toxcore onion.h: ONION_MAX_PACKET_SIZE
RETURN_1 = 59  # c-toxcore onion.h: ONION_RETURN_1; nonce 24, MAC 16, address 19
RETURN_2 = 118  # ... and the return before it
RETURN_3 = 177
LAYER = 67  # c-toxcore onion.h: ONION_SEND_BASE; key 32, address 19, MAC 16
MIN_REQUEST_0 = 1 + 24 + 3 * LAYER + 1  # greater than 1 + ONION_SEND_1
MIN_REQUEST_1 = 1 + 24 + 2 * LAYER + RETURN_1 + 1
MIN_REQUEST_2 = 1 + 24 + LAYER + RETURN_2 + 1
MIN_RELAY_REQUEST = 1 + 24 + 2 * LAYER + 1  # c-toxcore TCP_server.c: TCP_PACKET_ONION_REQUEST
_MIN_LAYER_0 = 19 + 2 * LAYER + 1  # c-toxcore onion.c: onion_send_1
_MAX_LAYER_0 = MAX_PACKET + 19 - (1 + 24 + RETURN_1)

ONION_REQUEST_1 = b"\x81"
ONION_REQUEST_2 = b"\x82"
ONION_RESPONSE_2 = b"\x8d"
ONION_RESPONSE_1 = b"\x8e"
RELAY_ONION_RESPONSE = b"\x09"

REQUEST_PAYLOADS = frozenset((0x83, 0x85, 0x87))
"""What may leave an onion path: anything else would show a client's address (CVE-2018-25022)."""
RESPONSE_PAYLOADS = frozenset((0x84, 0x86, 0x88))


class OnionHops:
    """Hops for UDP packets 80-82 and 8c-8e, and for relay packet 08 of TCP clients.

    Used by onion workers and, for the first hop of TCP clients, by relay workers; any shard can
    peel a return that another sealed.
    """

    __slots__ = ("_entropy", "_out", "_targets", "returns", "shared")

    def __init__(self, context: Context) -> None:
        self.shared = context.key_cache()
        self.returns = ReturnKeys(context.master)
        self._entropy = context.entropy
        self._out = context.out
        self._targets = targets_of(context)

    def _refuse(self, reason: str) -> None:
        self._out.drops[reason] += 1

    def handle_request_0(self, packet: bytes, source: Endpoint, now: float) -> None:
        """80, from the client: opens the outermost layer and sends 81 on."""
        size = len(packet)
        if not MIN_REQUEST_0 <= size <= MAX_PACKET:
            return self._refuse("onion_size")
        shared = self.shared.sender(packet[25:57])
        if shared is None:
            return self._refuse("weak_key")
        nonce = packet[1:25]
        plain = open_sealed(shared, nonce, packet[57:])
        if plain is None:
            return self._refuse("onion_not_opened")
        target = self._targets.read(plain[:19], source)
        if target is None:
            return None
        fresh = self._entropy.bytes(24)
        sealed = seal(self.returns.current(now), fresh, pack_ip_port(source))
        self._out.send(target, b"".join((ONION_REQUEST_1, nonce, plain[19:], fresh, sealed)))
        return None

    def handle_request_1(self, packet: bytes, source: Endpoint, now: float) -> None:
        """81, from the first hop: opens the middle layer and sends 82 on."""
        size = len(packet)
        if not MIN_REQUEST_1 <= size <= MAX_PACKET:
            return self._refuse("onion_size")
        shared = self.shared.sender(packet[25:57])
        if shared is None:
            return self._refuse("weak_key")
        nonce = packet[1:25]
        end = size - RETURN_1
        plain = open_sealed(shared, nonce, packet[57:end])
        if plain is None:
            return self._refuse("onion_not_opened")
        target = self._targets.read(plain[:19], source)
        if target is None:
            return None
        fresh = self._entropy.bytes(24)
        sealed = seal(self.returns.current(now), fresh, pack_ip_port(source) + packet[end:])
        self._out.send(target, b"".join((ONION_REQUEST_2, nonce, plain[19:], fresh, sealed)))
        return None

    def handle_request_2(self, packet: bytes, source: Endpoint, now: float) -> None:
        """82, from the second hop: opens the last layer and sends the payload where that says."""
        size = len(packet)
        if not MIN_REQUEST_2 <= size <= MAX_PACKET:
            return self._refuse("onion_size")
        shared = self.shared.sender(packet[25:57])
        if shared is None:
            return self._refuse("weak_key")
        end = size - RETURN_2
        plain = open_sealed(shared, packet[1:25], packet[57:end])
        if plain is None:
            return self._refuse("onion_not_opened")
        if plain[19] not in REQUEST_PAYLOADS:
            return self._refuse("onion_payload")
        target = self._targets.read(plain[:19], source)
        if target is None:
            return None
        fresh = self._entropy.bytes(24)
        sealed = seal(self.returns.current(now), fresh, pack_ip_port(source) + packet[end:])
        self._out.send(target, plain[19:] + fresh + sealed)
        return None

    def relay_onion_request(
        self, packet: bytes, serial: int, now: float, from_private: bool = False
    ) -> bool:
        """Relay packet 08 of the TCP client `serial`: does the first hop, and sends 81 on.

        `from_private` tells whether the client's own address is a private one (see Targets).
        Returns False for a packet that is too short: the reference closes such a connection.
        """
        size = len(packet)
        if size < MIN_RELAY_REQUEST:
            return False
        if not _MIN_LAYER_0 <= size - 25 <= _MAX_LAYER_0:
            self._refuse("onion_size")
            return True
        target = self._targets.read(packet[25:44], None, from_private)
        if target is not None:
            fresh = self._entropy.bytes(24)
            sealed = seal(self.returns.current(now), fresh, pack_relay_client(serial))
            self._out.send(target, ONION_REQUEST_1 + packet[1:25] + packet[44:] + fresh + sealed)
        return True

    def handle_response_3(self, packet: bytes, source: Endpoint, now: float) -> None:
        """8c, from the destination: peels our return and sends 8d to the second hop."""
        size = len(packet)
        if not 1 + RETURN_3 < size <= MAX_PACKET:
            return self._refuse("onion_size")
        if packet[178] not in RESPONSE_PAYLOADS:
            return self._refuse("onion_payload")
        plain = self.returns.open(packet[1:25], packet[25:178], now)
        if plain is None:
            return self._refuse("onion_return")
        target = unpack_ip_port(plain)
        if target is None:
            return self._refuse("onion_return")
        self._out.send(target, ONION_RESPONSE_2 + plain[19:] + packet[178:])
        return None

    def handle_response_2(self, packet: bytes, source: Endpoint, now: float) -> None:
        """8d, from the third hop: peels our return and sends 8e to the first hop."""
        size = len(packet)
        if not 1 + RETURN_2 < size <= MAX_PACKET:
            return self._refuse("onion_size")
        if packet[119] not in RESPONSE_PAYLOADS:
            return self._refuse("onion_payload")
        plain = self.returns.open(packet[1:25], packet[25:119], now)
        if plain is None:
            return self._refuse("onion_return")
        target = unpack_ip_port(plain)
        if target is None:
            return self._refuse("onion_return")
        self._out.send(target, ONION_RESPONSE_1 + plain[19:] + packet[119:])
        return None

    def handle_response_1(self, packet: bytes, source: Endpoint, now: float) -> None:
        """8e, from the second hop: peels our return and gives the payload to the client."""
        size = len(packet)
        if not 1 + RETURN_1 < size <= MAX_PACKET:
            return self._refuse("onion_size")
        if packet[60] not in RESPONSE_PAYLOADS:
            return self._refuse("onion_payload")
        plain = self.returns.open(packet[1:25], packet[25:60], now)
        if plain is None:
            return self._refuse("onion_return")
        if plain[0] == FAMILY_UDP4 or plain[0] == FAMILY_UDP6:
            target = unpack_ip_port(plain)
            if target is not None:
                self._out.send(target, packet[60:])
                return None
        serial = unpack_relay_client(plain)
        if serial is None:
            return self._refuse("onion_return")
        deliver = RelayDeliver(serial, RELAY_ONION_RESPONSE + packet[60:])
        self._out.tell_shard("broker", 0, deliver)
        return None
