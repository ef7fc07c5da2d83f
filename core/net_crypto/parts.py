"""What a session needs of others: ways to its peer, and somebody who listens."""

from collections.abc import Sequence
from typing import Protocol

from core.crypto import PublicKey
from core.endpoint import Endpoint


class Ways(Protocol):
    """What brings packets to peers."""

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Sends a datagram."""
        ...

    def send_relay(self, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        """Sends on a link, or out of band while there is none yet; False: no relay took it."""
        ...

    def send_oob(self, relay_key: PublicKey, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        """Sends out of band through one relay: the answer to what came so."""
        ...


class Listener(Protocol):
    """Who is told what happens. It may call back at once; a session may be over after any call."""

    def accepts(
        self, real_key: PublicKey, dht_key: PublicKey, source: Endpoint | None, now: float
    ) -> bool:
        """A peer without a session shook hands correctly; True: it is to have one."""
        ...

    def session_up(self, real_key: PublicKey, now: float) -> None:
        """Data goes both ways."""
        ...

    def session_down(self, real_key: PublicKey, now: float) -> None:
        """The session has ended, up or not, otherwise than by `close`."""
        ...

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        """The next packets in order, each with its id byte (16-191) first: those that came
        together, at least one."""
        ...

    def lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """A packet without order, id byte (192-254) first."""
        ...

    def acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        """The peer has all lossless packets up to `number`. The number comes again when nothing but
        the room for bulk data has grown."""
        ...

    def new_dht_key(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> None:
        """The peer itself came with another DHT key than the one we had a session with."""
        ...

    def direct_changed(self, real_key: PublicKey, direct: bool, now: float) -> None:
        """UDP carries the session from now on, or only relays do."""
        ...
