"""Broker half and relay shards in one process, with made-up time and workers that die on demand."""

import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from broker.hooks import Handler
from broker.tcp import RelayTcp
from broker.tcp_connection import Connection
from core import batch
from core.asking import Events
from core.bans import Bans
from core.crypto import KeyPair, SharedKeys
from core.endpoint import Endpoint, from_text
from core.entropy import SeededEntropy
from core.module import NodeOptions
from core.onion.hops import MIN_RELAY_REQUEST
from core.relay import RelayLimits, RelayShard
from core.relay.frames import RELAY_COMMIT, RELAY_RESET
from core.relay.shard import Hop
from core.slots import SlotTable
from tests.relay.client import RelayClient

_ASKS = b"\x04" + bytes(3)  # their ids are places in the stream; those of others are random
HOME = from_text("192.0.2.1", 1000)


class Hooks:
    """The broker's loop, played by the test."""

    def __init__(self, shards: int) -> None:
        self.drops: Counter[str] = Counter()
        self.events = Events()
        self.bans = Bans()
        self.handlers: dict[int, Handler] = {}
        self.table = SlotTable.even(shards)
        self.paused: set[int] = set()
        self.sent: dict[int, deque[bytes]] = {}
        self._sequence = 0

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        self.handlers[fd] = handler

    def rewatch(self, fd: int, events: int) -> None:
        (self.paused.discard if events else self.paused.add)(fd)

    def unwatch(self, fd: int) -> None:
        self.handlers.pop(fd, None)

    def slots(self, role: str) -> SlotTable | None:
        return self.table if role == "relay" else None

    def relay_shards(self) -> list[int]:
        return sorted(self.sent)

    def credit(self, shard: int) -> int:
        queue = self.sent.get(shard)
        return 0 if queue is None else 4 - len(queue)

    def send_frame(self, shard: int, kind: int, items: Sequence[Any]) -> int:
        self._sequence += 1
        self.sent[shard].append(batch.encode(kind, 1, self._sequence, 0, items))
        return self._sequence


class End:
    """The client's end of one connection."""

    def __init__(self, relay: "Joined", keys: KeyPair, entropy: SeededEntropy) -> None:
        self.client = RelayClient(relay.keys.public, keys, entropy)
        self.key = bytes(keys.public)
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        theirs.setblocking(False)
        self.unsent = bytearray()
        self.closed = False
        self.reads = True
        self.connection: Connection | None = None
        self._theirs: socket.socket | None = theirs

    def send(self, *packets: bytes) -> None:
        """Sends packets, as far as the socket takes them; `pull` sends the rest."""
        self.unsent += self.client.frames(*packets)
        self.flush()

    def flush(self) -> int:
        """Sends what the socket takes now; returns its bytes."""
        size = 0
        while self.unsent and not self.closed:
            try:
                count = self.socket.send(self.unsent[:65536])
            except BlockingIOError:
                break
            except (BrokenPipeError, ConnectionResetError):
                self.closed = True
                break
            del self.unsent[:count]
            size += count
        return size

    def pull(self) -> int:
        """Reads what the relay has sent, and sends what waits; returns the bytes."""
        size = self.flush()
        while self.reads and not self.closed:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                break
            size += len(data)
            self.client.receive(data)
            self.answer()
        return size

    def answer(self) -> None:
        """Answers the pings that ask how far it has read; tests see the others alone."""
        asked = [packet for packet in self.client.packets if packet[:4] == _ASKS]
        if asked:
            self.client.packets = [row for row in self.client.packets if row[:4] != _ASKS]
            self.send(*(b"\x05" + packet[1:] for packet in asked))

    def take(self) -> list[bytes]:
        return self.client.take()


class Pulled(Protocol):
    """The other end of a connection."""

    def pull(self) -> int:
        """Reads what the relay has sent; returns the bytes."""
        ...


class Joined:
    """One relay: `RelayTcp` and a `RelayShard` for each shard, stepped by hand."""

    def __init__(
        self, shards: int = 1, limits: RelayLimits | None = None, seed: int | str = 1
    ) -> None:
        self.entropy = SeededEntropy(seed)
        self.keys = KeyPair.generate(self.entropy)
        self.limits = limits or RelayLimits(per_address=0, per_prefix=0, rest_s=0)
        self.hooks = Hooks(shards)
        self.now = 1000.0
        self.tcp = RelayTcp(self.hooks, [], NodeOptions(), self.limits, SeededEntropy("tcp"))
        self.workers: dict[int, RelayShard] = {}
        self.killer: Callable[[int, str], bool] | None = None
        """killer(shard, when): whether the worker dies now, "before" or "after" an input."""
        self.forward: Hop | None = None
        self.hops: list[tuple[str, bytes, int, bool]] = []
        self.ends: list[End] = []
        self.others: list[Pulled] = []
        """Ends of other makes."""
        self._started = 0
        for shard in range(shards):
            self.start(shard)

    def start(self, shard: int) -> None:
        """Starts a worker (or the successor of one)."""
        self._started += 1
        self.workers[shard] = RelayShard(
            SharedKeys(self.keys.secret),
            SeededEntropy(f"worker {self._started}"),
            self._onion,
            self._forward,
            self.limits,
        )
        self.hooks.sent[shard] = deque()
        self.tcp.handle_worker(shard, 1, self.now)

    def kill(self, shard: int) -> None:
        """Kills a worker with all it has in hand."""
        del self.workers[shard]
        del self.hooks.sent[shard]
        self.tcp.handle_worker(shard, None, self.now)

    def _onion(self, packet: bytes, serial: int, now: float, private: bool) -> bool:
        self.hops.append(("onion", packet, serial, private))
        return len(packet) >= MIN_RELAY_REQUEST

    def _forward(self, packet: bytes, serial: int, now: float, private: bool) -> bool:
        self.hops.append(("forward", packet, serial, private))
        return self.forward is None or self.forward(packet, serial, now, private)

    def connect(
        self, shard: int | None = None, source: Endpoint = HOME, keys: KeyPair | None = None
    ) -> End:
        """Opens a connection of a client on a shard (or with given keys); sends nothing yet."""
        place = self.hooks.table.shard_of
        while keys is None or (shard is not None and place(keys.public) != shard):
            keys = KeyPair.generate(self.entropy)
        end = End(self, keys, SeededEntropy(f"{keys.public.hex()}{len(self.ends)}"))
        assert end._theirs is not None
        end.connection = self.tcp.admit(end._theirs, source, self.now)
        end._theirs = None
        self.ends.append(end)
        return end

    def greeted(self, shard: int | None = None, keys: KeyPair | None = None) -> End:
        """Opens a connection and does the handshake."""
        end = self.connect(shard, keys=keys)
        end.socket.sendall(end.client.hello())
        self.run()
        assert end.client.ready
        return end

    def confirmed(self, shard: int | None = None, keys: KeyPair | None = None) -> End:
        """Opens a connection that has sent its first good frame, as clients do: a ping."""
        end = self.greeted(shard, keys)
        end.send(b"\x04" + bytes(7) + b"\x01")
        self.run()
        assert end.take() == [b"\x05" + bytes(7) + b"\x01"]
        return end

    def greeted_slowly(self) -> End:
        """As `greeted`, where inputs are paced."""
        end = self.connect()
        end.socket.sendall(end.client.hello())
        self.run()
        self.wait(0.01, 0.001)
        assert end.client.ready
        return end

    def linked(self, one: End, other: End) -> tuple[int, int]:
        """Links two clients; returns their link ids."""
        one.send(b"\x00" + other.key)
        self.run()
        other.send(b"\x00" + one.key)
        self.run()
        first, second = one.take(), other.take()
        assert first[0][0] == 1
        assert first[1] == b"\x02" + first[0][1:2]
        assert second[0][0] == 1
        assert second[1] == b"\x02" + second[0][1:2]
        return first[0][1], second[0][1]

    def sockets(self) -> None:
        """Lets the broker see what the sockets have."""
        for fd, handler in list(self.hooks.handlers.items()):
            if fd not in self.hooks.paused:
                handler(1, self.now)

    def work(self, shard: int) -> bool:
        """Lets a worker handle its next input; returns whether it had one."""
        queue = self.hooks.sent.get(shard)
        if not queue:
            return False
        if self.killer is not None and self.killer(shard, "before"):
            self.kill(shard)
            self.start(shard)
            return True
        frame = batch.decode(queue.popleft())
        worker = self.workers[shard]
        commit = None
        try:
            commit = worker.handle(frame.items, self.now)
        except ZeroDivisionError:  # a bug that a test has put in
            self.hooks.drops["bug"] += 1
        kind = RELAY_COMMIT
        items: Sequence[Any] | None = commit
        if commit is None and worker.newly_broken():
            kind, items = RELAY_RESET, [worker.epoch]
        if self.killer is not None and self.killer(shard, "after"):
            self.kill(shard)
            self.start(shard)
            return True
        if items is not None:
            self.give(shard, kind, items)
        return True

    def give(self, shard: int, kind: int, items: Sequence[Any]) -> None:
        """Gives a frame of a worker to the broker, through the codec."""
        frame = batch.decode(batch.encode(kind, 1, 1, 0, items))
        self.tcp.handle_frame(shard, 1, kind, frame.items, self.now)

    def run(self, turns: int = 10_000) -> None:
        """Goes on until nothing happens any more."""
        for _ in range(turns):
            self.sockets()
            busy = [self.work(shard) for shard in list(self.workers)]
            moved = sum(end.pull() for end in (*self.ends, *self.others))
            if not any(busy) and not moved:
                return
        raise AssertionError("the relay does not come to rest")

    def wait(self, seconds: float, step: float = 0.25) -> None:
        """Lets time go by."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + step)
            when = self.tcp.next_timer()
            if when is not None and when <= self.now:
                self.tcp.handle_timer(self.now)
            self.run()

