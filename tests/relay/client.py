"""A TCP relay client without a socket: makes and reads the bytes of one connection."""

from core.crypto import (
    KeyPair,
    Nonce,
    PublicKey,
    SharedKey,
    increment,
    open_sealed,
    precompute,
    seal,
)
from core.entropy import Entropy, SeededEntropy


class RelayClient:
    """Handshake and frames of one client; `packets` collects what the relay sent."""

    def __init__(self, relay: PublicKey, keys: KeyPair, entropy: Entropy | None = None) -> None:
        self._entropy = entropy or SeededEntropy(keys.public.hex())
        self.keys = keys
        self._temporary = KeyPair.generate(self._entropy)
        self._send_nonce = Nonce(self._entropy.bytes(24))
        self._receive_nonce: Nonce | None = None
        shared = precompute(keys.secret, relay)
        assert shared is not None
        self._static = shared
        self._shared: SharedKey | None = None
        self._buffer = b""
        self.packets: list[bytes] = []
        self.boxes: list[bytes] = []
        """Every box that came, as it was on the wire."""

    def hello(self) -> bytes:
        """Returns the 128 bytes that open the connection."""
        nonce = self._entropy.bytes(24)
        plain = self._temporary.public + self._send_nonce
        return self.keys.public + nonce + seal(self._static, nonce, plain)

    def receive(self, data: bytes) -> None:
        """Takes bytes of the stream; whole packets go to `packets`."""
        self._buffer += data
        if self._shared is None:
            if len(self._buffer) < 96:
                return
            plain = open_sealed(self._static, self._buffer[:24], self._buffer[24:96])
            assert plain is not None, "the relay's hello does not open"
            self._shared = precompute(self._temporary.secret, plain[:32])
            self._receive_nonce = Nonce(plain[32:])
            self._buffer = self._buffer[96:]
        assert self._receive_nonce is not None
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            self.boxes.append(self._buffer[2:end])
            packet = open_sealed(self._shared_key, self._receive_nonce, self._buffer[2:end])
            assert packet is not None, "a frame of the relay does not open: nonce or key differ"
            self._receive_nonce = increment(self._receive_nonce)
            self._buffer = self._buffer[end:]
            self.packets.append(packet)

    @property
    def ready(self) -> bool:
        """Whether the relay has answered the hello."""
        return self._shared is not None

    @property
    def _shared_key(self) -> SharedKey:
        assert self._shared is not None, "the handshake is not done"
        return self._shared

    def frame(self, packet: bytes) -> bytes:
        """Returns the bytes of one frame."""
        box = seal(self._shared_key, self._send_nonce, packet)
        self._send_nonce = increment(self._send_nonce)
        return len(box).to_bytes(2, "big") + box

    def frames(self, *packets: bytes) -> bytes:
        """Returns the bytes of several frames."""
        return b"".join(self.frame(packet) for packet in packets)

    def take(self) -> list[bytes]:
        """Returns and forgets the packets that came."""
        packets, self.packets = self.packets, []
        return packets
