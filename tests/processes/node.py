"""A real node for tests: its process, its status, and a client that pings it."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey, SharedKey
from core.entropy import SystemEntropy
from core.packets.dht import PingRequest, PingRequestBody, PingResponse, PingResponseBody

START_S = 60.0  # for a node on a busy machine


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """Waits for a true value and returns it; AssertionError when time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        select.select([], [], [], 0.02)
    raise AssertionError(f"not within {seconds} s")


class Node:
    """One `toxmesh run`."""

    def __init__(self, process: subprocess.Popen[str], state_dir: Path) -> None:
        self.process = process
        self.state_dir = state_dir
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
        self.ready_line = line.strip()
        parts = dict(part.split("=") for part in line.split()[1:])
        self.udp_port = int(parts.get("udp", 0))
        self.key = PublicKey(bytes.fromhex(parts.get("key", "")))

    def status(self) -> dict[str, Any]:
        """Asks the control door."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(5)
            door.connect(str(self.state_dir / "control.sock"))
            door.sendall(b'{"version": 1, "request": "status"}\n')
            data = b""
            while not data.endswith(b"\n"):
                part = door.recv(1 << 16)
                assert part, "the node closed the door without an answer"
                data += part
        envelope = json.loads(data)
        assert envelope["ok"]
        answer: dict[str, Any] = envelope["answer"]
        return answer

    def child(self, name: str) -> dict[str, Any]:
        """Returns the row of broker or worker."""
        answer = self.status()
        rows = [answer["broker"], *answer["workers"]]
        row: dict[str, Any] = next(row for row in rows if row["name"] == name)
        return row

    def children(self) -> list[int]:
        """Returns the pids of all processes of the node."""
        answer = self.status()
        return [row["pid"] for row in [answer["broker"], *answer["workers"]] if row["pid"]]


@contextmanager
def running(
    state_dir: Path, *arguments: str, workers: str = "dht=1,onion=0,relay=0"
) -> Iterator[Node]:
    """Runs a node on loopback until the block ends."""
    port = free_port()
    line = [sys.executable, "-m", "toxmesh", "run", "--dev", "--state-dir", str(state_dir)]
    line += ["--udp-port", str(port), "--workers", workers]
    line += arguments or ("--tcp-port", "0")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        yield Node(process, state_dir)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


class Pinger:
    """A client with one key that pings a node and opens its answers."""

    def __init__(self, key: PublicKey, port: int) -> None:
        self._entropy = SystemEntropy()
        self.pair = KeyPair.generate(self._entropy)
        shared = crypto.precompute(self.pair.secret, key)
        assert shared is not None
        self._shared: SharedKey = shared
        self._to = ("127.0.0.1", port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def request(self) -> tuple[bytes, bytes]:
        """Returns a ping id and the datagram that asks it."""
        ping_id = self._entropy.bytes(8)
        nonce = Nonce(self._entropy.bytes(24))
        sealed = PingRequestBody(ping_id=ping_id).seal(self._shared, nonce)
        return ping_id, PingRequest(self.pair.public, nonce, sealed).encode()

    def opened(self, data: bytes) -> bytes:
        """Returns the ping id of an answer; nothing of another datagram."""
        if data[0] != 1:
            return b""
        answer = PingResponse.decode(data)
        return PingResponseBody.open(self._shared, answer.nonce, answer.sealed).ping_id

    def answered(self, wait_s: float = 0.3) -> bool:
        """Sends a ping and tells whether its answer comes."""
        ping_id, packet = self.request()
        self.socket.sendto(packet, self._to)
        self.socket.settimeout(wait_s)
        try:
            while True:
                if self.opened(self.socket.recv(2048)) == ping_id:
                    return True
        except TimeoutError:
            return False

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


def gone(pid: int) -> bool:
    """Tells whether a process has ended (or waits to be reaped)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def open_files(pid: int) -> int:
    """Returns how many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))
