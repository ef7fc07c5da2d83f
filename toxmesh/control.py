"""The control door: a unix socket where the operator's tools ask the running node.

One JSON object a line each way. `{"version": 1, "request": NAME}` is answered with
`{"version": 1, "ok": true, "answer": ...}` or `{"version": 1, "ok": false, "error": SENTENCE}`.
Only the user that runs the node can open it (mode 0600).
"""

import os
import selectors
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

VERSION = 1
_MAX_GUESTS = 32
_MAX_REQUEST = 64 << 10  # bytes
_MAX_ANSWER = 8 << 20  # bytes that may wait for a guest who does not read
_IDLE_S = 60.0  # a guest who says nothing makes room
_PATH_LIMIT = 107  # bytes of a unix socket's path

Handler = Callable[[], Any]
"""Answers one request with plain data."""


def _listen(path: Path) -> socket.socket:
    """Binds the door; a path that is too long is reached through its directory's descriptor."""
    path.unlink(missing_ok=True)
    row = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if len(os.fsencode(path)) <= _PATH_LIMIT:
            row.bind(str(path))
        else:
            directory = os.open(path.parent, os.O_DIRECTORY | os.O_RDONLY)
            try:
                row.bind(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
    finally:
        os.umask(before)
    row.listen(_MAX_GUESTS)
    row.setblocking(False)
    return row


class _Guest:
    """One open connection."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.heard = now
        self.received = bytearray()
        self.waiting = bytearray()

    def served(self, serve: "Callable[[_Guest, float], None]") -> Callable[[float], None]:
        """Returns what the loop calls when something can be read or written."""
        return lambda now: serve(self, now)


class ControlDoor:
    """Takes requests in the supervisor's loop; nothing here waits."""

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        requests: Mapping[str, Handler],
    ) -> None:
        self._path = path
        self._selector = selector
        self._requests = dict(requests)
        self._guests: set[_Guest] = set()
        self._socket = _listen(path)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        if len(self._guests) >= _MAX_GUESTS:
            connection.close()
            return
        connection.setblocking(False)
        guest = _Guest(connection, now)
        self._guests.add(guest)
        self._selector.register(connection, selectors.EVENT_READ, guest.served(self._serve))

    def _serve(self, guest: _Guest, now: float) -> None:
        """Reads what a guest says and writes what waits for it."""
        guest.heard = now
        try:
            if guest.waiting:
                self._write(guest)
                return
            data = guest.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave(guest)
            return
        guest.received += data
        while (end := guest.received.find(b"\n")) >= 0 and len(guest.waiting) <= _MAX_ANSWER:
            line = bytes(guest.received[:end])
            del guest.received[: end + 1]
            guest.waiting += _encode(self._answer(line)) + b"\n"
        if len(guest.received) > _MAX_REQUEST or len(guest.waiting) > _MAX_ANSWER:
            self._leave(guest)
            return
        with suppress(BlockingIOError):
            self._write(guest)

    def _write(self, guest: _Guest) -> None:
        try:
            while guest.waiting:
                del guest.waiting[: guest.connection.send(guest.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._leave(guest)
            return
        events = selectors.EVENT_WRITE if guest.waiting else selectors.EVENT_READ
        self._selector.modify(guest.connection, events, guest.served(self._serve))

    def _answer(self, line: bytes) -> dict[str, Any]:
        """Answers one line."""
        try:
            request = orjson.loads(line)
        except ValueError:
            return _refusal("that is not JSON")
        if not isinstance(request, dict) or request.get("version") != VERSION:
            return _refusal(f"this node speaks version {VERSION} of the control protocol")
        name = request.get("request")
        if not isinstance(name, str):  # nor is it printed: lists can be nested too deep for that
            return _refusal("the request is no text")
        handler = self._requests.get(name)
        if handler is None:
            return _refusal(f"no such request: {name[:60]}; known are {', '.join(self._requests)}")
        return {"version": VERSION, "ok": True, "answer": handler()}

    def _leave(self, guest: _Guest) -> None:
        self._guests.discard(guest)
        with suppress(KeyError, ValueError):
            self._selector.unregister(guest.connection)
        guest.connection.close()

    def expire(self, now: float) -> None:
        """Shows out guests who have said nothing for long."""
        for guest in [row for row in self._guests if now - row.heard > _IDLE_S]:
            self._leave(guest)

    def close(self) -> None:
        """Shuts the door."""
        for guest in list(self._guests):
            self._leave(guest)
        with suppress(KeyError, ValueError):
            self._selector.unregister(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _encode(answer: dict[str, Any]) -> bytes:
    """Returns an answer as JSON; numbers that serve as names in a snapshot become texts."""
    return orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS)


def _refusal(reason: str) -> dict[str, Any]:
    return {"version": VERSION, "ok": False, "error": reason}
