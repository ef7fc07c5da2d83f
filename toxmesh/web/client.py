"""One HTTP connection: bytes in, requests out; answers in, bytes out. h11 knows the protocol."""

import socket
from collections import deque
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from itertools import islice
from typing import NamedTuple

import h11

MAX_HEAD = 8 << 10  # bytes of a request's line and headers
READ = 8 << 10  # bytes read at once
_PARTS = 16  # written at once

_SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"  # for all that is no page


class Answer(NamedTuple):
    """What is answered to a request."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    """A whole request without a body."""

    method: bytes
    path: str  # without the query
    headers: dict[bytes, bytes]  # by lower-case name; of several the last

    def header(self, name: bytes) -> bytes:
        """Returns the value of a header, empty if it is not there."""
        return self.headers.get(name, b"")

    @property
    def has_body(self) -> bool:
        """Whether something comes behind the headers."""
        return b"transfer-encoding" in self.headers or self.header(b"content-length") not in (
            b"",
            b"0",
        )


class BadRequest(Exception):
    """What came is no request that is answered here: a status and a counted reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Phase(Enum):
    """What a connection is doing."""

    READING = "a request is awaited, or half of it is here"
    ANSWERING = "an answer leaves"
    FOLLOWING = "events are sent as they happen"
    CLOSING = "the last answer leaves, then it is closed"
    CLOSED = "it is gone"


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.socket = connection
        self.phase = Phase.READING
        self.since = now
        """When a request began to be awaited, or to come, or when bytes of an answer last left."""
        self.new = True
        """Whether nothing has been asked yet."""
        self.begun = False
        """Whether a part of the awaited request is here."""
        self.answered_at = now
        self.paused = False
        self.waiting = 0
        """Bytes that have not left."""
        self._out: deque[memoryview] = deque()
        self._h11 = h11.Connection(h11.SERVER, MAX_HEAD)
        self._request: Request | None = None
        self._is_head = False

    def receive(self, data: bytes, now: float) -> None:
        """Takes bytes from the socket; empty: the other side has closed."""
        self._h11.receive_data(data)
        if not self.begun:
            self.begun = True
            if not self.new:
                self.since = now

    def next_request(self) -> Request | None:
        """Returns the next whole request, None if more has to come first. Raises BadRequest."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                status = error.error_status_hint
                raise BadRequest(status, "http_bad_request") from None
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return None
            if isinstance(event, h11.Request):
                self._request = _request(event)
                self._is_head = event.method == b"HEAD"
                if self._request.has_body:
                    raise BadRequest(413, "http_body")
            elif isinstance(event, h11.EndOfMessage):
                request, self._request = self._request, None
                return request
            elif isinstance(event, h11.ConnectionClosed):
                self.phase = Phase.CLOSED
                return None

    def answer(self, answer: Answer, now: float, last: bool = False) -> None:
        """Puts an answer out; `last`: the connection closes after it."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.phase = Phase.CLOSED
            return
        length = [("Content-Length", str(len(answer.body)))]
        self._head(answer, [*length, ("Connection", "close")] if last else length)
        if not self._is_head:
            self._put(self._h11.send(h11.Data(answer.body)))
        self._put(self._h11.send(h11.EndOfMessage()))
        self.since = self.answered_at = now
        self.phase = Phase.CLOSING if last else Phase.ANSWERING

    def follow(self, answer: Answer, now: float) -> None:
        """Begins an answer without an end."""
        self._head(answer, [("Connection", "close")])
        self.since = self.answered_at = now
        self.phase = Phase.FOLLOWING
        self.tell(answer.body)

    def tell(self, data: bytes) -> None:
        """Puts out a part of an answer without an end."""
        self._put(self._h11.send(h11.Data(data)))

    def _head(self, answer: Answer, headers: list[tuple[str, str]]) -> None:
        own = dict(answer.headers)
        own.setdefault("Content-Security-Policy", _NO_CONTENT)
        rows = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", answer.content_type),
            *headers,
            *_SECURITY_HEADERS,
            *own.items(),
        ]
        reason = HTTPStatus(answer.status).phrase
        response = h11.Response(status_code=answer.status, headers=rows, reason=reason)
        self._put(self._h11.send(response))

    def _put(self, data: bytes | None) -> None:
        if data:
            self._out.append(memoryview(data))
            self.waiting += len(data)

    def write(self, now: float) -> None:
        """Lets bytes leave until all are gone; BlockingIOError and OSError come from the socket."""
        while self._out:
            count = self.socket.sendmsg(islice(self._out, _PARTS))
            self.since = now
            self.waiting -= count
            while count and count >= len(self._out[0]):
                count -= len(self._out.popleft())
            if count:
                self._out[0] = self._out[0][count:]
        if self.phase is Phase.ANSWERING:
            self._turn_to_next(now)
        elif self.phase is Phase.CLOSING:
            self.phase = Phase.CLOSED

    def _turn_to_next(self, now: float) -> None:
        """Makes ready for the next request, where both sides agree to go on."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._is_head = False
            self.phase = Phase.READING
            self.since = now
            self.new = False
            self.begun = bool(self._h11.trailing_data[0])
        else:
            self.phase = Phase.CLOSED


def _request(event: h11.Request) -> Request:
    target = event.target.partition(b"?")[0].decode("latin-1")
    return Request(event.method, target, dict(event.headers))
