"""A relay that does whatever a test wants, and one connection to it."""

from collections import Counter

from core.crypto import (
    KeyPair,
    Nonce,
    PublicKey,
    SharedKeys,
    increment,
    open_sealed,
    seal,
)
from core.entropy import SeededEntropy
from core.relay.handshake import Accepted, answer_hello
from core.relay_client.connection import RelayConnection, Stage
from core.relay_client.proxy import Tunnel

NOW = 500.0


class FakeRelay:
    """The relay's end of one connection, and its client's owner and socket."""

    def __init__(self, seed: str = "fake", tunnel: Tunnel | None = None) -> None:
        entropy = SeededEntropy(seed)
        self.keys = KeyPair.generate(entropy)
        self.client = KeyPair.generate(entropy)
        self.drops: Counter[str] = Counter()
        self.told: list[tuple[object, ...]] = []
        self.wire = b""
        """What the client has sent and the relay has not read yet."""
        self.room = 1 << 30
        """How many bytes the client's socket takes."""
        self._entropy = entropy
        self._accepted: Accepted | None = None
        self._receive = Nonce(bytes(24))
        self._send = Nonce(bytes(24))
        made = RelayConnection.to(
            1,
            self.keys.public,
            self.client,
            self._write,
            self,
            SeededEntropy("client"),
            self.drops,
            NOW,
            tunnel,
        )
        assert made is not None
        self.connection = made

    def _write(self, data: bytes) -> int:
        taken = min(self.room, len(data))
        self.room -= taken
        self.wire += data[:taken]
        return taken

    # As the owner

    def connection_ready(self, line: int, now: float) -> None:
        self.told.append(("ready",))

    def connection_failed(self, line: int, reason: str, now: float) -> None:
        self.told.append(("failed", reason))

    def route_changed(self, line: int, peer: PublicKey, now: float) -> None:
        self.told.append(("route", peer, self.connection.route_state(peer)))

    def link_data(self, line: int, peer: PublicKey, data: bytes, now: float) -> None:
        self.told.append(("data", peer, data))

    def oob_data(self, line: int, peer: PublicKey, data: bytes, now: float) -> None:
        self.told.append(("oob", peer, data))

    def onion_data(self, line: int, data: bytes, now: float) -> None:
        self.told.append(("onion", data))

    # As the relay

    def answer(self) -> bytes:
        """Reads the client's hello; returns the relay's."""
        hello, self.wire = self.wire[:128], self.wire[128:]
        accepted = answer_hello(hello, SharedKeys(self.keys.secret), self._entropy)
        assert accepted is not None
        self._accepted = accepted
        self._receive, self._send = accepted.receive_nonce, accepted.send_nonce
        return accepted.answer

    def greet(self, now: float = NOW) -> "FakeRelay":
        """Does the handshake and answers the first ping."""
        self.connection.handle_connected(now)
        self.connection.handle_bytes(self.answer(), now)
        assert self.connection.stage is Stage.CONFIRMED
        (ping,) = self.take()
        self.say(b"\x05" + ping[1:], now)
        self.told.clear()
        return self

    def frame(self, packet: bytes) -> bytes:
        """Returns a frame's bytes."""
        assert self._accepted is not None
        box = seal(self._accepted.shared, self._send, packet)
        self._send = increment(self._send)
        return len(box).to_bytes(2, "big") + box

    def say(self, packet: bytes, now: float = NOW) -> None:
        """Sends a packet to the client."""
        self.connection.handle_bytes(self.frame(packet), now)

    def take(self) -> list[bytes]:
        """Returns the packets that the client has sent since."""
        assert self._accepted is not None
        packets = []
        while len(self.wire) >= 2:
            end = 2 + int.from_bytes(self.wire[:2], "big")
            if len(self.wire) < end:
                break
            packet = open_sealed(self._accepted.shared, self._receive, self.wire[2:end])
            assert packet is not None, "a frame of the client does not open"
            self._receive = increment(self._receive)
            self.wire = self.wire[end:]
            packets.append(packet)
        return packets
