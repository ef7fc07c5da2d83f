"""The control door: a unix socket where the operator's tools ask the running node.

One JSON object a line each way. `{"version": 1, "request": NAME, "args": {...}}` is answered with
`{"version": 1, "ok": true, "answer": {...}}` or `{"version": 1, "ok": false, "code": CODE, "error":
SENTENCE}`; after a request that follows, `{"version": 1, "event": NAME, "at": UNIX, "data": {...}}`
lines come until the guest leaves. docs/operations.md lists the requests.

Nobody at this door slows the node down: guests are few, what they may say and leave unread is
bounded, and together they get a hundredth of a core, of which who asked least is served first.
"""

import logging
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from core.asking import BUSY, NOT_FOUND, PERMISSION, REFUSED, TIMEOUT, USAGE, CannotAnswer
from toxmesh.door_group import let_in
from toxmesh.door_place import listen

VERSION = 1
_MAX_GUESTS = 128
_MAX_REQUEST = 256 << 10  # bytes of a line
_MAX_ANSWER = 16 << 20  # bytes that may wait for a guest who does not read
_MAX_EVENTS = 1 << 20  # bytes that may wait before events are given up
_IDLE_S = 60.0  # a guest who says nothing makes room; one who follows reads, and may be silent
_LATER_S = 10.0  # how long an answer may take that others have to give
_SHARE = 0.01  # of one core, for all guests together
_BURST_S = 0.2  # seconds of it that may be used at once
_LIGHT_S = 0.004  # who has used less of late is served at any time
_NEW, _NEW_PER_S = 40.0, 20.0  # guests who begin so; others wait like those who used much

log = logging.getLogger("toxmesh.control")


class Refused(CannotAnswer):
    """A request that is not done: a code, and a sentence with the next step."""


class Failed(Refused):
    """A mistake of ours: what an operator asks must not end the node that answers it."""

    def __init__(self, error: Exception) -> None:
        log.error("a request of an operator failed", exc_info=error)
        name = type(error).__name__
        super().__init__(REFUSED, f"the node failed over that ({name}); its log has the trace")


class Later:
    """An answer that is still to come; it is given once, and then nothing changes it."""

    def __init__(self, patience_s: float = _LATER_S) -> None:
        """`patience_s`: how long who asked waits."""
        self.patience_s = patience_s
        self.outcome: tuple[bool, Any] | None = None  # good, and the answer or the CannotAnswer
        self._then: list[Callable[[Later], None]] = []

    def resolve(self, answer: Any) -> None:
        """Gives the answer."""
        self._settle((True, answer))

    def refuse(self, refusal: CannotAnswer) -> None:
        """Tells why there is none."""
        self._settle((False, refusal))

    def _settle(self, outcome: tuple[bool, Any]) -> None:
        if self.outcome is None:
            self.outcome = outcome
            for call in self._then:
                call(self)

    def then(self, call: Callable[["Later"], None]) -> None:
        """Calls `call` when the answer is there, at once if it is."""
        if self.outcome is None:
            self._then.append(call)
        else:
            call(self)

    def map(self, make: Callable[[Any], Any]) -> "Later":
        """Returns what `make` makes of the answer; `make` may refuse, or return a Later again."""
        result = Later()

        def settled(later: "Later") -> None:
            good, value = later.outcome or (False, None)
            if not good:
                result._settle((False, value))
                return
            try:
                made = make(value)
            except CannotAnswer as refusal:
                result.refuse(refusal)
                return
            except Exception as error:  # see `Failed`
                result.refuse(Failed(error))
                return
            if isinstance(made, Later):
                made.then(lambda inner: result._settle(inner.outcome or (False, None)))
            else:
                result.resolve(made)

        self.then(settled)
        return result


class Follow(NamedTuple):
    """The answer of a request after which events come."""

    answer: dict[str, Any]
    names: frozenset[str]
    matches: Callable[[str, dict[str, Any]], bool] = lambda name, data: True
    left: Callable[[], None] = lambda: None
    """Called when the guest has left."""


Handler = Callable[[dict[str, Any]], Any]
"""handler(args): plain data, a Later or a Follow; raises CannotAnswer."""


class Request(NamedTuple):
    """What may be asked at the door."""

    handler: Handler
    full: bool = False
    """Whether it changes something: remote operators need the full role for it."""


class Guest:
    """One open connection, and what it has used of late."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.heard = now
        self.received = bytearray()
        self.waiting = bytearray()
        self.asked: Later | None = None  # what it waits for: one request at a time
        self.asked_at = 0.0
        self.following: Follow | None = None
        self.lost = 0  # events since it was last told
        self.used = 0.0  # seconds of processor, melting away
        self.held = False  # whether it has to wait until others had their turn
        self.serving = False  # whether its lines are being answered at this moment
        self.full = True  # its role; a remote operator of the role read gives the other away
        self.events = selectors.EVENT_READ
        self.gone = False


class ControlDoor:
    """Takes requests in the supervisor's loop; nothing here waits."""

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        requests: Mapping[str, Request],
        group: str = "",
        drops: Counter[str] | None = None,
        descriptor: int = -1,
    ) -> None:
        """`group`: a group whose members may open the door as well. Raises Refused, OSError.

        `descriptor`: the listening socket that the version before has left in this process.
        """
        self.drops: Counter[str] = Counter() if drops is None else drops
        self.on_wanted: Callable[[frozenset[str]], None] = lambda names: None
        """Called with the names of all events that somebody follows, when these change."""
        self._path = path
        self._selector = selector
        self._requests = dict(requests)
        self._guests: set[Guest] = set()
        self._wanted: frozenset[str] = frozenset()
        self._used = 0.0
        self._new = _NEW
        self._melted = time.monotonic()
        made = descriptor < 0
        self._socket = listen(path, _MAX_GUESTS) if made else socket.socket(fileno=descriptor)
        self.give_to(group)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    # Guests

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        if len(self._guests) >= _MAX_GUESTS:
            self.drops["control_full"] += 1
            with suppress(OSError):
                connection.send(_line(_refusal(BUSY, "too many ask already; try again later")))
            connection.close()
            return
        guest = Guest(connection, now)
        if self._new < 1:  # to ask once and come again is no way around the others
            guest.used = 2 * _LIGHT_S
        self._new = max(0.0, self._new - 1)
        self._guests.add(guest)
        self._selector.register(connection, guest.events, lambda at: self._serve(guest, at))

    def _serve(self, guest: Guest, now: float) -> None:
        """Reads what a guest says and writes what waits for it."""
        guest.heard = now
        if guest.waiting:
            self._write(guest)
            if guest.waiting or guest.gone:
                return
        try:
            data = guest.connection.recv(1 << 16)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data is not None:
            if not data:
                self._leave(guest)
                return
            guest.received += data
        self._go_on(guest)

    def _go_on(self, guest: Guest) -> None:
        """Answers what a guest has asked, as far as its share goes."""
        if guest.serving:
            return
        guest.serving = True
        while not guest.gone and guest.asked is None and not guest.waiting:
            end = guest.received.find(b"\n")
            if end < 0:
                if len(guest.received) > _MAX_REQUEST:
                    self.drops["control_too_long"] += 1
                    self._leave(guest)
                break
            guest.held = self._used > _BURST_S and guest.used > _LIGHT_S
            if guest.held:
                break
            line = bytes(guest.received[:end])
            del guest.received[: end + 1]
            before = time.thread_time()
            self._ask(guest, line)
            self._charge(guest, time.thread_time() - before)
        guest.serving = False
        self._listen_to(guest)

    def _charge(self, guest: Guest, seconds: float) -> None:
        guest.used += seconds
        self._used += seconds

    def _listen_to(self, guest: Guest) -> None:
        """Looks at what can happen next with a guest: one who waits for an answer is not read."""
        if guest.gone:
            return
        events = selectors.EVENT_WRITE if guest.waiting else selectors.EVENT_READ
        if guest.held or (guest.asked is not None and not guest.waiting):
            events = 0
        if events == guest.events:
            return
        if not guest.events:
            self._selector.register(guest.connection, events, lambda at: self._serve(guest, at))
        elif not events:
            self._selector.unregister(guest.connection)
        else:
            self._selector.modify(guest.connection, events, lambda at: self._serve(guest, at))
        guest.events = events

    def _write(self, guest: Guest) -> None:
        try:
            while guest.waiting:
                del guest.waiting[: guest.connection.send(guest.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._leave(guest)
            return
        self._listen_to(guest)

    def _leave(self, guest: Guest) -> None:
        if guest.gone:
            return
        guest.gone = True
        self._guests.discard(guest)
        if guest.events:
            with suppress(KeyError, ValueError):
                self._selector.unregister(guest.connection)
        guest.connection.close()
        if guest.following is not None:
            guest.following.left()
            self._count_wanted()

    # Upgrades

    @property
    def descriptor(self) -> int:
        """The listening socket's."""
        return self._socket.fileno()

    def leave_all_but(self, later: Later | None) -> int:
        """Shows all guests out but the one who waits for `later`; returns its descriptor or -1."""
        found = -1
        for guest in list(self._guests):
            if later is not None and guest.asked is later and not guest.waiting:
                found = guest.connection.fileno()
            else:
                self._leave(guest)
        return found

    def adopt(self, descriptor: int, later: Later, now: float) -> None:
        """Goes on with the guest who asked the version before, and waits for `later`."""
        guest = Guest(socket.socket(fileno=descriptor), now)
        guest.events = 0
        guest.asked, guest.asked_at = later, now
        self._guests.add(guest)
        later.then(lambda done: self._answered(guest, done))

    # Requests

    def _ask(self, guest: Guest, line: bytes) -> None:
        """Answers one line, now or later."""
        try:
            handler, args = self._find(guest, line)
            answer = handler(args)
        except CannotAnswer as refusal:
            self._refuse(guest, refusal)
            return
        except Exception as error:  # see `Failed`
            self._refuse(guest, Failed(error))
            return
        if isinstance(answer, Later):
            guest.asked, guest.asked_at = answer, time.monotonic()
            answer.then(lambda later: self._answered(guest, later))
            return
        self._give(guest, answer)

    def _give(self, guest: Guest, answer: Any) -> None:
        """Answers a guest, who from now on is told events if the answer is a Follow."""
        if isinstance(answer, Follow):
            if guest.following is not None:
                guest.following.left()
            guest.following = answer
            self._count_wanted()
            answer = answer.answer
        self._reply(guest, {"version": VERSION, "ok": True, "answer": answer})

    def _find(self, guest: Guest, line: bytes) -> tuple[Handler, dict[str, Any]]:
        """Returns who answers a line, and with which arguments."""
        try:
            request = orjson.loads(line)
        except ValueError:
            raise Refused(USAGE, "that is not JSON") from None
        if not isinstance(request, dict) or request.get("version") != VERSION:
            raise Refused(USAGE, f"this node speaks version {VERSION} of the control protocol")
        name, args = request.get("request"), request.get("args", {})
        if not isinstance(name, str):  # nor is it printed: lists can be nested too deep for that
            raise Refused(USAGE, "the request is no text")
        if not isinstance(args, dict):
            raise Refused(USAGE, "args must be an object")
        if name == "role":
            return lambda args: _take_role(guest, args), args
        found = self._requests.get(name)
        if found is None:
            known = ", ".join(sorted(self._requests))
            raise Refused(NOT_FOUND, f"no such request: {name[:60]}; known are {known}")
        if found.full and not guest.full:
            raise Refused(PERMISSION, f"{name} needs a key with the role full; yours may only read")
        return found.handler, args

    def _answered(self, guest: Guest, later: Later) -> None:
        """Gives a guest the answer that it waits for."""
        if later.outcome is None:
            return
        good, value = later.outcome
        if guest.gone or guest.asked is not later:
            if good and isinstance(value, Follow):
                value.left()
            return
        guest.asked = None
        if good:
            self._give(guest, value)
        else:
            self._refuse(guest, value)
        self._go_on(guest)

    def _refuse(self, guest: Guest, refusal: CannotAnswer) -> None:
        if isinstance(refusal, Failed):
            self.drops["control_failed"] += 1
        self._reply(guest, _refusal(refusal.code, refusal.text))

    def _reply(self, guest: Guest, reply: dict[str, Any]) -> None:
        before = time.thread_time()
        try:
            data = _line(reply)
        except TypeError as error:  # an answer that JSON cannot say
            self.drops["control_failed"] += 1
            refusal = Failed(error)
            data = _line(_refusal(refusal.code, refusal.text))
        guest.waiting += data
        self._charge(guest, time.thread_time() - before)
        if len(guest.waiting) > _MAX_ANSWER:
            self.drops["control_not_read"] += 1
            self._leave(guest)
        else:
            self._write(guest)

    # Events

    def _count_wanted(self) -> None:
        names = frozenset[str]().union(
            *(row.following.names for row in self._guests if row.following is not None)
        )
        if names != self._wanted:
            self._wanted = names
            self.on_wanted(names)

    @property
    def guests(self) -> int:
        """How many are connected."""
        return len(self._guests)

    @property
    def wanted(self) -> frozenset[str]:
        """Names of the events that somebody follows."""
        return self._wanted

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Tells those who follow; who does not read gets a count of what was lost instead."""
        line = b""
        for guest in list(self._guests):
            follow = guest.following
            if follow is None or name not in follow.names or not follow.matches(name, data):
                continue
            if len(guest.waiting) > _MAX_EVENTS:
                guest.lost += 1
                self.drops["control_event"] += 1
                continue
            if guest.lost:
                guest.waiting += _event("lost", {"count": guest.lost})
                guest.lost = 0
            line = line or _event(name, data)
            guest.waiting += line
            self._write(guest)

    # Time

    def expire(self, now: float) -> None:
        """Shows out guests who have said nothing for long, and serves those who had to wait."""
        passed = max(0.0, now - self._melted)
        self._melted = now
        self._used = max(0.0, self._used - passed * _SHARE)
        self._new = min(_NEW, self._new + passed * _NEW_PER_S)
        share = passed * _SHARE / max(1, len(self._guests))
        for guest in sorted(self._guests, key=lambda row: row.used):
            guest.used = max(0.0, guest.used - share)
            if guest.asked is not None:
                if now - guest.asked_at > guest.asked.patience_s:
                    self.drops["control_timeout"] += 1
                    guest.asked.refuse(Refused(TIMEOUT, "the node's processes did not answer"))
            elif guest.held:
                guest.held = False
                self._go_on(guest)
            elif now - guest.heard > _IDLE_S and (guest.following is None or guest.waiting):
                self.drops["control_idle"] += 1
                self._leave(guest)

    def give_to(self, group: str) -> None:
        """Lets the members of a group open the door from now on, or (empty) this user alone.

        Raises Refused where that cannot be.
        """
        problem = let_in(self._path, group)
        if problem:
            raise Refused(REFUSED, problem)

    def close(self) -> None:
        """Shuts the door."""
        for guest in list(self._guests):
            self._leave(guest)
        with suppress(KeyError, ValueError):
            self._selector.unregister(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _take_role(guest: Guest, args: dict[str, Any]) -> dict[str, str]:
    """Tells a guest's role; one who has the full role may give it away, and not take it again."""
    role = args.get("role", "full" if guest.full else "read")
    if role not in ("read", "full"):
        raise Refused(USAGE, "role must be read or full")
    if role == "full" and not guest.full:
        raise Refused(PERMISSION, "your key has the role read; whoever runs the node can change it")
    guest.full = role == "full"
    return {"role": role}


def _line(reply: dict[str, Any]) -> bytes:
    """Returns an answer as JSON; numbers that serve as names in a snapshot become texts."""
    return orjson.dumps(reply, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)


def _event(name: str, data: dict[str, Any]) -> bytes:
    return _line({"version": VERSION, "event": name, "at": round(time.time(), 3), "data": data})


def _refusal(code: str, reason: str) -> dict[str, Any]:
    return {"version": VERSION, "ok": False, "code": code, "error": reason}

