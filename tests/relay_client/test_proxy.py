"""Proxies: what is said to them, what they may answer, in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.endpoint import from_text
from core.relay_client.connection import CONNECT_TIMEOUT_S, Stage
from core.relay_client.proxy import (
    MAX_HEAD_SIZE,
    HttpTunnel,
    Proxy,
    Socks5Tunnel,
    Tunnel,
    TunnelRefused,
    name_bytes,
)
from tests.relay_client.fake_relay import NOW, FakeRelay

V4 = from_text("192.0.2.1", 33445)
V6 = from_text("2001:db8::1", 443)
NAME = ("relay.example", 3389)
LOGIN = ("anna", "sécret")


def feed(tunnel: Tunnel, data: bytes, piece: int = 1) -> bytes:
    """Gives a tunnel bytes in pieces, as long as it is not open; returns what it said."""
    said = b""
    for start in range(0, len(data), piece):
        if tunnel.open:
            raise AssertionError("it was open before")
        said += tunnel.receive(data[start : start + piece])
    return said


def test_http_names_the_target_and_logs_in() -> None:
    assert HttpTunnel(V4).start() == (
        b"CONNECT 192.0.2.1:33445 HTTP/1.1\r\nHost: 192.0.2.1:33445\r\n\r\n"
    )
    assert HttpTunnel(V6).start().startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")
    assert HttpTunnel(NAME).start().startswith(b"CONNECT relay.example:3389 HTTP/1.1\r\n")
    words = HttpTunnel(("bücher.example", 1), ("Aladdin", "open sesame")).start().split(b"\r\n")
    assert words[0] == b"CONNECT xn--bcher-kva.example:1 HTTP/1.1"
    assert words[2] == b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_http_is_open_after_the_head_and_what_follows_is_the_relays(piece: int) -> None:
    tunnel = HttpTunnel(V4)
    head = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"
    assert feed(tunnel, head, piece) == b""
    assert tunnel.open
    tunnel = HttpTunnel(V4)
    tunnel.receive(head + b"relay")
    assert tunnel.rest == b"relay"


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        (b"HTTP/1.0 407 Login\r\n\r\n", "relay_client_proxy_login", "wants a login"),
        (b"HTTP/1.1 403 No \x1b[2J\r\n\r\n", "relay_client_proxy_refused", "403 No ?[2J"),
        (b"HTTP/1.1 502\r\n\r\n", "relay_client_proxy_refused", "502"),
        (b"HTTP/1.1 2000 \r\n\r\n", "relay_client_proxy_bad", "HTTP"),
        (b"HTTP/1.1\r\n\r\n", "relay_client_proxy_bad", "HTTP"),
        (b"SSH-2.0-", "relay_client_proxy_bad", "HTTP"),
        (b"HTTP/1.1 200 " + bytes(MAX_HEAD_SIZE), "relay_client_proxy_bad", "HTTP"),
    ],
)
def test_http_refusals_say_why(answer: bytes, reason: str, text: str) -> None:
    with pytest.raises(TunnelRefused, match="HTTP") as refused:
        feed(HttpTunnel(V4), answer)
    assert refused.value.reason == reason
    assert text in str(refused.value)


def test_http_says_when_the_login_is_wrong() -> None:
    with pytest.raises(TunnelRefused, match="refuses our login") as refused:
        HttpTunnel(V4, LOGIN).receive(b"HTTP/1.1 407 x\r\n\r\n")
    assert "sécret" not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "wire"),
    [
        (V4, b"\x01\xc0\x00\x02\x01\x82\xa5"),
        (V6, b"\x04 \x01\x0d\xb8" + bytes(11) + b"\x01\x01\xbb"),
        (NAME, b"\x03\x0drelay.example\x0d\x3d"),
        (("bücher.example", 80), b"\x03\x15xn--bcher-kva.example\x00P"),
    ],
)
@pytest.mark.parametrize("bound", [b"\x01" + bytes(6), b"\x04" + bytes(18), b"\x03\x03abc\x00\x01"])
def test_socks5_goes_to_addresses_and_names(
    target: tuple[str, int], wire: bytes, bound: bytes
) -> None:
    tunnel = Socks5Tunnel(target)
    assert tunnel.start() == b"\x05\x01\x00"
    assert feed(tunnel, b"\x05\x00") == b"\x05\x01\x00" + wire
    assert feed(tunnel, b"\x05\x00\x00" + bound) == b""
    assert tunnel.open
    assert tunnel.rest == b""


def test_socks5_logs_in_only_when_the_proxy_asks() -> None:
    tunnel = Socks5Tunnel(V4, LOGIN)
    assert tunnel.start() == b"\x05\x02\x00\x02"
    assert feed(tunnel, b"\x05\x02") == b"\x01\x04anna\x07" + "sécret".encode()
    assert feed(tunnel, b"\x01\x00")[:3] == b"\x05\x01\x00"
    assert feed(tunnel, b"\x05\x00\x00\x01" + bytes(6)) == b""
    assert tunnel.open
    tunnel = Socks5Tunnel(V4, LOGIN)
    assert feed(tunnel, b"\x05\x00")[:3] == b"\x05\x01\x00"
    together = Socks5Tunnel(V4)
    assert together.receive(b"\x05\x00\x05\x00\x00\x01" + bytes(6) + b"relay")[:2] == b"\x05\x01"
    assert together.rest == b"relay"


@pytest.mark.parametrize(
    ("login", "answer", "reason"),
    [
        (None, b"\x05\xff", "relay_client_proxy_login"),
        (None, b"\x05\x02", "relay_client_proxy_login"),
        (LOGIN, b"\x05\x01", "relay_client_proxy_login"),
        (LOGIN, b"\x05\x02\x01\x01", "relay_client_proxy_login"),
        (None, b"\x04\x00", "relay_client_proxy_bad"),
        (None, b"\x05\x00\x04\x00", "relay_client_proxy_bad"),
        (None, b"\x05\x00\x05\x00\x00\x02\x00", "relay_client_proxy_bad"),
        *((None, b"\x05\x00\x05" + bytes((n,)), "relay_client_proxy_refused") for n in (1, 5, 99)),
    ],
)
def test_socks5_refusals_say_why(login: tuple[str, str] | None, answer: bytes, reason: str) -> None:
    with pytest.raises(TunnelRefused, match="SOCKS5") as refused:
        feed(Socks5Tunnel(V4, login), answer)
    assert refused.value.reason == reason


@given(st.binary(max_size=700), st.integers(1, 60), st.booleans(), st.booleans())
def test_whatever_a_proxy_says_it_is_open_refused_or_waiting(
    data: bytes, piece: int, http: bool, login: bool
) -> None:
    tunnel: HttpTunnel | Socks5Tunnel
    tunnel = (HttpTunnel if http else Socks5Tunnel)(NAME, LOGIN if login else None)
    tunnel.start()
    fault = TunnelRefused("relay_client_proxy_none", "none")
    for start in range(0, len(data), piece):
        try:
            assert len(tunnel.receive(data[start : start + piece])) <= 600
        except TunnelRefused as refused:
            fault = refused
            break
        if tunnel.open:
            break
    assert fault.reason.startswith("relay_client_proxy_")
    assert str(fault).isprintable()
    held = tunnel._head if isinstance(tunnel, HttpTunnel) else tunnel._came
    assert len(held) <= MAX_HEAD_SIZE


@pytest.mark.parametrize("name", ["", "a" * 256, "a b", "x\r\nHost: y", "ü" * 300, "a\x00b"])
def test_what_is_no_name_of_a_host_goes_to_no_proxy(name: str) -> None:
    with pytest.raises(TunnelRefused, match="name") as refused:
        name_bytes(name)
    assert refused.value.reason == "relay_client_proxy_refused"


def test_proxies_are_read_from_urls_and_hide_their_passwords() -> None:
    proxy = Proxy.from_url("socks5://anna:s%C3%A9cret@proxy.example:1080")
    assert proxy == Proxy("socks5", ("proxy.example", 1080), *LOGIN)
    assert "sécret" not in repr(proxy)
    assert Proxy.from_url("http://192.0.2.1:33445").address == V4
    assert Proxy.from_url("socks5h://[2001:db8::1]:443").address == V6
    for wrong in ("ftp://x:1", "http://x", "socks5://:80", "proxy.example:80", "http://x:99999"):
        with pytest.raises(ValueError, match=r".+"):
            Proxy.from_url(wrong)
    with pytest.raises(ValueError, match="1-255"):
        Proxy("socks5", V4, "anna", "")
    with pytest.raises(ValueError, match="colon"):
        Proxy("http", V4, "an:na", "x")
    with pytest.raises(ValueError, match="kind"):
        Proxy("socks4", V4)  # type: ignore[arg-type]  # that is what is tried


def test_a_connection_greets_the_relay_when_the_tunnel_is_open() -> None:
    relay = FakeRelay(tunnel=Proxy("socks5", V4).tunnel(NAME))
    relay.connection.handle_connected(NOW)
    assert relay.wire == b"\x05\x01\x00"
    relay.wire = b""
    relay.connection.handle_bytes(b"\x05\x00", NOW + 6)
    relay.wire = b""
    relay.connection.handle_bytes(b"\x05\x00\x00\x01" + bytes(6), NOW + 9)
    assert relay.connection.stage is Stage.GREETING
    assert relay.connection.next_timer() == NOW + 9 + CONNECT_TIMEOUT_S
    relay.connection.handle_bytes(relay.answer(), NOW + 10)
    assert relay.told == [("ready",)]


def test_a_refusal_ends_the_connection_and_says_why() -> None:
    relay = FakeRelay(tunnel=Proxy("http", V4).tunnel(NAME))
    relay.connection.handle_connected(NOW)
    relay.connection.handle_bytes(b"HTTP/1.1 403 Forbidden\r\n\r\n", NOW)
    assert relay.told == [("failed", "relay_client_proxy_refused")]
    assert relay.connection.trouble == "the HTTP proxy refuses: 403 Forbidden"
    assert relay.drops == {"relay_client_proxy_refused": 1}


def test_a_name_that_is_none_ends_the_connection() -> None:
    relay = FakeRelay(tunnel=Proxy("http", V4).tunnel(("a b", 1)))
    relay.connection.handle_connected(NOW)
    assert relay.told == [("failed", "relay_client_proxy_refused")]
