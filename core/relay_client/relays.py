"""What the pool knows of one relay, whether there is a connection to it or not."""

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from core.crypto import PublicKey
from core.endpoint import Endpoint, ip_of, is_ipv4, port_of
from core.entropy import Entropy
from core.packets.nodes import NodeInfo
from core.relay_client.connection import RelayConnection, RouteState
from core.relay_client.proxy import Target, target_text

if TYPE_CHECKING:
    from core.relay_client.peers import Peer

MAX_TARGETS = 2  # a relay's addresses that are kept: one of each family
STEADY_S = 60.0  # a connection that lasted so long makes earlier failures forgotten
MAX_REST_S = 300.0  # the longest back-off
MAX_FAILURES = 8  # in a row (some ten minutes), then a relay of a peer is forgotten
AVOIDED_S = 1800.0  # how long a relay that swallows packets is left alone
MAX_DOUBT = 3  # times it was found out before that
_FIRST_REST_S = 2.0


class RelayState(Enum):
    """Where in its life a relay is."""

    IDLE = "idle"
    RESTING = "rests after a failure"
    OPENING = "connecting"
    CONNECTED = "connected"
    AVOIDED = "avoided"


MOVES = {
    RelayState.IDLE: (RelayState.OPENING, RelayState.AVOIDED),
    RelayState.OPENING: (RelayState.CONNECTED, RelayState.RESTING, RelayState.IDLE),
    RelayState.CONNECTED: (RelayState.RESTING, RelayState.IDLE, RelayState.AVOIDED),
    RelayState.RESTING: (RelayState.IDLE, RelayState.AVOIDED),
    RelayState.AVOIDED: (RelayState.IDLE,),
}


class RelayStatus(NamedTuple):
    """One relay for operators."""

    key: PublicKey
    address: str
    state: str
    general: bool  # anybody may be reached by it
    peers: int
    linked: int
    onion: bool
    rtt_s: float
    received: int  # bytes
    sent: int
    waiting: int
    failures: int
    doubt: int
    trouble: str  # of the last failure, for people


class Relay:
    """A relay, whether we are connected to it or not."""

    __slots__ = (
        "connected_at",
        "connection",
        "doubt",
        "due",
        "failures",
        "general",
        "key",
        "line",
        "onion",
        "peers",
        "proven",
        "retry_at",
        "state",
        "target",
        "targets",
        "tries",
        "trouble",
        "used_at",
    )

    def __init__(self, key: PublicKey, target: Target) -> None:
        self.key = key
        self.targets = [target]
        self.target = target  # of the last dial
        self.general = False
        self.state = RelayState.IDLE
        self.line = -1
        self.connection: RelayConnection | None = None
        self.peers: dict[PublicKey, Peer] = {}
        self.proven = False  # a handshake with it was once done
        self.onion = False  # one of the connections that are kept for the onion
        self.failures = 0  # in a row
        self.tries = 0  # dials since a handshake was done
        self.doubt = 0  # how often it was found to swallow packets
        self.connected_at = 0.0
        self.used_at = 0.0  # when it was last asked for a link, or lost one
        self.retry_at = 0.0
        self.due: float | None = None  # when its timer is set
        self.trouble = ""

    def go(self, to: RelayState) -> None:
        """Moves on to another state."""
        if to not in MOVES[self.state]:
            raise ValueError(f"a relay goes not from {self.state.value} to {to.value}")
        self.state = to

    def add_target(self, target: Target) -> None:
        """Notes another address; the older of those that are not in use makes room."""
        if target in self.targets:
            return
        if len(self.targets) == MAX_TARGETS:
            self.targets.remove(next(one for one in self.targets if one != self.target))
        self.targets.append(target)

    def next_target(self) -> Target:
        """Chooses the address of the next dial: after one that failed another one."""
        self.target = self.targets[self.tries % len(self.targets)]
        self.tries += 1
        return self.target

    def ready(self, now: float) -> None:
        """A handshake is done: the address is a good one."""
        self.go(RelayState.CONNECTED)
        self.proven = True
        self.trouble = ""
        self.connected_at = self.used_at = now
        self.tries = 0
        self.targets.remove(self.target)
        self.targets.insert(0, self.target)

    def rest(self, now: float, entropy: Entropy) -> None:
        """Sets when to try again: the first time soon, then in doubling times; never in step."""
        if self.state is RelayState.CONNECTED and now - self.connected_at >= STEADY_S:
            self.failures = 0
        longest = min(MAX_REST_S, _FIRST_REST_S * 2**self.failures)
        self.failures += 1
        self.retry_at = now + longest * (0.5 + entropy.below(1024) / 2048)
        self.go(RelayState.RESTING)

    def is_linked(self, peer: PublicKey) -> bool:
        """Tells whether a peer is at the other end of a link of this relay."""
        return self._state_of(peer) is RouteState.LINKED

    def takes_oob(self, peer: PublicKey) -> bool:
        """Tells whether the relay knows that we want this peer, who is not linked."""
        return self._state_of(peer) is RouteState.GIVEN

    def _state_of(self, peer: PublicKey) -> RouteState | None:
        return None if self.connection is None else self.connection.route_state(peer)

    def node(self) -> NodeInfo | None:
        """Returns the relay as friends are told of it; None while its address is only a name."""
        for target in (self.target, *self.targets):
            if not isinstance(target, tuple):
                return NodeInfo(self.key, Endpoint(target), tcp=True)
        return None

    def status(self) -> RelayStatus:
        """Returns the row that operators see."""
        connection = self.connection
        return RelayStatus(
            self.key,
            target_text(self.target),
            self.state.value,
            self.general,
            len(self.peers),
            0 if connection is None else connection.linked,
            self.onion,
            0.0 if connection is None else connection.rtt_s,
            0 if connection is None else connection.received,
            0 if connection is None else connection.sent,
            0 if connection is None else connection.waiting,
            self.failures,
            self.doubt,
            self.trouble,
        )


def is_place(target: Target) -> bool:
    """Tells whether a relay may be at an address; anybody may name one to us."""
    if isinstance(target, tuple):
        return bool(target[0]) and 0 < target[1] < 65536
    ip = ip_of(target)
    if is_ipv4(target):
        return bool(port_of(target)) and 0 < ip[0] < 224  # not multicast, nor reserved
    return bool(port_of(target)) and ip[0] != 0xFF and ip != bytes(16)
