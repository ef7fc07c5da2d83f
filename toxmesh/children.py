"""One child process of the node: started, watched, given up, and when its successor may come."""

import os
import select
import signal
import site
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from core.link.child import Peer, Start
from core.link.descriptors import Channel, ChannelClosed
from core.link.in_hand import InHand
from core.slots import IDENTITY_ROLES
from toxmesh import __version__, activation

SILENT_S = 3.0  # SECURITY R-05: three heartbeats missed
QUIET_S = 1.6  # a heartbeat is late; if most are, it is the machine that halts
HALTED_S = 10.0  # silence that is forgiven while most are quiet, and for SILENT_S after
START_S = 30.0  # a process that needs longer to begin than this hangs, on any machine
BACKOFF_S = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)  # SECURITY S-36: 0.1 -> 5 s
CALM_S = 60.0  # life after which an earlier death counts no more
_RATE_WINDOW_S = 0.5  # least time between two heartbeats that make a rate

Command = list[str]


class State(Enum):
    """The life of a child as the supervisor sees it."""

    DOWN = "restarting"  # it died, and its successor waits for its time
    STARTING = "starting"
    UP = "good"
    STOPPING = "stopping"
    STOPPED = "stopped"


MOVES: dict[tuple[State, str], State] = {
    (State.DOWN, "spawn"): State.STARTING,
    (State.STARTING, "ready"): State.UP,
    (State.STARTING, "died"): State.DOWN,
    (State.UP, "died"): State.DOWN,
    (State.STARTING, "stop"): State.STOPPING,
    (State.UP, "stop"): State.STOPPING,
    (State.DOWN, "stop"): State.STOPPED,
    (State.STOPPING, "stopped"): State.STOPPED,
    (State.STOPPING, "died"): State.STOPPED,
    (State.STOPPED, "died"): State.STOPPED,
}
"""The legal moves of that life."""


def environment() -> dict[str, str]:
    """Returns the environment of children: this one's, and the way to our packages."""
    result = {name: os.environ[name] for name in os.environ if name not in activation.VARIABLES}
    root = str(Path(__file__).resolve().parent.parent)
    if root not in site.getsitepackages():
        known = result.get("PYTHONPATH")
        result["PYTHONPATH"] = root + (os.pathsep + known if known else "")
    return result


def command(role: str) -> Command:
    """Returns how a child of a role is started; -P: the working directory is no source of code."""
    if role == "broker":
        return [sys.executable, "-P", "-m", "broker"]
    if role in IDENTITY_ROLES:
        return [sys.executable, "-P", "-m", "toxmesh.hosting", role]
    return [sys.executable, "-P", "-m", "workers", role]


class Watch:
    """Tells a child that hangs from a machine that halts.

    One that is silent alone hangs. If most are quiet at the same time, the machine has no time for
    them (load, a suspended host): to kill them would make it worse, so they get more time, and when
    it goes on each has as long to be heard as ever.
    """

    def __init__(self) -> None:
        self._halted = float("-inf")  # when most were quiet, the last time

    def hung(self, rows: Sequence["Child"], now: float) -> list["Child"]:
        """Returns the children that have to be ended because nothing is heard of them."""
        up = [row for row in rows if row.state is State.UP]
        quiet = sum(now - row.heard > QUIET_S for row in up)
        if quiet > 1 and 2 * quiet > len(up):
            self._halted = now
        forgiven = now - self._halted <= SILENT_S
        return [
            row
            for row in rows
            if row.alive and row.silent(now) and not (forgiven and now - row.heard <= HALTED_S)
        ]


class Totals:
    """Counters that outlive the processes that counted: the dead ones' last word is kept."""

    def __init__(self) -> None:
        self.received: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()
        self.drops: Counter[str] = Counter()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Totals":
        """Reads what `to_body` made."""
        result = cls()
        result.add(dict(body))
        return result

    def to_body(self) -> dict[str, Any]:
        """Returns them as plain data, in the form of a heartbeat."""
        return {
            "received": list(self.received.items()),
            "sent": list(self.sent.items()),
            "drops": dict(self.drops),
        }

    def add(self, body: dict[str, Any]) -> None:
        """Adds the counters of a heartbeat."""
        for kind, count in body.get("received", ()):
            self.received[kind] += count
        for kind, count in body.get("sent", ()):
            self.sent[kind] += count
        self.drops.update(body.get("drops", {}))


class Adopted:
    """A child process that the version before has started; as `subprocess.Popen` for our needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code; raises subprocess.TimeoutExpired."""
        if self._code is None and timeout is not None:
            descriptor = os.pidfd_open(self.pid)
            try:
                if not select.select([descriptor], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
            finally:
                os.close(descriptor)
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def kill(self) -> None:
        """Ends it, if it has not ended."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)


_KEPT = ("pid", "path", "generation", "restarts", "spawned", "packets_per_s", "cpu_percent")


class Child:
    """A place in the node (broker, dht.0, ...) and the process that fills it at the moment."""

    def __init__(self, role: str, shard: int, core: int | None) -> None:
        self.role = role
        self.shard = shard
        self.name = role if role == "broker" and not shard else f"{role}.{shard}"
        self.core = core
        self.version = __version__  # of toxmesh that it runs
        self.state = State.DOWN
        self.restarts = 0
        self.start_at = 0.0  # when to start it, monotonic
        self.generation = 0
        self.path = ""
        self.pid = 0
        self.pidfd = -1
        self.channel: Channel | None = None
        self.spawned = 0.0
        self.heard = 0.0
        self.beat: dict[str, Any] = {}
        self.before: dict[str, Any] = {}  # the heartbeat before that one
        self.packets_per_s = 0.0
        self.cpu_percent = 0.0
        self._beat_at = 0.0
        self._deaths = 0
        self._process: subprocess.Popen[bytes] | Adopted | None = None
        self._in_hand = -1  # descriptor

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Child":
        """Goes on with a child that is up; raises OSError where there is no such process."""
        row = cls(body["role"], body["shard"], body["core"])
        for name in _KEPT:
            setattr(row, name, body[name])
        row.state = State.UP
        row.version = body["version"]
        row.beat = dict(body["beat"])
        row.channel = Channel.from_body(body["channel"])
        row._in_hand = body["in_hand"]["fd"]
        row._deaths = body["deaths"]
        row._process = Adopted(row.pid)
        row.pidfd = os.pidfd_open(row.pid)
        row.heard = row._beat_at = time.monotonic()
        return row

    def to_body(self) -> dict[str, Any]:
        """Returns what the next version of the supervisor needs to go on with it; it is up."""
        if self.channel is None:
            raise ValueError(f"{self.name} is not up")
        return {
            **{name: getattr(self, name) for name in ("role", "shard", "core", *_KEPT)},
            "version": self.version,
            "beat": self.beat,
            "channel": self.channel.to_body(),
            "in_hand": {"fd": self._in_hand},
            "deaths": self._deaths,
        }

    def move(self, event: str) -> None:
        """Changes the state; an illegal move is a KeyError."""
        self.state = MOVES[self.state, event]

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def spawn(self, start: Start, command: Command, now: float) -> None:
        """Starts the process and gives it its orders through the channel.

        Raises OSError where the system has no room for it; the next attempt is put off then.
        """
        self.move("spawn")
        self.generation = start.generation
        self.path = start.path
        self.spawned = self.heard = self._beat_at = now
        self.beat = {}
        self.before = {}
        self.packets_per_s = self.cpu_percent = 0.0
        try:
            self._begin(command)
        except OSError:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._gone(now)
            raise
        assert self.channel is not None
        with suppress(ChannelClosed):  # it has died already: its end is seen as any other
            self.channel.send("start", *start.to_note())

    def _begin(self, command: Command) -> None:
        self.channel, theirs = Channel.pair()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=2,  # standard output has the ready line and nothing else
                env=environment(),
                process_group=0,  # a terminal's ctrl-C is for the supervisor alone
            )
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        if self.core is not None:
            with suppress(OSError):  # a core that was taken away: the others do as well
                os.sched_setaffinity(self.pid, {self.core})

    def new_in_hand(self) -> tuple[int, ...]:
        """Makes the memory in which the next process says what it has in hand."""
        self._close_in_hand()
        with suppress(OSError):  # no descriptor: what dies with it is not counted then
            self._in_hand = InHand.make()
        return (self._in_hand,) if self._in_hand >= 0 else ()

    def lost(self) -> int:
        """Returns how many datagrams died with the process, which has ended."""
        return InHand.read(self._in_hand) if self._in_hand >= 0 else 0

    def _close_in_hand(self) -> None:
        if self._in_hand >= 0:
            os.close(self._in_hand)
            self._in_hand = -1

    def peer(self) -> Peer:
        """Returns how others reach it."""
        return Peer(self.name, self.role, self.shard, self.generation, self.path)

    def take_beat(self, body: dict[str, Any], now: float) -> None:
        """Keeps a heartbeat and what it says about the time since the last one."""
        passed = now - self._beat_at
        if passed >= _RATE_WINDOW_S:
            packets = body.get("packets", 0) - self.beat.get("packets", 0)
            self.packets_per_s = round(packets / passed, 1)
            busy = body.get("busy", 0.0) - self.beat.get("busy", 0.0)
            self.cpu_percent = round(100 * busy / passed, 1)
            self._beat_at = now
        self.before, self.beat = self.beat, body

    def silent(self, now: float) -> bool:
        """Tells whether it should have been heard of by now."""
        if self.state is State.STARTING:
            return now - self.spawned > START_S
        return self.state is State.UP and now - self.heard > SILENT_S

    def kill(self) -> None:
        """Ends the process at once; its end is seen as any other."""
        if self._process is not None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self, now: float) -> int:
        """Takes note that the process has ended; returns its exit code (negative: a signal)."""
        assert self._process is not None
        code = self._process.wait()
        self._gone(now)
        return code

    def _gone(self, now: float) -> None:
        """Lets go of what was the process's, and says when its successor may come."""
        self._process = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        Path(self.path).unlink(missing_ok=True)
        self._close_in_hand()
        self.packets_per_s = self.cpu_percent = 0.0
        if now - self.spawned > CALM_S:
            self._deaths = 0
        self.start_at = now + BACKOFF_S[min(self._deaths, len(BACKOFF_S) - 1)]
        self._deaths += 1
        self.move("died")
