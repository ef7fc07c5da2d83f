"""What an operator wants to see of the packets of the running node: a filter, and a count.

The supervisor makes it of the operator's words (`wanted_of`), each process that reads or sends
datagrams, or opens and seals frames of relay clients, applies it (`Capture`). Whether a process
has time for that is decided by `core.link.taps`.
"""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from core.asking import USAGE, CannotAnswer, text_of, whole_number
from core.endpoint import SOCKADDR4_SIZE, Endpoint, ip_of, port_of, to_text

LEASE_S = 10.0  # how long a process goes on when nobody asks for it again
MOST_PACKETS = 10_000  # of one capture
MOST_RATE = 1_000  # packets a second from one process
_LEAST_KEY = 4  # bytes: fewer are found in any packet
_DIRECTIONS = ("both", "in", "out")
UDP, TCP, BOTH = "udp", "tcp", "all"
DATA = 16  # stands for every kind of frame from here on: data on the link of that number


class Seen(NamedTuple):
    """A frame of a relay client, without what it carries from one client to another."""

    direction: str  # "in" from the client, "out" to it
    key: bytes  # the client's
    source: Endpoint  # its address
    head: bytes  # what stands in front of what it carries, the kind first
    size: int  # of all of it in the clear


class Wanted(NamedTuple):
    """Which packets are wanted; all that is said must be so."""

    kinds: frozenset[int] = frozenset()
    """First bytes of datagrams."""
    frames: frozenset[int] = frozenset()
    """First bytes of frames, DATA for all data. Neither kinds nor these: all."""
    transport: str = BOTH
    key: bytes = b""
    """Bytes that stand in the clear anywhere in it: a public key, or its beginning; of a frame
    also the key of its client."""
    network: str = ""
    """Address or prefix of the other side: `192.0.2.0/24`; empty: any."""
    port: int = 0
    """Its port; 0: any."""
    direction: str = "both"
    most: int = 100
    rate: int = 100
    """Packets a second, at most, from one process."""

    @property
    def has_datagrams(self) -> bool:
        """Whether there may be datagrams among them."""
        return self.transport != TCP and bool(self.kinds or not self.frames)

    @property
    def has_frames(self) -> bool:
        """Whether there may be frames among them."""
        return self.transport != UDP and bool(self.frames or not self.kinds)


def wanted_of(args: dict[str, Any]) -> Wanted:
    """Reads arguments, which an operator or the supervisor gave; raises CannotAnswer."""
    transport = text_of(args, "transport", BOTH)
    if transport not in (UDP, TCP, BOTH):
        raise CannotAnswer(USAGE, f"transport must be one of {UDP}, {TCP}, {BOTH}")
    direction = text_of(args, "direction", "both")
    if direction not in _DIRECTIONS:
        raise CannotAnswer(USAGE, f"direction must be one of {', '.join(_DIRECTIONS)}")
    wanted = Wanted(
        _bytes(args, "kinds", 255),
        _bytes(args, "frames", DATA),
        transport,
        _key(text_of(args, "key", "")),
        _network(text_of(args, "network", "")),
        whole_number(args, "port", 0, 0, 65_535),
        direction,
        whole_number(args, "count", 100, 1, MOST_PACKETS),
        whole_number(args, "rate", 100, 1, MOST_RATE),
    )
    if not (wanted.has_datagrams or wanted.has_frames):
        raise CannotAnswer(USAGE, f"no packet of these kinds comes by {transport}")
    return wanted


def _bytes(args: dict[str, Any], name: str, most: int) -> frozenset[int]:
    found = args.get(name, [])
    if not isinstance(found, list | tuple) or not all(
        isinstance(kind, int) and not isinstance(kind, bool) and 0 <= kind <= most for kind in found
    ):
        raise CannotAnswer(USAGE, f"{name} must be a list of first bytes, numbers from 0 to {most}")
    return frozenset(found)


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b"?"
    if key and not _LEAST_KEY <= len(key) <= 32:
        least = 2 * _LEAST_KEY
        raise CannotAnswer(USAGE, f"key must be {least} to 64 hex digits: a key or its beginning")
    return key


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False)) if text else ""
    except ValueError:
        raise CannotAnswer(
            USAGE, f"{text[:60]!r} is no address and no prefix such as 192.0.2.0/24"
        ) from None


def args_of(wanted: Wanted) -> dict[str, Any]:
    """Returns the arguments that `wanted_of` reads."""
    return {
        "kinds": sorted(wanted.kinds),
        "frames": sorted(wanted.frames),
        "transport": wanted.transport,
        "key": wanted.key.hex(),
        "network": wanted.network,
        "port": wanted.port,
        "direction": wanted.direction,
        "count": wanted.most,
        "rate": wanted.rate,
    }


class Capture:
    """One capture in one process: what it still may tell, and until when."""

    def __init__(self, number: int, wanted: Wanted, now: float) -> None:
        self.number = number
        self.until = now + LEASE_S
        """When it ends unless it is asked for again."""
        self.left = wanted.most
        """How many packets it may still tell."""
        self.passed_over = 0
        """Packets that were not looked at, or not told, since the last time it told some."""
        self.wanted = wanted
        self._tokens = float(wanted.rate)
        self._filled = now
        network = ip_network(wanted.network) if wanted.network else None
        self._shift = 0 if network is None else network.max_prefixlen - network.prefixlen
        self._value = None if network is None else int(network.network_address) >> self._shift
        self._ipv4 = network is not None and network.version == 4
        self._begin = 4 if self._ipv4 else 8  # of the address in an endpoint
        whole = 0 if network is None else network.prefixlen // 8
        self._head = b"" if network is None else network.network_address.packed[:whole]

    def take(
        self, direction: str, packets: Sequence[bytes], endpoints: Sequence[bytes], now: float
    ) -> list[tuple[str, str, bytes]]:
        """Returns what is wanted of a batch: direction, address of the other side, bytes."""
        wanted = self.wanted
        if not wanted.has_datagrams or wanted.direction not in ("both", direction):
            return []
        found: Sequence[int] = range(len(packets))
        if wanted.kinds:
            kinds = wanted.kinds
            found = [at for at, packet in enumerate(packets) if packet[0] in kinds]
        if wanted.key and found:
            key = wanted.key
            found = [at for at in found if key in packets[at]]
        if self._head and found:
            head, begin, end = self._head, self._begin, self._begin + len(self._head)
            found = [at for at in found if endpoints[at][begin:end] == head]
        if (self._value is not None or wanted.port) and found:
            found = [at for at in found if self._is_there(Endpoint(endpoints[at]))]
        may = self._may(len(found), now)
        return [(direction, to_text(Endpoint(endpoints[at])), packets[at]) for at in found[:may]]

    def take_frames(self, rows: Sequence[Seen], now: float) -> list[Seen]:
        """Returns what is wanted of the frames of a batch."""
        found = [row for row in rows if self._is_wanted(row)]
        return found[: self._may(len(found), now)]

    def _is_wanted(self, row: Seen) -> bool:
        wanted = self.wanted
        return (
            wanted.has_frames
            and wanted.direction in ("both", row.direction)
            and (not wanted.frames or min(row.head[0], DATA) in wanted.frames)
            and (row.key.startswith(wanted.key) or wanted.key in row.head)
            and (not (wanted.network or wanted.port) or self._is_there(row.source))
        )

    def _may(self, found: int, now: float) -> int:
        """Returns how many of those that were found are told; the rest is passed over."""
        if not found:
            return 0
        rate = self.wanted.rate
        self._tokens = min(rate, self._tokens + (now - self._filled) * rate)
        self._filled = now
        found = min(found, self.left)
        may = min(found, int(self._tokens))
        self.left -= may
        self._tokens -= may
        self.passed_over += found - may
        return may

    def _is_there(self, endpoint: Endpoint) -> bool:
        """Tells whether an endpoint is one of those that are wanted."""
        if self.wanted.port and port_of(endpoint) != self.wanted.port:
            return False
        if self._value is None:
            return True
        if (len(endpoint) == SOCKADDR4_SIZE) is not self._ipv4:
            return False
        return int.from_bytes(ip_of(endpoint), "big") >> self._shift == self._value


def parse_place(text: str) -> tuple[str, int]:
    """Returns network and port of `192.0.2.1`, `192.0.2.0/24`, `[2001:db8::1]:33445`.

    ValueError for what is none of these.
    """
    host, port = text, 0
    if text.startswith("["):
        host, _, tail = text[1:].partition("]")
        if tail:
            port = _port(tail.removeprefix(":"))
    elif text.count(":") == 1:
        host, _, tail = text.partition(":")
        port = _port(tail)
    if "/" in host:
        return str(ip_network(host, strict=False)), port
    return str(ip_network(ip_address(host))), port


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise ValueError(f"{text!r} is no port")
    return int(text)
