"""CPU of the DHT module alone: `python -m tests.dht.bench_dht` prints microseconds per answer.

Called as a worker calls it: straight by the first byte."""

import random
import time

from core.crypto import KeyPair, SecretKey, precompute, seal
from core.dht import DhtModule
from core.dht.distance import number_of
from core.endpoint import Endpoint, from_text
from core.entropy import SystemEntropy
from core.messages import Message, NodeRow, TableFull
from core.module import Collected, Context, NodeOptions

CLIENTS = 1000
PACKETS = 20_000
ROUNDS = 5
SOURCE = from_text("198.51.100.5", 33445)


class Nowhere(Collected):
    """Counts drops and forgets the rest."""

    def send(self, endpoint: Endpoint, packet: bytes) -> None:
        """Forgets a datagram."""

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Forgets a message."""


def table(own: bytes, per_bucket: int) -> tuple[NodeRow, ...]:
    """Returns the rows of a well filled table: 16 buckets."""
    chance = random.Random(1)
    rows = []
    for bucket in range(16):
        for number in range(per_bucket):
            near = number_of(own) ^ 1 << 255 - bucket ^ chance.getrandbits(255 - bucket)
            endpoint = from_text(f"20.{bucket}.{number}.1", 33445)
            rows.append(NodeRow(near.to_bytes(32, "big"), endpoint, b"", False, True))
    return tuple(rows)


def measure(name: str, module: DhtModule, packets: list[bytes]) -> None:
    """Prints the best of some rounds."""
    best = float("inf")
    handlers = [handler or module.handle_packet for handler in module.handlers]
    for _ in range(ROUNDS):
        start = time.process_time()
        for packet in packets:
            handlers[packet[0]](packet, SOURCE, 1.0)
        best = min(best, (time.process_time() - start) / len(packets))
    print(f"{name:34} {best * 1e6:6.2f} us")


def main() -> None:
    """Measures pings, and nodes requests for random keys and for keys near our own."""
    entropy = SystemEntropy()
    keys = KeyPair.generate(entropy)
    options = NodeOptions(lan_discovery=False)
    secret = SecretKey(entropy.bytes(32))
    module = DhtModule(Context(keys, secret, entropy, Nowhere(), shard=1, options=options))
    rows = table(keys.public, 8)
    module.handle_message(TableFull(1, keys.public, rows), 0.0)
    clients = [KeyPair.generate(entropy) for _ in range(CLIENTS)]
    shared = [precompute(client.secret, keys.public) for client in clients]

    def packets(kind: int, head: bytes, size: int) -> list[bytes]:
        result = []
        for number in range(PACKETS):
            client, key = clients[number % CLIENTS], shared[number % CLIENTS]
            assert key is not None
            nonce = entropy.bytes(24)
            text = head + entropy.bytes(size - len(head))
            result.append(bytes((kind,)) + client.public + nonce + seal(key, nonce, text))
        return result

    measure("ping", module, packets(0x00, b"\x00", 9))
    measure("nodes request, random key", module, packets(0x02, b"", 40))
    measure("nodes request, key near our own", module, packets(0x02, keys.public[:3], 40))
    start = time.process_time()
    for _ in range(20):
        module.handle_message(TableFull(1, keys.public, rows), 0.0)
    cost = (time.process_time() - start) / 20 / len(rows)
    print(f"{'a row of a table taken in':34} {cost * 1e6:6.2f} us")


if __name__ == "__main__":
    main()
