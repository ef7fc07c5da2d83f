"""What an operator wants to see: filters, counts, rates, and words that are refused."""

from typing import Any

import pytest

from core.asking import CannotAnswer
from core.capturing import Capture, Seen, args_of, parse_place, wanted_of
from core.endpoint import Endpoint, from_text

KEY = bytes(range(32))
PING, NODES = b"\x00" + KEY + b"rest", b"\x02" + bytes(32) + b"rest"
ONE, OTHER = from_text("192.0.2.1", 33445), from_text("198.51.100.1", 1000)
SIX = from_text("2001:db8::1", 33445)


def captured(args: dict[str, Any], *rows: tuple[bytes, Endpoint], way: str = "in") -> list[bytes]:
    capture = Capture(1, wanted_of(args), 0.0)
    found = capture.take(way, [row[0] for row in rows], [row[1] for row in rows], 1.0)
    return [packet for _, _, packet in found]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({}, [PING, NODES, PING]),
        ({"kinds": [2]}, [NODES]),
        ({"kinds": [0, 2]}, [PING, NODES, PING]),
        ({"kinds": (0, 2)}, [PING, NODES, PING]),  # as it comes from another process
        ({"key": KEY.hex()}, [PING, PING]),
        ({"key": KEY.hex()[:8].upper()}, [PING, PING]),
        ({"network": "192.0.2.0/24"}, [PING]),
        ({"network": "192.0.2.1"}, [PING]),
        ({"network": "192.0.2.2"}, []),
        ({"network": "2001:db8::/32"}, [PING]),
        ({"network": "0.0.0.0/0"}, [PING, NODES]),
        ({"network": "192.0.2.0/31"}, [PING]),
        ({"network": "192.0.0.0/9"}, [PING]),
        ({"network": "192.128.0.0/9"}, []),
        ({"network": "2001:db8::/33"}, [PING]),
        ({"network": "2001:db8:8000::/33"}, []),
        ({"network": "::/0"}, [PING]),
        ({"port": 1000}, [NODES]),
        ({"network": "192.0.2.0/24", "port": 1000}, []),
        ({"kinds": [0], "network": "2001:db8::1"}, [PING]),
        ({"direction": "in"}, [PING, NODES, PING]),
        ({"direction": "out"}, []),
        ({"count": 2}, [PING, NODES]),
        ({"rate": 1}, [PING]),
    ],
)
def test_all_that_is_said_must_be_so(args: dict[str, Any], wanted: list[bytes]) -> None:
    assert captured(args, (PING, ONE), (NODES, OTHER), (PING, SIX)) == wanted
    assert args_of(wanted_of(args_of(wanted_of(args)))) == args_of(wanted_of(args))


FRAMES = [
    Seen("in", KEY, ONE, b"\x00" + b"P" * 32, 33),
    Seen("out", KEY, ONE, b"\x05" + bytes(8), 9),
    Seen("in", b"P" * 32, SIX, b"\x10", 1000),
    Seen("out", b"Q" * 32, OTHER, b"\xff", 7),
]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({}, [0, 1, 2, 3]),
        ({"transport": "tcp"}, [0, 1, 2, 3]),
        ({"transport": "udp"}, []),
        ({"frames": [5]}, [1]),
        ({"frames": [16]}, [2, 3]),
        ({"kinds": [5]}, []),
        ({"kinds": [5], "frames": [0]}, [0]),
        ({"key": KEY.hex()[:8]}, [0, 1]),  # of the client
        ({"key": "50" * 32}, [0, 2]),  # named in it, or of the client
        ({"key": KEY.hex()[2:12]}, []),  # not the beginning
        ({"network": "2001:db8::/32"}, [2]),
        ({"network": "192.0.2.1", "port": 33445}, [0, 1]),
        ({"port": 1}, []),
        ({"direction": "out"}, [1, 3]),
        ({"count": 2}, [0, 1]),
        ({"rate": 1}, [0]),
    ],
)
def test_frames_are_chosen_by_client_and_kind(args: dict[str, Any], wanted: list[int]) -> None:
    capture = Capture(1, wanted_of(args), 0.0)
    assert capture.take_frames(FRAMES, 1.0) == [FRAMES[at] for at in wanted]
    assert args_of(wanted_of(args_of(wanted_of(args)))) == args_of(wanted_of(args))


@pytest.mark.parametrize("args", [{"transport": "tcp"}, {"frames": [4]}])
def test_datagrams_are_none_of_it_where_frames_alone_are_wanted(args: dict[str, Any]) -> None:
    assert captured(args, (PING, ONE), (b"\x04", ONE)) == []


def test_the_count_is_that_of_all_batches_and_the_rate_that_of_a_second() -> None:
    capture = Capture(1, wanted_of({"count": 25, "rate": 10}), 0.0)
    told = [len(capture.take("in", [PING] * 8, [ONE] * 8, at)) for at in (0.0, 0.1, 1.0, 5.0, 6.0)]
    assert told == [8, 3, 8, 6, 0]
    assert capture.left == 0
    assert capture.passed_over == 5  # for the rate; what comes when all was told is not missed


def test_where_it_went_or_came_from_is_told() -> None:
    capture = Capture(1, wanted_of({}), 0.0)
    assert capture.take("out", [PING], [SIX], 1.0) == [("out", "[2001:db8::1]:33445", PING)]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"kinds": 2}, "kinds must be a list"),
        ({"kinds": [256]}, "kinds must be a list"),
        ({"kinds": [True]}, "kinds must be a list"),
        ({"key": "abcdef"}, "8 to 64 hex digits"),
        ({"key": "xy" * 8}, "8 to 64 hex digits"),
        ({"key": "00" * 33}, "8 to 64 hex digits"),
        ({"network": "192.0.2"}, "no address and no prefix"),
        ({"network": "192.0.2.0/33"}, "no address and no prefix"),
        ({"port": 65536}, "port must be"),
        ({"direction": "up"}, "direction must be one of both, in, out"),
        ({"count": 0}, "count must be"),
        ({"count": 10_001}, "count must be"),
        ({"rate": 1_001}, "rate must be"),
    ],
)
def test_wrong_words_are_one_sentence(args: dict[str, Any], words: str) -> None:
    with pytest.raises(CannotAnswer, match=words) as caught:
        wanted_of(args)
    assert caught.value.code == "usage"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.0.2.1", ("192.0.2.1/32", 0)),
        ("192.0.2.7/24", ("192.0.2.0/24", 0)),
        ("192.0.2.1:33445", ("192.0.2.1/32", 33445)),
        ("2001:db8::1", ("2001:db8::1/128", 0)),
        ("2001:db8::/32", ("2001:db8::/32", 0)),
        ("[2001:db8::1]:1", ("2001:db8::1/128", 1)),
        ("[2001:db8::1]", ("2001:db8::1/128", 0)),
    ],
)
def test_places_are_read_as_operators_write_them(text: str, place: tuple[str, int]) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "x", "192.0.2.1:0", "192.0.2.1:x", "192.0.2.0/33", "[::1]:"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_place(text)
