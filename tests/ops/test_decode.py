"""`toxmesh ops decode`: fields where they stand, and the byte at which something is no packet."""

import io
import json
import random
import sys

import pytest

from core.packets import ALL
from core.wire import Record, WireError
from ops import decode
from ops.decode import NoPacket
from tests.cli.commands import call, spawn
from tests.packets import vectors
from tests.packets.samples import Dice, sample

PING = "00" + "11" * 32 + "22" * 24 + "33" * 25


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_the_fields_of_every_layout_cover_every_byte_and_name_every_field(
    cls: type[Record],
) -> None:
    dice = Dice(7)
    for _ in range(20):
        record = sample(cls, dice)
        data = record.encode()
        found = decode.decode(data, cls.__name__)
        at = 0 if cls.kind is None else 1
        for part in found.parts:
            assert part.at == at
            at += part.size
        assert at == len(data) == found.size
        assert [part.name for part in found.parts] == [field.name for field in cls.FIELDS]
        assert json.dumps(found.plain())
        assert decode.lines(found)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_what_the_layout_refuses_is_refused_with_a_byte_that_is_there(cls: type[Record]) -> None:
    source = random.Random(cls.__name__)
    dice = Dice(source)
    refused = 0
    for _ in range(200):
        broken = bytearray(sample(cls, dice).encode())
        for _ in range(source.randint(1, 3)):
            choice = source.random()
            if choice < 0.4 and broken:
                broken[source.randrange(len(broken))] = source.randrange(256)
            elif choice < 0.7:
                broken = broken[: source.randint(0, len(broken))]
            else:
                broken += source.randbytes(source.randint(1, 9))
        data = bytes(broken)
        try:
            cls.decode(data)
        except WireError:
            with pytest.raises(NoPacket) as caught:
                decode.decode(data, cls.__name__)
            assert 0 <= caught.value.at <= len(data)
            refused += 1
        else:
            decode.decode(data, cls.__name__)
    assert refused > 20 or cls.MIN_SIZE == 0


def test_packets_of_the_reference_are_read_with_the_fields_it_put_in() -> None:
    for vector in vectors.load():
        found = decode.decode(bytes.fromhex(vector["hex"]), vector["packet"])
        values = {part.name: part.value for part in found.parts}
        wanted = vector["fields"]
        shown = json.dumps({name: values[name] for name in wanted})
        assert shown.lower() == json.dumps(wanted).lower(), vector["name"]


@pytest.mark.parametrize(
    ("data", "how", "layout"),
    [
        (PING, "auto", "PingRequest"),
        ("00" + "11" * 32, "auto", "RouteRequest"),
        ("00" + "11" * 32, "relay", "RouteRequest"),
        ("04" + "11" * 8, "auto", "RelayPing"),
        ("10aabb", "relay", "RelayData"),
        ("f0" + "00" * 77, "auto", "BootstrapInfoRequest"),
        ("f0" + "00" * 20, "udp", "BootstrapInfo"),
        ("00" + "11" * 8, "PingRequestBody", "PingRequestBody"),
    ],
)
def test_bytes_are_taken_for_what_they_are(data: str, how: str, layout: str) -> None:
    assert decode.decode(bytes.fromhex(data), how).layout == layout


@pytest.mark.parametrize(
    ("data", "how", "layout", "reason", "at"),
    [
        ("", "auto", "udp packet", "no byte", 0),
        ("", "relay", "relay packet", "no byte", 0),
        ("42", "auto", "udp packet", "no packet begins with 0x42", 0),
        ("0c", "relay", "relay packet", "no packet begins with 0x0c", 0),
        ("00" + "11" * 30, "udp", "PingRequest", "sender: 30 bytes are left of 32", 1),
        (PING[:-2], "udp", "PingRequest", "sealed: 24 bytes are left of 25", 57),
        (PING + "00", "udp", "PingRequest", "sealed: 1 bytes too many behind it", 82),
        ("01" + "05" + "00" * 32, "relay", "RouteResponse", "link: 5 is not", 1),
        ("01" + "00" * 8, "PingRequestBody", "PingRequestBody", "first byte|type: 1 is not 0", 0),
        ("02aa", "NodesResponseBody", "NodesResponseBody", "nodes: family 170", 1),
        ("8c" + "00" * 1500, "udp", "OnionResponse3", "bytes", 178),
    ],
)
def test_what_is_no_packet_says_why_and_where(
    data: str, how: str, layout: str, reason: str, at: int
) -> None:
    with pytest.raises(NoPacket, match=reason) as caught:
        decode.decode(bytes.fromhex(data), how)
    assert (caught.value.layout, caught.value.at) == (layout, at)


def test_boxes_stay_closed_and_say_what_they_hold() -> None:
    found = decode.decode(bytes.fromhex(PING))
    box = found.parts[-1]
    assert (box.name, box.sealed, box.holds, box.size) == ("sealed", True, "PingRequestBody", 25)
    assert "sealed: PingRequestBody, 25 bytes" in "\n".join(decode.lines(found))


def test_a_packet_inside_a_packet_is_read_too_but_not_for_ever() -> None:
    inner = bytes.fromhex(PING)
    for _ in range(decode.MAX_INNER + 2):
        inner = b"\x91\x00" + inner  # forwarding without a sendback
    depth, found = 0, decode.decode(inner)
    while found.parts[-1].inner is not None:
        depth, found = depth + 1, found.parts[-1].inner
    assert depth == decode.MAX_INNER
    assert decode.lines(decode.decode(b"\x91\x00" + bytes.fromhex(PING)))[-1].startswith("        ")


def test_a_layout_that_is_none_is_no_packet_at_all() -> None:
    with pytest.raises(ValueError, match="neither udp, relay"):
        decode.decode(b"\0", "Nonsense")


def test_the_command_shows_fields_and_takes_bytes_as_people_have_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spaced = ":".join(PING[i : i + 2] for i in range(0, len(PING), 2))
    for text in (PING, PING.upper(), "0x" + PING, spaced, spaced.replace(":", " ")):
        said = call(capsys, "ops", "decode", text)
        assert said.code == 0
        assert said.out.startswith("PingRequest (0x00), 82 bytes, UDP: ")
        assert "   1    32  sender  1111" in said.out


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("xy", 3, "'x' is no hexadecimal digit"),
        ("123", 3, "the number of digits is odd"),
        ("00" * 65_536, 3, "65,536 bytes are more than"),
        ("00", 1, "no packet: PingRequest: sender: 0 bytes are left of 32 (byte 1)"),
        ("", 1, "no packet"),
    ],
)
def test_the_command_tells_what_it_cannot_read(
    capsys: pytest.CaptureFixture[str], text: str, code: int, said: str
) -> None:
    result = call(capsys, "ops", "decode", text)
    assert result.code == code
    assert said in result.err


def test_an_unknown_layout_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "ops", "decode", "00", "--as", "Pong")
    assert said.code == 3
    assert "docs/packets.md" in said.err


class Stdin:
    """What a pipe would give."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_stdin_has_a_packet_a_line_and_bad_lines_do_not_end_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"# a comment\n\n{PING}\n00\n{PING}\n"
    monkeypatch.setattr(sys, "stdin", Stdin(lines.encode()))
    said = call(capsys, "ops", "decode", "-", "--json")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 1
    assert [row.get("packet") for row in rows] == ["PingRequest"] * 3
    assert rows[1] == {
        "error": "sender: 0 bytes are left of 32", "packet": "PingRequest", "at": 1,
    }  # fmt: skip
    monkeypatch.setattr(sys, "stdin", Stdin(b"00\nzz\n" + PING.encode()))
    said = call(capsys, "ops", "decode", "-")
    assert said.code == 3
    assert "line 2: 'z' is no hexadecimal digit" in said.err
    assert said.out.startswith("PingRequest")


def test_a_line_without_an_end_does_not_fill_the_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"0" * 1_000_000))
    said = call(capsys, "ops", "decode", "-")
    assert said.code == 3
    assert max(map(len, said.err.splitlines())) < 200


def test_json_has_all_of_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "ops", "decode", PING, "--json")
    row = json.loads(said.out)
    assert {name: row[name] for name in ("transport", "packet", "kind", "size")} == {
        "transport": "udp", "packet": "PingRequest", "kind": "0x00", "size": 82,
    }  # fmt: skip
    assert row["fields"][0] == {
        "name": "sender", "at": 1, "size": 32, "value": "11" * 32, "sealed": False,
    }  # fmt: skip
    assert row["fields"][2]["holds"] == "PingRequestBody"


def test_help_starts_without_the_packets() -> None:
    said = spawn("ops", "decode", "--help", options=("-X", "importtime"))
    loaded = {line.rsplit("|")[-1].strip() for line in said.err.splitlines() if "|" in line}
    assert said.code == 0
    assert not loaded & {"core.packets", "core.wire", "nacl", "zmq", "pydantic"}
