"""The nodes under test: started with a known key on loopback, pinned, weighed, and stopped."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from core import endpoint as endpoints
from core.endpoint import Endpoint
from tests.bench.clients import KeptClients
from tests.interop.peers import Peer
from toxmesh.bench.target import Weight, tree, weigh

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parents[2]  # that our node is started from
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 8.0


class NodeError(Exception):
    """The node under test could not be started; the text says why."""


def free_port() -> int:
    """Returns a port that neither UDP nor TCP uses at this moment."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.bind((HOST, 0))
            port: int = tcp.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                try:
                    udp.bind((HOST, port))
                except OSError:
                    continue
                return port
    raise NodeError("no port is free for UDP and TCP at once")


class Node(ABC):
    """One node under test: our own or the reference's; a context manager that stops it."""

    name = ""

    def __init__(self, clients: KeptClients, core: int | None) -> None:
        self.clients = clients
        self.core = core
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.udp_port = free_port()
        self.tcp_port = free_port()
        self._log = (self.folder / "log").open("wb")
        self._process: psutil.Popen | None = None

    @property
    def target(self) -> Endpoint:
        """Where its UDP socket is."""
        return endpoints.from_text(HOST, self.udp_port)

    @property
    def relay(self) -> tuple[str, int]:
        """Where its relay listens."""
        return HOST, self.tcp_port

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Starts the node and waits until it answers."""

    def _spawn(
        self,
        command: list[str],
        environment: dict[str, str] | None = None,
        stdout: int | None = None,
    ) -> psutil.Popen:
        core = self.core
        self._process = psutil.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log if stdout is None else stdout,
            stderr=self._log,
            env=environment,
            cwd=CHECKOUT,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        return self._process

    def log_tail(self) -> str:
        """Returns the last lines of what the node wrote to stderr."""
        self._log.flush()
        return (self.folder / "log").read_bytes()[-2000:].decode(errors="replace")

    def tree(self) -> list[psutil.Process]:
        """Returns all processes of the node."""
        return [] if self._process is None else tree(self._process.pid)

    def pin(self) -> None:
        """Ties every thread of every process of the node to its core, whatever it chose itself."""
        if self.core is None:
            return
        for process in self.tree():
            try:
                for thread in process.threads():
                    os.sched_setaffinity(thread.id, {self.core})
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue

    def label(self, process: psutil.Process) -> str:
        """Returns the name of one of the node's processes."""
        return str(process.name())

    def weigh(self) -> Weight:
        """Returns CPU seconds and RSS of each process."""
        return weigh(self.tree(), self.label)

    def stop(self) -> None:
        """Ends the node: asked first, killed if it does not follow."""
        processes = self.tree()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except psutil.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for process in processes:
            if process.is_running():
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Toxmesh(Node):
    """Our own node, from this checkout."""

    name = "toxmesh"

    def __init__(
        self,
        clients: KeptClients,
        core: int | None,
        workers: str = "",
        extra: tuple[str, ...] = (),
    ) -> None:
        """Without `workers` it has as many as it chooses itself on this machine."""
        super().__init__(clients, core)
        self.workers = workers
        self.extra = extra
        self.state = self.folder / "state"
        self.names: dict[int, str] = {}

    def start(self) -> None:
        """Starts `toxmesh run` and waits for its ready line."""
        self.state.mkdir(mode=0o700)
        keys = self.state / "keys"
        keys.touch(mode=0o600)
        keys.write_bytes(self.clients.keys_file())
        process = self._spawn(
            [
                sys.executable, "-m", "toxmesh", "run", "--listen", HOST,
                "--udp-port", str(self.udp_port),
                "--tcp-port", "0" if "relay=0" in self.workers else str(self.tcp_port),
                "--state-dir", str(self.state), "--no-lan-discovery",
                *(("--workers", self.workers) if self.workers else ()), *self.extra,
            ],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        end = time.monotonic() + START_TIMEOUT_S
        line = b""
        while not line.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise NodeError(f"no ready line within {START_TIMEOUT_S:.0f} s: {self.log_tail()}")
            piece = os.read(process.stdout.fileno(), 1)
            if not piece:
                raise NodeError(f"it ended with {process.wait()}: {self.log_tail()}")
            line += piece
        if not line.startswith(b"ready "):
            raise NodeError(f"an unexpected first line: {line!r}")
        self.pin()

    def label(self, process: psutil.Process) -> str:
        """Names a process by what `ops status` calls it."""
        if process.pid not in self.names:
            self.status()
        return self.names.get(process.pid, f"{process.name()}-{process.pid}")

    def worker_counts(self) -> str:
        """Returns how many workers of each role there are, as `--workers` takes them."""
        rows = self.status()["workers"]
        assert isinstance(rows, list)
        counts = Counter(str(row["role"]) for row in rows)
        return ",".join(f"{role}={count}" for role, count in counts.items())

    def status(self) -> dict[str, object]:
        """Asks the control door; also learns the names of all processes."""
        import json

        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(5)
            door.connect(str(self.state / "control.sock"))
            door.sendall(b'{"version": 1, "request": "status"}\n')
            data = b""
            while not data.endswith(b"\n"):
                piece = door.recv(65536)
                if not piece:
                    break
                data += piece
        reply = json.loads(data)
        if not reply.get("ok"):
            raise NodeError(f"ops status: {reply.get('error')}")
        answer: dict[str, object] = reply["answer"]
        rows = list(answer["workers"])  # type: ignore[call-overload]  # plain JSON
        broker = answer.get("broker")
        if isinstance(broker, dict):
            rows.append({"name": "broker", **broker})
        self.names = {row["pid"]: row["name"] for row in rows if row.get("pid")}
        if self._process is not None:
            self.names[self._process.pid] = "supervisor"
        return answer


class Bootstrapd(Node):
    """Debian's tox-bootstrapd."""

    name = "tox-bootstrapd"

    def __init__(self, peer: Peer, clients: KeptClients, core: int | None) -> None:
        super().__init__(clients, core)
        self.peer = peer

    def start(self) -> None:
        """Writes its configuration, starts it, and waits until its TCP port is open."""
        keys = self.folder / "keys"
        keys.touch(mode=0o600)
        keys.write_bytes(self.clients.keys_file())
        config = self.folder / "conf"
        config.write_text(
            f"""port = {self.udp_port}
keys_file_path = "{keys}"
pid_file_path = "{self.folder / "pid"}"
enable_ipv6 = false
enable_ipv4_fallback = true
enable_lan_discovery = false
enable_tcp_relay = true
tcp_relay_ports = [{self.tcp_port}]
enable_motd = true
motd = "bench"
bootstrap_nodes = ()
"""
        )
        command = [str(self.peer.path), "--config", str(config)]
        process = self._spawn(
            [*command, "--foreground", "--log-backend", "stdout"], self.peer.environment()
        )
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            with socket.socket() as door:
                door.settimeout(0.2)
                if door.connect_ex((HOST, self.tcp_port)) == 0:
                    break
            if time.monotonic() > end or process.poll() is not None:
                raise NodeError(f"it does not listen: {self.log_tail()}")
            select.select([], [], [], 0.05)
        self.pin()
