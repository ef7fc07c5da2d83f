"""One engine on an asyncio loop: its sockets, its timer, and who hears its events."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from core.identity import Carrier, Engine, EngineOptions
from core.messenger.events import Event, IdentityConnected, MessageKind
from core.messenger.module import Messenger
from core.packets.nodes import NodeInfo
from core.relay_client import Target
from core.savedata.profile import Profile
from toxmesh.identity.dialer import AsyncDialer
from toxmesh.identity.mailbox import Mailbox, MailboxError
from toxmesh.identity.post import Post
from toxmesh.identity.udp import UdpPort

AnyEvent = Event | IdentityConnected
_FAR_S, _GRID_S = 0.5, 0.0625
"""Timers that are so far away are put off to the next multiple of a sixteenth of a second: those of
thousands of identities come due together then, and their datagrams in one turn of the loop."""

log = logging.getLogger("toxmesh.identity")

_entropies: WeakKeyDictionary[asyncio.AbstractEventLoop, SystemEntropy] = WeakKeyDictionary()
"""One source for all engines of a loop, for it keeps 8 KiB at hand; no two threads share one."""


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


class EngineRunner:
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
        loop = self._loop = asyncio.get_running_loop()
        self._on_event = behind.on_event
        self._ill = ""
        self._timer: asyncio.TimerHandle | None = None
        self._dialer = AsyncDialer(loop)
        self._closed = False
        self._udp: UdpPort | None = None
        now = loop.time()
        entropy = _entropies.setdefault(loop, SystemEntropy())
        self.engine = Engine(profile, entropy, self, now, time.time() - now, options)
        self._dialer.listener = self
        if self.engine.options.udp:
            self._udp = UdpPort(loop, self._came, self.engine.drops, ports, hosts)
        self.plan()

    @property
    def carrier(self) -> Carrier:
        """What carries the packets."""
        return self.engine

    @property
    def port(self) -> int:
        """The UDP port; 0 without."""
        return 0 if self._udp is None else self._udp.port

    def close(self) -> None:
        """Gives sockets and timer back; nothing is told any more."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._udp is not None:
            self._udp.close()
        self._dialer.close()

    def send_message(
        self, friend: PublicKey, kind: MessageKind, raw: bytes, letter: int, now: float
    ) -> int:
        """Sends a text; receipts come with the messenger's numbers, so that nobody needs ours."""
        return self.engine.messenger.send_message(friend, kind, raw, now)

    # What comes in

    def _came(self, packets: Sequence[bytes], sources: Sequence[Endpoint]) -> None:
        self.engine.handle_packets(packets, sources, self._loop.time())
        self.plan()

    def handle_connected(self, line: int, now: float) -> None:
        """A relay connection is there."""
        self.engine.relays.handle_connected(line, now)
        self.plan()

    def handle_bytes(self, line: int, data: bytes, now: float) -> None:
        """Bytes of a relay came."""
        self.engine.handle_relay_bytes(line, data, now)
        self.plan()

    def handle_writable(self, line: int, now: float) -> None:
        """A relay connection takes bytes again."""
        self.engine.relays.handle_writable(line, now)
        self.plan()

    def handle_closed(self, line: int, now: float) -> None:
        """A relay connection is gone."""
        self.engine.relays.handle_closed(line, now)
        self.plan()

    # Time

    def plan(self) -> None:
        """Sends what waits and sets the timer; to be called after each command to the engine."""
        if self._closed:
            return
        if self._udp is not None:
            self._udp.flush()
        when = self.engine.next_timer()
        if when is not None and when > self._loop.time() + _FAR_S:
            when = -(-when // _GRID_S) * _GRID_S
        if when is None or (self._timer is not None and self._timer.when() <= when):
            return  # one that comes too early finds nothing to do: cheaper than another each time
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        # call_at may come a moment early, by the resolution of the loop's clock
        now = self._loop.time()
        self.engine.handle_timer(now)
        self.plan()

    # What the engine does (core.identity.EngineHost)

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Sends a datagram with the next flush."""
        if self._udp is not None:
            self._udp.send(endpoint, packet)

    def dial(self, line: int, target: Target) -> None:
        """Opens a connection to a relay."""
        self._dialer.dial(line, target)

    def write(self, line: int, data: bytes) -> int:
        """Sends bytes to a relay."""
        return self._dialer.write(line, data)

    def hang_up(self, line: int) -> None:
        """Closes a connection to a relay."""
        self._dialer.hang_up(line)

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
