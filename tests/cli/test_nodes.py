"""Nodes to begin with: how one is written, the shipped list, names looked up in bounded time."""

import ipaddress
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import endpoint
from toxmesh import greeting, nodes
from toxmesh.nodes import BootstrapNode
from toxmesh.settings import Settings

KEY = bytes(range(200, 232))
HEX = KEY.hex()


@given(
    st.ip_addresses().map(str) | st.sampled_from(["a", "node.example.org", "x-1.y_2.org."]),
    st.integers(1, 65535),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_written_is_read_again(host: str, port: int, key: bytes) -> None:
    node = BootstrapNode(host, port, key)
    assert nodes.parse(str(node)) == node
    assert nodes.parse(f" {str(node).lower()} ") == node


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not HOST:PORT:PUBLICKEY"),
        ("host:33445", "not HOST:PORT:PUBLICKEY"),
        (f"host:33445:{HEX[:-1]}", "64 hexadecimal digits"),
        (f"host:33445:{HEX}0", "64 hexadecimal digits"),
        (f"host:33445:{HEX[:-1]}g", "64 hexadecimal digits"),
        ("host:33445:ab", "64 hexadecimal digits"),
        (f"host:33445:{'٣' * 64}", "64 hexadecimal digits"),
        (f"host:0:{HEX}", "must be 1-65535"),
        (f"host:65536:{HEX}", "must be 1-65535"),
        (f"host:+1:{HEX}", "must be 1-65535"),
        (f"host::{HEX}", "must be 1-65535"),
        (f":1:{HEX}", "neither an address nor a host name"),
        (f"ho st:1:{HEX}", "neither an address nor a host name"),
        (f"-host:1:{HEX}", "neither an address nor a host name"),
        (f"{'a' * 64}.org:1:{HEX}", "neither an address nor a host name"),
        (f"1.2.3.400:1:{HEX}", "neither an address nor a host name"),
        (f"2001:db8::1:1:{HEX}", "in brackets"),
        (f"[1.2.3:1:{HEX}", "neither an address"),
        (f"[zz::]:1:{HEX}", "not an IPv6 address"),
    ],
)
def test_what_is_no_node_is_refused_with_a_reason(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        nodes.parse(text)


def test_the_shipped_list_reaches_ipv4_and_ipv6_and_names_no_private_address() -> None:
    shipped = nodes.shipped()
    assert len(shipped) == len(set(shipped)) >= 30
    literal = []
    for node in shipped:
        try:
            literal.append(ipaddress.ip_address(node.host))
        except ValueError:
            assert "." in node.host
    assert all(address.is_global for address in literal)
    assert {address.version for address in literal} == {4, 6}


def test_names_are_looked_up_and_a_hanging_resolver_costs_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def look_up(host: str, port: int, **options: Any) -> list[Any]:
        if host == "hangs.example":
            release.wait(30)
        if host != "good.example":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        rows = [("192.0.2.7", port), ("2001:db8::7", port, 0, 0), ("192.0.2.7", port)]
        return [(0, 0, 0, "", row) for row in rows]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asked = [
        BootstrapNode("good.example", 5, KEY),
        BootstrapNode("hangs.example", 5, KEY),
        BootstrapNode("missing.example", 5, KEY),
        BootstrapNode("192.0.2.1", 6, KEY),
        BootstrapNode("192.0.2.1", 6, KEY),
    ]
    found, missing = nodes.resolve(asked, timeout_s=0.2)
    release.set()
    assert found == (
        (endpoint.from_text("192.0.2.7", 5), KEY),
        (endpoint.from_text("2001:db8::7", 5), KEY),
        (endpoint.from_text("192.0.2.1", 6), KEY),
    )
    assert [node.host for node in missing] == ["hangs.example", "missing.example"]


def greet(settings: Settings, own: list[str], udp: int = 33445, tcp: tuple[int, ...] = ()) -> str:
    return "\n".join(greeting.lines(settings, KEY, ["udp 0.0.0.0:1"], udp, tcp, own))


def test_the_greeting_names_key_addresses_and_the_line_to_join_by(tmp_path: Any) -> None:
    text = greet(Settings(tmp_path), ["8.8.4.4", "2001:4860::1"])
    assert f"public key  {HEX.upper()}" in text
    assert "listens on  udp 0.0.0.0:1" in text
    assert f"--bootstrap 8.8.4.4:33445:{HEX.upper()}" in text
    assert "private" not in text
    assert f"ops status --state-dir '{tmp_path}'" in text


def test_the_greeting_tells_what_a_person_has_to_know(tmp_path: Any) -> None:
    assert "10.0.0.2 is a private address" in greet(Settings(tmp_path), ["10.0.0.2"])
    assert "--bootstrap YOUR-ADDRESS:33445:" in greet(Settings(tmp_path), [])
    text = greet(Settings(tmp_path, listen=("2001:4860::5",)), ["8.8.4.4"], 0, (443,))
    assert "clients relay by  [2001:4860::5]:443:" in text
    assert "--bootstrap" not in text
    text = greet(Settings(tmp_path, listen=("::",)), ["8.8.4.4", "2001:4860::9"])
    assert "--bootstrap [2001:4860::9]:33445:" in text
    text = greet(Settings(tmp_path), ["8.8.4.4"], 33447, (33448,))
    assert "clients relay by  8.8.4.4:33448:" in text
    assert "port 33445 was taken for UDP; 33447 was the next free one" in text
    assert "port 33445 was taken for TCP; 33448" in text
    assert "taken" not in greet(Settings(tmp_path, udp_port=5, tcp_ports=()), ["8.8.4.4"], 5)
    assert "private" not in greet(Settings(tmp_path, listen=("127.0.0.1",), dev=True), [])
    off = Settings(tmp_path, workers={"dht": 1, "onion": 0, "relay": 0})
    text = greet(off, ["8.8.4.4"], tcp=(33445,))
    assert "dht is off" not in text
    assert "onion is off" in text
    assert "TCP connections are closed at once; --tcp-port 0" in text
    assert "relay is off" not in greet(off, ["8.8.4.4"])
    assert "is off" not in greet(Settings(tmp_path), ["8.8.4.4"], tcp=(33445,))
    for address in greeting.own_addresses():
        ipaddress.ip_address(address)
