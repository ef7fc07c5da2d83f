"""What the messenger needs of friend connections and onion, and whom it tells."""

from collections.abc import Sequence
from typing import Protocol

from core.crypto import PublicKey
from core.messenger.events import Event
from core.packets.nodes import NodeInfo


class Connections(Protocol):
    """The sessions with friends: `core.friend.connections.FriendConnections`."""

    def add(self, real_key: PublicKey, now: float, relays: Sequence[NodeInfo] = ()) -> None:
        """Wants a session."""
        ...

    def remove(self, real_key: PublicKey, now: float) -> None:
        """Wants it no more."""
        ...

    def send(self, real_key: PublicKey, data: bytes, now: float, letter: int = 0) -> int | None:
        """Sends lossless data; its packet number, or None: the queue is full.

        `letter` is a number, growing with each one to a friend, by which connections that outlive
        the messenger tell its successor what was sent; others need none."""
        ...

    def send_lossy(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        """Sends data that may be lost."""
        ...

    def room(self, real_key: PublicKey) -> int:
        """How many packets of bulk data would be taken now."""
        ...

    def is_online(self, real_key: PublicKey) -> bool:
        """Whether a session is up."""
        ...


class OnionData(Protocol):
    """The onion client."""

    def send(self, real_key: PublicKey, data: bytes, now: float) -> int:
        """Sends data to route; through how many nodes it left."""
        ...


class Listener(Protocol):
    """Who wants to know."""

    def event(self, event: Event, now: float) -> None:
        """Something happened. It may call the messenger."""
        ...


class RequestPaths:
    """How friend requests leave."""

    def __init__(self, connections: Connections, onion: OnionData) -> None:
        self._connections, self._onion = connections, onion

    def send_session(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        """Sends it inside a session, if one is up."""
        if not self._connections.is_online(real_key):
            return False
        return self._connections.send(real_key, data, now) is not None

    def send_onion(self, real_key: PublicKey, data: bytes, now: float) -> int:
        """Sends it through the onion."""
        return self._onion.send(real_key, data, now)
