"""What the onion client needs of its surroundings, what it tells them, and how it shows itself."""

from typing import NamedTuple, Protocol

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.packets.nodes import NodeInfo


class OnionWays(Protocol):
    """How packets leave, and where nodes come from: the identity's socket, DHT and relays."""

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Sends a datagram."""
        ...

    def path_nodes(self) -> list[NodeInfo]:
        """Returns some DHT nodes that answered lately, of random parts of the key space."""
        ...

    def onion_relays(self) -> list[NodeInfo]:
        """Returns the connected TCP relays that may be first hops."""
        ...

    def send_onion(self, relay_key: PublicKey, packet: bytes, now: float) -> bool:
        """Gives a relay an encoded RelayOnionRequest (08); False: it is not connected, or full."""
        ...

    def uses_udp(self) -> bool:
        """Tells whether paths begin at UDP nodes (True) or at relays (False)."""
        ...

    def send_dht_request(self, dht_key: PublicKey, plain: bytes, now: float) -> int:
        """Has the DHT seal and route a request, inner id first; returns by how many nodes."""
        ...

    def own_nodes(self, most: int) -> list[NodeInfo]:
        """Returns nodes by which we can be reached: at most two relays, then close DHT nodes."""
        ...


class OnionListener(Protocol):
    """Who is told what came through the onion. It may call the client back at once."""

    def friend_found(
        self, real_key: PublicKey, dht_key: PublicKey, nodes: tuple[NodeInfo, ...], now: float
    ) -> None:
        """A friend told its DHT key, relays that it uses and DHT nodes that are near it."""
        ...

    def onion_data(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Somebody, friend or not, sent other data, its id first (20: a friend request)."""
        ...

    def onion_connected(self, connected: bool, now: float) -> None:
        """We are announced now and can be found, or not any more."""
        ...


class OnionStatus(NamedTuple):
    """The client as operators see it."""

    connected: bool
    live: int
    """Nodes that we announce ourselves to and that answer, of 12."""
    announced: int
    """Those of them that keep our announcement."""
    path_nodes: int
    paths: int
    """Paths in use, of 12."""
    pending: int
    """Requests that wait for an answer."""
    searches: int
    """Friends."""
    searching: int
    """Friends without a session."""


class SearchStatus(NamedTuple):
    """The search for one friend as operators see it."""

    live: int
    """Nodes near the friend's key that answer, of 8."""
    storing: int
    """Those of them that the friend is announced at."""
    dht_key: PublicKey | None
    interval_s: float
    """How long each node is left in peace."""
    online: bool
