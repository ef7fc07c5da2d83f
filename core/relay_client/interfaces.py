"""Who a pool of relays works with: the sockets below it, and who is told above."""

from typing import Protocol

from core.crypto import PublicKey
from core.relay_client.proxy import Target


class Dialer(Protocol):
    """Who owns the sockets. It answers by the pool's `handle_` calls, never from inside these."""

    def dial(self, line: int, target: Target) -> None:
        """Opens a TCP connection that is called `line` from now on."""
        ...

    def write(self, line: int, data: bytes) -> int:
        """Returns how many bytes were taken; the rest is offered again at `handle_writable`."""
        ...

    def hang_up(self, line: int) -> None:
        """Closes a connection, or gives a dial up; nothing more is heard of it."""
        ...


class RelayListener(Protocol):
    """Who is told what comes through relays. It may call the pool, and raises nothing: what a peer
    sent is no fault of the relay that brought it."""

    def relay_data(self, dht_key: PublicKey, data: bytes, now: float) -> None:
        """Data of a peer: on a link, or out of band through a relay that is asked for it."""
        ...

    def relay_oob(self, relay_key: PublicKey, dht_key: PublicKey, data: bytes, now: float) -> None:
        """Data out of band of anybody else; answered by `send_oob` through the same relay."""
        ...

    def relay_onion(self, relay_key: PublicKey, data: bytes, now: float) -> None:
        """What came back through the onion: a whole packet, kind first."""
        ...

    def relay_link(self, dht_key: PublicKey, linked: bool, now: float) -> None:
        """The first link with a peer is there, or the last one gone."""
        ...

    def relay_connected(self, connected: bool, now: float) -> None:
        """The first relay is connected, or none is any more."""
        ...
