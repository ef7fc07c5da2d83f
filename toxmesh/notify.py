"""Tells the service manager how the node is: ready, reloading, stopping, a line of status, alive.

That is sd_notify(3): one datagram of `NAME=VALUE` lines to the unix socket that $NOTIFY_SOCKET
names. It is written here and not taken from a library because it is so small: libsystemd would be
one more thing that the system must have, and every package for it needs that library or a compiler.
Nothing here waits: a manager that does not read is told again in the next turn.
"""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from toxmesh.children import SILENT_S, Child, State

AWAY_S = 10.0  # an absence that is no silence: a restart, after a back-off of 5 s at most
STATUS_S = 5.0  # between two lines of status
_MOST_WAITING = 8  # changes of state that could not be told yet; there are never more in a life
_LONGEST_STATUS = 200  # characters

log = logging.getLogger("toxmesh.notify")


class Answering:
    """Decides whether every child answers, which is when the watchdog is fed.

    The rule: each child is at work and was heard within the last three seconds, or it was so no
    more than `AWAY_S` ago. So a restart, asked for or after a crash, is no reason to end the node;
    a child that cannot be brought back is. One that was stopped on purpose is not asked.
    """

    def __init__(self) -> None:
        self._well: dict[str, float] = {}  # by name: when it answered, or began to be looked at

    def all(self, rows: Sequence[Child], now: float) -> bool:
        """Tells whether all answer; to be asked in every turn."""
        self._well = {row.name: self._well.get(row.name, now) for row in rows}
        for row in rows:
            at_work = row.state in (State.UP, State.STOPPING) and now - row.heard <= SILENT_S
            if at_work or row.state is State.STOPPED:
                self._well[row.name] = now
        return all(now - well <= AWAY_S for well in self._well.values())


def status_line(rows: Sequence[Child]) -> str:
    """Returns what `systemctl status` shows: `1,234 packets/s, 512 relay clients, ...`."""
    rate = sum(row.packets_per_s for row in rows if row.role != "broker")
    clients = nodes = 0
    for row in rows:
        snapshot = row.beat.get("snapshot", {})
        if row.role == "broker":
            clients += int(snapshot.get("clients", 0))
        elif row.name == "dht.0":
            nodes = int(snapshot.get("nodes_known", 0))
    up = sum(row.state is State.UP for row in rows)
    return (
        f"{rate:,.0f} packets/s, {clients:,} relay clients, {nodes:,} DHT nodes,"
        f" {up} of {len(rows)} processes at work"
    )


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float:
    """Returns how often the manager wants to hear of us, in seconds; 0: never."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() else 0.0


class Notify:
    """The line to the service manager; without one ($NOTIFY_SOCKET) it does nothing."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._feed_every = watchdog_s / 2  # sd_watchdog_enabled(3): half of it
        self._fed = self._told = float("-inf")
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._status = ""
        self._answering = Answering()
        self._socket: socket.socket | None = None
        if self._address[:1] in ("/", "\0"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        elif address:
            log.warning("NOTIFY_SOCKET %s is none that can be told anything", address)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Notify":
        """Returns the line that the service manager gave this process."""
        variables = os.environ if environment is None else environment
        return cls(variables.get("NOTIFY_SOCKET", ""), _watchdog_s(variables, os.getpid()))

    def ready(self) -> None:
        """Says that the node listens, or that its reload is done; its status follows at once."""
        self._told = float("-inf")
        self._say("READY=1")

    def reloading(self) -> None:
        """Says that the settings are read again; `ready` has to follow, also where that failed."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Says that the node has begun to stop."""
        self._told = float("inf")  # no other status any more
        self._say("STOPPING=1", "STATUS=stopping")

    def extend(self, seconds: float) -> None:
        """Asks for that much time from now on for a stop (or start) that has to take longer."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def turn(self, now: float, rows: Sequence[Child]) -> None:
        """Says what is due, as it follows from the node's children."""
        self.tell(now, self._answering.all(rows, now), lambda: status_line(rows))

    def tell(self, now: float, answering: bool, status: Callable[[], str]) -> None:
        """Says what is due: what could not be told before, the watchdog's food, the status."""
        if self._socket is None:
            return
        while self._waiting and self._send(self._waiting[0]):
            self._waiting.popleft()
        hungry = bool(self._feed_every) and now - self._fed >= self._feed_every
        if hungry and answering and self._send("WATCHDOG=1"):
            self._fed = now
        if now - self._told >= STATUS_S:
            self._told = now
            line = "".join(letter if letter.isprintable() else "?" for letter in status())
            if line != self._status and self._send(f"STATUS={line[:_LONGEST_STATUS]}"):
                self._status = line

    def _say(self, *lines: str) -> None:
        """Tells a change of state, now or as soon as the manager reads; in order."""
        if self._socket is None:
            return
        self._waiting.append("\n".join(lines))
        while self._waiting and self._send(self._waiting[0]):
            self._waiting.popleft()

    def _send(self, text: str) -> bool:
        """Sends a datagram; False where the manager has no room for it (or is away) just now."""
        if self._socket is None:
            return True
        with suppress(OSError):
            self._socket.sendto(text.encode(), self._address)
            return True
        return False

    def close(self) -> None:
        """Lets go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
