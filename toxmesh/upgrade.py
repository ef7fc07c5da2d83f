"""Lets a running node go on as the version of toxmesh that is installed now.

First a process of the new version looks at the state and says whether it could go on from there: if
it cannot, nothing has happened. Then the supervisor becomes the new version by execve(2), with its
sockets and children, and replaces these one after the other (`toxmesh.swap`). No connection and no
datagram is lost, and systemd sees the same main process.
"""

import json
import logging
import os
import selectors
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from core.asking import BUSY, REFUSED
from toxmesh import __version__, life
from toxmesh.children import State
from toxmesh.control import Later, Refused

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_PROBE_S = 30.0  # for the new version to look at the state, on a machine with much to do
_QUIET_S = 10.0  # for processes to come up and channels to be read
_ANSWER_S = 660.0  # with the replacement of all processes
_MOST_SAID = 4096  # bytes of what a probe says that are looked at

log = logging.getLogger("toxmesh.supervisor")


def command_line() -> list[str]:
    """Returns how this process was started: the new version is started the same way."""
    return [sys.executable, *sys.orig_argv[1:]]


class _Probe:
    """A process of the installed version that looks at our state."""

    def __init__(self, state: int) -> None:
        """`state`: descriptor of the state, which is closed here. Raises OSError."""
        self._said = os.memfd_create("toxmesh probe", os.MFD_CLOEXEC)
        self._process = subprocess.Popen(
            command_line(),
            env={**os.environ, life.PROBE: str(state)},
            pass_fds=(state,),
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
        )
        os.close(state)
        self.pidfd = os.pidfd_open(self._process.pid)
        self.until = time.monotonic() + _PROBE_S

    def end(self) -> tuple[str, str]:
        """Returns the version that could go on, or why none can; the process is no more."""
        if self._process.poll() is None:
            self._process.kill()
        code = self._process.wait()
        said = os.pread(self._said, _MOST_SAID, 0).decode("utf-8", "replace")
        os.close(self._said)
        os.close(self.pidfd)
        lines = [line for line in said.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "it said nothing"
        if code == 0:
            try:
                return str(json.loads(last)["version"]), ""
            except (ValueError, KeyError, TypeError):
                return "", f"what is installed is no toxmesh that can go on: {last[:200]}"
        return "", f"the installed version cannot go on: {last[:300].removeprefix('toxmesh: ')}"


def probe_says() -> str:
    """Returns what a probe says of itself when it could go on from a state: one line of JSON."""
    return json.dumps({"version": __version__, "form": life.FORM})


class Upgrade:
    """The upgrade that was asked for, if any."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node
        self._probe: _Probe | None = None
        self._check_only = False
        self._later = Later()
        self._leave_by = 0.0  # when to give up waiting for a quiet moment; 0: not leaving

    def ask(self, check_only: bool) -> Later:
        """Begins an upgrade, or only looks at whether it would work.

        Refuses with `busy`, or `refused` with what is wrong with the version that is installed.
        """
        node = self._node
        if self._probe is not None or self._leave_by or node.swaps.busy or node.stopping:
            raise Refused(BUSY, "the node stops, or is being changed already; try again later")
        if not node.listening:
            raise Refused(BUSY, "the node is still starting; try again when it listens")
        try:
            self._probe = _Probe(self._state()[0])
        except (OSError, ValueError) as error:
            raise Refused(REFUSED, f"the new version cannot be tried: {error}") from None
        node.selector.register(self._probe.pidfd, selectors.EVENT_READ, self._probed)
        self._check_only = check_only
        self._later = Later(_ANSWER_S)
        return self._later

    def _state(self) -> tuple[int, list[int]]:
        node = self._node
        row = node.life
        row.children = node.children
        row.asked = node.asker.number
        row.log = node.log_book.to_body()
        row.remote = node.remote.to_body()
        row.door, row.web = node.door.descriptor, node.web.descriptor
        return life.put(node.settings, node.keys.secret.reveal(), node.bound, row)

    def turn(self, now: float) -> None:
        """Gives up a probe that lasts too long, and leaves when it is quiet."""
        if self._probe is not None and now > self._probe.until:
            self._probed(now)
        if self._leave_by:
            self._leave_if_quiet(now)

    def _probed(self, now: float) -> None:
        """Takes what the probe has said."""
        if self._probe is None:
            return
        self._node.selector.unregister(self._probe.pidfd)
        version, problem = self._probe.end()
        self._probe = None
        if problem:
            self._refuse(problem)
        elif self._check_only:
            times = {"away_s": None, "seconds": None}
            versions = {"version": version, "was": __version__}
            self._later.resolve({**versions, **times, "rows": [], "total": 0, "shown": 0})
        else:
            log.info("the node goes on as toxmesh %s (it was %s)", version, __version__)
            self._leave_by = now + _QUIET_S
            self._leave_if_quiet(now)

    def _refuse(self, reason: str) -> None:
        log.error("no upgrade: %s", reason)
        self._leave_by = 0.0
        self._later.refuse(Refused(REFUSED, f"{reason}; the node goes on as it was"))

    def _leave_if_quiet(self, now: float) -> None:
        """Becomes the new version when every process is up and nothing waits to be told."""
        node = self._node
        if node.stopping:
            self._refuse("the node stops")
            return
        quiet = all(
            row.state is State.UP and row.channel is not None and not row.channel.blocked
            for row in node.children
        )
        if quiet and node.remote.quiet and not node.swaps.busy and not node.swaps.extra:
            self._leave(now)
        elif now > self._leave_by:
            self._refuse("not all processes of the node are at work and listen")

    def _leave(self, now: float) -> None:
        """Becomes the new version; returns only if that fails."""
        node = self._node
        row = node.life
        row.guest = node.door.leave_all_but(self._later)
        row.version_before, row.left_at = __version__, now
        if any(child.channel is None or child.channel.blocked for child in node.children):
            return  # those who have left were following: next turn
        state, named = self._state()
        life.keep_open([*named, state], True)
        os.environ[life.VARIABLE] = str(state)
        sys.stdout.flush()
        sys.stderr.flush()
        life.hold_signals()
        try:
            os.execv(sys.executable, command_line())
        except OSError as error:
            life.take_signals()
            del os.environ[life.VARIABLE]
            life.keep_open(named, False)
            os.close(state)
            row.version_before = ""
            self._refuse(f"{sys.executable} cannot be started: {error}")

    def go_on(self, now: float) -> None:
        """Replaces all processes, since the supervisor is the new version already."""
        node = self._node
        row = node.life
        row.upgrades += 1
        was, left_at = row.version_before, row.left_at
        row.version_before = ""
        away = round(now - left_at, 3)
        log.info("toxmesh %s goes on where %s was, after %.3f s", __version__, was, away)
        node.reloads.find_pending()
        self._later = Later(_ANSWER_S)
        if row.guest >= 0:
            node.door.adopt(row.guest, self._later, now)
            row.guest = -1

        def done(answer: Any) -> dict[str, Any]:
            node.event("node", {"what": "upgraded", "version": __version__, "was": was})
            node.remote.renew(time.monotonic())
            seconds = round(time.monotonic() - left_at, 3)
            rows = {"version": __version__, "was": was, "away_s": away, "seconds": seconds}
            return {**rows, **answer}

        def settled(later: Later) -> None:
            good, value = later.outcome or (False, None)
            if good or value is None:
                self._later.resolve(value)
                return
            log.error("the supervisor is upgraded, but: %s", value.text)
            text = "the supervisor is the new version, but not all processes are"
            self._later.refuse(
                Refused(REFUSED, f"{text}: {value.text}; try: toxmesh ops worker restart '*'")
            )

        names = [child.name for child in node.children]
        try:
            node.swaps.replace(names).map(done).then(settled)
        except Refused as refusal:
            self._later.refuse(refusal)
