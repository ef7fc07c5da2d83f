"""The way to a node elsewhere: its remote door, by ZeroMQ CURVE. ZeroMQ is loaded when it is used.

An operator's file (TOML, mode 0600) has `secret_key`, and may have the node's `address` and
`server_key` as well, so that one file is all that one has to name.
"""

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

from ops import client

_DIGITS = 64  # of a key in hex
_MOST = 64 << 10  # bytes of an operator's file


class Target(NamedTuple):
    """A node elsewhere, and the key with which it is asked."""

    address: str
    server_key: bytes
    secret_key: bytes


def default_file() -> Path:
    """Returns where an operator's key stands: `$XDG_CONFIG_HOME/toxmesh/operator.toml`."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "toxmesh" / "operator.toml"


def _key(text: object, what: str) -> bytes:
    """Returns a key of 64 hex digits; the text is not repeated, for it may be a secret."""
    if isinstance(text, str) and len(text) == _DIGITS:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    raise click.UsageError(f"{what} must have {_DIGITS} hex digits")


def read_file(path: Path) -> dict[str, Any]:
    """Returns what an operator's file says. Raises click.UsageError, AskError."""
    import tomllib

    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(_MOST)
    except FileNotFoundError:
        raise click.UsageError(f"there is no {path}; make one: toxmesh ops keys new") from None
    except PermissionError:
        raise client.AskError(f"this user may not read {path}", client.NO_PERMISSION) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.UsageError(f"{path} cannot be read: {reason}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise client.AskError(
            f"other users can open {path}, which has a secret key; run: chmod 600 '{path}'",
            client.NO_PERMISSION,
        )
    try:
        return tomllib.loads(data.decode())
    except (ValueError, UnicodeDecodeError):
        raise click.UsageError(f"{path} is no operator's file (TOML)") from None


def target(text: str, key_file: Path | None) -> Target:
    """Reads `ADDRESS:PORT:SERVERKEY`, `ADDRESS:PORT` or the name of an operator's file."""
    head, _, last = text.rpartition(":")
    if len(last) == _DIGITS and ":" in head:
        address, server_key = head, last
        values = read_file(key_file or default_file())
    elif ":" in text and last.isdigit():
        values = read_file(key_file or default_file())
        address, server_key = text, str(values.get("server_key", ""))
    else:
        values = read_file(Path(text))
        address, server_key = str(values.get("address", "")), str(values.get("server_key", ""))
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.UsageError(f"{address[:80]!r} is not ADDRESS:PORT of a node")
    return Target(
        address,
        _key(server_key, "the server key (`toxmesh ops keys server` on the node prints it)"),
        _key(values.get("secret_key"), "secret_key of the operator's file"),
    )


def choose(text: str | None, key_file: Path | None) -> None:
    """Lets `ops.client` ask a node elsewhere; None: the one of the state directory."""
    if text is None:
        client.use_remote(None)
        return
    found = target(text, key_file)
    client.use_remote(client.Remote(found.address, lambda seconds: _Door(found, seconds)))


class _Door:
    """A stream of lines to the node; the handshake is over when it is made."""

    def __init__(self, target: Target, seconds: float) -> None:
        import zmq
        from zmq.utils import monitor, z85

        self._zmq = zmq
        self._data = bytearray()
        self._over = False
        self._seconds: float | None = seconds
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        public = zmq.curve_public(z85.encode(target.secret_key))
        self._socket.curve_secretkey = target.secret_key
        self._socket.curve_publickey = z85.decode(public)
        self._socket.curve_serverkey = target.server_key
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 10_000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 30_000)
        self._socket.setsockopt(zmq.IPV6, 1)
        events = self._events = self._socket.get_monitor_socket()
        try:
            self._socket.connect(f"tcp://{target.address}")
            self._shake(target.address, events, lambda: monitor.recv_monitor_message(events))
        except zmq.ZMQError as error:
            self.close()
            raise client.AskError(
                f"{target.address} is no address to connect to: {str(error).lower()}",
                client.UNREACHABLE,
            ) from None
        except client.AskError:
            self.close()
            raise

    def _shake(self, address: str, events: Any, take: Callable[[], Any]) -> None:
        """Waits for the end of the handshake. Raises AskError with what went wrong."""
        zmq = self._zmq
        end = time.monotonic() + (self._seconds or 0.0)
        connected = False
        while events.poll(max(0, int((end - time.monotonic()) * 1000))):
            event = take()["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return
            if event == zmq.EVENT_CONNECTED:
                connected = True
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise client.AskError(
                    f"the node at {address} does not know your key; whoever runs it adds it to "
                    "remote_operators in its settings",
                    client.NO_PERMISSION,
                )
            elif event in (zmq.EVENT_CLOSED, zmq.EVENT_DISCONNECTED):
                break
            elif event in (
                zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
                zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
            ):
                connected = True
                break
        if connected:
            text = f"what listens at {address} does not have that server key; ask for its key again"
        else:
            text = f"no node answers at {address}; is its setting `remote` on, and the port open?"
        raise client.AskError(text, client.UNREACHABLE)

    def sendall(self, data: bytes) -> None:
        """Sends bytes of the stream."""
        self._socket.send_multipart([b"data", data])

    def settimeout(self, seconds: float | None) -> None:
        """How long `recv` waits; None: as long as the node is there."""
        self._seconds = seconds

    def recv(self, most: int) -> bytes:
        """Returns what came of the stream, nothing at its end."""
        end = None if self._seconds is None else time.monotonic() + self._seconds
        while not self._data and not self._over:
            left = 1.0 if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not self._socket.poll(max(1, int(min(left, 1.0) * 1000))):
                continue
            kind, data = self._socket.recv_multipart()
            if kind == b"data":
                self._data += data
            elif kind == b"end":
                self._over = True
        part = bytes(self._data[:most])
        del self._data[:most]
        return part

    def close(self) -> None:
        """Says that this is over."""
        with suppress(self._zmq.ZMQError):  # the node is gone already
            if not self._over:
                self._socket.send_multipart([b"end", b""], self._zmq.NOBLOCK)
        self._socket.disable_monitor()
        self._events.close()  # a context waits for all of its sockets
        self._socket.close()
        self._context.term()
