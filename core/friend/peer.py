"""What is known of one friend: its DHT key, its addresses and relays, and how far it is with it."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from core.crypto import PublicKey
from core.endpoint import Endpoint, is_ipv4
from core.packets.nodes import NodeInfo

STORED_RELAYS = 24  # c-toxcore friend_connection.h: FRIEND_MAX_STORED_TCP_RELAYS
RECONNECT_RELAYS = 3  # c-toxcore friend_connection.c: half of MAX_FRIEND_TCP_CONNECTIONS
DHT_TIMEOUT_S = 122.0  # c-toxcore friend_connection.h: FRIEND_DHT_TIMEOUT


class State(Enum):
    """How far it is with a friend."""

    SEARCHING = "searching"
    """Its DHT key is not known; the onion looks for it."""
    CONNECTING = "connecting"
    """Its DHT key is known, and a session is being made."""
    ONLINE = "online"
    """The session is up."""


class Address(NamedTuple):
    """A direct address of a friend."""

    endpoint: Endpoint
    heard: float
    """When, in seconds of the caller's clock."""
    learnt: bool
    """The session itself used it; the DHT's word alone does not replace it."""


class Peer:
    """One friend. `FriendConnections` does everything with it."""

    __slots__ = (
        "_addresses",
        "_relays",
        "acknowledged",
        "dht_key",
        "direct",
        "heard",
        "key",
        "key_heard",
        "locks",
        "next_alive",
        "next_share",
        "next_try",
        "offered",
        "searched",
        "state",
    )

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        self.state = State.SEARCHING
        self.dht_key: PublicKey | None = None
        self.key_heard = 0.0
        """When the DHT key was heard of last."""
        self.searched = False
        """Whether the DHT has a search for it."""
        self.offered = False
        """Whether net_crypto and relays were told what is known since the key came."""
        self.locks = 1
        """How many want this connection: the messenger, and conferences."""
        self.direct = False
        self.acknowledged = -1
        """The last packet that it is known to have."""
        self.heard = 0.0
        """When the last lossless packet came."""
        self.next_alive = self.next_share = self.next_try = 0.0
        self._addresses: list[Address] = []  # one of each family
        self._relays: dict[PublicKey, NodeInfo] = {}

    def note_address(self, endpoint: Endpoint, learnt: bool, now: float) -> bool:
        """Keeps a direct address; False if a better one of its family is known."""
        family = is_ipv4(endpoint)
        others = [one for one in self._addresses if is_ipv4(one.endpoint) != family]
        known = next((one for one in self._addresses if one not in others), None)
        if (
            known is not None
            and known.learnt
            and not learnt
            and known.endpoint != endpoint
            and known.heard + DHT_TIMEOUT_S > now
        ):
            return False
        keeps = known is not None and known.learnt and known.endpoint == endpoint
        self._addresses = [*others, Address(endpoint, now, learnt or keeps)]
        return True

    def addresses(self, now: float) -> list[Endpoint]:
        """Returns the addresses that are not too old, learnt ones last."""
        self._addresses = [one for one in self._addresses if one.heard + DHT_TIMEOUT_S > now]
        rows = sorted(self._addresses, key=lambda one: (one.learnt, one.heard))
        return [one.endpoint for one in rows]

    def note_relay(self, relay: NodeInfo) -> None:
        """Keeps a relay by which the friend can be reached; the oldest makes room."""
        self._relays.pop(relay.key, None)
        self._relays[relay.key] = relay
        if len(self._relays) > STORED_RELAYS:
            del self._relays[next(iter(self._relays))]

    def relays(self) -> list[NodeInfo]:
        """Returns all relays that are kept, oldest first."""
        return list(self._relays.values())

    def newest_relays(self) -> Iterable[NodeInfo]:
        """Returns those with which a new session begins: the last told, half of what is used."""
        return self.relays()[: -RECONNECT_RELAYS - 1 : -1]
