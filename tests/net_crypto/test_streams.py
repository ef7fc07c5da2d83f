"""The parts of a session's data: nonces, request packets, windows."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.crypto import Nonce, increment
from core.net_crypto import requests
from core.net_crypto.bandwidth import Bandwidth
from core.net_crypto.nonces import ReceiveNonce, SendNonce
from core.net_crypto.receiving import ReceiveStream
from core.net_crypto.sending import BY_RELAY, DIRECT, U32, WINDOW, SendStream

# Request packets


def test_the_examples_of_the_spec() -> None:
    assert requests.encode(1, 2, (), 99) == bytes((1, 1))
    assert requests.encode(1, 5, {2, 3}, 99) == bytes((1, 1, 3))
    held = set(range(1, 1025)) - {3, 6, 1024}
    assert requests.encode(1, 1025, held, 99) == bytes((1, 3, 3, 0, 0, 0, 0xFD))


def test_nothing_missing_is_the_id_alone() -> None:
    assert requests.encode(7, 7, (), 99) == b"\x01"


@given(
    start=st.sampled_from([0, 5, U32 - 3, U32 - 700]),
    missing=st.sets(st.integers(0, 1500), min_size=1),
)
def test_what_a_request_says_is_what_is_missing(start: int, missing: set[int]) -> None:
    missing.add(0)
    end = (start + max(missing) + 1) & U32
    held = {(start + offset) & U32 for offset in range(max(missing)) if offset not in missing}
    packet = requests.encode(start, end, held, 1373)
    named, there, cursor = set(), set(), -1
    for step, is_missing in requests.decode(packet[1:]):
        there |= set(range(cursor + 1, cursor + step + (not is_missing)))
        cursor += step
        if is_missing:
            named.add(cursor)
    if len(packet) < 1373:
        assert named == missing
    assert named <= missing
    assert not there & missing


def test_a_request_is_cut_where_the_packet_is_full() -> None:
    assert len(requests.encode(0, 32768, (), 1373)) == 1373


# Nonces


@given(st.binary(min_size=24, max_size=24), st.lists(st.integers(0, 40_000), max_size=60))
def test_the_receiver_completes_nonces_whatever_is_lost(base: bytes, skips: list[int]) -> None:
    nonce = Nonce(base)
    receiver, position = ReceiveNonce(nonce), 0
    for skip in skips:
        position += skip % 21845
        expected = increment(nonce, position)
        assert receiver.complete(expected[22:]) == expected
        assert receiver.used(expected[22:]) == position
        position += 1


@given(st.integers(0, (1 << 192) - 1), st.integers(1, 300))
def test_sent_nonces_count_up(base: int, count: int) -> None:
    first = Nonce(base.to_bytes(24, "big"))
    sender = SendNonce(first)
    assert [sender.take() for _ in range(count)] == [increment(first, i) for i in range(count)]


def test_sent_nonces_count_up_over_all_carries() -> None:
    first = Nonce(b"\xff" * 22 + b"\xff\xf0")
    sender = SendNonce(first)
    assert [sender.take() for _ in range(70_000)] == [increment(first, i) for i in range(70_000)]


def test_a_position_is_new_once_and_too_old_ones_never() -> None:
    nonces = ReceiveNonce(Nonce(bytes(24)))
    order = list(range(3000))
    random.Random(1).shuffle(order)
    near = [position for position in order if position < 2000]
    assert all(nonces.is_new(position) for position in near)
    assert not any(nonces.is_new(position) for position in near)
    assert nonces.is_new(10_000)
    assert not nonces.is_new(10_000 - 2048)
    assert nonces.is_new(10_000 - 2047)


# Streams


class Pair:
    """Two streams with a hand between them that loses, doubles and mixes as it likes."""

    def __init__(self, start: int = 0) -> None:
        self.now = 1.0
        self.flying: list[tuple[int, bytes]] = []
        self.out: list[bytes] = []
        self.sending = SendStream(self._emit, Bandwidth(self.now))
        self.receiving = ReceiveStream(self.out.append)
        for name in ("start", "next", "end"):
            setattr(self.sending, name, start)
        self.receiving.start = self.receiving.end = start

    def _emit(self, number: int, data: bytes, now: float) -> bool:
        self.flying.append((number, data))
        return True

    def step(self, keep: list[int]) -> None:
        """Brings some of what flies, in this order; then the receiver speaks."""
        flying, self.flying = self.flying, []
        for index in keep:
            if flying:
                number, data = flying[index % len(flying)]
                self.receiving.take(number, data, self.now)
        self.now += 0.05

    def speak(self) -> None:
        self.receiving.learn_end(self.sending.next, self.now)
        said = self.receiving.request(0.05, 1373, self.now)
        if self.sending.acknowledge(self.receiving.start, self.now):
            self.sending.request(said[1:], self.now)
        self.sending.feedback(self.now)
        self.now += 0.2
        self.sending.pump(self.now)


@settings(max_examples=150)
@given(
    start=st.sampled_from([0, U32 - 20, U32]),
    steps=st.lists(st.lists(st.integers(0, 200), max_size=60), max_size=15),
)
def test_a_stream_arrives_whatever_is_lost_doubled_or_mixed(
    start: int, steps: list[list[int]]
) -> None:
    pair = Pair(start)
    sent = [str(number).encode() for number in range(120)]
    for data in sent:
        assert pair.sending.queue(data) is not None
    pair.sending.pump(pair.now)
    for keep in steps:
        pair.step(keep)
        pair.speak()
    for _ in range(200):
        if len(pair.out) == len(sent):
            break
        pair.step(list(range(len(pair.flying))))
        pair.speak()
    assert pair.out == sent
    pair.speak()
    assert pair.sending.queued() == pair.sending.in_flight == 0
    assert pair.sending.span() == pair.receiving.missing() == 0
    assert not pair.receiving.held
    assert pair.receiving.held_bytes == 0


@given(st.lists(st.tuples(st.integers(0, U32), st.binary(max_size=40)), max_size=40))
def test_whatever_a_peer_says_the_counts_stay_true(said: list[tuple[int, bytes]]) -> None:
    pair = Pair(U32 - 5)
    for _ in range(40):
        pair.sending.queue(b"x")
    pair.sending.pump(pair.now)
    for start, gaps in said:
        pair.now += 0.1
        if pair.sending.acknowledge((U32 - 5 + start % 60) & U32, pair.now):
            pair.sending.request(gaps, pair.now)
        pair.sending.feedback(pair.now)
        pair.sending.pump(pair.now)
        packets = pair.sending._packets
        assert 0 <= pair.sending.in_flight <= len(packets) <= 40
        flying = [one for one in packets.values() if one.sends and not one.lost]
        assert pair.sending.in_flight == len(flying)


def test_the_send_window_has_an_end() -> None:
    pair = Pair()
    for _ in range(WINDOW):
        assert pair.sending.queue(b"x") is not None
    assert pair.sending.queue(b"x") is None


@pytest.mark.parametrize("start", [0, U32 - 2])
def test_an_acknowledgement_of_what_was_never_sent_is_refused(start: int) -> None:
    pair = Pair(start)
    assert pair.sending.acknowledge(start, 1.0) is True
    assert pair.sending.acknowledge((start + 1) & U32, 1.0) is None
    pair.sending.queue(b"x")
    assert pair.sending.acknowledge((start + 1) & U32, 1.0) is None
    pair.sending.pump(1.0)
    assert pair.sending.acknowledge((start + 1) & U32, 1.0) is True
    assert pair.sending.acknowledge(start, 1.0) is False


def test_silence_is_answered_by_sending_the_oldest_again() -> None:
    pair = Pair()
    pair.sending.learn_rtt(0.05)
    for _ in range(5):
        pair.sending.queue(b"x")
    pair.sending.pump(pair.now)
    assert 1.2 <= pair.sending.probe_at <= 1.3
    pair.flying.clear()
    pair.sending.probe(1.3)
    assert [number for number, _ in pair.flying] == [0, 1]
    assert pair.sending.in_flight == 5
    first = pair.sending.probe_at - 1.3
    pair.sending.probe(2.0)
    assert pair.sending.probe_at - 2.0 > first  # more and more patient
    assert pair.sending.acknowledge(5, 2.1)
    pair.sending.feedback(2.1)
    assert pair.sending.probe_at == float("inf")


def test_when_no_way_takes_a_packet_it_waits_and_is_not_lost() -> None:
    pair = Pair()
    taken: list[int] = []
    is_open = False

    def emit(number: int, data: bytes, now: float) -> bool:
        if is_open:
            taken.append(number)
        return is_open

    pair.sending._emit = emit
    pair.sending.queue(b"x")
    pair.sending.pump(1.0)
    assert pair.sending.pace_at == 1.1
    assert pair.sending.unsent() == 1
    is_open = True
    pair.sending.pump(1.1)
    assert taken == [0]


def test_the_receiver_speaks_soon_and_not_too_often() -> None:
    pair = Pair()
    pair.receiving.take(0, b"a", 5.0)
    assert pair.receiving.request_at == 5.0  # at once, for nothing was told in the last second
    pair.receiving.told_in_passing()
    assert pair.receiving.request_at == float("inf")
    pair.receiving.take(2, b"c", 5.0)
    pair.receiving.told_in_passing()  # is not enough while something is missing
    assert pair.receiving.request_at == 5.0
    assert pair.receiving.request(0.02, 99, 5.01) == b"\x01\x01"
    assert pair.receiving.request_at == pytest.approx(5.06)
    pair.receiving.take(3, b"d", 5.02)
    assert pair.receiving.request_at == pytest.approx(5.06)
    pauses = []
    for _ in range(8):
        now = pair.receiving.request_at
        pair.receiving.request(0.02, 99, now)
        pauses.append(pair.receiving.request_at - now)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(1.0)
    pair.receiving.take(1, b"b", 20.0)
    assert pair.out == [b"a", b"b", b"c", b"d"]
    assert pair.receiving.request(0.02, 99, 20.01) == b"\x01"
    assert pair.receiving.request_at == float("inf")
    pair.receiving.take(4, b"e", 20.5)
    assert pair.receiving.request_at == pytest.approx(20.51)  # more may come that it can tell of


def test_by_relay_no_more_is_on_its_way_than_a_stock_peer_can_hold() -> None:
    pair = Pair()
    pair.sending.most_in_flight = BY_RELAY
    sent = [number.to_bytes(4, "big") for number in range(500)]
    for data in sent:
        pair.sending.queue(data)
    most = 0
    for _ in range(200):
        pair.sending.pump(pair.now)
        most = max(most, pair.sending.in_flight)
        pair.step(list(range(len(pair.flying))))
        pair.speak()
    assert pair.out == sent
    assert most == BY_RELAY
    # length, MAC, link id and a whole packet: c-toxcore counts what is there in 16 bits
    assert most * (2 + 16 + 1 + 1400) < 1 << 16
    pair.sending.most_in_flight = DIRECT
    for data in sent:
        pair.sending.queue(data)
    for _ in range(40):
        pair.speak()
    assert pair.sending.in_flight > BY_RELAY


def test_slow_answers_of_a_stock_peer_do_not_make_us_slow() -> None:
    pair = Pair()
    pair.sending.learn_rtt(0.005)
    for _ in range(6):
        pair.sending.learn_rtt(1.0)  # lone packets, answered by its timer of a second
    pair.sending.queue(b"x")
    pair.sending.pump(1.0)
    assert pair.sending.probe_at <= 1.0 + 0.5
    for _ in range(300):
        pair.sending.learn_rtt(1.0)  # not its timer, but the way
    pair.sending.acknowledge(1, 2.0)
    pair.sending.feedback(2.0)
    pair.sending.queue(b"x")
    pair.sending.pump(2.0)
    assert pair.sending.probe_at == 4.0
