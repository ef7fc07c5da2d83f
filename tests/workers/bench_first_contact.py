"""CPU of a first contact in one worker: `python -m tests.workers.bench_first_contact`.

A dht worker's loop on a real socket, and a client that sends it pings by the group, in one process.
What a group costs is its least time in many rounds, so that other programs on the machine count
little; what the whole node takes beside them says `python -m tests.bench table --only "first
contact"`.
"""

import argparse
import socket
import time
from collections.abc import Callable
from functools import partial

from core.crypto import KeyPair, SecretKey, precompute, seal
from core.dht import DhtModule
from core.entropy import SystemEntropy
from core.link.dispatch import Lane
from core.module import Context, NodeOptions
from toxmesh.bench.suite import scalar_us
from workers.datagrams import Datagrams
from workers.outbox import WorkerOutbox

CLIENTS = 1920  # groups of 16, 32 and 64
_BUFFER = 1 << 20  # bytes of the client's socket: answers of the greatest group


def _loopback() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def _fail(kind: str, size: int, now: float) -> None:
    raise AssertionError(f"a bug in handling {kind}")


class Bench:
    """One dht worker without neighbours, and pings of clients with keys of their own."""

    def __init__(self) -> None:
        entropy = SystemEntropy()
        own = KeyPair.generate(entropy)
        self.node, self.client = _loopback(), _loopback()
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.client.connect(self.node.getsockname())
        self.out = WorkerOutbox("dht", 0, [(self.node.fileno(), socket.AF_INET)], {})
        options = NodeOptions(lan_discovery=False)
        master = SecretKey(entropy.bytes(32))
        context = Context(own, master, entropy, self.out, 0, options=options)
        self.keys = context.key_cache()
        self.datagrams = Datagrams(DhtModule(context), self.out, self.keys, _fail)
        self.datagrams.watch(self.node.fileno(), socket.AF_INET, 0, Lane("dht", 0, "query"))
        self.datagrams.misses.share = CLIENTS  # here all come from one prefix
        self.pings: list[bytes] = []
        self.publics: list[bytes] = []
        for _ in range(CLIENTS):
            client = KeyPair.generate(entropy)
            shared = precompute(client.secret, own.public)
            assert shared is not None
            nonce = entropy.bytes(24)
            sealed = seal(shared, nonce, b"\0" + entropy.bytes(8))
            self.pings.append(b"\0" + client.public + nonce + sealed)
            self.publics.append(client.public)

    def round(self, group: int) -> list[int]:
        """Has all clients ask once, `group` at a time; returns the nanoseconds of each group."""
        spent = []
        for start in range(0, CLIENTS, group):
            for ping in self.pings[start : start + group]:
                self.client.send(ping)
            began = time.process_time_ns()
            self.datagrams.read(self.node.fileno(), 1.0)
            while self.datagrams.misses:
                self.datagrams.serve_misses(1.0)
            spent.append(time.process_time_ns() - began)
            for _ in range(group):
                self.client.recv(2048)
        return spent

    def forget(self) -> None:
        """Makes all clients new again."""
        for public in self.publics:
            self.keys.forget(public)


def least(rounds: int, once: Callable[[], list[int]]) -> float:
    """Returns the microseconds of a ping: the least of each group, summed."""
    runs = [once() for _ in range(rounds)]
    nanoseconds = sum(min(run[group] for run in runs) for group in range(len(runs[0])))
    return nanoseconds / CLIENTS / 1000


def main() -> None:
    """Measures groups of 16, 32 and 64: new keys, and the same keys once they are known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    bench = Bench()

    def new(group: int) -> list[int]:
        bench.forget()
        return bench.round(group)

    for group in (16, 32, 64):
        first = least(rounds, partial(new, group))
        known = least(rounds, partial(bench.round, group))
        scalar = scalar_us()
        print(
            f"{group} at a time: first contact {first:.2f} us, {first - scalar:.2f} beside the "
            f"multiplication ({scalar:.2f}); known {known:.2f}"
        )


if __name__ == "__main__":
    main()
