"""Datagrams and TCP streams at a running node, which must take them all without losing a worker."""

import random
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from core import crypto
from core import endpoint as endpoints
from core.crypto import KEY_SIZE, MAC_SIZE, Nonce
from core.endpoint import Endpoint
from core.entropy import SeededEntropy
from core.slots import SLOT_BYTE
from tests.bench import clients
from tests.bench.nodes import Toxmesh
from tests.bench.soak import BASE_SHARE, Verdict, troubles
from tests.fuzz.mutate import mutate
from tests.fuzz.wrong import CALLERS, Wrong, relay_talk
from toxmesh.bench import loads
from toxmesh.bench.relay import HELLO_SIZE, Connection, temporary
from toxmesh.bench.ring import SLOT, source_address
from toxmesh.bench.target import Weight

BURST = 64  # datagrams between two rounds of requests that must be answered
SHARDS = 2  # shards of a role that are asked
PING_S = 2.0  # how long such an answer may take: the machine may be busy with other things
STREAM_SHARE = 0.02  # of all inputs; each has several frames
OPEN_STREAMS = 40
ROTATE = 50_000  # datagrams after which the identities are made anew


@dataclass
class Outcome(Verdict):
    """What a run found."""

    datagrams: int = 0
    streams: int = 0
    unanswered: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Returns one sentence for each thing that is wrong."""
        return self.unanswered + super().problems()


class Shooter:
    """The UDP side: one socket for each identity."""

    def __init__(self, node: Toxmesh, seed: int) -> None:
        self.node = node
        self.address = (socket.inet_ntoa(endpoints.ip_of(node.target)), node.udp_port)
        self.socks: list[socket.socket] = []
        self.homes: list[Endpoint] = []
        for i in range(CALLERS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((socket.inet_ntoa(source_address(61_000 + i)), 0))
            sock.setblocking(False)
            self.socks.append(sock)
            self.homes.append(endpoints.from_text(*sock.getsockname()))
        self.probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.probe.bind((socket.inet_ntoa(source_address(61_100)), 0))
        self.probe.setblocking(False)
        self.epoll = select.epoll()
        self.by_fd = {sock.fileno(): sock for sock in self.socks}
        for fd in self.by_fd:
            self.epoll.register(fd, select.EPOLLIN)
        self.seed = seed
        # clients whose keys lie on different shards, for as many shards as there are
        slots = {node.clients[i].public[SLOT_BYTE] % SHARDS: i for i in range(1000)}
        self.watchers = tuple(slots[shard] for shard in range(SHARDS))
        self.wrong = Wrong(node.clients.node, f"{seed}:0", self.homes)
        self.number = 0
        self.answers = 0

    def burst(self, count: int) -> None:
        """Sends some datagrams and reads what came back."""
        for _ in range(count):
            self.number += 1
            if self.number % ROTATE == 0:
                name = f"{self.seed}:{self.number // ROTATE}"
                self.wrong = Wrong(self.node.clients.node, name, self.homes)
            packet = self.wrong.datagram()
            self._send(packet)
        for fd, _ in self.epoll.poll(0):
            for _ in range(20):
                try:
                    packet = self.by_fd[fd].recv(SLOT)
                except OSError:
                    break
                self.answers += 1
                self.wrong.learn(packet)
                reply = self.wrong.answer(packet)
                if reply is not None:
                    self._send(reply)

    def _send(self, packet: bytes) -> None:
        try:
            self.socks[self.wrong.speaker % CALLERS].sendto(packet, self.address)
        except (BlockingIOError, ConnectionRefusedError):
            return

    def alive(self) -> bool:
        """Tells whether every dht and onion shard still answers good requests.

        That also waits until they have worked off what came before, so that no queue overflows
        and everything is really looked at.
        """
        waiting: dict[tuple[int, int], tuple[loads.Load, bytes]] = {}
        made = self.node.clients
        home = endpoints.from_text(*self.probe.getsockname())
        for turn, load in enumerate((loads.Ping(made), loads.Search(made))):
            for index in self.watchers:
                packet = load.request(self.number, made[index], home)
                waiting[turn, index] = load, packet
        for _ in range(3):
            for _, packet in waiting.values():
                self.probe.sendto(packet, self.address)
            end = time.monotonic() + PING_S
            while waiting and (left := end - time.monotonic()) > 0:
                if not select.select([self.probe], [], [], left)[0]:
                    break
                packet = self.probe.recv(SLOT)
                for place, (load, _) in list(waiting.items()):
                    if load.check(self.number, made[place[1]], packet):
                        del waiting[place]
            if not waiting:
                return True
        return False

    def close(self) -> None:
        """Closes all sockets."""
        for sock in (*self.socks, self.probe):
            sock.close()
        self.epoll.close()


class Streams:
    """The TCP side: connections that come, say wrong things, and go or are closed."""

    def __init__(self, node: Toxmesh, seed: int) -> None:
        self.node = node
        self.chance = random.Random(f"streams {seed}")
        self.entropy = SeededEntropy(f"streams {seed}")
        self.packets = relay_talk(self.chance)
        self.open: list[Connection] = []
        self.count = 0

    def begin(self) -> None:
        """Opens one more connection: noise, a broken hello, or a good one."""
        chance = self.chance
        self.count += 1
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind((socket.inet_ntoa(source_address(self.count % 500)), 0))
        sock.settimeout(PING_S)
        try:
            sock.connect(("127.0.0.1", self.node.tcp_port))
        except OSError:
            sock.close()
            return
        sock.setblocking(False)
        client = self.node.clients[self.count % 200]
        base = int.from_bytes(self.entropy.bytes(24), "big")
        nonce = Nonce(self.entropy.bytes(24))
        plain = temporary(self.count).public + base.to_bytes(24, "big")
        hello = client.public + nonce + crypto.seal(client.shared, nonce, plain)
        way = chance.random()
        if way < 0.1:
            hello = chance.randbytes(chance.randrange(1, 400))
        elif way < 0.2:
            hello = mutate(hello, chance)
        connection = Connection(client, self.count, sock, time.monotonic(), send_nonce=base)
        cut = chance.randrange(len(hello) + 1) if chance.random() < 0.2 else len(hello)
        connection.send(hello[:cut])
        connection.send(hello[cut:])
        self.open.append(connection)

    def turn(self) -> None:
        """Lets each connection say something; ends some."""
        for connection in list(self.open):
            connection.read()
            if connection.shared is None and len(connection.inbox) >= HELLO_SIZE:
                connection.greeted()
            elif connection.shared is not None:
                self._speak(connection)
            age = time.monotonic() - connection.opened
            if not connection.alive or age > 2.0 or self.chance.random() < 0.05:
                connection.sock.close()
                self.open.remove(connection)

    def _speak(self, connection: Connection) -> None:
        chance = self.chance
        connection.packets()
        pieces = []
        for _ in range(chance.randrange(1, 8)):
            way = chance.random()
            packet = next(self.packets)
            if way < 0.1:
                packet = b"\x00" + self.node.clients[chance.randrange(200)].public
            elif way < 0.2:
                packet = bytes((16 + chance.randrange(8),)) + chance.randbytes(100)
            elif way < 0.4:
                packet = packet[:1] + mutate(packet[1:], chance)
            frame = connection.frame(packet[: 2048 - MAC_SIZE])
            if way > 0.98:
                frame = mutate(frame, chance)
            elif way > 0.97:
                frame = chance.choice((0, 1, 15, 16, 17, 2049, 65535)).to_bytes(2, "big")
                frame += chance.randbytes(KEY_SIZE)
            pieces.append(frame)
        data = b"".join(pieces)
        cut = chance.randrange(len(data) + 1)
        connection.send(data[:cut])
        connection.send(data[cut:])

    def close(self) -> None:
        """Closes all connections."""
        for connection in self.open:
            connection.sock.close()


def run(
    count: int,
    seed: int,
    workers: str = "dht=2,onion=2,relay=2",
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Sends `count` datagrams and streams and asks the node how it took them."""
    made = clients.load(5000)
    outcome = Outcome()
    with Toxmesh(made, None, workers) as node:
        shooter, streams = Shooter(node, seed), Streams(node, seed)
        told = begin = time.monotonic()
        done = 0
        while done < count:
            shooter.burst(BURST)
            wanted = STREAM_SHARE * shooter.number
            while streams.count < wanted and len(streams.open) < OPEN_STREAMS:
                streams.begin()
            streams.turn()
            done = shooter.number + streams.count
            if not shooter.alive():
                outcome.unanswered.append(f"good requests unanswered after {done} inputs")
                break
            if done >= BASE_SHARE * count and not outcome.base:
                outcome.base = node.weigh().rss
            if time.monotonic() - told > 5:
                told = time.monotonic()
                say(
                    f"{shooter.number:,} datagrams, {streams.count:,} streams, "
                    f"{shooter.answers:,} answers, {told - begin:.0f} s, {_rss(node.weigh())}"
                )
        outcome.end = node.weigh().rss
        outcome.datagrams, outcome.streams = shooter.number, streams.count
        outcome.answers = shooter.answers
        outcome.restarts, outcome.bugs = troubles(node)
        if outcome.restarts or outcome.bugs:
            say(node.log_tail())
        shooter.close()
        streams.close()
    return outcome


def _rss(weight: Weight) -> str:
    return ", ".join(f"{name} {size / 2**20:.1f}" for name, size in sorted(weight.rss.items()))
