"""The process between remote operators and the control door.

Each client that holds a known CURVE key is one guest at the unix socket, with the role of its key:
requests, answers, events and all bounds are those of the door. This process alone sees strangers:
what they say is opened by libzmq here, and a flood of them costs this process, not the node.

A client (a DEALER) and this ROUTER exchange messages of two parts: `data` and bytes of the stream,
`end` when it is over, and `alive`, which finds out who is gone.
"""

import logging
import os
import resource
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from core.link import child, logs
from core.link.descriptors import Channel, ChannelClosed
from ops import client
from toxmesh.remote.operators import Operator, parse

MAX_SESSIONS = 16
MAX_FILES = 256  # descriptors: strangers in the middle of a handshake are bounded by them
_PART = 64 << 10  # bytes of a message to a client
_WAITING = 16  # messages that libzmq keeps for a client
_MAX_MESSAGE = 320 << 10  # bytes: the door's greatest line, and some room
_MAX_UNSENT = 512 << 10  # bytes that the door has not taken yet of a client
_HANDSHAKE_MS = 5_000
_STUCK_S = 60.0  # as the door's own patience
_ALIVE_S = 15.0
_BEAT_S = 1.0
_RETRY_S = 0.05
_BURST, _STARTS_PER_S = 20.0, 5.0  # sessions that a key may begin
_NICENESS = 5

log = logging.getLogger("toxmesh.remote")


class Session:
    """One client, and its guest's connection at the control door."""

    def __init__(self, identity: bytes, operator: Operator, door: socket.socket) -> None:
        self.identity = identity
        self.operator = operator
        self.door = door
        self.to_door = bytearray(
            b'{"version": 1, "request": "role", "args": {"role": "%s"}}\n' % operator.role.encode()
        )
        self.greeted = False  # whether the door's answer to that was seen
        self.from_door = bytearray()  # of that answer, as long as it is not whole
        self.to_client = b""
        self.stuck_since: float | None = None
        self.told_at = 0.0


class Gateway:
    """Carries lines between clients and the door; one loop, and nothing in it waits."""

    def __init__(self, channel: Channel, orders: dict[str, Any]) -> None:
        self.drops: Counter[str] = Counter()
        self._channel = channel
        self._state_dir = Path(orders["state_dir"])
        operators = [parse(row) for row in orders["operators"]]
        self._operators = {row.key: row for row in operators}
        self._sessions: dict[bytes, Session] = {}
        self._by_door: dict[int, Session] = {}
        self._starts: dict[str, tuple[float, float]] = {}  # by key: how many yet, and since when
        self._next_beat = 0.0
        self._context = zmq.Context()
        self._keeper = self._context.socket(zmq.REP)  # ZeroMQ RFC 27: ZAP
        self._keeper.bind("inproc://zeromq.zap.01")
        self._router = self._context.socket(zmq.ROUTER)
        self._prepare(bytes(orders["secret"]), ":" in orders["host"])
        self._poller = zmq.Poller()
        for row in (self._keeper, self._router, channel.fileno()):
            self._poller.register(row, zmq.POLLIN)

    def _prepare(self, secret: bytes, ipv6: bool) -> None:
        router = self._router
        router.curve_server = True
        router.curve_secretkey = secret
        router.zap_domain = b"toxmesh"
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IPV6, int(ipv6)),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.MAXMSGSIZE, _MAX_MESSAGE),
            (zmq.SNDHWM, _WAITING),
            (zmq.RCVHWM, _WAITING),
            (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
            (zmq.HEARTBEAT_IVL, 10_000),
            (zmq.HEARTBEAT_TIMEOUT, 30_000),
            (zmq.BACKLOG, 64),
        ):
            router.setsockopt(option, value)

    def listen(self, host: str, port: int) -> str:
        """Opens the door; returns its address and port. Raises zmq.ZMQError."""
        shown = f"[{host}]" if ":" in host else host
        self._router.bind(f"tcp://{shown}:{port or '*'}")
        place = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        return place.removeprefix("tcp://")

    # The loop

    def run(self) -> None:
        """Serves until the supervisor is gone."""
        while True:
            now = time.monotonic()
            stuck = any(row.to_client for row in self._sessions.values())
            self.turn(_RETRY_S if stuck else max(0.0, self._next_beat - now))

    def turn(self, patience: float) -> None:
        """Waits for something to happen, and does it. Raises ChannelClosed."""
        ready = dict(self._poller.poll(int(patience * 1000) + 1))
        now = time.monotonic()
        if self._channel.fileno() in ready:
            self._channel.receive()  # nothing is told; its end is what counts
        if self._keeper in ready:
            self._admit()
        if self._router in ready:
            self._hear(now)
        for number, events in ready.items():
            session = self._by_door.get(number) if isinstance(number, int) else None
            if session is not None:
                self._serve(session, events, now)
        for session in [row for row in self._sessions.values() if row.to_client]:
            self._pass_on(session, b"", now)
        if now >= self._next_beat:
            self.beat(now)

    def close(self) -> None:
        """Closes everything."""
        for session in list(self._sessions.values()):
            self._end(session)
        self._router.close()
        self._keeper.close()
        self._context.term()

    def beat(self, now: float) -> None:
        """Tells the supervisor that all is well and what was refused; looks who is still there."""
        self._next_beat = now + _BEAT_S
        logs.settle(now)
        for session in list(self._sessions.values()):
            if session.stuck_since is not None and now - session.stuck_since > _STUCK_S:
                self.drops["control_remote_stuck"] += 1
                self._end(session)
            elif now - session.told_at > _ALIVE_S and not session.to_client:
                session.told_at = now
                self._send(session, b"alive", b"", now)
        clients = Counter(str(row.operator) for row in self._sessions.values())
        self._channel.send("beat", {"drops": dict(self.drops), "clients": dict(clients)})

    # Strangers

    def _admit(self) -> None:
        """Answers libzmq's question whether a key may come in (ZeroMQ RFC 27, 25)."""
        version, number, _, address, _, mechanism, *credentials = self._keeper.recv_multipart()
        key = credentials[0].hex().upper() if credentials else ""
        if mechanism == b"CURVE" and key in self._operators:
            answer = [b"200", b"OK", key.encode(), b""]
        else:
            self.drops["control_remote_key"] += 1
            log.warning("the key %s from %s may not come in", key or "-", address.decode("latin-1"))
            answer = [b"400", b"no key of an operator", b"", b""]
        self._keeper.send_multipart([version, number, *answer])

    def _hear(self, now: float) -> None:
        """Takes some messages of clients."""
        for _ in range(64):
            try:
                parts = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            identity = parts[0].bytes
            operator = self._operators.get(str(parts[-1].get("User-Id")))
            if operator is None or len(parts) != 3:
                continue
            kind, data = parts[1].bytes, parts[2].bytes
            session = self._sessions.get(identity)
            if session is not None and session.operator != operator:
                self._end(session, tell=False)  # who had that name is gone
                session = None
            if kind == b"end":
                if session is not None:
                    self._end(session, tell=False)
            elif kind == b"data":
                session = session or self._begin(identity, operator, now)
                if session is not None:
                    self._take(session, data)

    def _begin(self, identity: bytes, operator: Operator, now: float) -> Session | None:
        """Begins a session, if there is room and the key has not begun too many of late."""
        left, since = self._starts.get(operator.key, (_BURST, now))
        left = min(_BURST, left + (now - since) * _STARTS_PER_S)
        if left < 1 or len(self._sessions) >= MAX_SESSIONS:
            self._starts[operator.key] = (left, now)
            self._refuse(identity, "too many remote operators ask; try again later")
            return None
        self._starts[operator.key] = (left - 1, now)
        try:
            door = client.connect(self._state_dir, 1.0)
        except OSError:
            self._refuse(identity, "the control door does not open; try again later")
            return None
        door.setblocking(False)
        session = Session(identity, operator, door)
        session.told_at = now
        self._sessions[identity] = session
        self._by_door[door.fileno()] = session
        self._poller.register(door.fileno(), zmq.POLLIN | zmq.POLLOUT)
        return session

    def _refuse(self, identity: bytes, why: str) -> None:
        self.drops["control_remote_full"] += 1
        line = b'{"version": 1, "ok": false, "code": "busy", "error": "%s"}\n' % why.encode()
        for kind, data in ((b"data", line), (b"end", b"")):
            with suppress(zmq.ZMQError):
                self._router.send_multipart([identity, kind, data], zmq.NOBLOCK)

    # Sessions

    def _take(self, session: Session, data: bytes) -> None:
        """Takes what a client says."""
        session.to_door += data
        if len(session.to_door) > _MAX_UNSENT:
            self.drops["control_remote_too_much"] += 1
            self._end(session)
        else:
            self._poll(session)

    def _poll(self, session: Session) -> None:
        """Looks at what can happen next; a client that is behind is not read for."""
        read = 0 if session.to_client else int(zmq.POLLIN)
        write = int(zmq.POLLOUT) if session.to_door else 0
        self._poller.register(session.door.fileno(), read | write)  # 0: not polled

    def _serve(self, session: Session, events: int, now: float) -> None:
        """Carries bytes between the door and a client."""
        try:
            if events & zmq.POLLOUT and session.to_door:
                del session.to_door[: session.door.send(session.to_door)]
            if events & ~zmq.POLLOUT and not session.to_client:
                data = session.door.recv(_PART)
                if not data:
                    self._end(session)
                    return
                self._pass_on(session, self._without_greeting(session, data), now)
        except BlockingIOError:
            pass
        except OSError:
            self._end(session)
            return
        if session.identity in self._sessions:
            self._poll(session)

    def _without_greeting(self, session: Session, data: bytes) -> bytes:
        """Takes the door's answer to our own first request out of the stream."""
        if session.greeted:
            return data
        session.from_door += data
        _, end, rest = session.from_door.partition(b"\n")
        if not end:
            return b""
        session.greeted = True
        return bytes(rest)

    def _pass_on(self, session: Session, data: bytes, now: float) -> None:
        """Sends what the door said; what libzmq does not take now is kept, and no more read."""
        data = session.to_client + data
        if not data:
            return
        session.to_client = b""
        if not self._send(session, b"data", data, now) and session.identity in self._sessions:
            session.to_client = data
        if session.identity in self._sessions:
            self._poll(session)

    def _send(self, session: Session, kind: bytes, data: bytes, now: float) -> bool:
        try:
            self._router.send_multipart([session.identity, kind, data], zmq.NOBLOCK)
        except zmq.Again:
            session.stuck_since = session.stuck_since or now
            return False
        except zmq.ZMQError:  # EHOSTUNREACH: it is gone
            self._end(session, tell=False)
            return False
        session.stuck_since = None
        return True

    def _end(self, session: Session, tell: bool = True) -> None:
        if self._sessions.pop(session.identity, None) is None:
            return
        if tell:
            with suppress(zmq.ZMQError):
                self._router.send_multipart([session.identity, b"end", b""], zmq.NOBLOCK)
        del self._by_door[session.door.fileno()]
        with suppress(KeyError):
            self._poller.unregister(session.door.fileno())
        session.door.close()


def main() -> int:
    """Runs the process: orders come through standard input, as to every child."""
    try:
        channel, notes = child.first_notes()
    except ChannelClosed:
        return 0
    orders = notes[0].body
    child.set_name("remote")
    os.nice(_NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, hard))
    log_of_process = logs.start_logging(
        orders["log_level"], orders["log_format"], "remote", orders["log_redact"]
    )
    log_of_process.listener = lambda line: channel.send("log", line.as_data())
    gateway = Gateway(channel, orders)
    try:
        place = gateway.listen(orders["host"], orders["port"])
        channel.send("listening", {"place": place})
        gateway.run()
    except zmq.ZMQError as error:
        channel.send("failed", {"reason": str(error).lower()})
    except ChannelClosed:
        pass
    gateway.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
