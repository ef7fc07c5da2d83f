"""Asks a running node over its control socket: one JSON line there, one JSON line back."""

import os
import socket
from pathlib import Path
from typing import Any

import orjson

from ops.paths import CONTROL_SOCKET

VERSION = 1  # of the control door's language; docs/architecture.md: Control door
TIMEOUT_S = 5.0
MAX_ANSWER = 16 << 20  # bytes; a node with hundreds of workers answers far below it

FAILED = 2
UNREACHABLE = 4
NO_PERMISSION = 5


class AskError(Exception):
    """The node gave no usable answer: one sentence with the next step, and the exit code for it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def _connect(state_dir: Path, timeout_s: float) -> socket.socket:
    """Connects through the directory, for the path of a socket may have 107 bytes at most."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.settimeout(timeout_s)
        door.connect(f"/proc/self/fd/{directory}/{CONTROL_SOCKET}")
    except OSError:
        door.close()
        raise
    finally:
        os.close(directory)
    return door


def _read_line(door: socket.socket) -> bytes:
    """Reads up to the line end, or to the end of the stream."""
    parts: list[bytes] = []
    size = 0
    while not parts or b"\n" not in parts[-1]:
        part = door.recv(1 << 16)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER:
            raise AskError(
                f"the node's answer is longer than {MAX_ANSWER} bytes; is another program "
                "listening on that socket?",
                FAILED,
            )
    return b"".join(parts).split(b"\n", 1)[0]


def ask(state_dir: Path, request: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Returns the node's answer to `request`. Raises AskError with a sentence and an exit code."""
    path = state_dir / CONTROL_SOCKET
    question = orjson.dumps({"version": VERSION, "request": request}) + b"\n"
    try:
        with _connect(state_dir, timeout_s) as door:
            door.sendall(question)
            line = _read_line(door)
    except PermissionError:
        raise AskError(
            f"this user may not open {path}; ask as the user that runs the node, or with sudo",
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
    if not line:
        raise AskError(
            f"the node behind {path} closed the door without an answer; is it stopping?",
            UNREACHABLE,
        )
    return _answer(line, path)


def _answer(line: bytes, path: Path) -> dict[str, Any]:
    """Takes the answer out of its envelope."""
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
        raise AskError(f"the node refused: {envelope.get('error', 'no reason given')}", FAILED)
    return answer
