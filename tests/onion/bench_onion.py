"""Prints the CPU microseconds of each onion packet in the module, without processes and sockets.

    python -m tests.onion.bench_onion [KEYS]

Each kind is sent from KEYS distinct clients (1,000 unless told), whose keys are known after the
first round, to one shard with 32 known nodes; the figure is the best of five further rounds.
"""

import sys
import time

from core.crypto import KeyPair, SecretKey, seal
from core.endpoint import Endpoint, from_text, pack_ip_port
from core.entropy import SystemEntropy
from core.messages import Message, NodeRow, TableFull
from core.module import Collected, Context
from core.onion import OnionModule
from tests.onion.client import Client, Hop

NOW = 100_000.0
Datagrams = list[tuple[bytes, Endpoint]]


class Emptied(Collected):
    """Keeps nothing but the last datagram."""

    def send(self, endpoint: Endpoint, packet: bytes) -> None:
        """Forgets the one before."""
        self.last = (endpoint, packet)

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Forgets it."""


def best(module: OnionModule, datagrams: Datagrams) -> float:
    """Returns microseconds of process time for one datagram, best of five rounds."""
    times = []
    handlers = [handler or module.handle_packet for handler in module.handlers]
    for _ in range(6):
        start = time.process_time()
        for packet, source in datagrams:
            handlers[packet[0]](packet, source, NOW)
        times.append((time.process_time() - start) / len(datagrams))
    return min(times[1:]) * 1e6


def main() -> None:
    """Measures and prints a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    entropy = SystemEntropy()
    keys = KeyPair.generate(entropy)
    out = Emptied()
    module = OnionModule(Context(keys, SecretKey(entropy.bytes(32)), entropy, out, started=NOW))
    rows = tuple(
        NodeRow(entropy.bytes(32), from_text("198.51.100.1", 1 + i), b"", False, True)
        for i in range(32)
    )
    module.handle_message(TableFull(1, keys.public, rows), NOW)
    sources = [from_text(f"203.0.{i // 250}.{i % 250}", 33445) for i in range(count)]
    clients = [Client(f"client {i}") for i in range(count)]
    away = from_text("192.0.2.1", 33445)
    here = Hop(away, keys.public)
    requests = [
        client.announce_request(keys.public, client.dht, client.real.public) for client in clients
    ]
    first: Datagrams = []
    second: Datagrams = []
    third: Datagrams = []
    for client, source, request in zip(clients, sources, requests, strict=True):
        # every layer is boxed by a key of its own; the kinds are measured one after the other
        first.append((client.onion([here, here, here], away, request), source))
        module.handle_packet(*first[-1], NOW)
        second.append((out.last[1], source))
        module.handle_packet(*second[-1], NOW)
        third.append((out.last[1], source))
    module.handle_packet(*third[-1], NOW)
    onion_return = out.last[1][-177:]
    proven: Datagrams = []
    for client, source in zip(clients, sources, strict=True):
        own = client.announce_request(keys.public, client.real, client.real.public)
        module.handle_packet(own + onion_return, source, NOW)
        answer = client.open_announce(client.real, keys.public, out.last[1][178:])
        packet = client.announce_request(
            keys.public, client.real, client.real.public, answer.payload, client.data.public
        )
        proven.append((packet + onion_return, source))
    pairs = list(zip(clients, sources, strict=True))
    searches = [(request + onion_return, s) for request, s in zip(requests, sources, strict=True)]
    data = [(c.data_request(c.real.public, c.data.public, bytes(80)), s) for c, s in pairs]
    answer_84 = b"\x84" + bytes(237)
    key = module.hops.returns.current(NOW)

    def sealed(source: Endpoint, inner: bytes) -> bytes:
        nonce = entropy.bytes(24)
        return nonce + seal(key, nonce, pack_ip_port(source) + inner)

    table: list[tuple[str, Datagrams]] = [
        ("80 first hop", first),
        ("81 second hop", second),
        ("82 third hop", third),
        ("83 search, not found", searches),
        ("83 announce with ping id", proven),
        ("83 search, found", searches),
        ("85 data to route", [(packet + onion_return, source) for packet, source in data]),
        ("8c third response", [(b"\x8c" + sealed(s, bytes(118)) + answer_84, s) for s in sources]),
        ("8d second response", [(b"\x8d" + sealed(s, bytes(59)) + answer_84, s) for s in sources]),
        ("8e first response", [(b"\x8e" + sealed(s, b"") + answer_84, s) for s in sources]),
        ("93 data search", [(c.data_search(keys.public, c.data.public), s) for c, s in pairs]),
    ]
    for name, datagrams in table:
        print(f"{name:28}{best(module, datagrams):8.2f} us")
    print(dict(out.drops), module.snapshot())


if __name__ == "__main__":
    main()
