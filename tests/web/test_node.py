"""A real node asked over HTTP: its counters grow, its refusals show, and nobody can hold it up."""

import http.client
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.crypto import KeyPair
from core.entropy import SystemEntropy
from core.packets.dht import PingRequest
from tests.processes.node import Node, Pinger, free_port, running, until
from tests.relay.client import RelayClient
from tests.web import rules
from tests.web.test_metrics import Series, parse

pytestmark = pytest.mark.process

WORKERS = "dht=2,onion=1,relay=1"


class Watched:
    """A node, its relay port, and how to ask it."""

    def __init__(self, node: Node, tcp_port: int) -> None:
        self.node = node
        self.tcp_port = tcp_port
        host, _, port = node.status()["node"]["http"].rpartition(":")
        self.place = (host, int(port))

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.place, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def scrape(self) -> Series:
        status, text = self.ask("/metrics")
        assert status == 200
        return parse(text)

    def count(self, metric: str, **labels: str) -> float:
        """Adds up the series of a metric that have these labels."""
        return sum(
            count
            for (name, pairs), count in self.scrape().items()
            if name == f"toxmesh_{metric}" and labels.items() <= dict(pairs).items()
        )

    def relay_client(self) -> tuple[socket.socket, RelayClient]:
        """Connects a client to the relay and greets."""
        entropy = SystemEntropy()
        client = RelayClient(self.node.key, KeyPair.generate(entropy), entropy)
        stream = socket.create_connection(("127.0.0.1", self.tcp_port), 10)
        stream.sendall(client.hello())
        while not client.ready:
            client.receive(stream.recv(4096))
        stream.sendall(client.frames(b"\x04" + bytes(7) + b"\x01"))
        while not client.take():
            client.receive(stream.recv(4096))
        return stream, client


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    port = free_port(socket.SOCK_STREAM)
    folder = tmp_path_factory.mktemp("watched") / "state"
    options = ("--tcp-port", str(port), "--http", "127.0.0.1:0")
    with running(folder, *options, workers=WORKERS) as node:
        yield Watched(node, port)


def test_counters_grow_with_traffic(watched: Watched) -> None:
    before = watched.count("udp_packets_total", dir="in", kind="0x00")
    bytes_before = watched.count("relay_bytes_total", dir="in")
    pinger = Pinger(watched.node.key, watched.node.udp_port)
    for _ in range(10):
        assert until(pinger.answered, 10)
    pinger.close()
    stream, _ = watched.relay_client()
    until(lambda: watched.count("udp_packets_total", dir="in", kind="0x00") >= before + 10, 10)
    until(lambda: watched.count("udp_packets_total", dir="out", kind="0x01") >= 10, 10)
    until(lambda: watched.count("shared_key_cache_hits_total", role="dht") >= 8, 10)
    until(lambda: watched.count("worker_batch_size_count", role="dht") >= 10, 10)
    until(lambda: watched.count("relay_connections", state="confirmed") == 1, 10)
    until(lambda: watched.count("relay_frames_total", kind="0x04") >= 1, 10)
    assert watched.count("relay_bytes_total", dir="in") > bytes_before
    stream.close()
    until(lambda: watched.count("relay_drops_total", reason="relay_ended") >= 1, 10)


def test_the_dashboard_and_the_rules_ask_for_what_this_node_has(watched: Watched) -> None:
    watched.relay_client()[0].close()
    until(lambda: watched.count("relay_frames_total") > 0, 10)
    watched.ask("/nothing")
    until(lambda: rules.unknown(watched.scrape()) == [], 10)


def test_what_strangers_and_operators_are_refused_shows_under_its_reason(
    watched: Watched,
) -> None:
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    place = ("127.0.0.1", watched.node.udp_port)
    pair = KeyPair.generate(SystemEntropy())
    bad_box = PingRequest.decode(b"\x00" + bytes(pair.public) + bytes(24 + 25)).encode()
    packets = [
        (b"\x07" * 100, "udp", "unknown_kind:0x07"),
        (b"\x18" * 200, "udp", "not_served:0x18"),
        (b"\x00" * 9, "udp", "too_short:0x00"),
        (b"", "udp", "empty"),
        (bytes(2100), "udp", "too_long"),
        (b"\xf0abc", "udp", "bad_size:0xf0"),
        (bad_box, "udp", "dht_box"),
        (b"\x00" + bytes(32) + bytes(49), "udp", "dht_weak_key"),
        (b"\x00" + bytes(40), "udp", "dht_ping_size"),
        (b"\x01" + bytes(pair.public) + bytes(49), "udp", "dht_unasked"),
        (b"\x20" + bytes(pair.public) + bytes(100), "udp", "dht_request_no_route"),
        (b"\x80" + bytes(200), "udp", "onion_size"),
        (b"\x80" + bytes(24) + bytes(pair.public) + bytes(400), "udp", "onion_not_opened"),
        (b"\x8c" + bytes(177) + b"\x84" + bytes(100), "udp", "onion_return"),
        (b"\x83" + bytes(24) + bytes(pair.public) + bytes(297), "udp", "announce_not_opened"),
    ]
    for packet, _, _ in packets:
        stranger.sendto(packet, place)
    stranger.close()
    with socket.create_connection(("127.0.0.1", watched.tcp_port), 10) as stream:
        stream.sendall(b"\x16" * 128)
        assert stream.recv(100) == b""
    assert watched.ask("/metrics", Host="evil.example")[0] == 421
    assert watched.ask("/metrics", "POST")[0] == 405
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as guest:
        guest.connect(str(watched.node.state_dir / "control.sock"))
        guest.settimeout(10)
        with pytest.raises(OSError, match=r"pipe|reset"):
            guest.sendall(b"x" * (8 << 20))
    wanted = {(f"toxmesh_{family}_drops_total", reason) for _, family, reason in packets}
    wanted.add(("toxmesh_relay_drops_total", "relay_closed:hello"))
    wanted |= {
        ("toxmesh_operator_refusals_total", reason)
        for reason in ("http_host", "http_method", "control_too_long")
    }

    def missing() -> set[tuple[str, str]]:
        series = watched.scrape()
        return {
            (name, reason)
            for name, reason in wanted
            if not series.get((name, (("reason", reason),)))
        }

    end = time.monotonic() + 15
    while (left := missing()) and time.monotonic() < end:
        select.select([], [], [], 0.2)
    assert not left


def test_500_slow_connections_keep_nobody_from_a_scrape_nor_from_an_answer(
    watched: Watched,
) -> None:
    slow = []
    for _ in range(500):
        stream = socket.socket()
        stream.setblocking(False)
        stream.connect_ex(watched.place)
        slow.append(stream)
    pinger = Pinger(watched.node.key, watched.node.udp_port)
    begin = time.monotonic()
    asked = 0
    while time.monotonic() - begin < 3:
        for stream in slow:
            try:
                stream.send(b"G")
            except OSError:
                continue
        assert pinger.answered(2.0)
        status, text = watched.ask("/metrics")
        assert status == 200
        assert parse(text)
        asked += 1
    assert asked >= 1
    for stream in slow:
        stream.close()
    pinger.close()
    until(lambda: watched.count("operator_refusals_total", reason="http_made_room") > 0, 10)


def test_events_tell_of_the_running_node(watched: Watched) -> None:
    with socket.create_connection(watched.place, 10) as stream:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        begin = time.monotonic()
        while data.count(b"data: ") < 3:
            data += stream.recv(1 << 16)
        assert 1.0 < time.monotonic() - begin < 8
    first = data.partition(b"data: ")[2].partition(b"\n\n")[0]
    update = json.loads(first)
    assert update["node"]["public_key"] == bytes(watched.node.key).hex().upper()
    assert {row["name"] for row in update["workers"]} == {
        "broker",
        "dht.0",
        "dht.1",
        "onion.0",
        "relay.0",
    }


def test_paths_of_a_node_that_is_well(watched: Watched) -> None:
    assert watched.ask("/healthz") == (200, b"good\n")
    assert watched.ask("/readyz") == (200, b"good\n")
    status = json.loads(watched.ask("/status.json")[1])
    assert status["node"]["http"] == ":".join(map(str, watched.place))
    assert watched.ask("/")[1].startswith(b"<!DOCTYPE html>")


def test_a_node_whose_port_is_taken_works_without_and_one_that_stops_is_not_ready(
    tmp_path: Path,
) -> None:
    with (
        running(tmp_path / "one", "--tcp-port", "0", "--http", "127.0.0.1:0") as one,
        running(
            tmp_path / "two", "--tcp-port", "0", "--http", one.status()["node"]["http"]
        ) as two,
    ):
        pinger = Pinger(two.key, two.udp_port)
        assert until(pinger.answered, 10)
        pinger.close()
        assert two.status()["node"]["http"] == ""
        watched = Watched(one, 0)
        os.kill(one.child("dht.0")["pid"], signal.SIGSTOP)
        one.process.terminate()
        assert until(lambda: watched.ask("/readyz")[0] == 503, 5)
        assert watched.ask("/readyz") == (503, b"stopping\n")
        assert one.process.wait(10) == 0
