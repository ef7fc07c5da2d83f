"""The web door with made-up time: what it answers, and what nobody can do to it."""

import json
import logging
import selectors
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxmesh.web import door as doors
from toxmesh.web.address import Address
from toxmesh.web.client import Answer
from toxmesh.web.door import WebDoor

BIG = 12 << 20  # bytes that no pair of sockets takes at once


class Site:
    """Answers with what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.events = 0
        self.event_size = 0

    def answer(self, path: str, now: float) -> Answer | None:
        self.asked.append(path)
        if path == "/none":
            return None
        if path == "/broken":
            raise KeyError(path)
        body = b"x" * BIG if path == "/big" else path.encode()
        return Answer(200, "text/plain", body)

    def event(self, now: float) -> bytes:
        self.events += 1
        return json.dumps({"now": now, "pad": "." * self.event_size}).encode()


class World:
    """A door on a port of its own, and a clock."""

    def __init__(self, address: Address | None = None) -> None:
        self.now = 1000.0
        self.selector = selectors.DefaultSelector()
        self.site = Site()
        self.drops: Counter[str] = Counter()
        address = address or Address("127.0.0.1", 0)
        self.door = WebDoor(address, self.selector, self.site, self.drops, self.now)
        self.sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self.door.place.rpartition(":")[2])

    def connect(self, data: bytes = b"", small: bool = False) -> socket.socket:
        client = socket.socket()
        if small:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        client.settimeout(5)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.append(client)
        client.sendall(data)
        return client

    def turn(self, seconds: float = 0.0) -> None:
        """Lets time pass, and the loop do what there is to do."""
        self.now += seconds
        for _ in range(200):
            ready = self.selector.select(0)
            self.door.expire(self.now)
            if not ready:
                return
            for key, _ in ready:
                key.data(self.now)

    def ask(self, data: bytes) -> bytes:
        """Sends bytes on a new connection and returns all that comes at once."""
        client = self.connect(data)
        self.turn()
        return received(client)

    def close(self) -> None:
        self.door.close()
        for client in self.sockets:
            client.close()
        self.selector.close()


def received(client: socket.socket) -> bytes:
    """Returns what has come so far; b"closed" at the end tells that the door closed."""
    client.setblocking(False)
    data = b""
    try:
        while part := client.recv(1 << 20):
            data += part
    except BlockingIOError:
        return data
    except ConnectionResetError:
        pass
    return data + b"closed"


def get(path: str, method: str = "GET", host: str = "localhost", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


# What is answered


def test_a_request_is_answered_and_the_connection_serves_the_next(world: World) -> None:
    client = world.connect()
    for path in ("/metrics", "/healthz", "/x?y=1"):
        client.sendall(get(path))
        world.turn()
        answer = received(client)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(path.partition("?")[0].encode())
    assert world.site.asked == ["/metrics", "/healthz", "/x"]
    assert not world.drops


def test_requests_in_one_piece_are_answered_one_after_the_other(world: World) -> None:
    answer = world.ask(get("/a") + get("/b") + get("/c"))
    assert world.site.asked == ["/a", "/b", "/c"]
    assert answer.count(b"HTTP/1.1 200") == 3


def test_a_request_in_single_bytes_is_answered(world: World) -> None:
    client = world.connect()
    for byte in get("/a"):
        client.sendall(bytes((byte,)))
        world.turn(0.01)
    assert received(client).endswith(b"/a")


def test_head_gets_the_headers_alone(world: World) -> None:
    answer = world.ask(get("/metrics", "HEAD"))
    assert b"Content-Length: 8" in answer
    assert answer.endswith(b"\r\n\r\n")
    assert world.ask(get("/events", "HEAD")).endswith(b"\r\n\r\n")


def test_http_1_0_is_answered_and_closed(world: World) -> None:
    answer = world.ask(b"GET /a HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer.endswith(b"/aclosed")


def test_every_answer_tells_browsers_to_be_careful(world: World) -> None:
    for path in ("/a", "/none"):
        answer = world.ask(get(path))
        for header in (
            b"X-Content-Type-Options: nosniff",
            b"X-Frame-Options: DENY",
            b"Content-Security-Policy: default-src 'none'",
            b"Referrer-Policy: no-referrer",
            b"Cross-Origin-Resource-Policy: same-origin",
            b"Cache-Control: no-store",
        ):
            assert header in answer
        assert b"Access-Control" not in answer


# What is refused


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (get("/none"), 404, "http_not_found"),
        (get("/broken"), 500, "http_failed"),
        (get("/a", "POST"), 405, "http_method"),
        (get("/a", "OPTIONS"), 405, "http_method"),
        (get("localhost:1", "CONNECT"), 405, "http_method"),
        (get("/a", host="evil.example"), 421, "http_host"),
        (b"GET /a HTTP/1.0\r\n\r\n", 421, "http_host"),
        (get("/a", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors"), 403, "http_cross_site"),
        (get("/a", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors"), 403, "http_cross_site"),
        (get("/a", Content_Length="3") + b"abc", 413, "http_body"),
        (get("/a", "HEAD", Content_Length="3") + b"abc", 413, "http_body"),
        (get("/a", Transfer_Encoding="chunked") + b"1\r\na\r\n0\r\n\r\n", 413, "http_body"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "http_bad_request"),
        (b"GET /a HTTP/1.1\r\n\r\n", 400, "http_bad_request"),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", 400, "http_bad_request"),
        (get("/a", Filler="x" * 20_000), 431, "http_bad_request"),
    ],
)
def test_what_is_not_answered_is_refused_and_counted(
    world: World, data: bytes, status: int, reason: str
) -> None:
    answer = world.ask(data)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.endswith(b"closed") == (status not in (404, 500))
    assert world.drops == {reason: 1}


def test_a_link_of_another_site_may_lead_here(world: World) -> None:
    answer = world.ask(get("/a", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate"))
    assert answer.startswith(b"HTTP/1.1 200")


def test_an_address_that_others_reach_is_asked_by_any_name() -> None:
    world = World(Address("0.0.0.0", 0))
    try:
        assert world.ask(get("/a", host="node.example")).startswith(b"HTTP/1.1 200")
    finally:
        world.close()


# Who is slow


def test_half_a_request_has_ten_seconds(world: World) -> None:
    client = world.connect(b"GET / HTTP/1.1\r\n")
    world.turn()
    for _ in range(9):
        client.sendall(b"a: b\r\n")
        world.turn(1.0)
    assert received(client) == b""
    world.turn(1.5)
    assert received(client) == b"closed"
    assert world.drops == {"http_slow": 1}


def test_one_who_says_nothing_is_shown_out_uncounted(world: World) -> None:
    client = world.connect()
    world.turn()
    world.turn(doors.HEAD_S + 0.5)
    assert received(client) == b"closed"
    assert not world.drops


def test_between_two_scrapes_a_connection_may_rest_but_half_a_scrape_may_not(world: World) -> None:
    client = world.connect(get("/a"))
    world.turn()
    world.turn(60.0)
    client.sendall(get("/b")[:-5])
    world.turn()
    world.turn(doors.HEAD_S - 1)
    client.sendall(get("/b")[-5:])
    world.turn()
    assert received(client).endswith(b"/b")
    world.turn(doors.IDLE_S + 1)
    assert received(client) == b"closed"
    assert not world.drops


def test_one_who_does_not_read_is_shown_out_and_one_who_reads_slowly_gets_all(
    world: World,
) -> None:
    stuck = world.connect(get("/big"), small=True)
    slow = world.connect(get("/big"))
    world.turn()
    size = 0
    for _ in range(20):
        size += len(slow.recv(512 << 10))
        world.turn(1.0)
    assert world.drops == {"http_not_read": 1}
    assert received(stuck).endswith(b"closed")
    while size < BIG:
        part = received(slow)
        assert part
        size += len(part)
        world.turn()
    assert size > BIG


def test_one_who_stretches_an_answer_has_a_minute(world: World) -> None:
    client = world.connect(get("/big"), small=True)
    world.turn()
    for _ in range(9):
        client.recv(300 << 10)
        world.turn(7.0)
    assert world.drops == {"http_not_read": 1}


def test_what_came_behind_a_long_answer_is_answered_too(world: World) -> None:
    client = world.connect(get("/big") + get("/b"), small=True)
    data = b""
    while not data.endswith(b"/b"):
        world.turn(0.01)
        part = received(client)
        assert not part.endswith(b"closed")
        data += part
    assert world.site.asked == ["/big", "/b"]


# Who are many


def test_s38_500_slow_connections_keep_nobody_from_a_scrape(world: World) -> None:
    for _ in range(500):
        world.connect(b"GET / HTTP/1.1\r\nHost: lo")
    begin = world.now
    world.turn()
    client = world.connect(get("/metrics"))
    while not (answer := received(client)):
        world.turn(0.25)
        assert world.now - begin < 5.0
    assert answer.endswith(b"/metrics")
    assert len(world.selector.get_map()) <= doors.MAX_CLIENTS + 1
    assert world.drops["http_made_room"] >= 500 - doors.MAX_CLIENTS


def test_when_all_are_being_answered_one_more_is_refused(world: World) -> None:
    for _ in range(doors.MAX_CLIENTS):
        world.connect(get("/big"), small=True)
        world.turn(0.05)
    assert world.ask(get("/a")).endswith(b"closed")
    assert world.drops == {"http_full": 1}


def test_a_greedy_client_gets_its_share_and_no_more(world: World) -> None:
    greedy = world.connect()
    answered = 0
    for _ in range(40):  # ten seconds
        greedy.sendall(get("/a") * 100)
        world.turn(0.25)
        answered += received(greedy).count(b"HTTP/1.1 200")
        assert len(world.site.asked) == answered
    most = doors._BURST + 10 * doors._RATE
    assert most / 2 < answered <= most
    calm = world.connect(get("/calm"))
    for _ in range(8):
        world.turn(0.25)
    assert received(calm).endswith(b"/calm")


# Who follows


def events(client: socket.socket) -> list[dict[str, float]]:
    data = received(client)
    return [
        json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")
    ]


def test_events_come_at_once_and_then_once_a_second(world: World) -> None:
    client = world.connect(get("/events"))
    world.turn()
    begin = world.now
    for _ in range(40):
        world.turn(0.25)
    times = [row["now"] - begin for row in events(client)]
    assert times[0] == 0.0
    assert len(times) in (11, 12)
    assert all(b - a == 1.0 for a, b in pairwise(times[1:]))


def test_nothing_is_made_for_nobody(world: World) -> None:
    client = world.connect(get("/events"))
    world.turn()
    client.close()
    world.turn(1.0)
    world.turn(1.0)
    made = world.site.events
    for _ in range(20):
        world.turn(1.0)
    assert world.site.events == made
    assert len(world.selector.get_map()) == 1


def test_followers_are_few(world: World) -> None:
    clients = [world.connect(get("/events")) for _ in range(doors.MAX_FOLLOWERS)]
    world.turn()
    answer = world.ask(get("/events"))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After" in answer
    assert world.drops == {"http_events_full": 1}
    clients[0].close()
    world.turn(1.0)
    assert world.ask(get("/events")).startswith(b"HTTP/1.1 200")


def test_a_follower_who_does_not_read_is_shown_out(world: World) -> None:
    world.site.event_size = 64 << 10
    world.connect(get("/events"), small=True)
    world.turn()
    for _ in range(120):
        world.turn(1.0)
    assert world.drops == {"http_not_read": 1}
    assert len(world.selector.get_map()) == 1


def test_what_a_follower_says_changes_nothing_and_after_an_hour_it_comes_anew(
    world: World,
) -> None:
    client = world.connect(get("/events"))
    world.turn()
    client.sendall(get("/a") * 1000)
    world.turn(1.0)
    assert world.site.asked == []
    world.turn(doors.FOLLOW_S)
    assert received(client).endswith(b"closed")


# The port


def test_a_taken_port_is_said_once_and_had_when_it_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "toxmesh.web")
    with socket.create_server(("127.0.0.1", 0)) as other:
        world = World(Address("127.0.0.1", other.getsockname()[1]))
        for _ in range(10):
            world.turn(doors.RETRY_S)
        assert world.door.place == ""
        assert [row.levelname for row in caplog.records] == ["WARNING"]
        assert "in use" in caplog.text
    try:
        world.turn(doors.RETRY_S)
        assert world.ask(get("/a")).endswith(b"/a")
        assert [row.levelname for row in caplog.records] == ["WARNING", "INFO"]
    finally:
        world.close()


def test_off_is_off() -> None:
    selector = selectors.DefaultSelector()
    door = WebDoor(None, selector, Site(), Counter(), 0.0)
    door.expire(100.0)
    assert door.place == ""
    assert not selector.get_map()
    door.close()
    selector.close()


def test_a_closed_door_leaves_nothing_behind(world: World) -> None:
    clients = [world.connect(get("/events")), world.connect(b"GET"), world.connect(get("/a"))]
    world.turn()
    world.door.close()
    world.door.expire(world.now + 100)
    assert not world.selector.get_map()
    assert all(received(client).endswith(b"closed") for client in clients)


# Anything


_PIECES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [get("/a"), get("/events"), get("/a", "HEAD"), get("/big"), b"\r\n", b"GET /", b" HTTP/1.1",
         b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
         b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(_PIECES, max_size=8), shut=st.booleans())
def test_no_bytes_break_the_door(pieces: list[bytes], shut: bool) -> None:
    world = World()
    try:
        client = world.connect()
        for piece in pieces:
            try:
                client.sendall(piece)
            except OSError:
                break
            world.turn(0.1)
        if shut:
            client.close()
        world.turn()
        for _ in range(4):
            world.turn(doors.STUCK_S)
        world.turn(doors.FOLLOW_S)
        assert len(world.selector.get_map()) == 1
        assert world.ask(get("/z")).endswith(b"/z")
    finally:
        world.close()
