"""Identities whose packets another process carries: the messenger half of each, on an asyncio loop.

`FarIdentities` stands between the identities of a process and the way to the process that has their
carriers; `Identity(..., runner=far.runner)` makes one of them. Either process may end at any moment
and is begun again: messages are neither lost nor doubled by that (core.identity.far).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from core.crypto import PublicKey
from core.entropy import SystemEntropy
from core.identity import EngineOptions
from core.identity.far import FarEngine
from core.identity.far_carrier import MOST_BYTES
from core.messages import Message
from core.messenger.events import MessageKind
from core.net_crypto.memory import HeldMemory
from core.savedata.profile import Profile
from toxmesh.identity.host import AnyEvent, Behind
from toxmesh.identity.mailbox import MailboxError
from toxmesh.identity.wakes import Wakes

log = logging.getLogger("toxmesh.identity")


class FarIdentities:
    """All identities of a process whose carriers are in another one."""

    def __init__(self, tell: Callable[[Message], None]) -> None:
        """`tell` takes a message (core.identity.messages) to the process that has the carrier of
        the identity that it names; it never calls back from inside."""
        self.tell = tell
        self.drops: Counter[str] = Counter()
        """What was refused, by reason."""
        self.memory = HeldMemory(MOST_BYTES)
        self.entropy = SystemEntropy()
        self._running: dict[PublicKey, FarRunner] = {}

    def runner(
        self,
        profile: Profile,
        options: EngineOptions,
        behind: Behind,
        ports: tuple[int, int],
        hosts: tuple[str, ...],
    ) -> "FarRunner":
        """Runs an identity (toxmesh.identity.host.MakeRunner)."""
        made = FarRunner(self, profile, options, behind, ports, hosts)
        self._running[profile.keys.public] = made
        return made

    def forget(self, runner: "FarRunner") -> None:
        """Tells an identity nothing any more."""
        if self._running.get(runner.key) is runner:
            del self._running[runner.key]

    def handle_message(self, message: Any) -> None:
        """Takes a message of the process that has the carriers."""
        runner = self._running.get(PublicKey(message.identity))
        if runner is None:
            self.drops["identity_not_here"] += 1
        else:
            runner.handle_message(message)

    def carrier_gone(self) -> None:
        """The process that has the carriers is another one: all attach to that."""
        for runner in tuple(self._running.values()):
            runner.carrier_gone()

    def refused(self) -> dict[PublicKey, str]:
        """Returns the identities that cannot be carried at this moment, and why not."""
        return {
            key: runner.engine.refused
            for key, runner in self._running.items()
            if runner.engine.refused
        }


class FarRunner:
    """Runs the messenger half of an identity (toxmesh.identity.host.Runner)."""

    carrier = None

    def __init__(
        self,
        far: FarIdentities,
        profile: Profile,
        options: EngineOptions,
        behind: Behind,
        ports: tuple[int, int],
        hosts: tuple[str, ...],
    ) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._far, self._behind = far, behind
        self.key = profile.keys.public
        self._closed = False
        self._said = ""  # what was wrong last
        now = loop.time()
        self.engine = FarEngine(
            profile, far.entropy, self, now, time.time() - now, options, ports, hosts,
            far.memory,
        )  # fmt: skip
        self._wakes = Wakes(loop, self.engine.next_timer, self._wake)
        self.plan()

    @property
    def port(self) -> int:
        """The UDP port; 0 without, or before it is known."""
        return self.engine.port

    def plan(self) -> None:
        """Hands over what was said, and sets the timer."""
        if not self._closed:
            self.engine.settle(self._loop.time())
            self._wakes.plan()

    def send_message(
        self, friend: PublicKey, kind: MessageKind, raw: bytes, letter: int, now: float
    ) -> int:
        """Sends a text; by its letter a later process knows whether it has arrived."""
        return self.engine.messenger.send_message(friend, kind, raw, now, letter)

    def close(self) -> None:
        """Nothing is told any more. Sessions live on, unless the engine was shut down before."""
        self._closed = True
        self._wakes.close()
        self._far.forget(self)

    # What comes in

    def handle_message(self, message: Any) -> None:
        """Takes what the carrier tells."""
        self._do(self.engine.handle_message, message)
        if self.engine.refused:
            self._say(f"{self.key.hex().upper()[:16]} cannot be carried: {self.engine.refused}")

    def carrier_gone(self) -> None:
        """The carrier's process is another one."""
        self._do(self.engine.carrier_gone)

    def _wake(self, now: float) -> None:
        self._do(self.engine.handle_timer)

    def _do(self, command: Callable[..., None], *arguments: Any) -> None:
        """Gives the engine a command. What could not be stored is asked for again: the carrier has
        it until it is stored."""
        now = self._loop.time()
        try:
            command(*arguments, now)
        except MailboxError as error:
            self._say(str(error))
            self.engine.carrier_gone(now)
        self.plan()

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.error("%s", text)

    # What the engine does (core.identity.far.FarHost)

    def tell(self, message: Message) -> None:
        """Tells the process that has the carrier."""
        self._far.tell(message)

    def event(self, event: AnyEvent, now: float) -> None:
        """Tells what happened."""
        if not self._closed:
            self._behind.on_event(event, now)

    def together(self) -> AbstractContextManager[object]:
        """Returns what makes one transaction of all that is stored within it."""
        return self._behind.mailbox.together()

    def heard(self) -> Mapping[bytes, tuple[bytes, int]]:
        """Returns how far the last session with each friend is stored."""
        return self._behind.mailbox.heard()

    def hear(self, friend: PublicKey, serial: bytes, upto: int) -> None:
        """Stores how far a session is handled, with what it brought, if that is stored too."""
        if self._behind.mailbox.is_writing:
            self._behind.mailbox.hear(friend, serial, upto)

    def resumed(
        self,
        friend: PublicKey,
        taken: int,
        acked: int,
        flying: tuple[tuple[int, int], ...],
        now: float,
    ) -> None:
        """Goes on in a session in which letters were sent before this process began."""
        self._behind.post.resume(friend, taken, acked, flying)
