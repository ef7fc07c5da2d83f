"""The web door: HTTP/1.1 in the supervisor's loop, for whoever watches the node. Read only.

Nobody here slows the node down. Connections are few; when there is one too many, the one that has
been silent the longest makes room. What they may send, leave unread and hold open is bounded, and
together they get `_RATE` requests a second: the rest waits. Every refusal is counted (`http_*`).
"""

import logging
import selectors
import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from toxmesh.web.address import Address, names_loopback
from toxmesh.web.client import READ, Answer, BadRequest, Client, Phase, Request

MAX_CLIENTS = 64
MAX_FOLLOWERS = 16  # of them may follow events
HEAD_S = 10.0  # for a whole request
IDLE_S = 90.0  # between two requests; scrapes come once a minute, or more often
STUCK_S = 15.0  # in which no byte of an answer was taken
ANSWER_S = 60.0  # for a whole answer
FOLLOW_S = 3600.0  # then the page connects anew
EVENT_S = 1.0
MAX_UNREAD = 256 << 10  # bytes of events
RETRY_S = 30.0  # between attempts to get the port
_BACKLOG = 512
_ACCEPTS = 32  # in one turn
_RATE = 200.0  # requests a second, of all together: some 4 % of a core
_BURST = 400.0
_REQUEST_COST, _READ_COST, _ACCEPT_COST = 1.0, 0.15, 0.25  # measured: 0.2 ms, 0.02, 0.05
_IN_A_TURN = 4  # requests of one client
_CHECK_S = 0.25

log = logging.getLogger("toxmesh.web")


class Site(Protocol):
    """What is answered."""

    def answer(self, path: str, now: float) -> Answer | None:
        """Returns the answer for a path, None if there is nothing at it."""
        ...

    def event(self, now: float) -> bytes:
        """Returns what those who follow are told now."""
        ...


def _refusal(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", (text + "\n").encode(), headers)


_STREAM = Answer(200, "text/event-stream", b"retry: 3000\n\n")
_BAD = {
    413: "a request here has no body",
    431: "the request's headers are too long",
    501: "that transfer encoding is not known here",
}


class WebDoor:
    """Takes requests in the supervisor's loop; nothing here waits."""

    def __init__(
        self,
        address: Address | None,
        selector: selectors.BaseSelector,
        site: Site,
        drops: Counter[str],
        now: float,
        descriptor: int = -1,
    ) -> None:
        """`descriptor`: a listening socket that the version before has left in this process."""
        self._address = address
        self._selector = selector
        self._site = site
        self._drops = drops
        self._clients: dict[Client, None] = {}
        self._followers: dict[Client, None] = {}
        self._paused: deque[Client] = deque()
        self._listener: socket.socket | None = None
        self._listening = False  # whether the loop watches the listener
        self._warned = False
        self._tokens = _BURST
        self._filled = now
        self._check_at = now
        self._event_at = now
        self._retry_at = now
        if descriptor >= 0:
            self._listener = socket.socket(fileno=descriptor)
            self._watch_listener(True)
        elif address is not None:
            self._listen(now)

    @property
    def descriptor(self) -> int:
        """The listening socket's; -1 without."""
        return -1 if self._listener is None else self._listener.fileno()

    @property
    def place(self) -> str:
        """Where it listens, as `127.0.0.1:9745`; empty if nowhere."""
        if self._listener is None:
            return ""
        return str(Address(*self._listener.getsockname()[:2]))

    def _listen(self, now: float) -> None:
        """Tries to get the port. Without it the node works; it is tried again later."""
        address = self._address
        if address is None:
            return
        self._retry_at = now + RETRY_S
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        row = socket.socket(family, socket.SOCK_STREAM)
        try:
            row.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past TIME_WAIT alone
            if family == socket.AF_INET6:
                row.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            row.bind((address.host, address.port))
            row.listen(_BACKLOG)
            row.setblocking(False)
        except OSError as error:
            row.close()
            if not self._warned:
                self._warned = True
                log.warning(
                    "http %s cannot be had (%s): no metrics and no page until it is free; choose"
                    ' another with http = "ADDRESS:PORT", or "off"',
                    address,
                    (error.strerror or "?").lower(),
                )
            return
        self._listener = row
        self._watch_listener(True)
        if address.is_loopback:
            log.info("http://%s shows this node", self.place)
        else:
            log.warning("http://%s shows this node to whoever reaches that address", self.place)

    def _watch_listener(self, watch: bool) -> None:
        if self._listener is not None and watch != self._listening:
            self._listening = watch
            if watch:
                self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
            else:
                self._selector.unregister(self._listener)

    # Connections

    def _may_work(self, now: float) -> bool:
        """Tells whether there is something left of what all may use together."""
        self._tokens = min(_BURST, self._tokens + (now - self._filled) * _RATE)
        self._filled = now
        return self._tokens > 0

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        for _ in range(_ACCEPTS):
            if not self._may_work(now):
                self._watch_listener(False)
                return
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._tokens -= _ACCEPT_COST
            if len(self._clients) >= MAX_CLIENTS and not self._make_room():
                self._drops["http_full"] += 1
                connection.close()
                continue
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(connection, now)
            self._clients[client] = None
            self._selector.register(connection, selectors.EVENT_READ, self._served(client))

    def _make_room(self) -> bool:
        """Closes the connection that has been waiting for its request the longest."""
        rows = [client for client in self._clients if client.phase is Phase.READING]
        if not rows:
            return False
        self._drops["http_made_room"] += 1
        self._leave(min(rows, key=lambda client: client.since))
        return True

    def _served(self, client: Client) -> Callable[[float], None]:
        return lambda now: self._serve(client, now)

    def _serve(self, client: Client, now: float) -> None:
        """Writes what waits for a client, and reads what it says."""
        if client.phase is Phase.CLOSED:
            return  # it was closed in this very turn
        if client.waiting:
            self._write(client, now)
            if client.phase is Phase.READING:
                self._handle(client, now)  # what came behind the request that is answered now
            if client.phase is not Phase.FOLLOWING:
                return
        if not self._may_work(now):
            self._pause(client)
            return
        self._tokens -= _READ_COST
        try:
            data = client.socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if client.phase is Phase.FOLLOWING:
            if not data:  # what it says besides is not for us
                self._leave(client)
            return
        if client.phase is Phase.READING:
            client.receive(data, now)
            self._handle(client, now)

    def _handle(self, client: Client, now: float) -> None:
        """Answers the requests that are here, one after the other, so that others have turns."""
        served = 0
        while client.phase is Phase.READING:
            if served == _IN_A_TURN or not self._may_work(now):
                self._pause(client)
                return
            served += 1
            try:
                request = client.next_request()
            except BadRequest as bad:
                self._drops[bad.reason] += 1
                text = _BAD.get(bad.status, "that is no HTTP request")
                client.answer(_refusal(bad.status, text), now, last=True)
                self._write(client, now)
                return
            if request is None:
                break
            self._tokens -= _REQUEST_COST
            self._answer(client, request, now)
            self._write(client, now)
        if client.phase is Phase.CLOSED:
            self._leave(client)

    def _answer(self, client: Client, request: Request, now: float) -> None:
        head = request.method == b"HEAD"
        answer = self._refuse(request)
        last = answer is not None
        if answer is None and request.path == "/events":
            if len(self._followers) < MAX_FOLLOWERS and not head:
                client.follow(_STREAM, now)
                client.tell(self._event(now))
                self._followers[client] = None
                return
            if head:
                answer = Answer(200, _STREAM.content_type, b"")
            else:
                self._drops["http_events_full"] += 1
                wait = (("Retry-After", "10"),)
                answer = _refusal(503, f"{MAX_FOLLOWERS} pages follow already", wait)
        if answer is None:
            answer = self._of_site(request.path, now)
        if answer is None:
            self._drops["http_not_found"] += 1
            answer = _refusal(404, "nothing is here; / is the page, /metrics are the metrics")
        client.answer(answer, now, last)

    def _of_site(self, path: str, now: float) -> Answer | None:
        try:
            return self._site.answer(path, now)
        except Exception:  # a mistake over one page must not end the node that it shows
            log.exception("http %s failed", path)
            self._drops["http_failed"] += 1
            return _refusal(500, "the node failed over that; its log has the trace")

    def _event(self, now: float) -> bytes:
        """Returns what those who follow are told now; nothing where that fails."""
        try:
            return _frame(self._site.event(now))
        except Exception:  # as above
            log.exception("http /events failed")
            self._drops["http_failed"] += 1
            return b""

    def _refuse(self, request: Request) -> Answer | None:
        """Returns the refusal of a request that is not answered whatever it asks."""
        if request.method not in (b"GET", b"HEAD"):
            self._drops["http_method"] += 1
            return _refusal(405, "only GET and HEAD are answered", (("Allow", "GET, HEAD"),))
        loopback = self._address is not None and self._address.is_loopback
        if loopback and not names_loopback(request.header(b"host")):
            self._drops["http_host"] += 1
            return _refusal(421, "ask for localhost or 127.0.0.1")
        site, mode = request.header(b"sec-fetch-site"), request.header(b"sec-fetch-mode")
        if site in (b"cross-site", b"same-site") and mode != b"navigate":
            self._drops["http_cross_site"] += 1
            return _refusal(403, "pages of other sites are not answered")
        return None

    def _write(self, client: Client, now: float) -> None:
        try:
            client.write(now)
        except BlockingIOError:
            pass
        except OSError:
            client.phase = Phase.CLOSED
        if client.phase is Phase.CLOSED:
            self._leave(client)
            return
        events = selectors.EVENT_READ
        if client.waiting:
            events = selectors.EVENT_WRITE
            if client.phase is Phase.FOLLOWING:
                events |= selectors.EVENT_READ
        if not client.paused:
            self._selector.modify(client.socket, events, self._served(client))

    def _pause(self, client: Client) -> None:
        """Reads no more of a client until there is something left for it."""
        client.paused = True
        self._paused.append(client)
        self._selector.unregister(client.socket)

    def _leave(self, client: Client) -> None:
        client.phase = Phase.CLOSED
        if client not in self._clients:
            return
        del self._clients[client]
        self._followers.pop(client, None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.socket)
        client.socket.close()

    # Time

    def expire(self, now: float) -> None:
        """Does what is due: called in every turn of the loop."""
        if self._address is None:
            return
        if self._followers and now >= self._event_at:
            self._event_at = now + EVENT_S
            self._tell(now)
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_S
        for client in list(self._clients):
            reason = _overdue(client, now)
            if reason:
                if reason != "idle":
                    self._drops[reason] += 1
                self._leave(client)
        self._go_on(now)
        if self._listener is None and now >= self._retry_at:
            self._listen(now)

    def _tell(self, now: float) -> None:
        data = self._event(now)
        for client in list(self._followers):
            if client.waiting > MAX_UNREAD:
                self._drops["http_not_read"] += 1
                self._leave(client)
                continue
            client.tell(data)
            self._write(client, now)

    def _go_on(self, now: float) -> None:
        """Lets newcomers in, and reads again of those who had to wait, in their order."""
        if not self._may_work(now):
            return
        self._watch_listener(True)
        if self._listening:
            self._accept(now)
        while self._paused and self._may_work(now):
            client = self._paused.popleft()
            client.paused = False
            if client.phase is Phase.CLOSED:
                continue
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.waiting else 0)
            self._selector.register(client.socket, events, self._served(client))
            self._handle(client, now)  # part of what it says may be here already

    def move(self, address: Address | None, now: float) -> None:
        """Listens somewhere else from now on, or (None) nowhere."""
        self.close()
        self._address = address
        self._warned = False
        self._retry_at = now
        if address is not None:
            self._listen(now)

    def close(self) -> None:
        """Shuts the door."""
        for client in list(self._clients):
            self._leave(client)
        self._watch_listener(False)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._address = None


def _frame(data: bytes) -> bytes:
    """Returns one server-sent event."""
    return b"data: " + data + b"\n\n"


def _overdue(client: Client, now: float) -> str:
    """Returns why a connection has lasted long enough: a counted reason, `idle`, or nothing."""
    if client.phase is Phase.READING:
        if now - client.since <= (HEAD_S if client.new or client.begun else IDLE_S):
            return ""
        return "http_slow" if client.begun else "idle"  # browsers open one more than they need
    if client.phase is Phase.FOLLOWING:
        if client.waiting and now - client.since > STUCK_S:
            return "http_not_read"
        return "idle" if now - client.answered_at > FOLLOW_S else ""
    if now - client.since > STUCK_S or now - client.answered_at > ANSWER_S:
        return "http_not_read"
    return ""
