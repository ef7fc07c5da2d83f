"""The two ends of a relay connection, blocking and plain: only for capturing."""

import socket

from core import crypto
from core.crypto import KeyPair, Nonce
from core.packets.relay import ClientHello, HelloBody, RelayHello
from tests.vectors.capture.recorder import ENTROPY, box, new_nonce, shared_key

_TIMEOUT_S = 5


class Stream:
    """A relay connection after its handshake."""

    def __init__(self, stream: socket.socket, shared: crypto.SharedKey, out: Nonce, in_: Nonce):
        self.socket = stream
        self.shared = shared
        self._out, self._in = out, in_

    def send(self, packet: bytes) -> None:
        """Sends one packet in a frame."""
        sealed = crypto.seal(self.shared, self._out, packet)
        self._out = crypto.increment(self._out)
        self.socket.sendall(len(sealed).to_bytes(2, "big") + sealed)

    def receive(self) -> bytes:
        """Returns the next packet; EOFError at the end of the stream."""
        size = int.from_bytes(exactly(self.socket, 2), "big")
        plain = crypto.open_sealed(self.shared, self._in, exactly(self.socket, size))
        assert plain is not None
        self._in = crypto.increment(self._in)
        return plain

    def wait_for(self, kind: int) -> bytes:
        """Returns the next packet of this kind; leaves out others."""
        while True:
            packet = self.receive()
            if packet[0] == kind:
                return packet


def exactly(stream: socket.socket, size: int) -> bytes:
    """Reads so many bytes; EOFError if there are fewer."""
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def connect(port: int, own: KeyPair, relay: bytes) -> tuple[Stream, bytes]:
    """Connects to a relay; returns the connection and the relay's hello."""
    stream = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)
    temporary = KeyPair.generate(ENTROPY)
    base, nonce = new_nonce(), new_nonce()
    sealed = box(HelloBody(temporary.public, base), own, relay, nonce)
    stream.sendall(ClientHello(own.public, nonce, sealed).encode())
    data = exactly(stream, RelayHello.MAX_SIZE)
    hello = RelayHello.decode(data)
    body = HelloBody.open(shared_key(own, relay), hello.nonce, hello.sealed)
    shared = shared_key(temporary, body.temporary_key)
    return Stream(stream, shared, base, body.base_nonce), data


def accept(listener: socket.socket, own: KeyPair) -> tuple[Stream, bytes]:
    """Takes a client's connection; returns it and the client's hello."""
    stream, _ = listener.accept()
    stream.settimeout(_TIMEOUT_S)
    data = exactly(stream, ClientHello.MAX_SIZE)
    hello = ClientHello.decode(data)
    body = HelloBody.open(shared_key(own, hello.sender), hello.nonce, hello.sealed)
    temporary = KeyPair.generate(ENTROPY)
    base, nonce = new_nonce(), new_nonce()
    sealed = box(HelloBody(temporary.public, base), own, hello.sender, nonce)
    stream.sendall(RelayHello(nonce, sealed).encode())
    return Stream(stream, shared_key(temporary, body.temporary_key), base, body.base_nonce), data
