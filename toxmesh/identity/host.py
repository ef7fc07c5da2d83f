"""What runs an engine, and who hears its events."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.crypto import PublicKey
from core.identity import Carrier, Engine, EngineOptions
from core.messenger.events import Event, IdentityConnected, MessageKind
from core.messenger.module import Messenger
from core.packets.nodes import NodeInfo
from core.savedata.profile import Profile
from toxmesh.identity.mailbox import Mailbox, MailboxError
from toxmesh.identity.place import CarrierPlace
from toxmesh.identity.post import Post

AnyEvent = Event | IdentityConnected
log = logging.getLogger("toxmesh.identity")


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind an engine: who hears its events, and its messages on disk."""

    on_event: Callable[[AnyEvent, float], None]
    """Raises MailboxError where a message cannot be kept."""
    mailbox: Mailbox
    post: Post


class AnyEngine(Protocol):
    """What an identity needs of its engine, wherever its packets are carried."""

    messenger: Messenger
    drops: Counter[str]

    @property
    def connected(self) -> bool:
        """Whether friends can find us."""
        ...

    def bootstrap(self, nodes: Sequence[NodeInfo], now: float) -> None:
        """Takes nodes to begin with."""
        ...

    def profile(self, now: float) -> Profile:
        """Returns the identity as it is to be saved."""
        ...

    def shut_down(self, now: float) -> None:
        """Ends all sessions, so that friends see at once that we are gone; to be saved before."""
        ...


class Runner(Protocol):
    """What runs an engine until `close`; times are the loop's."""

    @property
    def engine(self) -> AnyEngine:
        """What it runs."""
        ...

    @property
    def carrier(self) -> Carrier | None:
        """What carries its packets, if that is in this process."""
        ...

    @property
    def port(self) -> int:
        """The UDP port; 0 without."""
        ...

    def plan(self) -> None:
        """To be called after each command to the engine."""
        ...

    def send_message(
        self, friend: PublicKey, kind: MessageKind, raw: bytes, letter: int, now: float
    ) -> int:
        """Gives the messenger a text, whose number in the mailbox is `letter`; returns the
        messenger's number. Raises MessengerError."""
        ...

    def close(self) -> None:
        """Nothing is told any more."""
        ...


MakeRunner = Callable[
    [Profile, EngineOptions, Behind, tuple[int, int], tuple[str, ...]], Runner
]
"""Makes the runner of an identity: profile, options, what stands behind it, first and last UDP
port, own addresses. Raises PortError."""


class EngineRunner(CarrierPlace):
    """Runs an engine in this process."""

    def __init__(
        self,
        profile: Profile,
        options: EngineOptions,
        behind: Behind,
        ports: tuple[int, int],
        hosts: tuple[str, ...],
    ) -> None:
        """Binds the UDP port, if `options.udp`. Raises PortError where none can be had."""
        super().__init__()
        self._on_event = behind.on_event
        self._ill = ""
        now, unix_offset = self.clock()
        self.engine = Engine(
            profile, self.entropy(), self, now, unix_offset, options, self.neighbours(options)
        )
        self.begin(self.engine, ports, hosts)

    def send_message(
        self, friend: PublicKey, kind: MessageKind, raw: bytes, letter: int, now: float
    ) -> int:
        """Sends a text; receipts come with the messenger's numbers, so that nobody needs ours."""
        return self.engine.messenger.send_message(friend, kind, raw, now)

    # What the engine tells (core.identity.EngineHost)

    def event(self, event: AnyEvent, now: float) -> None:
        """Tells what happened. A message that the disk does not take is lost, for its sender has
        been told already that it came; one line says so until something else is wrong."""
        if self._closed:
            return
        try:
            self._on_event(event, now)
        except MailboxError as error:
            if self._ill != str(error):
                self._ill = str(error)
                log.error("messages are lost, or will come twice: %s", error)
