"""The supervisor's side of the remote door: starts its process, hears what it refuses, ends it."""

import logging
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from core import crypto
from core.crypto import KeyPair
from core.link.descriptors import Channel, ChannelClosed, Note
from core.wire import WireError
from toxmesh import children
from toxmesh.logbook import REMOTE
from toxmesh.remote import operators
from toxmesh.web.address import parse

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

SILENT_S = 10.0  # it tells something every second; nothing but operators waits for it
_BACK_OFF_S = (1.0, 2.0, 5.0, 30.0)
_EXIT_S = 1.0
_RENEW_S = 3.0

log = logging.getLogger("toxmesh.remote")


def key_pair(keys: KeyPair) -> KeyPair:
    """Returns the door's own keys: made of the node's, so that there is no other file to lose."""
    return KeyPair.from_secret(crypto.tag(keys.secret.reveal(), b"remote door"))


class RemoteDoor:
    """The door of one node, open or not."""

    def __init__(self, node: "Supervisor", selector: selectors.BaseSelector) -> None:
        self.operators = operators.parse_all(node.settings.remote_operators)
        self.place = ""
        """Where it listens; empty: not now."""
        self.clients: dict[str, int] = {}
        """How many of each operator are there."""
        self._node = node
        self._selector = selector
        self._address = parse(node.settings.remote)  # None: closed
        self._keys = key_pair(node.keys)
        self._process: subprocess.Popen[bytes] | children.Adopted | None = None
        self._channel: Channel | None = None
        self._start_at = 0.0
        self._failures = 0
        self._heard = 0.0
        self._drops: dict[str, int] = {}
        self._renew_at = 0.0  # when the process is to be replaced by one of this version; 0: never
        if node.life.remote:
            self._go_on(node.life.remote)

    def _go_on(self, body: Mapping[str, Any]) -> None:
        """Goes on with the process that the version before has left."""
        self._process = children.Adopted(body["pid"])
        self._channel = Channel.from_body(body["channel"])
        self._drops = dict(body["drops"])
        self.place = body["place"]
        self._heard = time.monotonic()
        self._selector.register(self._channel.fileno(), selectors.EVENT_READ, self._hear)

    def to_body(self) -> dict[str, Any]:
        """Returns what the next version of the supervisor needs to go on; empty: no process."""
        if self._process is None or self._channel is None:
            return {}
        return {
            "pid": self._process.pid,
            "channel": self._channel.to_body(),
            "drops": self._drops,
            "place": self.place,
        }

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be told to the process."""
        return self._channel is None or not self._channel.blocked

    def renew(self, now: float) -> None:
        """Replaces the process in a moment: one who waits for an answer has it by then."""
        if self._process is not None:
            self._renew_at = now + _RENEW_S

    @property
    def public_key(self) -> str:
        """The server key that operators need, as hex."""
        return self._keys.public.hex().upper()

    def change(self) -> None:
        """Follows settings that have changed: the next turn opens the door anew."""
        self.close()
        self.operators = operators.parse_all(self._node.settings.remote_operators)
        self._address = parse(self._node.settings.remote)
        self._start_at, self._failures = 0.0, 0

    def turn(self, now: float) -> None:
        """Starts the process if it should be there, and ends one that says nothing."""
        if self._address is None:
            return
        if self._renew_at and now >= self._renew_at:
            self._renew_at = 0.0
            self.change()
        if self._process is None:
            if now >= self._start_at and not self._node.stopping:
                self._start(now)
        elif now - self._heard > SILENT_S:
            log.warning("the process of the remote door (pid %d) is silent", self._process.pid)
            self._over(now)

    def _start(self, now: float) -> None:
        assert self._address is not None
        self._channel, theirs = Channel.pair()
        settings = self._node.settings
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "toxmesh.remote.gateway"],
                stdin=theirs.fileno(),
                stdout=2,  # standard output has the ready line and nothing else
                env=children.environment(),
                process_group=0,
            )
        except OSError as error:
            log.warning("the remote door cannot be opened now: %s", error)
            self._over(now)
            return
        finally:
            theirs.close()
        self._heard = now
        self._drops = {}
        self._selector.register(self._channel.fileno(), selectors.EVENT_READ, self._hear)
        orders: dict[str, Any] = {
            "host": self._address.host,
            "port": self._address.port,
            "secret": self._keys.secret.reveal(),
            "operators": [str(row) for row in self.operators],
            "state_dir": str(settings.state_dir),
            "log_level": self._node.log_book.level_of(REMOTE),
            "log_format": settings.log_format,
            "log_redact": settings.log_redact,
        }
        with suppress(ChannelClosed):  # it has died already, and that is seen
            self._channel.send("start", orders)

    def _hear(self, now: float) -> None:
        assert self._channel is not None
        try:
            for note in self._channel.receive():
                self._note(note, now)
        except (ChannelClosed, WireError):
            log.warning("the process of the remote door ended and is started again")
            self._over(now)

    def _note(self, note: Note, now: float) -> None:
        """Takes note of what the process says."""
        self._heard = now
        if note.name == "beat":
            self._failures = 0
            self.clients = {str(name): int(count) for name, count in note.body["clients"].items()}
            for reason, count in note.body["drops"].items():
                self._node.totals.drops[str(reason)] += int(count) - self._drops.get(reason, 0)
                self._drops[reason] = int(count)
        elif note.name == "log":
            self._node.log_book.hear(REMOTE, {"rows": [["log", note.body]]})
            self._node.event("log", {"from": REMOTE, **note.body})
        elif note.name == "listening":
            self.place = str(note.body["place"])
            log.info("remote operators may come to %s; key %s", self.place, self.public_key)
        elif note.name == "failed":
            reason = str(note.body["reason"])
            log.warning("the remote door at %s cannot be opened: %s", self._address, reason)

    def _over(self, now: float) -> None:
        """Clears away a process, and puts the next one off."""
        if self._channel is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(self._channel.fileno())
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._channel = self._process = None
        self.place = ""
        self.clients = {}
        self._start_at = now + _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S) - 1)]
        self._failures += 1

    def close(self) -> None:
        """Shuts the door: its process ends when nobody is at the other end of the channel."""
        if self._channel is not None and self._process is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(self._channel.fileno())
            self._channel.close()
            self._channel = None
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_S)
        self._over(time.monotonic())
