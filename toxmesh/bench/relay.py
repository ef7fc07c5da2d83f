"""Load for the TCP relay: handshakes, and frames between pairs of connections.

Every handshake is made in full, with a pong that opens. Of relayed frames every eighth is opened
and compared: nonces count up, so that one frame too few or out of order breaks all that follow.
"""

import errno
import select
import socket
import struct
import time
from dataclasses import dataclass, field

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey, SharedKey
from core.entropy import SystemEntropy
from toxmesh.bench.clients import Client, Clients
from toxmesh.bench.ring import source_address
from toxmesh.bench.traffic import Brake, Result

HELLO_SIZE = 96  # bytes of the relay's hello
STAMP = struct.Struct("!d")
READ = 65536
NONCE_MASK = (1 << 192) - 1  # nonces are kept as numbers; the greatest wraps to zero
SAMPLE = 8  # one of so many relayed frames is opened
BOX_EXTRA = 18  # bytes that a frame is longer sealed than plain: two of length, 16 of the box
DATA = 16  # first byte of a packet for a link, at least
AT_ONCE = 200  # handshakes under way; the reference keeps up to 256
DIALS = 64  # connections that wait for the relay's hello, where many are made
HANDSHAKE_S = 3.0  # to wait for one at most
TEMPORARY_KEYS = 512  # key pairs that the connections of the load share
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h
_entropy = SystemEntropy()

_temporary: list[KeyPair] = []


def temporary(i: int) -> KeyPair:
    """Returns one of a few temporary key pairs; a real client makes its own each time."""
    if not _temporary:
        _temporary.extend(KeyPair.generate(_entropy) for _ in range(TEMPORARY_KEYS))
    return _temporary[i % TEMPORARY_KEYS]


@dataclass(slots=True)
class Connection:
    """One client's connection to the relay."""

    client: Client
    index: int
    sock: socket.socket
    opened: float
    shared: SharedKey | None = None
    send_nonce: int = 0
    receive_nonce: int = 0
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    link: int = 0  # the link id of its partner
    linked: bool = False
    alive: bool = True

    def frame(self, packet: bytes) -> bytes:
        """Seals one packet under the next nonce."""
        assert self.shared is not None
        nonce = Nonce(self.send_nonce.to_bytes(24, "big"))
        self.send_nonce = (self.send_nonce + 1) & NONCE_MASK
        sealed = crypto.seal(self.shared, nonce, packet)
        return len(sealed).to_bytes(2, "big") + sealed

    def send(self, data: bytes) -> None:
        """Writes now what the socket takes, and keeps the rest."""
        if self.outbox:
            self.outbox += data
            return
        try:
            done = self.sock.send(data)
        except BlockingIOError:
            done = 0
        except OSError:
            self.alive = False
            return
        if done < len(data):
            self.outbox += data[done:]

    def flush(self) -> None:
        """Writes what was kept."""
        data, self.outbox = bytes(self.outbox), bytearray()
        self.send(data)

    def read(self) -> int:
        """Takes in what came; returns how much that was."""
        try:
            data = self.sock.recv(READ)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.alive = False
        self.inbox += data
        return len(data)

    def greeted(self) -> bool | None:
        """Reads the relay's hello: None while it is not all there, False if it is not genuine."""
        if len(self.inbox) < HELLO_SIZE:
            return None
        hello = bytes(self.inbox[:HELLO_SIZE])
        del self.inbox[:HELLO_SIZE]
        plain = crypto.open_sealed(self.client.shared, hello[:24], hello[24:])
        if plain is None:
            return False
        self.shared = crypto.precompute(temporary(self.index).secret, plain[:32])
        self.receive_nonce = int.from_bytes(plain[32:], "big")
        return self.shared is not None

    def count_frames(self, size: int) -> tuple[int, list[bytes]]:
        """Takes the whole frames if all are `size` bytes plain; returns how many, and samples.

        The samples are opened frames. Where a frame has another size, or one does not open, none
        is taken: 0 and no sample.
        """
        inbox, wire = self.inbox, size + BOX_EXTRA
        count = len(inbox) // wire
        if not count or self.shared is None:
            return 0, []
        high, low = divmod(size + BOX_EXTRA - 2, 256)
        end = count * wire
        if inbox[0:end:wire].count(high) != count or inbox[1:end:wire].count(low) != count:
            return 0, []
        samples: list[bytes] = []
        first = self.receive_nonce
        for i in range(-first % SAMPLE, count, SAMPLE):
            sealed = bytes(inbox[i * wire + 2 : (i + 1) * wire])
            nonce = ((first + i) & NONCE_MASK).to_bytes(24, "big")
            plain = crypto.open_sealed(self.shared, nonce, sealed)
            if plain is None:
                return 0, []
            samples.append(plain)
        self.receive_nonce = (first + count) & NONCE_MASK
        del inbox[:end]
        return count, samples

    def packets(self) -> list[bytes]:
        """Opens all whole frames."""
        found: list[bytes] = []
        inbox, position = self.inbox, 0
        assert self.shared is not None
        while len(inbox) - position >= 2:
            size = inbox[position] << 8 | inbox[position + 1]
            if len(inbox) - position < 2 + size:
                break
            sealed = bytes(inbox[position + 2 : position + 2 + size])
            position += 2 + size
            nonce = self.receive_nonce.to_bytes(24, "big")
            self.receive_nonce = (self.receive_nonce + 1) & NONCE_MASK
            plain = crypto.open_sealed(self.shared, nonce, sealed)
            if plain is None:
                self.alive = False
                break
            found.append(plain)
        del inbox[:position]
        return found


class RelayLoad:
    """Connections to one relay."""

    def __init__(
        self,
        clients: Clients,
        address: tuple[str, int],
        sources: int,
        brake: Brake | None = None,
    ) -> None:
        """Connects from `sources` loopback addresses in turn; 1: from where the kernel says."""
        self.clients = clients
        self.address = address
        self.sources = sources
        self.brake = brake or Brake()
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}

    def close(self) -> None:
        """Closes everything."""
        for connection in list(self.connections.values()):
            self.drop(connection)
        self.epoll.close()

    def drop(self, connection: Connection) -> None:
        """Closes one connection."""
        self.connections.pop(connection.sock.fileno(), None)
        connection.sock.close()

    def hello(self, index: int, client: Client, base: int) -> bytes:
        """Makes the 128 bytes with which a connection begins."""
        nonce = Nonce(_entropy.bytes(24))
        plain = temporary(index).public + base.to_bytes(24, "big")
        return client.public + nonce + crypto.seal(client.shared, nonce, plain)

    def open(self, index: int, client: Client, hello: bytes, base: int) -> Connection:
        """Begins a connection; the hello leaves at once where the kernel has connected already."""
        sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.sources > 1:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((socket.inet_ntoa(source_address(index % self.sources)), 0))
        connection = Connection(client, index, sock, time.monotonic(), send_nonce=base)
        error = sock.connect_ex(self.address)
        if error not in (0, errno.EINPROGRESS):
            connection.alive = False
        # on loopback the connection stands by now: the hello needs no turn of its own
        connection.send(hello)
        self.connections[sock.fileno()] = connection
        self.epoll.register(
            sock, select.EPOLLIN | select.EPOLLET | (select.EPOLLOUT if connection.outbox else 0)
        )
        return connection

    def _ready(self, timeout: float) -> list[Connection]:
        """Reads and writes where that is possible; returns connections with news."""
        news = []
        for fd, events in self.epoll.poll(timeout):
            connection = self.connections.get(fd)
            if connection is None:
                continue
            if events & select.EPOLLOUT and connection.outbox:
                connection.flush()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                while connection.alive and connection.read() == READ:
                    pass
                news.append(connection)
        return news

    def handshakes(self, keys: int, seconds: float, at_once: int = AT_ONCE) -> Result:
        """Opens connections, has each prove itself with a ping, and closes it again.

        A handshake counts when the pong has come: then both sides hold the session keys.
        """
        result = Result()
        temporary(0)
        ping = b"\x04" + (7).to_bytes(8, "big")
        index = 0
        own = time.process_time()
        began = now = time.monotonic()
        over = False
        while not over or (self.connections and now - began < seconds + 1.0):
            now = time.monotonic()
            over = now - began >= seconds or self.brake.pulled
            while not over and len(self.connections) < at_once:
                client = self.clients[index % keys]
                base = int.from_bytes(_entropy.bytes(24), "big")
                self.open(index, client, self.hello(index, client, base), base)
                index += 1
                result.sent += 1
            for connection in self._ready(0.002):
                self._handshake(connection, ping, result)
                if not connection.alive:
                    self.drop(connection)
            for connection in self._expired(now - HANDSHAKE_S):
                self.drop(connection)
        result.seconds = now - began
        result.own_cpu = time.process_time() - own
        result.lost = result.sent - result.answers
        self.close()
        self.epoll = select.epoll()
        return result

    @staticmethod
    def _handshake(connection: Connection, ping: bytes, result: Result) -> None:
        """Goes a step further: the relay's hello, a ping for it, its pong and the end."""
        if connection.shared is None:
            greeted = connection.greeted()
            if greeted:
                connection.send(connection.frame(ping))
            elif greeted is False:
                result.wrong += 1
                connection.alive = False
        if connection.shared is None or not connection.inbox:
            return
        if any(packet == b"\x05" + ping[1:] for packet in connection.packets()):
            result.answers += 1
            result.latencies.append(time.monotonic() - connection.opened)
            connection.alive = False

    def _expired(self, opened: float) -> list[Connection]:
        """Returns the connections that were opened before; the oldest stand first."""
        found = []
        for connection in self.connections.values():
            if connection.opened >= opened:
                break
            found.append(connection)
        return found

    def connect_pairs(self, count: int, first: int = 0, timeout: float = 15.0) -> int:
        """Opens `count` connections and links each with its neighbour; returns how many linked.

        Each asks for its link as soon as it stands: tox-bootstrapd keeps no more than 256 that
        have not said anything yet, and throws the oldest of them out.
        """
        temporary(0)
        made: list[Connection] = []
        waiting = 0  # connections without the relay's hello
        end = time.monotonic() + timeout
        even = count & ~1
        while time.monotonic() < end and not self.brake.pulled:
            while len(made) < count and waiting < DIALS:
                client = self.clients[first + len(made)]
                base = int.from_bytes(_entropy.bytes(24), "big")
                hello = self.hello(first + len(made), client, base)
                made.append(self.open(first + len(made), client, hello, base))
                waiting += 1
            for connection in self._ready(0.01):
                if connection.shared is None and connection.greeted():
                    waiting -= 1
                    place = connection.index - first
                    if place < even:
                        key = PublicKey(self.clients[first + (place ^ 1)].public)
                        connection.send(connection.frame(b"\x00" + key))
                if connection.shared is not None:
                    self._link(connection)
            if len(made) == count and all(c.linked for c in made[:even]) and not waiting:
                break
        self.partner = {id(c): made[i ^ 1] for i, c in enumerate(made[:even])}
        return sum(c.linked for c in made)

    @staticmethod
    def _link(connection: Connection) -> None:
        for packet in connection.packets():
            if packet[0] == 0x01:
                connection.link = packet[1]
            elif packet[0] == 0x02:
                connection.linked = True

    def start_frames(self, size: int, in_flight: int) -> None:
        """Puts the first frames on the way: `in_flight` from each linked connection."""
        self.filler = _entropy.bytes(size - 1 - STAMP.size)
        for connection in list(self.connections.values()):
            if connection.linked and connection.link >= DATA:
                self._frames(connection, in_flight)

    def _frames(self, connection: Connection, count: int) -> None:
        link = bytes((connection.link,))
        packet = link + STAMP.pack(time.monotonic()) + self.filler
        connection.send(b"".join([connection.frame(packet) for _ in range(count)]))

    def pump(self, result: Result, timeout: float, more: bool = True) -> None:
        """Takes in frames; for each, the sender sends another (while `more`)."""
        ready = self._ready(timeout)
        now = time.monotonic()
        size = 1 + STAMP.size + len(self.filler)
        for connection in ready:
            if connection.shared is None:
                continue
            count, samples = connection.count_frames(size)
            if connection.inbox:  # something is among or behind them, mostly a ping
                others = connection.packets()
                count += sum(packet[0] >= DATA for packet in others)
                samples += others
            for packet in samples:
                if packet[0] >= DATA:
                    if packet[1 + STAMP.size :] != self.filler:
                        result.wrong += 1
                    result.latencies.append(now - STAMP.unpack_from(packet, 1)[0])
                elif packet[0] == 0x04:
                    connection.send(connection.frame(b"\x05" + packet[1:]))
            if count:
                result.answers += count
                if more:
                    result.sent += count
                    self._frames(self.partner[id(connection)], count)
            if not connection.alive:
                result.wrong += 1
                self.drop(connection)

    def frames(self, size: int, in_flight: int, seconds: float) -> Result:
        """Keeps `in_flight` frames of `size` bytes (link id included) under way each direction."""
        result = Result()
        own = time.process_time()
        began = time.monotonic()
        self.start_frames(size, in_flight)
        result.sent = in_flight * sum(c.linked for c in self.connections.values())
        while time.monotonic() - began < seconds and not self.brake.pulled:
            self.pump(result, 0.01)
        result.seconds = time.monotonic() - began
        result.own_cpu = time.process_time() - own
        end = time.monotonic() + 1.0
        while result.answers < result.sent and time.monotonic() < end:
            self.pump(result, 0.01, more=False)
        result.lost = result.sent - result.answers
        return result
