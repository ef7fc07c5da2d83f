"""A relay client over a real TCP connection: handshake, frames, and whether it was shut out."""

import select
import socket
import time

from core.crypto import KeyPair, PublicKey
from core.entropy import SystemEntropy
from tests.processes.node import Node, until
from tests.relay.client import RelayClient

_PING = b"\x04" + bytes(7) + b"\x01"


def tcp_port(node: Node) -> int:
    """Returns the first TCP port of a node."""
    return int(dict(part.split("=") for part in node.ready_line.split()[1:])["tcp"].split(",")[0])


class Stream:
    """One client; `open` tells whether the relay has not closed it."""

    def __init__(self, node: Node, keys: KeyPair | None = None, host: str = "127.0.0.1") -> None:
        entropy = SystemEntropy()
        self.keys = keys or KeyPair.generate(entropy)
        self.client = RelayClient(PublicKey(node.key), self.keys, entropy)
        self.socket = socket.create_connection(
            ("127.0.0.1", tcp_port(node)), 5, source_address=(host, 0)
        )
        self.socket.setblocking(False)
        self.open = True
        self.socket.send(self.client.hello())

    @property
    def key(self) -> str:
        return self.keys.public.hex().upper()

    def pull(self, seconds: float = 0.0) -> bool:
        """Reads what is there, and waits for it up to `seconds`; returns whether it is open."""
        end = time.monotonic() + seconds
        while self.open:
            if not select.select([self.socket], [], [], max(0.0, end - time.monotonic()))[0]:
                break
            try:
                data = self.socket.recv(1 << 16)
            except (BlockingIOError, ConnectionResetError):
                data = b""
            if not data:
                self.open = False
                break
            self.client.receive(data)
            end = min(end, time.monotonic())
        return self.open

    def confirmed(self) -> "Stream":
        """Does the handshake and a first ping; AssertionError if that does not come about."""
        until(lambda: not self.pull(0.05) or self.client.ready, 10)
        assert self.client.ready, "the relay closed a client that greets"
        self.send(_PING)
        until(lambda: not self.pull(0.05) or b"\x05" + _PING[1:] in self.client.packets, 10)
        assert self.open, "the relay closed a client that pings"
        return self

    def send(self, *packets: bytes) -> None:
        self.socket.send(self.client.frames(*packets))

    def shut_out(self, seconds: float = 10.0) -> bool:
        """Waits until the relay has closed the connection."""
        return bool(until(lambda: not self.pull(0.05), seconds))

    def close(self) -> None:
        self.socket.close()
