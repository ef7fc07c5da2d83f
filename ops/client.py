"""Asks a running node over its control socket: one JSON line there, JSON lines back."""

import math
import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from ops.paths import CONTROL_SOCKET

VERSION = 1  # of the control door's language; docs/architecture.md: Control door
TIMEOUT_S = 5.0
MAX_ANSWER = 16 << 20  # bytes; a node with hundreds of workers answers far below it

NOT_FOUND = 1
FAILED = 2
USAGE = 3
UNREACHABLE = 4
NO_PERMISSION = 5

_CODES = {"usage": USAGE, "not_found": NOT_FOUND, "permission": NO_PERMISSION}  # others: FAILED


class AskError(Exception):
    """The node gave no usable answer: one sentence with the next step, and the exit code for it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class TooLong(Exception):
    """The time of a caller who follows is over."""


class Door(Protocol):
    """A stream of lines to a node: its unix socket, or the way to a remote one."""

    def sendall(self, data: bytes, /) -> None:
        """Sends all of it."""

    def recv(self, most: int, /) -> bytes:
        """Returns what came; nothing at the end. Raises TimeoutError."""
        ...

    def settimeout(self, seconds: float | None, /) -> None:
        """How long `recv` waits."""

    def close(self) -> None:
        """Ends it."""


class Remote(NamedTuple):
    """A node elsewhere that is asked in place of the one of the state directory."""

    place: str
    connect: Callable[[float], Door]
    """connect(seconds): raises AskError, OSError."""


_remote: Remote | None = None


def use_remote(remote: Remote | None) -> None:
    """Sets the node that this process asks from now on."""
    global _remote
    _remote = remote


def _place(state_dir: Path) -> str:
    return str(state_dir / CONTROL_SOCKET) if _remote is None else _remote.place


def connect(state_dir: Path, timeout_s: float, name: str = CONTROL_SOCKET) -> socket.socket:
    """Connects through the directory, for the path of a socket may have 107 bytes at most."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.settimeout(timeout_s)
        door.connect(f"/proc/self/fd/{directory}/{name}")
    except OSError:
        door.close()
        raise
    finally:
        os.close(directory)
    return door


class Event(NamedTuple):
    """Something that happened in a node that is followed."""

    name: str
    at: float  # unix seconds
    data: dict[str, Any]


class _Reader:
    """Takes lines out of a stream."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._data = bytearray()

    def line(self) -> bytes:
        """Returns the next line without its end; empty at the end of the stream."""
        start = 0
        while (end := self._data.find(b"\n", start)) < 0:
            start = len(self._data)
            part = self._door.recv(1 << 16)
            if not part:
                return b""
            self._data += part
            if len(self._data) > MAX_ANSWER:
                raise AskError(
                    f"the node's answer is longer than {MAX_ANSWER} bytes; is another program "
                    "listening on that socket?",
                    FAILED,
                )
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        return line


def _open(state_dir: Path, timeout_s: float) -> Door:
    return connect(state_dir, timeout_s) if _remote is None else _remote.connect(timeout_s)


@contextmanager
def _asked(
    state_dir: Path, request: str, args: Mapping[str, Any] | None, timeout_s: float
) -> Iterator[tuple[_Reader, Door]]:
    """Asks, and makes one sentence of whatever may go wrong with the socket."""
    path = _place(state_dir)
    question: dict[str, Any] = {"version": VERSION, "request": request}
    if args:
        question["args"] = dict(args)
    try:
        with closing(_open(state_dir, timeout_s)) as door:
            door.sendall(orjson.dumps(question) + b"\n")
            yield _Reader(door), door
    except PermissionError:
        raise AskError(
            f"this user may not open {path}; ask as the user that runs the node, with sudo, or as "
            "a member of the group that its setting control_group names",
            NO_PERMISSION,
        ) from None
    except TimeoutError:
        raise AskError(
            f"the node behind {path} did not answer within {timeout_s:g} s; look at its log, or "
            "stop it and start it again",
            UNREACHABLE,
        ) from None
    except (FileNotFoundError, NotADirectoryError, ConnectionError):
        raise AskError(
            f"no node answers at {path}; start one with: toxmesh run --state-dir '{state_dir}', "
            "or name the directory of a running one with --state-dir",
            UNREACHABLE,
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AskError(f"{path} cannot be asked: {reason}", UNREACHABLE) from None


def ask(
    state_dir: Path,
    request: str,
    args: Mapping[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """Returns the node's answer to `request`. Raises AskError with a sentence and an exit code."""
    with _asked(state_dir, request, args, timeout_s) as (reader, _):
        return _answer(reader.line(), _place(state_dir))


def follow(
    state_dir: Path,
    request: str,
    args: Mapping[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
    begin: Callable[[dict[str, Any]], object] = lambda answer: None,
    seconds: float = math.inf,
) -> Generator[Event, None, None]:
    """Yields events after a request that follows, until the node stops or the caller has enough.

    `begin` is called with the answer to the request. Raises AskError as `ask` does, before that,
    and TooLong after so many `seconds`.
    """
    with _asked(state_dir, request, args, timeout_s) as (reader, door):
        begin(_answer(reader.line(), _place(state_dir)))
        end = time.monotonic() + seconds
        while line := _line_until(end, reader, door):
            row = orjson.loads(line)
            yield Event(row["event"], row["at"], row["data"])


def _line_until(end: float, reader: _Reader, door: Door) -> bytes:
    """Returns the next line, or raises TooLong."""
    left = end - time.monotonic()
    if left <= 0.0:
        raise TooLong
    door.settimeout(None if left == math.inf else left)
    try:
        return reader.line()
    except TimeoutError:
        raise TooLong from None


def _answer(line: bytes, path: str) -> dict[str, Any]:
    """Takes the answer out of its envelope."""
    if not line:
        raise AskError(
            f"the node behind {path} closed the door without an answer; is it stopping?",
            UNREACHABLE,
        )
    try:
        envelope = orjson.loads(line)
    except ValueError:
        envelope = None
    if not isinstance(envelope, dict) or "ok" not in envelope:
        raise AskError(f"what answers at {path} is no toxmesh node; check --state-dir", FAILED)
    if envelope.get("version") != VERSION:
        raise AskError(
            f"the node speaks version {envelope.get('version')!r} of the control door and this "
            f"program {VERSION}; use the toxmesh the node was started with",
            FAILED,
        )
    answer = envelope.get("answer")
    if envelope["ok"] is not True or not isinstance(answer, dict):
        reason = envelope.get("error", "no reason given")
        code = _CODES.get(str(envelope.get("code")), FAILED)
        raise AskError(f"the node refused: {reason}", code)
    return answer
