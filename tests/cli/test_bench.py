"""`toxmesh bench` refuses what is too much or makes no sense, before it sends anything."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core import crypto
from core.crypto import KeyPair, SharedKeys
from core.entropy import SeededEntropy
from tests.cli.commands import CHECKOUT, call
from toxmesh.bench.report import FORMAT, VERSION

PAIR = KeyPair.generate(SeededEntropy("node"))
KEY = PAIR.public.hex()
NODE = f"127.0.0.1:1:{KEY}"  # nobody listens there


def _serve(sock: socket.socket, only_info: bool) -> None:
    known = SharedKeys(PAIR.secret)
    while True:
        packet, source = sock.recvfrom(2048)
        if packet[0] == 0xF0:
            sock.sendto(b"\xf0\x00\x00\x00\x01small\x00", source)
            continue
        shared = known.get(packet[1:33])
        plain = shared and crypto.open_sealed(shared, packet[33:57], packet[57:])
        if shared and plain and not only_info:
            nonce = crypto.increment(crypto.Nonce(packet[33:57]))
            sealed = crypto.seal(shared, nonce, b"\x01" + plain[1:])
            sock.sendto(b"\x01" + PAIR.public + nonce + sealed, source)


@contextmanager
def small_node(only_info: bool = False) -> Iterator[int]:
    """Answers pings and bootstrap info on loopback, in a process of its own; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(sock, only_info), daemon=True
        )
        process.start()
        try:
            yield port
        finally:
            process.terminate()
            process.join()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("127.0.0.1:33445",), "is not HOST:PORT:PUBLICKEY"),
        ((f"127.0.0.1:0:{KEY}",), "must be 1-65535"),
        ((NODE, "--load", "pong"), "no load is called 'pong'; there are: ping 2000/s, ping"),
        ((NODE, "--pid", "4194305"), "no process has the id 4194305"),
        ((NODE, "--json", "/nowhere/file"), "cannot be written"),
        ((NODE, "--compare", "/nowhere/file"), "cannot be read: no such file"),
        ((f"[::1]:1:{KEY}", "--sources", "2"), "leave --sources out"),
        ((f"192.0.2.1:1:{KEY}",), "only with --allow-remote"),
        ((f"192.0.2.1:1:{KEY}", "--allow-remote"), "needs --rate"),
        ((f"192.0.2.1:1:{KEY}", "--allow-remote", "--rate", "1001"), "at most 1000"),
        ((f"192.0.2.1:1:{KEY}", "--allow-remote", "--rate", "9", "--keys", "1001"), "1000 keys"),
        ((f"192.0.2.1:1:{KEY}", "--allow-remote", "--rate", "9", "--sources", "2"), "1 source"),
        (
            (f"192.0.2.1:1:{KEY}", "--allow-remote", "--rate", "9", "--load", "announce"),
            "for loopback alone, as they leave something behind: announce store",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line_and_exit_3(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    got = call(capsys, "bench", *arguments)
    assert (got.code, got.out) == (3, "")
    assert got.err.startswith("toxmesh: ")
    assert got.err.count("\n") == 1
    assert said in got.err


@pytest.mark.parametrize(
    "option",
    [
        "--keys 0", "--keys 100001", "--keys 1,x", "--keys 1,2,3,4,5,6,7,8,9", "--seconds 0",
        "--seconds 601", "--repeat 0", "--repeat 10", "--rate 0", "--rate nan", "--window 0",
        "--window 4097", "--sources 0", "--sources 10001", "--tcp-port 65536", "--pid 0",
        "--tolerance -1",
    ],
)  # fmt: skip
def test_numbers_have_bounds(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    got = call(capsys, "bench", NODE, *option.split())
    assert (got.code, got.out) == (3, "")
    assert f"Invalid value for '{option.split()[0]}'" in got.err


def test_a_node_that_does_not_answer_is_exit_4(capsys: pytest.CaptureFixture[str]) -> None:
    got = call(capsys, "bench", NODE, "--load", "ping", "--keys", "1")
    assert got.code == 4
    assert "no answer from 127.0.0.1:1: does a node run there" in got.err
    with small_node(only_info=True) as port:
        got = call(capsys, "bench", f"127.0.0.1:{port}:{KEY}", "--load", "ping", "--keys", "1")
    assert got.code == 4
    assert "does not have this public key" in got.err
    with small_node() as port:
        got = call(capsys, "bench", f"127.0.0.1:{port}:{KEY}", "--load", "relay 100 B")
    assert got.code == 4
    assert f"no relay listens on TCP port {port}" in got.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no file of toxmesh bench"),
        ('{"format": "other"}', "is no file of toxmesh bench"),
        (json.dumps({"format": FORMAT, "version": 99}), "has version 99"),
        (json.dumps({"format": FORMAT, "version": VERSION, "rows": 3}), "has rows that are none"),
        (
            json.dumps(
                {"format": FORMAT, "version": VERSION, "rows": [{"load": "ping", "cpu_us": "x"}]}
            ),
            "has rows that are none",
        ),
    ],
)
def test_a_file_to_compare_with_must_be_one_of_ours(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "then.json"
    path.write_text(content)
    got = call(capsys, "bench", NODE, "--compare", path)
    assert (got.code, got.out) == (3, "")
    assert said in got.err


def test_a_run_is_written_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    with small_node() as port:
        line = ("bench", f"127.0.0.1:{port}:{KEY}", "--load", "ping", "--keys", "5",
                "--seconds", "0.2", "--repeat", "2", "--window", "16",
                "--pid", os.getpid())  # fmt: skip
        got = call(capsys, *line, "--json", path)
        assert got.code == 0, got.err
        assert "| ping " in got.out
        written = json.loads(path.read_text())
        assert (written["format"], written["version"]) == (FORMAT, VERSION)
        (row,) = written["rows"]
        assert (row["load"], row["keys"], row["wrong"]) == ("ping", 5, 0)
        assert row["answers"] > 100
        assert row["checked"] > 5
        assert row["cpu_us"] > 0
        assert len(row["repeats"]) == 2
        assert sum(each["answers"] for each in row["repeats"]) == row["answers"]

        got = call(capsys, *line, "--compare", path, "--tolerance", "1000")
        assert got.code == 0, got.err
        row["answers_per_s"] *= 100
        path.write_text(json.dumps(written))
        got = call(capsys, *line, "--compare", path)
        assert got.code == 1
        assert "WORSE" in got.out
        row["load"] = "nodes"
        path.write_text(json.dumps(written))
        got = call(capsys, *line, "--compare", path)
        assert got.code == 2
        assert "no load in common" in got.err


def test_a_rate_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with small_node() as port:
        call(capsys, "bench", f"127.0.0.1:{port}:{KEY}", "--load", "ping", "--keys", "5",
             "--seconds", "0.5", "--rate", "500", "--json", path)  # fmt: skip
    (row,) = json.loads(path.read_text())["rows"]
    assert 100 < row["sent"] <= 0.5 * 500 + 2
    assert row["checked"] > 0


def test_loads_without_a_good_answer_are_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with small_node() as port:
        got = call(capsys, "bench", f"127.0.0.1:{port}:{KEY}", "--load", "nodes", "--keys", "2",
                   "--seconds", "0.1", "--window", "2", "--sources", "2")  # fmt: skip
    assert got.code == 2
    assert "no good answers to: nodes" in got.err


def test_ctrl_c_ends_it_with_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with small_node() as port:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "toxmesh", "bench", f"127.0.0.1:{port}:{KEY}", "--load",
                "ping", "--keys", "2,3", "--seconds", "1", "--json", str(path),
            ],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stderr is not None
        first = process.stderr.readline()  # the row of 2 keys: that of 3 is running
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert first.startswith("  ping  2 ")
    assert process.returncode == 2
    assert "stopped before it was done" in err
    assert "Traceback" not in err
    assert "| ping " in out
    written = json.loads(path.read_text())
    assert written["cut_short"]
    assert written["rows"][0]["keys"] == 2


def test_the_help_does_not_load_the_load_generator() -> None:
    program = "import sys; from toxmesh import cli; cli.run(['--help']); cli.run(['bench', '-h'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit('toxmesh.bench' in sys.modules)"],
        cwd=CHECKOUT,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0
