"""Which addresses a stranger may make this node send to."""

from collections import Counter

from core.endpoint import FAMILY_TCP_CLIENT, Endpoint, ip_of, is_lan, unpack_ip_port
from core.module import Context, NodeOptions

_HEAD4_SIZE = 16
REMEMBERED = 4096  # targets; forgotten all at once when there are more: 1 MB
FEW_REMEMBERED = 16  # in a light node


def is_private(endpoint: Endpoint) -> bool:
    """Tells whether the address is this machine's or its site's, not one of the open Internet.

    It is c-toxcore's set of LAN addresses and the unique local IPv6 addresses (RFC 4193, fc00::/7).
    """
    return is_lan(endpoint) or (len(endpoint) != _HEAD4_SIZE and endpoint[8] & 0xFE == 0xFC)


class Targets:
    """The rules for addresses named inside packets of others (onion layers, forward requests).

    Never: another family than the node has, port 0, the unspecified address and 0/8, multicast,
    broadcast and reserved addresses. Private ones only for whoever sends from a private one
    himself: a client on this machine may name this machine, a stranger may not.

    Most onion layers name one of a few thousand nodes, so targets that are not refused to everybody
    are remembered, with whether they are private ones.
    """

    __slots__ = ("_broadcast", "_drops", "_good", "_ipv4", "_ipv6", "_remembered")

    def __init__(
        self, options: NodeOptions, drops: Counter[str], remembered: int = REMEMBERED
    ) -> None:
        self._remembered = remembered
        self._ipv4 = options.has_ipv4 and options.udp_port != 0
        self._ipv6 = options.has_ipv6 and options.udp_port != 0
        self._broadcast = tuple(ip_of(endpoint) for endpoint in options.lan_targets)
        self._drops = drops
        self._good: dict[bytes, tuple[Endpoint, bool]] = {}  # by their 19 bytes

    def refusal(self, target: Endpoint, from_private: bool) -> str | None:
        """Returns why the address may not be sent to, or None if it may."""
        if not (target[2] or target[3]):
            return "target_port_zero"
        if len(target) == _HEAD4_SIZE:
            if not self._ipv4:
                return "target_family"
            if not 0 < target[4] < 224 or target[4:8] in self._broadcast:
                return "target_forbidden"
        else:
            if not self._ipv6:
                return "target_family"
            if target[8] == 0xFF or target[8:24] == bytes(16):
                return "target_forbidden"
        if not from_private and is_private(target):
            return "target_private"
        return None

    def read(
        self, packed: bytes, source: Endpoint | None, from_private: bool = False
    ) -> Endpoint | None:
        """Reads the 19-byte address of an onion layer; None (and counted) if it is refused.

        `source` is where the packet came from; None for a client of the TCP relay, for which
        `from_private` tells whether its own address is a private one.
        """
        good = self._good.get(packed) or self._judge(packed)
        if good is None:
            return None
        target, private = good
        if private and not (from_private if source is None else is_private(source)):
            self._drops["target_private"] += 1
            return None
        return target

    def _judge(self, packed: bytes) -> tuple[Endpoint, bool] | None:
        """Reads an address and remembers it, unless it is refused to everybody."""
        target = unpack_ip_port(packed)
        reason = "target_family" if target is None else self.refusal(target, True)
        if target is None or reason is not None:
            self._drops[reason or "target_family"] += 1
            return None
        if len(self._good) >= self._remembered:
            self._good.clear()
        good = self._good[packed] = target, is_private(target)
        return good


def targets_of(context: Context) -> Targets:
    """Makes the rules of a node."""
    most = FEW_REMEMBERED if context.light else REMEMBERED
    return Targets(context.options, context.out.drops, most)


def pack_relay_client(serial: int) -> bytes:
    """Returns the 19-byte form of a client of our own TCP relay: family 11 and its serial (u64)."""
    return bytes((FAMILY_TCP_CLIENT,)) + serial.to_bytes(8, "big") + bytes(10)


def unpack_relay_client(packed: bytes) -> int | None:
    """Returns the serial of a relay client, or None for any other address."""
    if packed[0] != FAMILY_TCP_CLIENT:
        return None
    return int.from_bytes(packed[1:9], "big")
