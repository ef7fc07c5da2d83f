"""Captures are files that tcpdump opens, and what it writes is read."""

import io
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import endpoint
from core.endpoint import Endpoint
from ops import pcap
from ops.pcap import Captured, PcapError, Reader

V4 = endpoint.from_text("192.0.2.1", 33445), endpoint.from_text("198.51.100.7", 12345)
V6 = endpoint.from_text("2001:db8::1", 33445), endpoint.from_text("2001:db8::2", 1)

Packet = tuple[float, Endpoint, Endpoint, bytes]


def written(*packets: Packet) -> bytes:
    file = io.BytesIO()
    assert pcap.write(file, packets) == len(packets)
    return file.getvalue()


def read(data: bytes) -> list[Captured]:
    return list(Reader(io.BytesIO(data)))


def capture(link: int, *records: bytes, order: str = "<", nano: bool = False) -> bytes:
    """A capture as another program writes it."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for record in records:
        data += struct.pack(order + "IIII", 1000, 500_000, len(record), len(record)) + record
    return data


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4_000_000_000).map(lambda micros: micros / 1_000_000),
            st.sampled_from([V4, V6]),
            st.binary(max_size=100),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read_again(
    rows: list[tuple[float, tuple[Endpoint, Endpoint], bytes]],
) -> None:
    packets = [(time, *ends, payload) for time, ends, payload in rows]
    found = read(written(*packets))
    assert [row[1:] for row in found] == [row[1:] for row in packets]
    assert [row.time for row in found] == pytest.approx([row[0] for row in packets], abs=1e-6)


@pytest.mark.interop
def test_tcpdump_opens_what_is_written_and_finds_its_checksums_right(tmp_path: Path) -> None:
    tcpdump = shutil.which("tcpdump")
    if tcpdump is None:
        pytest.fail("tcpdump is missing: apt install tcpdump")
    payloads = [b"", b"\0", b"\xff\xff", bytes(range(256)), b"x" * 1400, b"y" * pcap.MAX_PAYLOAD]
    path = tmp_path / "capture.pcap"
    with path.open("wb") as file:
        pcap.write(
            file,
            [(1.5e9, *ends, payload) for payload in payloads for ends in (V4, V6)],
        )
    done = subprocess.run(
        [tcpdump, "-nvvr", str(path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.count("[udp sum ok]") == 2 * len(payloads)
    assert "bad" not in done.stdout.lower()
    assert "192.0.2.1.33445 > 198.51.100.7.12345: [udp sum ok] UDP, length 1400" in done.stdout
    assert "2001:db8::1.33445 > 2001:db8::2.1: [udp sum ok] UDP, length 256" in done.stdout


def test_a_checksum_that_comes_to_zero_is_sent_as_ones() -> None:
    for number in range(0x10000):  # one of all 16-bit words makes the sum zero
        udp = pcap.build(*V4, number.to_bytes(2, "big"))[20:]
        assert udp[6:8] != b"\0\0"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_captures_of_other_machines_are_read(order: str, nano: bool) -> None:
    data = capture(101, pcap.build(*V4, b"hello"), order=order, nano=nano)
    assert read(data) == [Captured(1000.0005 if nano else 1000.5, *V4, b"hello")]


@pytest.mark.parametrize(
    ("link", "head"),
    [
        (1, b"\x01" * 12 + b"\x08\x00"),
        (113, b"\x01" * 14 + b"\x08\x00"),
        (276, b"\x08\x00" + b"\x01" * 18),
    ],
)
def test_the_links_that_tcpdump_has_on_linux_are_read(link: int, head: bytes) -> None:
    packet = head + pcap.build(*V4, b"hello") + b"\0\0"  # Ethernet pads short packets
    other = head.replace(b"\x08\x00", b"\x08\x06") + bytes(28)  # ARP
    reader = Reader(io.BytesIO(capture(link, packet, other)))
    assert [row.payload for row in reader] == [b"hello"]
    assert reader.passed_over == 1


def test_what_is_no_whole_datagram_is_passed_over_and_counted() -> None:
    whole4, whole6 = pcap.build(*V4, b"hello"), pcap.build(*V6, b"hello")
    others = [
        b"",
        b"\x45",
        whole4[:30],  # cut
        whole6[:46],
        whole4[:9] + b"\x06" + whole4[10:],  # TCP
        whole6[:6] + b"\x2c" + whole6[7:],  # a fragment's header
        whole4[:6] + b"\x20\x00" + whole4[8:],  # more fragments follow
        whole4[:6] + b"\x00\x01" + whole4[8:],  # not the first of them
        b"\x41" + whole4[1:],  # a header of 4 bytes
        whole4[:24] + b"\xff\xff" + whole4[26:],  # longer than the packet
        whole4[:24] + b"\x00\x07" + whole4[26:],  # shorter than its own head
        b"\x95" + whole4[1:],  # IP version 9
    ]
    reader = Reader(io.BytesIO(capture(101, whole4, *others, whole6)))
    assert [row.payload for row in reader] == [b"hello", b"hello"]
    assert reader.passed_over == len(others)


@pytest.mark.parametrize(
    ("data", "words", "at"),
    [
        (b"", "begins with 24 bytes", 0),
        (b"\0" * 30, "no pcap file", 0),
        (b"\x0a\x0d\x0d\x0a" + bytes(30), "pcapng", 0),
        (capture(147), "link type 147", 20),
        (written((1.0, *V4, b"a"))[:-1], "inside a record", 24),
        (written((1.0, *V4, b"a"))[:30], "inside a record's head", 24),
        (capture(101) + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30), "a record of", 24),
    ],
)
def test_a_damaged_file_says_why_and_where(data: bytes, words: str, at: int) -> None:
    with pytest.raises(PcapError, match=words) as caught:
        read(data)
    assert caught.value.at == at


@given(st.binary(max_size=200), st.booleans())
def test_whatever_the_bytes_they_are_read_or_refused(data: bytes, headed: bool) -> None:
    with suppress(PcapError):
        read(capture(101, data) + data if headed else data)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        ((0.0, *V4, bytes(pcap.MAX_PAYLOAD + 1)), "at most 65,507 bytes"),
        ((0.0, V4[0], V6[1], b""), "two families"),
    ],
)
def test_what_is_no_datagram_is_not_written(packet: Packet, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        written(packet)
