"""Asks nodes plain questions over UDP, with layouts written down here and not taken from `core`.

What a node answers is thus read by a second hand; keys and boxes alone come from `core.crypto`.
"""

import secrets
import socket
import struct
from dataclasses import dataclass

from core.crypto import KeyPair, Nonce, open_sealed, precompute, seal
from tests.interop.nodes import Address, new_keys

INFO_REQUEST_SIZE = 78  # c-toxcore bootstrap_node_packets.h: INFO_REQUEST_PACKET_LENGTH
_INFO = 0xF0
_NODES_REQUEST, _NODES_RESPONSE = 0x02, 0x04
_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Named:
    """A node as another node names it in its answer."""

    host: str
    port: int
    key: bytes


class Probe:
    """A UDP socket on loopback with a key pair of its own."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(_TIMEOUT_S)
        self._keys: KeyPair = new_keys()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def ask(self, port: int, datagram: bytes, kind: int) -> bytes | None:
        """Sends a datagram to a port on loopback; returns the next answer of `kind`, or None.

        Other datagrams are passed over: a node pings whoever asks it.
        """
        self._socket.sendto(datagram, ("127.0.0.1", port))
        try:
            while True:
                answer = self._socket.recv(4096)
                if answer[0] == kind:
                    return answer
        except TimeoutError:
            return None

    def bootstrap_info(self, node: Address, size: int = INFO_REQUEST_SIZE) -> bytes | None:
        """Returns the answer to a bootstrap info request of `size` bytes, or None."""
        return self.ask(node.udp_port, bytes([_INFO]) + bytes(size - 1), _INFO)

    def nodes(self, node: Address, searched: bytes) -> list[Named]:
        """Returns the nodes that `node` names for a searched key; none if it does not answer."""
        shared = precompute(self._keys.secret, node.key)
        assert shared is not None
        nonce, number = Nonce(secrets.token_bytes(24)), secrets.token_bytes(8)
        request = (
            bytes([_NODES_REQUEST])
            + self._keys.public
            + nonce
            + seal(shared, nonce, searched + number)
        )
        answer = self.ask(node.udp_port, request, _NODES_RESPONSE)
        if answer is None:
            return []
        assert answer[1:33] == node.key
        plain = open_sealed(shared, answer[33:57], answer[57:])
        assert plain is not None
        assert plain[-8:] == number
        return _read_nodes(plain[0], plain[1:-8])


def read_bootstrap_info(answer: bytes) -> tuple[int, str]:
    """Reads the answer as the reference's own tool does: kind, 4 bytes version, a C string."""
    kind, version = struct.unpack_from(">BI", answer)
    assert kind == _INFO
    return version, answer[5:].split(b"\0", 1)[0].decode()


def _read_nodes(count: int, packed: bytes) -> list[Named]:
    """Reads packed nodes: family, address, port (big-endian), key."""
    named = []
    for _ in range(count):
        family, size = (socket.AF_INET, 4) if packed[0] == 2 else (socket.AF_INET6, 16)
        assert packed[0] in (2, 10)
        host = socket.inet_ntop(family, packed[1 : 1 + size])
        (port,) = struct.unpack_from(">H", packed, 1 + size)
        named.append(Named(host, port, packed[3 + size : 35 + size]))
        packed = packed[35 + size :]
    assert not packed
    return named
