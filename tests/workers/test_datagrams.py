"""A worker's own sockets: classes, batches, new keys behind known ones, and when reading rests."""

import socket
from collections.abc import Iterator

import pytest

from core import crypto, endpoint
from core.crypto import KeyPair, SecretKey, SharedKeys
from core.endpoint import Endpoint
from core.entropy import SeededEntropy
from core.link.dispatch import Lane
from core.link.in_hand import InHand
from core.messages import Message
from core.module import Outbox, ProtocolViolation
from core.wire import WireError
from workers.datagrams import Datagrams, Handler
from workers.outbox import WorkerOutbox

QUERY = Lane("dht", 0, "query")
PING = b"\x00"


class Opener:
    """Answers a datagram of kind 00 whose sender's key is at hand: kind, key, word."""

    def __init__(self, out: Outbox, keys: SharedKeys) -> None:
        self.out = out
        self.keys = keys
        self.calls: list[bytes] = []
        self.computed: list[int] = []  # how many keys had been computed at each call
        self.in_hand: list[int] = []
        self.look: InHand | None = None
        self.handlers: list[Handler | None] = [None] * 256
        self.handlers[0] = self.handle_ping

    def handle_ping(self, packet: bytes, source: Endpoint, now: float) -> None:
        word = packet[33:]
        if word == b"wire":
            raise WireError("Opener", "odd")
        if word == b"rule":
            raise ProtocolViolation("odd_rule")
        if word == b"bug":
            raise ZeroDivisionError
        self.keys.sender(packet[1:33])
        self.computed.append(self.keys.misses)
        self.calls.append(word)
        self.out.send(source, packet)

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        self.calls.append(b"other:" + packet[:1])

    def handle_message(self, message: Message, now: float) -> None: ...

    def handle_timer(self, now: float) -> None: ...

    def next_timer(self) -> float | None:
        return None


class Stage:
    """A worker's datagrams on one loopback socket, with clients whose keys it knows or not."""

    def __init__(self) -> None:
        entropy = SeededEntropy(5)
        own = KeyPair.generate(entropy)
        self.keys = SharedKeys(SecretKey(own.secret.reveal()))
        self.known = KeyPair.generate(entropy).public
        self.keys.get(self.known)
        self.new = [KeyPair.generate(entropy).public for _ in range(100)]
        self.node = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.node.bind(("127.0.0.1", 0))
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.bind(("127.0.0.1", 0))
        self.client.settimeout(1)
        self.out = WorkerOutbox("dht", 0, [(self.node.fileno(), socket.AF_INET)], {})
        self.module = Opener(self.out, self.keys)
        self.bugs: list[str] = []
        self.memory = InHand.make()
        self.datagrams = Datagrams(
            self.module,
            self.out,
            self.keys,
            lambda kind, size, now: self.bugs.append(kind),
            InHand(self.memory),
        )
        self.datagrams.watch(self.node.fileno(), socket.AF_INET, 0, QUERY)

    def send(self, *words: bytes, key: bytes | None = None) -> None:
        for word in words:
            packet = PING + (self.known if key is None else key) + word
            self.client.sendto(packet, self.node.getsockname())

    def answers(self, count: int) -> list[bytes]:
        return [self.client.recv(2048)[33:] for _ in range(count)]

    def read(self) -> None:
        self.datagrams.read(self.node.fileno(), 1.0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.node.close()
    stage.client.close()


def test_a_batch_is_answered_and_what_is_wrong_in_it_stops_nobody_else(stage: Stage) -> None:
    stage.send(b"one", b"wire", b"rule", b"bug", b"two")
    stage.client.sendto(b"\x80foreign", stage.node.getsockname())
    stage.read()
    assert stage.answers(2) == [b"one", b"two"]
    assert stage.out.drops == {"wire:Opener": 1, "odd_rule": 1, "misplaced": 1}
    assert stage.bugs == ["0x00"]
    assert stage.datagrams.packets == 6
    assert stage.datagrams.kinds_received[0] == 5
    assert stage.datagrams.kinds_received[0x80] == 1
    assert stage.module.calls == [b"one", b"two"]
    assert InHand.read(stage.memory) == 0


def test_kinds_of_the_lane_that_have_no_handler_of_their_own_go_the_declared_way(
    stage: Stage,
) -> None:
    stage.client.sendto(b"\x02nodes", stage.node.getsockname())
    stage.read()
    assert stage.module.calls == [b"other:\x02"]


def test_known_senders_are_answered_before_new_ones_and_these_a_few_at_a_time(
    stage: Stage,
) -> None:
    for number in range(20):
        stage.send(b"new%d" % number, key=stage.new[number])
    stage.send(b"known")
    stage.read()
    assert stage.module.calls == [b"known"]
    assert len(stage.datagrams.misses) == 20
    assert stage.keys.misses == 1  # the known one's, at the beginning
    assert stage.datagrams.serve_misses(1.0)
    assert len(stage.module.calls) == 17  # 16 in a turn that has time
    assert InHand.read(stage.memory) == 4
    assert not stage.datagrams.serve_misses(1.0)
    assert InHand.read(stage.memory) == 0
    assert stage.answers(21) == [b"known", *(b"new%d" % i for i in range(20))]
    stage.send(b"again", key=stage.new[0])
    stage.read()
    assert stage.answers(1) == [b"again"]


def test_new_keys_get_less_time_after_full_batches_and_one_prefix_its_share_alone(
    stage: Stage,
) -> None:
    for number in range(100):
        stage.send(b"new", key=stage.new[number])
    stage.send(*[b"known"] * 28)
    stage.read()
    assert len(stage.module.calls) == 28
    assert stage.out.drops == {"new_key:prefix": 36}
    stage.datagrams.serve_misses(1.0)
    assert len(stage.module.calls) == 32  # 4 of them
    stage.send(b"known")
    stage.read()
    stage.datagrams.serve_misses(1.0)
    assert len(stage.module.calls) == 49  # 16, for this time no batch was full
    stage.datagrams.serve_misses(1.0)
    assert len(stage.module.calls) == 81  # 32, for nobody known has asked since


def test_new_keys_get_two_turns_in_one_while_nobody_known_asks(stage: Stage) -> None:
    for number in range(60):
        stage.send(b"new", key=stage.new[number])
    stage.read()
    assert stage.datagrams.serve_misses(1.0)
    assert len(stage.module.calls) == 32
    stage.send(b"known")
    stage.read()
    assert stage.module.calls[-1] == b"known"
    assert stage.datagrams.serve_misses(1.0)
    assert len(stage.module.calls) == 33 + 16
    assert not stage.datagrams.serve_misses(1.0)
    assert stage.answers(61).count(b"known") == 1


def test_keys_are_computed_before_the_packets_that_wait_for_them_and_are_no_hits(
    stage: Stage,
) -> None:
    for number in range(3):
        stage.send(b"new", b"again", key=stage.new[number])
    stage.send(b"known")
    stage.read()
    assert (stage.keys.misses, stage.keys.hits) == (1, 1)
    stage.datagrams.serve_misses(1.0)
    assert stage.module.computed == [1, *[4] * 6]
    assert (stage.keys.misses, stage.keys.hits) == (4, 4)  # who asked twice found the key


def test_a_key_that_is_banned_while_it_is_waited_for_is_not_computed(stage: Stage) -> None:
    stage.send(b"new", key=stage.new[0])
    stage.send(b"other", key=stage.new[1])
    stage.read()
    stage.keys.banned = {stage.new[0]}
    stage.datagrams.serve_misses(1.0)
    assert stage.module.calls == [b"other"]
    assert stage.keys.misses == 2
    assert stage.out.drops == {"banned:key": 1}


def test_a_frame_of_the_broker_takes_the_same_way_and_is_counted_there(stage: Stage) -> None:
    source = endpoint.from_text(*stage.client.getsockname())
    packets = [PING + stage.known + b"one", PING + stage.new[0] + b"new"]
    stage.datagrams.take([source, packets[0], source, packets[1]], 0, 1.0)
    assert stage.answers(1) == [b"one"]
    assert stage.datagrams.serve_misses(1.0) is False
    assert stage.answers(1) == [b"new"]
    assert not any(stage.datagrams.kinds_received)
    assert stage.datagrams.packets == 2


def test_a_low_order_key_never_waits(stage: Stage) -> None:
    key = next(iter(crypto.LOW_ORDER))
    stage.send(b"low", key=key)
    stage.read()
    assert not stage.datagrams.misses


def test_what_is_in_hand_can_be_read_by_others_while_a_batch_is_handled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    flush = stage.out.flush

    def look_and_flush() -> None:
        seen.append(InHand.read(stage.memory))
        flush()

    monkeypatch.setattr(stage.out, "flush", look_and_flush)
    stage.send(b"one", b"two", b"three")
    stage.read()
    assert seen == [3]
    assert InHand.read(stage.memory) == 0
