"""The sessions of one identity, found by whatever a packet has in clear."""

from typing import TypeVar

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.net_crypto.session import Session

MAX_SESSIONS = 8192  # of one identity
MAX_AT_ENDPOINT = 4  # sessions that may claim one address; whose packet it is, the box tells

NOBODY: tuple[Session, ...] = ()
K = TypeVar("K", bound=bytes)


class SessionTable:
    """One session for each real key; several may claim one DHT key or address.

    Nobody can take a packet from another by such a claim: each is tried, and only the right key
    opens it.
    """

    __slots__ = ("at_endpoint", "by_real_key", "of_dht_key")

    def __init__(self) -> None:
        self.by_real_key: dict[PublicKey, Session] = {}
        self.of_dht_key: dict[PublicKey, tuple[Session, ...]] = {}
        self.at_endpoint: dict[Endpoint, tuple[Session, ...]] = {}

    def is_full(self) -> bool:
        """Tells whether there is room for no more."""
        return len(self.by_real_key) >= MAX_SESSIONS

    def has(self, session: Session) -> bool:
        """Tells whether it still is the session of its peer."""
        return self.by_real_key.get(session.real_key) is session

    def add(self, session: Session) -> None:
        """Enters a session; its peer has none."""
        self.by_real_key[session.real_key] = session
        self.of_dht_key[session.dht_key] = (*self.of_dht_key.get(session.dht_key, ()), session)

    def follow(self, session: Session, before: list[Endpoint]) -> None:
        """Follows a change of the session's addresses, which were `before`."""
        endpoints = session.path.all()
        for endpoint in before:
            if endpoint not in endpoints:
                _take_out(self.at_endpoint, endpoint, session)
        for endpoint in endpoints:
            others = self.at_endpoint.get(endpoint, ())
            if session not in others:
                self.at_endpoint[endpoint] = (session, *others)[:MAX_AT_ENDPOINT]

    def remove(self, session: Session) -> None:
        """Forgets a session."""
        del self.by_real_key[session.real_key]
        _take_out(self.of_dht_key, session.dht_key, session)
        for endpoint in session.path.all():
            _take_out(self.at_endpoint, endpoint, session)


def _take_out(table: dict[K, tuple[Session, ...]], key: K, session: Session) -> None:
    left = tuple(one for one in table.get(key, ()) if one is not session)
    if left:
        table[key] = left
    else:
        table.pop(key, None)
