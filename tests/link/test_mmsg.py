"""Batches of datagrams: both ways of reading and sending do the same."""

import errno
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from core import endpoint
from core.link import mmsg
from core.module import LocalError

WAYS = [(mmsg.BatchReceiver, mmsg.BatchSender), (mmsg.SingleReceiver, mmsg.SingleSender)]
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}

Pair = tuple[mmsg.Receiver, mmsg.Sender, bytes, bytes, Counter[str]]


@pytest.fixture(params=[(way, family) for way in WAYS for family in LOOPBACK])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A receiver, a sender, the endpoints of both, and what could not be sent."""
    (make_receiver, make_sender), family = request.param
    drops: Counter[str] = Counter()
    with (
        socket.socket(family, socket.SOCK_DGRAM) as one,
        socket.socket(family, socket.SOCK_DGRAM) as other,
    ):
        places = []
        for row in (one, other):
            row.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            row.bind((LOOPBACK[family], 0))
            places.append(endpoint.from_text(LOOPBACK[family], row.getsockname()[1]))
        reader = make_receiver(one.fileno(), family, drops)
        writer = make_sender(other.fileno(), family, drops)
        yield reader, writer, places[0], places[1], drops
        for row in (reader, writer):
            if isinstance(row, mmsg.SingleReceiver | mmsg.SingleSender):
                row._socket.detach()


def test_a_burst_arrives_whole_in_order_and_with_its_source(pair: Pair) -> None:
    reader, writer, to, source, drops = pair
    packets = [bytes([i]) * (i + 1) for i in range(100)]
    for packet in packets:
        writer.send(to, packet)
    writer.flush()
    found: list[bytes] = []
    full = []
    while (batch := reader.receive())[0]:
        found += batch[0]
        assert list(batch[1]) == [source] * len(batch[0])
        full.append(reader.full)
    assert found == packets
    assert full == [True, False]
    assert not drops


def test_what_is_empty_or_too_long_is_left_out_and_counted(pair: Pair) -> None:
    reader, _, to, _, drops = pair
    with socket.socket(
        socket.AF_INET if endpoint.is_ipv4(endpoint.Endpoint(to)) else socket.AF_INET6,
        socket.SOCK_DGRAM,
    ) as client:
        host = "127.0.0.1" if len(to) == 16 else "::1"
        place = (host, endpoint.port_of(endpoint.Endpoint(to)))
        client.sendto(bytes(2048), place)
        client.sendto(bytes(2049), place)
        client.sendto(b"", place)
        client.sendto(b"x", place)
        here = endpoint.from_text(host, client.getsockname()[1])
    packets, sources = reader.receive()
    assert list(packets) == [bytes(2048), b"x"]
    assert list(sources) == [here, here]
    assert drops == {"too_long": 1, "empty": 1}


def test_what_cannot_be_sent_is_counted_and_the_rest_leaves(pair: Pair) -> None:
    reader, writer, to, _, drops = pair
    nowhere = endpoint.with_port(endpoint.Endpoint(to), 0)  # EINVAL
    for _ in range(3):
        writer.send(to, b"good")
        writer.send(nowhere, b"bad")
    assert writer.flush() == 3
    assert list(reader.receive()[0]) == [b"good"] * 3
    assert sum(drops.values()) == 3
    assert all(reason.startswith("send_error:") for reason in drops)


def test_a_full_socket_delays_a_batch_once_and_the_brokers_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[int] = []

    class Poll:
        def register(self, fd: int, events: int) -> None:
            pass

        def poll(self, wait_ms: int) -> list[tuple[int, int]]:
            waits.append(wait_ms)
            return [(0, 4)]

    monkeypatch.setattr("select.poll", Poll)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for wait_ms, expected in ((20, [20]), (0, [])):
            drops: Counter[str] = Counter()
            writer = mmsg.sender(one.fileno(), socket.AF_INET, drops, wait_ms)
            assert isinstance(writer, mmsg.BatchSender)

            def full(*_: object, ffi: Any = writer._ffi) -> int:
                ffi.errno = errno.EAGAIN
                return -1

            monkeypatch.setattr(writer, "_call", full)
            for _ in range(3):
                writer.send(endpoint.from_text("127.0.0.1", 9), b"x")
            assert writer.flush() == 0
            assert drops == {"send_full": 3}
            assert waits == expected
            waits.clear()


def test_a_datagram_that_no_slot_holds_is_our_own_mistake(pair: Pair) -> None:
    with pytest.raises(LocalError):
        pair[1].send(pair[2], bytes(2049))
    assert pair[1].flush() == 0


def test_nothing_there_is_no_datagram(pair: Pair) -> None:
    assert not pair[0].receive()[0]
