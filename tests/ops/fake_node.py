"""A made-up Tox node on loopback that does just what a test wants of it, or fails to.

It answers pings, nodes requests, bootstrap info and announce requests with layouts of `core`, in a
process of its own; `faults` names what it does not do, or does wrong.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core import crypto
from core.bootstrap_node import BootstrapNode
from core.crypto import NONCE_SIZE, KeyPair, Nonce, PublicKey
from core.endpoint import Endpoint, from_text
from core.entropy import SystemEntropy
from core.packets.announce import (
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
)
from core.packets.bootstrap import BootstrapInfo
from core.packets.dht import (
    NodesRequest,
    NodesRequestBody,
    NodesResponse,
    NodesResponseBody,
    PingRequest,
    PingRequestBody,
    PingResponse,
    PingResponseBody,
)
from core.packets.nodes import NodeInfo
from core.packets.onion import OnionResponse3
from core.wire import WireError

PING_ID = b"\x07" * 32


class FakeNode:
    """The node: its key, where it is, and, when it has ended, what it has heard."""

    def __init__(self, faults: frozenset[str], named: tuple[NodeInfo, ...] = ()) -> None:
        self.faults = faults
        self.named = named
        self.entropy = SystemEntropy()
        self.keys = KeyPair.generate(self.entropy)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.heard: list[int] = []
        self.stored: dict[PublicKey, PublicKey] = {}

    @property
    def place(self) -> Endpoint:
        return from_text("127.0.0.1", self.port)

    @property
    def node(self) -> BootstrapNode:
        return BootstrapNode("127.0.0.1", self.port, self.keys.public)

    def serve(self) -> None:
        """Answers until an empty datagram comes."""
        while True:
            datagram, source = self.socket.recvfrom(2048)
            if not datagram:
                return
            self.heard.append(datagram[0])
            try:
                answer = self._answer(datagram)
            except WireError:
                continue
            if answer is not None:
                self.socket.sendto(answer, source)

    def _answer(self, datagram: bytes) -> bytes | None:
        kind = datagram[0]
        if f"no {kind:02x}" in self.faults:
            return None
        if kind == 0xF0:
            return BootstrapInfo(7, b"hello\x1b[2J\0").encode()
        if kind == 0x83:
            return self._announce(AnnounceRequest.decode(datagram))
        nonce = Nonce(self.entropy.bytes(NONCE_SIZE))
        if kind == 0x00:
            ping = PingRequest.decode(datagram)
            shared = crypto.precompute(self.keys.secret, ping.sender)
            assert shared is not None
            ping_id = PingRequestBody.open(shared, ping.nonce, ping.sealed).ping_id
            if "drops pings" in self.faults and self.heard.count(0) < 2:
                return None
            if "other ping id" in self.faults:
                ping_id = bytes(8)
            sealed = PingResponseBody(ping_id).seal(shared, nonce)
            return PingResponse(self.keys.public, nonce, sealed).encode()
        if kind == 0x02:
            asked = NodesRequest.decode(datagram)
            shared = crypto.precompute(self.keys.secret, asked.sender)
            assert shared is not None
            request_id = NodesRequestBody.open(shared, asked.nonce, asked.sealed).request_id
            body = NodesResponseBody(self.named[:4], request_id).seal(shared, nonce)
            return NodesResponse(self.keys.public, nonce, body).encode()
        return None

    def _announce(self, request: AnnounceRequest) -> bytes:
        shared = crypto.precompute(self.keys.secret, request.requester)
        assert shared is not None
        body = AnnounceRequestBody.open(shared, request.nonce, request.sealed)
        own = body.searched == request.requester
        is_stored, key = 0, PING_ID
        if own and body.ping_id == PING_ID and self._keeps(body.searched):
            self.stored[body.searched] = body.data_key
            is_stored = 2
        elif not own and body.searched in self.stored and self._finds():
            is_stored = 1
            key = self.stored[body.searched]
            if "other data key" in self.faults:
                key = PublicKey(bytes(32))
        if "all are stored" in self.faults:
            is_stored = 2
        if "no second" in self.faults and body.ping_id == PING_ID:
            raise WireError("test", "not answered")
        if "no search" in self.faults and not own:
            raise WireError("test", "not answered")
        nonce = Nonce(self.entropy.bytes(NONCE_SIZE))
        sealed = AnnounceResponseBody(is_stored, key, ()).seal(shared, nonce)
        answer = AnnounceResponse(body.sendback, nonce, sealed)
        return OnionResponse3(request.onion_return, answer.encode()).encode()

    def _finds(self) -> bool:
        if "found late" in self.faults:
            return self.heard.count(0x83) > 4  # two announces, and two searches in vain
        return "not found" not in self.faults

    def _keeps(self, key: PublicKey) -> bool:
        if "keeps nothing" in self.faults:
            return False
        return "keeps near keys" not in self.faults or key[0] == self.keys.public[0]


@contextmanager
def fake_node(*faults: str, named: tuple[NodeInfo, ...] = ()) -> Iterator[FakeNode]:
    """Runs a fake node in a process of its own."""
    node = FakeNode(frozenset(faults), named)
    told, teller = os.pipe()

    def serve() -> None:
        node.serve()
        os.write(teller, bytes(node.heard))

    with beside(serve):
        try:
            yield node
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", node.port))
    os.close(teller)
    node.heard += os.read(told, 1 << 16)
    os.close(told)
    node.socket.close()


@contextmanager
def beside(serve: Callable[[], None]) -> Iterator[None]:
    """Runs a function beside the block, in a copy of this process; waits for its end.

    No thread: `core.crypto` has one buffer for all, since no process of the node has threads.
    """
    copy = multiprocessing.get_context("fork").Process(target=serve, daemon=True)
    copy.start()
    try:
        yield
    finally:
        copy.join(5)
        copy.kill()
        copy.join()
