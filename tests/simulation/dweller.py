"""A host of the simulation that is no node: whatever takes datagrams and has timers lives there."""

from typing import Protocol

from core.crypto import KeyPair
from core.endpoint import Endpoint
from core.module import ProtocolViolation
from core.wire import WireError
from tests.simulation.node import Peer
from tests.simulation.world import World


class Lodger(Protocol):
    """What may live at such a host."""

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes a datagram."""
        ...

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        ...

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called."""
        ...


class Dweller:
    """An address of the made-up network, and who lives there."""

    def __init__(self, world: World, name: str, *, keys: KeyPair | None = None) -> None:
        self.world = world
        self.peer: Peer = world.add_peer(name, keys=keys)
        self.peer.handler = self._receive
        self.lodger: Lodger | None = None
        self.refused: list[str] = []
        """Reasons of datagrams that the lodger would not take."""
        self._wake_at: float | None = None

    def move_in(self, lodger: Lodger) -> None:
        """Begins to give datagrams and timers to the lodger."""
        self.lodger = lodger
        self.plan()

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Gives a datagram to the network."""
        if self.peer.alive:
            self.peer.send(endpoint, packet)

    def leave(self) -> None:
        """Takes the host off the network."""
        self.peer.alive = False
        self.lodger = None
        self.world.remove(self.peer)

    def _receive(self, packet: bytes, source: Endpoint) -> None:
        self.peer.received.clear()
        if self.lodger is None:
            return
        try:
            self.lodger.handle_packet(packet, source, self.world.now)
        except WireError as error:
            self.refused.append(f"wire:{error.packet}")
        except ProtocolViolation as error:
            self.refused.append(error.reason)
        self.plan()

    def plan(self) -> None:
        """Looks at the timers again, after the test itself has called the lodger."""
        when = None if self.lodger is None else self.lodger.next_timer()
        if when is None:
            return
        when = max(when, self.world.now)
        if self._wake_at is None or when < self._wake_at:
            self._wake_at = when
            self.world.at(when, self._wake, when)

    def _wake(self, when: float) -> None:
        if self._wake_at != when:
            return
        self._wake_at = None
        if self.lodger is not None:
            self.lodger.handle_timer(self.world.now)
            self.plan()
