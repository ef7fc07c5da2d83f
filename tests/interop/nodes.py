"""Starts nodes for the tests: ours, and tox-bootstrapd in the same clothes."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, cast

from core.crypto import KeyPair
from tests.interop.driver import free_port, wait_until
from tests.interop.peers import CHECKOUT, Peer

HOST = "127.0.0.1"
HOST6 = "::1"
_READY_TIMEOUT_S = 60  # on a busy machine
_STOP_TIMEOUT_S = 10
_DOOR_TIMEOUT_S = 5

Bootstrap = tuple[str, int, bytes]
"""Host, UDP port and public key of a node to start from."""


class Address(Protocol):
    """Where a node is to be met, whoever runs it."""

    key: bytes
    udp_port: int
    tcp_port: int
    host: str


@dataclass
class LibraryNode:
    """A client of libtoxcore that others use as their node."""

    key: bytes
    udp_port: int
    tcp_port: int
    host: str = HOST


@dataclass
class Node:
    """A running node, whoever wrote it."""

    key: bytes
    udp_port: int
    tcp_port: int
    process: subprocess.Popen[str]
    state: Path
    said: list[str] = field(default_factory=list)
    host: str = HOST

    @property
    def bootstrap(self) -> Bootstrap:
        """Returns what another node needs to start from this one."""
        return self.host, self.udp_port, self.key

    def status(self) -> dict[str, Any]:
        """Asks the control door for what `ops status` shows; only for our node."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(_DOOR_TIMEOUT_S)
            door.connect(str(self.state / "control.sock"))
            door.sendall(b'{"version": 1, "request": "status"}\n')
            with door.makefile("rb") as lines:
                reply: dict[str, Any] = json.loads(lines.readline())
        if not reply["ok"]:
            raise AssertionError(f"the control door refused: {reply}")
        return cast(dict[str, Any], reply["answer"])

    def workers(self) -> dict[str, dict[str, Any]]:
        """Returns the rows of `ops status` by the workers' names; only for our node."""
        return {row["name"]: row for row in self.status()["workers"]}

    def stop(self) -> int:
        """Ends the node by SIGTERM, or by force when that does not help; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def story(self, last: int = 40) -> str:
        """Returns the last lines the node has said."""
        return "node said:\n  " + "\n  ".join(self.said[-last:])


def _listen(pipe: IO[str], said: list[str]) -> None:
    said.extend(line.rstrip("\n") for line in pipe)  # one by one, as they come


def watch(process: subprocess.Popen[str]) -> list[str]:
    """Returns a list that takes the lines a process says, on stdout and stderr, as they come."""
    said: list[str] = []
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            threading.Thread(target=_listen, args=(pipe, said), daemon=True).start()
    return said


def has_address(host: str) -> bool:
    """Tells whether this machine can be reached at an IPv6 address of its own."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def new_keys() -> KeyPair:
    """Makes a key pair for a node that others must know before it runs."""
    return KeyPair.from_secret(secrets.token_bytes(32))


def _write_keys(path: Path, keys: KeyPair) -> None:
    """Writes a keys file: 32 bytes public, 32 bytes secret, the form both nodes read."""
    path.write_bytes(keys.public + keys.secret.reveal())
    path.chmod(0o600)


def start_ours(
    folder: Path,
    *,
    workers: str = "dht=1,onion=1,relay=1",
    keys: KeyPair | None = None,
    udp_port: int | None = None,
    tcp: bool = True,
    host: str = HOST,
    bootstrap: tuple[Bootstrap, ...] = (),
    arguments: tuple[str, ...] = (),
) -> Node:
    """Starts `toxmesh run` on loopback with a state directory below `folder`."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    if keys is not None:
        _write_keys(state / "keys", keys)
    port = udp_port or free_port()
    command = [sys.executable, "-m", "toxmesh", "run", "--listen", host]
    command += ["--udp-port", str(port), "--tcp-port", str(port if tcp else 0)]
    command += ["--state-dir", str(state)]
    command += ["--no-lan-discovery", "--workers", workers, *arguments]
    for other_host, other, other_key in bootstrap:
        command += ["--bootstrap", f"{other_host}:{other}:{other_key.hex().upper()}"]
    if not bootstrap:
        command.append("--dev")  # no outside nodes
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = watch(process)
    ready = re.compile(r"^ready udp=(\d+) tcp=(\d+)\S* key=([0-9A-Fa-f]{64})$")

    def found() -> "re.Match[str] | None":
        return next((match for line in list(said) if (match := ready.match(line))), None)

    try:
        wait_until(
            lambda: found() is not None or process.poll() is not None,
            "our node is ready",
            _READY_TIMEOUT_S,
            poll_s=0.05,
        )
    finally:
        if found() is None:
            process.kill()
            print("\n".join(said))
    match = found()
    if match is None:
        raise AssertionError(f"toxmesh run ended with {process.wait()}: {said[-10:]}")
    key = bytes.fromhex(match[3])
    return Node(key, int(match[1]), int(match[2]), process, state, said, host)


_CONFIG = """
port = {port}
keys_file_path = "{folder}/keys"
pid_file_path = "{folder}/pid"
enable_ipv6 = {ipv6}
enable_ipv4_fallback = true
enable_lan_discovery = false
enable_tcp_relay = true
tcp_relay_ports = [{port}]
enable_motd = true
motd = "{motd}"
bootstrap_nodes = ({nodes})
"""


def start_bootstrapd(
    peer: Peer,
    folder: Path,
    *,
    keys: KeyPair | None = None,
    udp_port: int | None = None,
    host: str = HOST,
    bootstrap: tuple[Bootstrap, ...] = (),
    motd: str = "tox-bootstrapd",
) -> Node:
    """Starts tox-bootstrapd on loopback with its files below `folder`."""
    keys = keys or new_keys()
    _write_keys(folder / "keys", keys)
    port = udp_port or free_port()
    nodes = ", ".join(
        f'{{ address = "{other_host}", port = {other}, public_key = "{key.hex().upper()}" }}'
        for other_host, other, key in bootstrap
    )
    ipv6 = "true" if host == HOST6 else "false"
    config = folder / "tox-bootstrapd.conf"
    config.write_text(
        _CONFIG.format(port=port, folder=folder, nodes=nodes, motd=motd, ipv6=ipv6)
    )
    process = subprocess.Popen(
        [str(peer.path), "--foreground", "--log-backend=stdout", f"--config={config}"],
        env=peer.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = watch(process)
    try:
        wait_until(
            lambda: _bound(port) or process.poll() is not None,
            "tox-bootstrapd is ready",
            _READY_TIMEOUT_S,
            poll_s=0.05,
        )
    finally:
        if not _bound(port):
            process.kill()
            print("\n".join(said))
    if process.poll() is not None:
        raise AssertionError(f"tox-bootstrapd ended with {process.wait()}: {said[-10:]}")
    return Node(bytes(keys.public), port, port, process, folder, said, host)


def _bound(port: int) -> bool:
    """Tells whether something listens for TCP on `port` (bootstrapd buffers what it says)."""
    listening = re.compile(rf":{port:04X} 0+:0000 0A ")  # /proc/net/tcp: local, remote, LISTEN
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    return any(listening.search(table.read_text()) for table in tables)
