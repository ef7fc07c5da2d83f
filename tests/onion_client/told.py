"""Whom an onion client tells: somebody who keeps all of it."""

from core.crypto import PublicKey
from core.packets.nodes import NodeInfo


class Told:
    """An OnionListener, and lists of what it heard."""

    def __init__(self) -> None:
        self.found: list[tuple[PublicKey, PublicKey, tuple[NodeInfo, ...]]] = []
        self.heard: list[tuple[PublicKey, bytes]] = []
        self.connections: list[bool] = []

    def friend_found(
        self, real_key: PublicKey, dht_key: PublicKey, nodes: tuple[NodeInfo, ...], now: float
    ) -> None:
        """A friend's DHT key came."""
        self.found.append((real_key, dht_key, nodes))

    def onion_data(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Other data came."""
        self.heard.append((real_key, data))

    def onion_connected(self, connected: bool, now: float) -> None:
        """We can be found, or not any more."""
        self.connections.append(connected)
