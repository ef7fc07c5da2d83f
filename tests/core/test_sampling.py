"""Who sends how much: counted exactly while little comes, near enough when much does, bounded."""

from core.endpoint import udp4, udp6
from core.sampling import ROOM, WINDOW_S, Sample, prefix_text


def place(number: int) -> bytes:
    return udp4(b"\x0a" + number.to_bytes(2, "big") + b"\x01", 33445)


def test_small_batches_are_counted_exactly_and_told_when_a_window_is_over() -> None:
    sample = Sample(100.0)
    assert sample.look(100.0)["rows"] == []
    sample.take([b"12345", b"1"], [place(1), place(2)], 100.5)
    sample.take([b"12345"], [place(1)], 101.0)
    assert sample.look(101.0)["rows"] == []
    answer = sample.look(100.0 + WINDOW_S)
    assert answer["rows"] == [(b"\x0a\0\x01", 1.0, 5.0), (b"\x0a\0\x02", 0.5, 0.5)]
    assert answer["seconds"] == WINDOW_S


def test_of_large_batches_a_part_stands_for_all() -> None:
    sample = Sample(0.0)
    for turn in range(1000):
        batch = [place(1)] * 48 + [place(2)] * 16
        sample.take([bytes(100)] * 64, batch, turn / 1000)
    rows = {prefix: count for prefix, count, _ in sample.look(WINDOW_S)["rows"]}
    assert abs(rows[b"\x0a\0\x01"] - 48_000 / WINDOW_S) < 1_000
    assert abs(rows[b"\x0a\0\x02"] - 16_000 / WINDOW_S) < 1_000


def test_a_flood_of_prefixes_takes_no_room_and_hides_nobody_who_sends_much() -> None:
    sample = Sample(0.0)
    number = 0
    for _ in range(2_000):
        strangers = [place(number + i) for i in range(12)]
        number += 12
        sample.take([b"x"] * 16, [*strangers, *[place(1)] * 4], 0.1)
        assert len(sample._counts) <= ROOM
    rows = sample.look(WINDOW_S)["rows"]
    assert len(rows) <= 256
    assert rows[0][0] == b"\x0a\0\x01"


def test_prefixes_are_written_as_networks() -> None:
    assert prefix_text(udp4(b"\xc0\x00\x02\x07", 1)[4:7]) == "192.0.2.0/24"
    address = bytes.fromhex("20010db8000000010000000000000009")
    assert prefix_text(udp6(address, 1)[8:16]) == "2001:db8:0:1::/64"
