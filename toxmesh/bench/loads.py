"""The requests of each load, and how to tell that an answer to one is real.

A load makes request number `i` of a client whose answers come to `home`, and checks the answer to
it. Layouts: docs/packets.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from core import crypto
from core import endpoint as endpoints
from core.crypto import KEY_SIZE, MAC_SIZE, NONCE_SIZE, Nonce
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from toxmesh.bench.clients import Client, Clients

RETURN_1, RETURN_2, RETURN_3 = 59, 118, 177  # bytes of the onion's sealed returns
ANNOUNCE_SIZE = 177  # bytes of an announce request, without the return
_NO_PING_ID = bytes(32)

entropy = SystemEntropy()


class LoadError(Exception):
    """A load cannot be prepared: the node does not do what it needs first."""


def _number(i: int) -> bytes:
    return (i + 1).to_bytes(8, "big")


def _nonce() -> Nonce:
    return Nonce(entropy.bytes(NONCE_SIZE))


@dataclass
class Load(ABC):
    """Requests of one kind."""

    clients: Clients
    name: str = ""
    answer: int = 0  # first byte of the answers
    keyed: bool = True  # whether the number of client keys makes a difference

    @abstractmethod
    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """Makes request `i` of `client`, which listens at `home`."""

    @abstractmethod
    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """Tells whether `packet` is what request `i` of `client` asked for."""

    def probe(
        self, i: int, client: Client, home: Endpoint
    ) -> tuple[bytes, Callable[[bytes], bool]]:
        """Makes one request and the check of its answer."""
        return self.request(i, client, home), lambda packet: self.check(i, client, packet)

    def _dht_body(self, client: Client, packet: bytes) -> bytes:
        """Opens an answer of the DHT's form; empty if it is not from the node."""
        if packet[1 : 1 + KEY_SIZE] != self.clients.node:
            return b""
        return crypto.open_sealed(client.shared, packet[33:57], packet[57:]) or b""


class Ping(Load):
    """DHT ping requests."""

    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """00 · key · nonce · box{00 · ping id}."""
        nonce = _nonce()
        return (
            b"\x00" + client.public + nonce
            + crypto.seal(client.shared, nonce, b"\x00" + _number(i))
        )  # fmt: skip

    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """The ping id comes back."""
        return self._dht_body(client, packet) == b"\x01" + _number(i)


class Nodes(Load):
    """DHT nodes requests for random keys; `listed` counts the nodes of the last answer checked."""

    listed = 0

    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """02 · key · nonce · box{searched · request id}."""
        nonce = _nonce()
        plain = entropy.bytes(KEY_SIZE) + _number(i)
        return b"\x02" + client.public + nonce + crypto.seal(client.shared, nonce, plain)

    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """The request id comes back behind a count of nodes that fits the size."""
        body = self._dht_body(client, packet)
        if not body or body[-8:] != _number(i) or len(body) != 9 + 39 * body[0]:
            return False
        self.listed = body[0]
        return True


class Hop(Load):
    """Onion requests to one of the three hops; what the hop sends on comes back to the sender."""

    hop = 0

    def payload(self, i: int, client: Client) -> bytes:
        """What leaves the last hop: the form of an announce request."""
        return b"\x83" + entropy.bytes(NONCE_SIZE + KEY_SIZE) + entropy.bytes(112) + _number(i)

    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """80, 81 or 82 · nonce · key · box{where to · what} · the return so far."""
        nonce = _nonce()
        inner = endpoints.pack_ip_port(home)
        last = KEY_SIZE + MAC_SIZE + 19 + len(self.payload(i, client))
        if self.hop == 2:
            inner += self.payload(i, client)
        elif self.hop == 1:
            inner += entropy.bytes(last - 8) + _number(i)
        else:
            inner += entropy.bytes(KEY_SIZE + MAC_SIZE + 19 + last - 8) + _number(i)
        sealed = crypto.seal(client.shared, nonce, inner)
        behind = entropy.bytes((0, RETURN_1, RETURN_2)[self.hop])
        return bytes((0x80 + self.hop,)) + nonce + client.public + sealed + behind

    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """The part that we filled in last stands before the node's return."""
        size = (RETURN_1, RETURN_2, RETURN_3)[self.hop]
        return packet[-size - 8 : -size] == _number(i)


class Hop0(Hop):
    """80 to 81."""

    hop = 0


class Hop1(Hop):
    """81 to 82."""

    hop = 1


class Hop2(Hop):
    """82 to the announce request inside."""

    hop = 2


class Back(Load):
    """Onion responses on their way back, with returns that the node itself sealed before."""

    def __init__(self, clients: Clients, name: str, answer: int, size: int) -> None:
        super().__init__(clients, name, answer, keyed=False)
        self.size = size
        self.kind = {RETURN_3: 0x8C, RETURN_2: 0x8D, RETURN_1: 0x8E}[size]
        self.returns: dict[Endpoint | None, list[bytes]] = {}  # None: those of the whole load

    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """8c, 8d or 8e · return · an announce response of 82 bytes and four nodes."""
        rows = self.returns[home if home in self.returns else None]
        data = b"\x84" + _number(i) + entropy.bytes(24 + 49 + 4 * 39)
        return bytes((self.kind,)) + rows[i % len(rows)] + data

    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """The data comes out behind what is left of the return."""
        start = 0 if self.size == RETURN_1 else 1 + self.size - RETURN_1
        return packet[start : start + 9] == b"\x84" + _number(i)


class Search(Load):
    """Announce requests that only search."""

    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """83 · nonce · key · box{no ping id · searched · no data key · sendback} · return."""
        return self.announce(i, client, _NO_PING_ID, entropy.bytes(KEY_SIZE), bytes(KEY_SIZE))

    @staticmethod
    def announce(i: int, client: Client, ping_id: bytes, searched: bytes, data: bytes) -> bytes:
        """Makes an announce request as the third hop hands it to the node."""
        nonce = _nonce()
        plain = ping_id + searched + data + _number(i)
        sealed = crypto.seal(client.shared, nonce, plain)
        return b"\x83" + nonce + client.public + sealed + bytes(RETURN_3)

    @staticmethod
    def number(packet: bytes) -> int:
        """Returns which request an answer 8c · return · 84 · sendback … belongs to, or -1."""
        start = 1 + RETURN_3
        if packet[start : start + 1] != b"\x84":
            return -1
        return int.from_bytes(packet[start + 1 : start + 9], "big") - 1

    @staticmethod
    def body(client: Client, packet: bytes) -> bytes:
        """Opens an answer: is_stored · ping id or data key · nodes; empty if it does not open."""
        start = 1 + RETURN_3 + 9
        nonce = packet[start : start + NONCE_SIZE]
        return crypto.open_sealed(client.shared, nonce, packet[start + NONCE_SIZE :]) or b""

    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """It opens, is not stored, and nodes fill the rest."""
        if self.number(packet) != i:
            return False
        body = self.body(client, packet)
        return len(body) >= 33 and body[0] == 0 and (len(body) - 33) % 39 == 0


class Store(Search):
    """Announce requests with a ping id that was fetched before; `stored` are the keys kept."""

    def __init__(self, clients: Clients, name: str, answer: int) -> None:
        super().__init__(clients, name, answer)
        self.ping_ids: dict[tuple[bytes, bytes], bytes] = {}  # by key and address of the client

    def first(self, i: int, client: Client) -> bytes:
        """Makes the request that fetches the ping id."""
        return self.announce(i, client, _NO_PING_ID, client.public, client.public)

    def learn(self, client: Client, home: Endpoint, packet: bytes) -> None:
        """Keeps the ping id of an answer."""
        body = self.body(client, packet)
        if len(body) >= 33 and body[0] != 1:
            self.ping_ids[client.public, home] = body[1:33]

    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """The same with the ping id, its own key, and a data key."""
        ping_id = self.ping_ids.get((client.public, home), _NO_PING_ID)
        return self.announce(i, client, ping_id, client.public, client.public)

    def stored(self, client: Client, packet: bytes) -> bool:
        """Tells whether the answer says that this very announce is kept."""
        return self.body(client, packet)[:1] == b"\x02"

    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """It opens; kept or not depends on the room that the node has."""
        if self.number(packet) != i:
            return False
        body = self.body(client, packet)
        return len(body) >= 33 and body[0] in (0, 2) and (len(body) - 33) % 39 == 0


class Route(Load):
    """Data to route to clients that are stored."""

    targets: tuple[bytes, ...] = ()

    def request(self, i: int, client: Client, home: Endpoint) -> bytes:
        """85 · stored key · nonce · temporary key · sealed, 300 bytes of it · return."""
        target = self.targets[i % len(self.targets)]
        return (
            b"\x85" + target + entropy.bytes(NONCE_SIZE + KEY_SIZE)
            + entropy.bytes(300 + MAC_SIZE - 8) + _number(i) + bytes(RETURN_3)
        )  # fmt: skip

    def check(self, i: int, client: Client, packet: bytes) -> bool:
        """The last sealed bytes arrive in an 86 behind the return of the one stored."""
        return packet[1 + RETURN_3] == 0x86 and packet[-8:] == _number(i)
