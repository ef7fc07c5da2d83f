"""Where the web door listens, and by which names it answers there."""

import pytest

from toxmesh.web.address import Address, names_loopback, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9745", Address("127.0.0.1", 9745)),
        ("[::1]:0", Address("::1", 0)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("off", None),
        ("", None),
    ],
)
def test_an_address_is_read_and_written_as_it_was(text: str, address: Address | None) -> None:
    assert parse(text) == address
    if address is not None:
        assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["9745", "127.0.0.1", "localhost:9745", "::1:9745", "[127.0.0.1]:1", "127.0.0.1:99999", "on",
     "127.0.0.1:", ":9745", "127.0.0.1:-1", "127.0.0.1:+5", "[::1:5"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|is no|write"):
        parse(text)


def test_loopback_is_known() -> None:
    assert Address("127.0.0.1", 1).is_loopback
    assert Address("::1", 1).is_loopback
    assert not Address("0.0.0.0", 1).is_loopback


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LOCALHOST:9745", b"127.0.0.1:9745", b"127.8.8.8", b"[::1]:1", b"[::1]"],
)
def test_names_of_this_machine_are_answered(host: bytes) -> None:
    assert names_loopback(host)


@pytest.mark.parametrize(
    "host",
    [b"", b"evil.example", b"evil.example:9745", b"localhost.evil.example", b"127.0.0.1.nip.io",
     b"192.168.1.1", b"[::1", b"[fe80::1]:5", b"localhost:x", b"127.0.0.1:9745:1", b"\xff",
     b"user@localhost", b"[::1]evil"],
)  # fmt: skip
def test_names_that_a_stranger_may_point_here_are_not(host: bytes) -> None:
    assert not names_loopback(host)
