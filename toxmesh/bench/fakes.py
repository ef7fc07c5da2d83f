"""A small network around the node under test, so that it has nodes to list in answers.

A process of its own answers pings and nodes requests for some dozens of made-up nodes, each with
its own key and loopback address, for as long as the measurements last.
"""

import multiprocessing
import os
import select
import socket
import time
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

from core import crypto
from core import endpoint as endpoints
from core.crypto import KeyPair, Nonce, SharedKey
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from toxmesh.bench.ring import SLOT, source_address

COUNT = 96
FIRST_SOURCE = 62_000  # index of their first address: apart from those of the load
JOIN_S = 7.0  # to wait for that at most: a node pings 32 candidates every two seconds
ENOUGH = 24  # nodes that were asked: more than one answer can list
LISTED = 4


class Fakes:
    """Made-up nodes that answer, in a child process."""

    def __init__(self, node_key: bytes, target: Endpoint, count: int = COUNT) -> None:
        fork = multiprocessing.get_context("fork")
        self._joined = fork.Event()
        self._process: BaseProcess = fork.Process(
            target=_serve, args=(node_key, target, count, self._joined), daemon=True
        )

    def __enter__(self) -> "Fakes":
        self._process.start()
        self._joined.wait(JOIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


class Fake:
    """One made-up node: its key, its socket, and the answers it gives."""

    def __init__(self, node_key: bytes, index: int, entropy: SystemEntropy) -> None:
        pair = KeyPair.generate(entropy)
        shared = crypto.precompute(pair.secret, node_key)
        if shared is None:
            raise ValueError("no node has this key: it is of low order")
        self.public = pair.public
        self.shared: SharedKey = shared
        self.entropy = entropy
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((socket.inet_ntoa(source_address(FIRST_SOURCE + index)), 0))
        self.sock.setblocking(False)
        host, port = self.sock.getsockname()
        self.packed = endpoints.pack_compact(endpoints.from_text(host, port)) + self.public

    def seal(self, kind: int, plain: bytes) -> bytes:
        """Returns a DHT packet of ours for the node."""
        nonce = Nonce(self.entropy.bytes(24))
        return bytes((kind,)) + self.public + nonce + crypto.seal(self.shared, nonce, plain)

    def knock(self) -> bytes:
        """Returns a nodes request, which makes the node try its sender."""
        return self.seal(0x02, self.public + self.entropy.bytes(8))

    def answer(self, packet: bytes, others: bytes) -> bytes | None:
        """Returns the answer to a ping or nodes request of the node; None to all else."""
        if len(packet) < 82 or packet[0] not in (0x00, 0x02):
            return None
        plain = crypto.open_sealed(self.shared, packet[33:57], packet[57:])
        if plain is None:
            return None
        if packet[0] == 0x00:
            return self.seal(0x01, b"\x01" + plain[1:])
        return self.seal(0x04, bytes((LISTED,)) + others + plain[32:])


def _serve(node_key: bytes, target: Endpoint, count: int, joined: Event) -> None:
    entropy = SystemEntropy()
    fakes = [Fake(node_key, i, entropy) for i in range(count)]
    address = (socket.inet_ntoa(endpoints.ip_of(target)), endpoints.port_of(target))
    by_fd = {fake.sock.fileno(): fake for fake in fakes}
    epoll = select.epoll()
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    parent = os.getppid()
    asked: set[int] = set()
    begin = knocked = time.monotonic() - 10
    begin += 10
    while os.getppid() == parent:
        now = time.monotonic()
        if now - knocked > (1.0 if now - begin < JOIN_S else 30.0):
            knocked = now
            for fake in fakes:
                fake.sock.sendto(fake.knock(), address)
        for fd, _ in epoll.poll(0.5):
            fake = by_fd[fd]
            try:
                packet = fake.sock.recv(SLOT)
            except (BlockingIOError, ConnectionRefusedError):
                continue
            start = entropy.below(count)
            others = b"".join(fakes[(start + i) % count].packed for i in range(LISTED))
            reply = fake.answer(packet, others)
            if reply is not None:
                fake.sock.sendto(reply, address)
                asked.add(fd)
                if len(asked) >= ENOUGH:
                    joined.set()
