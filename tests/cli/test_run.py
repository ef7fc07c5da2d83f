"""`toxmesh run` for real: the ready line, ports, the lock, ops status, and how it stops."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.commands import CHECKOUT, Said, spawn

pytestmark = pytest.mark.process

READY = re.compile(r"ready udp=(\d+) tcp=(\d+(?:,\d+)*|0|) ?key=([0-9A-F]{64})\n")


class Running:
    """A node that has printed its ready line."""

    def __init__(self, process: "subprocess.Popen[str]", line: str) -> None:
        self.process = process
        found = READY.fullmatch(line)
        if found is None:
            process.kill()
            raise AssertionError(f"{line!r} is no ready line: {process.communicate()}")
        self.udp = int(found[1])
        self.tcp = [int(port) for port in found[2].split(",") if port]
        self.key = found[3]
        self.out = ""
        self.err = ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stops the node and returns the exit code; on a busy machine its 5 s may be longer."""
        self.process.send_signal(number)
        self.out, self.err = self.process.communicate(timeout=20)
        return self.process.returncode


@contextmanager
def running(*arguments: object, environment: dict[str, str] | None = None) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "toxmesh", "run", *(str(argument) for argument in arguments)],
        cwd=CHECKOUT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Running(process, process.stdout.readline() if process.stdout else "")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def status(state: Path) -> Said:
    return spawn("ops", "status", "--json", "--state-dir", state)


def test_a_first_start_makes_keys_listens_is_asked_and_stops(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running("--dev", "--state-dir", state, "--motd", "hi") as node:
        said = status(state)
        answer = json.loads(said.out)
        assert said.code == 0, said
        assert answer["node"]["public_key"] == node.key
        assert {row["name"] for row in answer["workers"]} == {"dht.0", "onion.0", "relay.0"}
        for row in answer["workers"]:
            assert (row["state"], row["restarts"]) == ("good", 0)
            os.kill(row["pid"], 0)
        shown = spawn("ops", "status", "--state-dir", state)
        assert shown.code == 0
        assert node.key in shown.out
        second = spawn("run", "--dev", "--state-dir", state)
        assert second.code == 3
        assert "another node" in second.err
        assert node.stop() == 0
    assert node.out == ""  # one line on stdout, no more
    assert f"others join with  --bootstrap 127.0.0.1:{node.udp}:{node.key}" in node.err
    secret = (state / "keys").read_bytes()[32:]
    assert secret.hex() not in (node.err + said.out + shown.out).lower()
    assert spawn("keys", "show", "--state-dir", state).out == node.key + "\n"
    assert status(state).code == 4


def test_the_same_keys_serve_again_and_a_damaged_node_list_is_no_obstacle(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        with running("--dev", "--state-dir", tmp_path) as node:
            keys.append(node.key)
            assert node.stop(signal.SIGINT) == 0
        (tmp_path / "nodes.db").write_bytes(b"damaged")
    assert keys[0] == keys[1]
    assert (tmp_path / "nodes.db.damaged").exists()


def test_a_killed_node_does_not_keep_the_next_one_from_starting(tmp_path: Path) -> None:
    with running("--dev", "--state-dir", tmp_path) as node:
        node.process.kill()
        node.process.communicate(timeout=10)
    with running("--dev", "--state-dir", tmp_path) as node:
        assert node.stop() == 0


def taken(kind: int) -> socket.socket:
    busy = socket.socket(socket.AF_INET, kind)
    busy.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        busy.listen(1)
    return busy


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_given_port_must_be_free(kind: int, tmp_path: Path) -> None:
    with taken(kind) as busy:
        port = busy.getsockname()[1]
        flag = "--udp-port" if kind == socket.SOCK_DGRAM else "--tcp-port"
        said = spawn("run", "--dev", "--state-dir", tmp_path, flag, port)
    assert (said.code, said.out) == (3, "")
    assert str(port) in said.err
    assert "Traceback" not in said.err


def test_without_a_port_the_next_free_one_is_taken_and_said(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            busy = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            busy.bind(("127.0.0.1", 33445))
        except OSError:
            pass  # somebody else has it: as good
        with running("--dev", "--state-dir", tmp_path) as node:
            assert 33445 < node.udp <= 33545
            assert node.stop() == 0
    assert "port 33445 was taken for UDP" in node.err


def test_zero_switches_a_transport_off(tmp_path: Path) -> None:
    for flag in ("--udp-port", "--tcp-port"):
        with running("--dev", "--state-dir", tmp_path, flag, "0") as node:
            answer = json.loads(status(tmp_path).out)
            assert node.stop() == 0
        kinds = {address.split()[0] for address in answer["node"]["addresses"]}
        assert kinds == ({"tcp"} if flag == "--udp-port" else {"udp"})


def test_a_dev_node_without_a_directory_leaves_nothing_behind(tmp_path: Path) -> None:
    with running("--dev", environment={"TMPDIR": str(tmp_path)}) as node:
        assert len(list(tmp_path.iterdir())) >= 1
        assert node.stop() == 0
    assert list(tmp_path.iterdir()) == []
