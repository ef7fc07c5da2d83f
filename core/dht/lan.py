"""LAN discovery: what is sent to find nodes on the local networks, and whom we then ask."""

from core.endpoint import Endpoint, from_text, is_ipv4, is_lan, with_port
from core.module import NodeOptions

KIND_LAN_DISCOVERY = 0x21
DISCOVERY_SIZE = 33
LAN_INTERVAL_S = 10.0  # c-toxcore LAN_discovery.h: LAN_DISCOVERY_INTERVAL
DEFAULT_PORT = 33445  # c-toxcore tox.h: TOX_DEFAULT_PORT
LAST_PORT = 33545  # c-toxcore network.h: TOX_PORTRANGE_TO
PORTS_A_TIME = 10  # c-toxcore friend_connection.c: PORTS_PER_DISCOVERY
MAX_TARGETS = 16  # c-toxcore LAN_discovery.c: MAX_INTERFACES
MAX_ASKED = 32  # LAN senders that are asked in one interval

EVERYWHERE4 = from_text("255.255.255.255", DEFAULT_PORT)
THIS_HOST4 = from_text("127.255.255.255", DEFAULT_PORT)  # nodes of one host meet (c-toxcore 0.2.21)
EVERYWHERE6 = from_text("ff02::1", DEFAULT_PORT)


def _networks(options: NodeOptions) -> list[Endpoint]:
    """Returns where a node can look for others; from loopback it is this machine alone, since the
    kernel refuses (EINVAL) what goes from there to the network of an interface.
    """
    found = []
    if options.has_ipv4 and not options.loopback_ipv4:
        rows = options.lan_targets[:MAX_TARGETS]
        found += [with_port(row, DEFAULT_PORT) for row in rows if is_ipv4(row)]
        found.append(EVERYWHERE4)
    if options.has_ipv4:
        found.append(THIS_HOST4)
    if options.has_ipv6 and not options.loopback_ipv6:
        found.append(EVERYWHERE6)
    return list(dict.fromkeys(found))


class LanBeacon:
    """Walks the ports: each time the default one and ten more of the usual range.

    Those who send us such a packet are asked, at most 32 between two of our own.
    """

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self._asked = 0
        self._targets = _networks(options)
        self._next_port = DEFAULT_PORT + 1

    def targets(self) -> list[Endpoint]:
        """Returns where to send this time."""
        self._asked = 0
        first = self._next_port
        last = min(first + PORTS_A_TIME, LAST_PORT)
        self._next_port = last if last < LAST_PORT else DEFAULT_PORT + 1
        ports = [DEFAULT_PORT, *range(first, last)]
        return [with_port(target, port) for port in ports for target in self._targets]

    def refusal(self, packet: bytes, source: Endpoint, own_key: bytes, asked: bool) -> str | None:
        """Returns why the sender of a LAN discovery packet is not asked, or None if it may be, and
        counts it then. `asked`: whether a question to it is open already.
        """
        if len(packet) != DISCOVERY_SIZE:
            return "dht_lan_size"
        if not self._options.lan_discovery:
            return "dht_lan_off"
        if not is_lan(source):
            return "dht_lan_from_outside"
        if packet[1:] == own_key:
            return "dht_own_key"
        if asked:
            return "dht_lan_repeated"
        if self._asked >= MAX_ASKED:
            return "dht_lan_too_many"
        self._asked += 1
        return None
