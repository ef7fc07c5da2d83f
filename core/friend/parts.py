"""What friend connections need of sessions, onion, DHT and relays, and whom they tell."""

from collections.abc import Sequence
from typing import Protocol

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.packets.nodes import NodeInfo


class SessionView(Protocol):
    """What is looked at of a session's state."""

    @property
    def dht_key(self) -> PublicKey:
        """The peer's DHT key for which the session is."""
        ...

    @property
    def direct(self) -> bool:
        """Whether it goes over UDP now."""
        ...

    @property
    def endpoint(self) -> Endpoint | None:
        """The address over which it goes, or would go."""
        ...


class Crypto(Protocol):
    """The sessions, by real key."""

    def open(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> None:
        """Makes a session; one that is there for this DHT key stays, one for another is ended."""
        ...

    def close(self, real_key: PublicKey, now: float) -> None:
        """Ends the session, and tells the peer."""
        ...

    def set_endpoint(self, real_key: PublicKey, endpoint: Endpoint, now: float) -> None:
        """Names a direct address of the peer."""
        ...

    def send(self, real_key: PublicKey, data: bytes, now: float) -> int | None:
        """Sends lossless data; its packet number, or None: no session, or its queue is full."""
        ...

    def send_lossy(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        """Sends data that may be lost."""
        ...

    def room(self, real_key: PublicKey) -> int:
        """How many lossless packets of bulk data would be taken now."""
        ...

    def status(self, real_key: PublicKey) -> SessionView | None:
        """The session's state; None: there is no session, nor is one being made."""
        ...


class Onion(Protocol):
    """The search for friends through the onion, by real key."""

    def add_friend(self, real_key: PublicKey, now: float) -> None:
        """Begins to look for a friend."""
        ...

    def remove_friend(self, real_key: PublicKey, now: float) -> None:
        """Ends the search."""
        ...

    def set_online(self, real_key: PublicKey, online: bool, now: float) -> None:
        """While a session is up there is no need to search."""
        ...

    def set_dht_key(self, real_key: PublicKey, dht_key: PublicKey | None, now: float) -> None:
        """The friend's DHT key is known, or not any more."""
        ...


class Dht(Protocol):
    """The search for addresses, by DHT key."""

    def search(self, dht_key: bytes, now: float) -> bool:
        """Looks for a key until `stop_search` was called as often; False: it does not."""
        ...

    def stop_search(self, dht_key: bytes) -> None:
        """Ends one search."""
        ...

    def ask(self, endpoint: Endpoint, key: bytes, target: bytes, now: float) -> None:
        """Asks a node that somebody named for nodes near `target`."""
        ...


class Relays(Protocol):
    """The connections to TCP relays, by DHT key of the peer behind them."""

    def add_peer(self, dht_key: PublicKey, now: float) -> None:
        """A peer that is to be reached through relays."""
        ...

    def remove_peer(self, dht_key: PublicKey, now: float) -> None:
        """It is not any more."""
        ...

    def add_relay_of(
        self, dht_key: PublicKey, endpoint: Endpoint, relay_key: PublicKey, now: float
    ) -> None:
        """A relay by which that peer can be reached."""
        ...

    def set_sleeping(self, dht_key: PublicKey, asleep: bool, now: float) -> None:
        """Whether its links are not needed now."""
        ...

    def relay_works(self, dht_key: PublicKey, now: float) -> None:
        """The peer has received something that only relays can have brought."""
        ...

    def relays(self, most: int) -> list[NodeInfo]:
        """Connected relays to be told to friends, others each time."""
        ...


class Listener(Protocol):
    """Hears what becomes of friends."""

    def friend_online(self, real_key: PublicKey, now: float) -> None:
        """A session with the friend is up."""
        ...

    def friend_offline(self, real_key: PublicKey, now: float) -> None:
        """It is down."""
        ...

    def friend_direct(self, real_key: PublicKey, direct: bool, now: float) -> None:
        """Whether UDP carries the session, or only relays do."""
        ...

    def friend_packets(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        """Lossless packets that came together, each with its id byte first."""
        ...

    def friend_lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Lossy data, id byte first."""
        ...

    def friend_acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        """The friend has all lossless packets up to and with this number."""
        ...
