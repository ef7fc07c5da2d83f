"""`toxmesh ops replay`: the datagrams of a capture go out evenly, and answers are counted."""

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core import endpoint
from ops import pcap, replay
from tests.cli.commands import call
from tests.ops.schema import differences
from tests.ops.shapes import COMMANDS

NODE, CLIENT = endpoint.from_text("192.0.2.1", 33445), endpoint.from_text("192.0.2.2", 5)


class MadeUpWire(replay.Wire):
    """A wire in made-up time: each datagram is answered after a while, or something happens."""

    def __init__(self, delay: float = 0.01) -> None:
        self.now = 100.0
        self.delay = delay
        self.sent: list[tuple[float, bytes]] = []
        self.answers: deque[tuple[float, bytes]] = deque()
        self.taken: list[bool] = []

    def send(self, payload: bytes) -> bool:
        if self.taken and not self.taken.pop(0):
            return False
        self.sent.append((self.now, payload))
        self.answers.append((self.now + self.delay, b"\x01" + payload))
        return True

    def receive(self) -> bytes | None:
        if self.answers and self.answers[0][0] <= self.now:
            return self.answers.popleft()[1]
        return None

    def close(self) -> None:
        pass

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def carry(wire: MadeUpWire, count: int, rate: float) -> replay.Replayed:
    payloads = [bytes([i % 256]) for i in range(count)]
    return replay.replay(payloads, wire, rate, clock=wire.clock, sleep=wire.sleep)


def test_datagrams_leave_in_order_and_evenly_and_all_answers_count() -> None:
    wire = MadeUpWire()
    done = carry(wire, 50, 100.0)
    assert [payload for _, payload in wire.sent] == [bytes([i]) for i in range(50)]
    assert [at - 100.0 for at, _ in wire.sent] == pytest.approx([i / 100 for i in range(50)])
    assert (done.sent, done.answers) == (50, {1: 50})


@pytest.mark.parametrize("rate", [0.5, 7.0, 1000.0])
def test_the_rate_is_never_exceeded(rate: float) -> None:
    wire = MadeUpWire()
    carry(wire, 20, rate)
    spread = wire.sent[-1][0] - wire.sent[0][0]
    assert spread == pytest.approx(19 / rate)


def test_what_the_kernel_did_not_take_is_sent_once_all_the_same() -> None:
    wire = MadeUpWire()
    wire.taken = [True, False, False, True, False, True]
    done = carry(wire, 5, 1000.0)
    assert [payload for _, payload in wire.sent] == [bytes([i]) for i in range(5)]
    assert done.sent == 5


def test_late_answers_are_waited_for_a_second_and_no_longer() -> None:
    assert carry(MadeUpWire(0.9), 1, 10.0).answers == {1: 1}
    wire = MadeUpWire(5.0)
    assert not carry(wire, 1, 10.0).answers
    assert wire.now < 102.0


@contextmanager
def echo() -> Iterator[tuple[int, list[bytes]]]:
    """A node that answers each datagram with 01, twice, and an empty one with nothing."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, peer = sock.recvfrom(65_536)
                if data == b"end":
                    return
                heard.append(data)
                if data:
                    sock.sendto(b"\x01", peer)
                    sock.sendto(b"", peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()[1], heard
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", sock.getsockname())
        thread.join(5)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture.pcap"
    with path.open("wb") as file:
        pcap.write(
            file,
            [
                (1.0, CLIENT, NODE, b"\0one"),
                (1.1, NODE, CLIENT, b"\x01two"),
                (1.2, CLIENT, NODE, b"\x02three"),
            ],
        )
    return path


def test_the_command_sends_a_capture_and_counts_answers(
    capsys: pytest.CaptureFixture[str], capture: Path
) -> None:
    with echo() as (port, heard):
        said = call(capsys, "ops", "replay", capture, "--to", f"127.0.0.1:{port}", "--json")
        assert said.code == 0
        row = json.loads(said.out)
        assert differences(COMMANDS["replay"].answer, row) == []
        assert row.pop("seconds") < 5
        assert row == {
            "sent": 3, "bytes": 14, "answers": 6, "kinds": {"0x01": 3, "empty": 3},
            "refused": 0, "passed_over": 0,
        }  # fmt: skip
        assert heard == [b"\0one", b"\x01two", b"\x02three"]


def test_only_what_went_to_a_port_and_only_so_many(
    capsys: pytest.CaptureFixture[str], capture: Path
) -> None:
    with echo() as (port, heard):
        to = ("--to", f"localhost:{port}", "--rate", "10000")
        said = call(capsys, "ops", "replay", capture, *to, "--port", 33445)
        assert (said.code, heard) == (0, [b"\0one", b"\x02three"])
        assert "sent     2 datagrams" in said.out
        assert "0x01   ping response  2" in said.out
        heard.clear()
        call(capsys, "ops", "replay", capture, *to, "--count", 1)
        assert heard == [b"\0one"]


def test_a_port_where_nobody_listens_is_exit_4(
    capsys: pytest.CaptureFixture[str], capture: Path
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    said = call(capsys, "ops", "replay", capture, "--to", f"127.0.0.1:{port}")
    assert said.code == 4
    assert "nobody listens there" in said.out


def test_a_node_that_answers_nothing_is_exit_1(
    capsys: pytest.CaptureFixture[str], capture: Path
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        assert call(capsys, "ops", "replay", capture, "--to", f"127.0.0.1:{port}").code == 1


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--to", "192.0.2.1:33445"), 3, "only with --anywhere"),
        (("--to", "192.0.2.1:33445", "--anywhere", "--rate", "1001"), 3, "--rate 1000 at most"),
        (("--to", "192.0.2.1"), 3, "not HOST:PORT"),
        (("--to", "[192.0.2.1:1"), 3, "neither"),
        (("--to", "127.0.0.1:1", "--rate", "nan"), 3, "nan"),
        (("--to", "127.0.0.1:1", "--rate", "1000000"), 3, "100000"),
        (("--to", "no-such-host.invalid:1"), 4, "has no address"),
    ],
)
def test_what_is_not_done_is_refused_before_anything_leaves(
    capsys: pytest.CaptureFixture[str],
    capture: Path,
    options: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    said = call(capsys, "ops", "replay", capture, *options)
    assert said.code == code
    assert words in said.err


def test_a_file_that_is_none_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = call(capsys, "ops", "replay", tmp_path / "none", "--to", "127.0.0.1:1")
    assert said.code == 3
    assert "cannot be read: no such file" in said.err
    (tmp_path / "text").write_text("hello " * 10)
    said = call(capsys, "ops", "replay", tmp_path / "text", "--to", "127.0.0.1:1")
    assert said.code == 3
    assert "no pcap file (byte 0)" in said.err


def test_a_capture_that_ends_too_early_is_sent_as_far_as_it_goes(
    capsys: pytest.CaptureFixture[str], capture: Path
) -> None:
    capture.write_bytes(capture.read_bytes()[:-1])
    with echo() as (port, heard):
        said = call(capsys, "ops", "replay", capture, "--to", f"127.0.0.1:{port}")
    assert (said.code, len(heard)) == (2, 2)
    assert "the 2 datagrams before that were sent, and 4 answers came" in said.err
