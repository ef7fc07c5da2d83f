"""The check `tcp`: is a node a TCP relay that carries frames?"""

import socket
import time

from core import crypto
from core.crypto import MAC_SIZE, NONCE_SIZE, KeyPair, Nonce, PublicKey, SharedKey
from core.endpoint import Endpoint, with_port
from core.entropy import SystemEntropy
from core.packets.relay import (
    MAX_FRAME_SIZE,
    ClientHello,
    HelloBody,
    RelayHello,
    RelayPing,
    RelayPong,
)
from core.wire import WireError
from ops import places
from ops.check_outcome import FAILED, GOOD, SILENT, Outcome, milliseconds

_MAX_FRAMES = 64  # that a relay may send before its pong: a new client gets none at all


class _Broken(Exception):
    """The relay does not do what it should: a sentence about it."""


class _Stream:
    """A connection with one deadline for all of a step."""

    def __init__(self, place: Endpoint, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._socket = socket.socket(places.family_of(place), socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.connect(places.address_of(place))
        except OSError:
            self._socket.close()
            raise

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Reads exactly so much. ConnectionError at the end of the stream."""
        end = time.monotonic() + self._timeout_s
        found = b""
        while len(found) < size:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            part = self._socket.recv(size - len(found))
            if not part:
                raise ConnectionError
            found += part
        return found

    def close(self) -> None:
        self._socket.close()


class _Session:
    """Both halves of the cipher of one connection."""

    def __init__(self, shared: SharedKey, send: Nonce, receive: Nonce) -> None:
        self._shared, self._send, self._receive = shared, send, receive

    def seal(self, plain: bytes) -> bytes:
        """Returns a frame."""
        sealed = crypto.seal(self._shared, self._send, plain)
        self._send = crypto.increment(self._send)
        return len(sealed).to_bytes(2, "big") + sealed

    def open(self, stream: _Stream) -> bytes:
        """Reads the next frame and returns what is in it."""
        size = int.from_bytes(stream.read(2), "big")
        if not MAC_SIZE < size <= MAX_FRAME_SIZE:
            raise _Broken(f"it sends a frame of {size} bytes, which no frame has")
        plain = crypto.open_sealed(self._shared, self._receive, stream.read(size))
        if plain is None:
            raise _Broken("it sends a frame that does not open")
        self._receive = crypto.increment(self._receive)
        return plain


def tcp(place: Endpoint, port: int, key: PublicKey, timeout_s: float) -> Outcome:
    """A connection, the handshake of the relay, and a ping in a frame of its own."""
    begin = time.monotonic()
    try:
        stream = _Stream(with_port(place, port), timeout_s)
    except OSError as error:
        return Outcome("tcp", SILENT, _no_connection(error, port), details={"port": port})
    connected = time.monotonic() - begin
    details = {"port": port, "connect_ms": round(connected * 1000, 3)}
    try:
        session = _handshake(stream, key)
        greeted = time.monotonic() - begin - connected
        rtt = _ping(stream, session)
    except _Broken as error:
        return Outcome("tcp", FAILED, str(error), details=details)
    except TimeoutError:
        text = f"it takes connections, but does not answer within {timeout_s:g} s: no relay?"
        return Outcome("tcp", FAILED, text, details=details)
    except OSError:
        text = "it closes the connection: it has another public key, no relay, or no room"
        return Outcome("tcp", FAILED, text, details=details)
    finally:
        stream.close()
    return Outcome(
        "tcp",
        GOOD,
        f"port {port}: connected in {milliseconds(connected)}, handshake in "
        f"{milliseconds(greeted)}, then a ping in a frame",
        rtt,
        {**details, "handshake_ms": round(greeted * 1000, 3)},
    )


def _no_connection(error: OSError, port: int) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens on TCP port {port}; --tcp-port names another"
    if isinstance(error, TimeoutError):
        return f"no connection to TCP port {port}: does its firewall let TCP through?"
    reason = (error.strerror or str(error)).lower()
    return f"no connection to TCP port {port}: {reason}"


def _handshake(stream: _Stream, key: PublicKey) -> _Session:
    """Greets the relay. Each side's base nonce is the one it sends with itself."""
    entropy = SystemEntropy()
    own, temporary = KeyPair.generate(entropy), KeyPair.generate(entropy)
    shared = crypto.precompute(own.secret, key)
    if shared is None:
        raise _Broken("no node has this key: it is of low order")
    nonce, base = Nonce(entropy.bytes(NONCE_SIZE)), Nonce(entropy.bytes(NONCE_SIZE))
    sealed = HelloBody(temporary.public, base).seal(shared, nonce)
    stream.send(ClientHello(own.public, nonce, sealed).encode())
    hello = RelayHello.decode(stream.read(RelayHello.MAX_SIZE))
    try:
        theirs = HelloBody.open(shared, hello.nonce, hello.sealed)
    except WireError:
        raise _Broken("its hello is not sealed with this public key") from None
    session = crypto.precompute(temporary.secret, theirs.temporary_key)
    if session is None:
        raise _Broken("its temporary key is of low order")
    return _Session(session, base, theirs.base_nonce)


def _ping(stream: _Stream, session: _Session) -> float:
    """Sends a ping and returns how long its pong took."""
    ping_id = int.from_bytes(SystemEntropy().bytes(8), "big") | 1  # 0 would end the connection
    begin = time.monotonic()
    stream.send(session.seal(RelayPing(ping_id).encode()))
    for _ in range(_MAX_FRAMES):
        plain = session.open(stream)
        if plain == RelayPong(ping_id).encode():
            return time.monotonic() - begin
        try:
            asked = RelayPing.decode(plain)
        except WireError:
            continue
        if asked.ping_id:
            stream.send(session.seal(RelayPong(asked.ping_id).encode()))
    raise _Broken(f"it sends {_MAX_FRAMES} frames and no pong")
