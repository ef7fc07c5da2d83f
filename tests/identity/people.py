"""Identities in the made-up network: engines at addresses, who keep what they are told."""

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.entropy import SeededEntropy
from core.identity import Engine, EngineOptions
from core.messenger.events import (
    Connection,
    ConnectionChanged,
    Event,
    FriendRequest,
    IdentityConnected,
    Message,
)
from core.packets.nodes import NodeInfo
from core.relay_client import Target
from core.savedata.profile import Profile
from tests.simulation import Node, World
from tests.simulation.dweller import Dweller


class Person:
    """An identity of the made-up network, and all its events."""

    def __init__(
        self, world: World, name: str, nodes: list[Node], profile: Profile | None = None
    ) -> None:
        self.world = world
        self.name = name
        self.host = Dweller(world, name)
        self.events: list[Event | IdentityConnected] = []
        self.profile = profile or Profile.generate(SeededEntropy(name), name.encode())
        self.key = self.profile.keys.public
        self.engine = Engine(
            self.profile,
            SeededEntropy(f"{world.seed}/{name}/{world.now}"),
            self,
            world.now,
            1_700_000_000.0,
            EngineOptions(
                has_ipv6=False,
                bootstrap=tuple(NodeInfo(node.keys.public, node.endpoint) for node in nodes),
            ),
        )
        self.host.move_in(self)

    # What the address calls

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        self.engine.handle_packets((packet,), (source,), now)

    def handle_timer(self, now: float) -> None:
        self.engine.handle_timer(now)

    def next_timer(self) -> float | None:
        return self.engine.next_timer()

    # What the engine calls

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        self.host.send_udp(endpoint, packet)

    def event(self, event: Event | IdentityConnected, now: float) -> None:
        self.events.append(event)

    def dial(self, line: int, target: Target) -> None:
        raise AssertionError("there are no relays here")

    def write(self, line: int, data: bytes) -> int:
        raise AssertionError("there are no relays here")

    def hang_up(self, line: int) -> None:
        raise AssertionError("there are no relays here")

    # What tests ask

    def told(self, kind: type) -> list[object]:
        return [event for event in self.events if isinstance(event, kind)]

    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    def requests(self) -> list[FriendRequest]:
        return [event for event in self.events if isinstance(event, FriendRequest)]

    def is_with(self, other: "Person") -> bool:
        return self.is_with_key(other.key)

    def is_with_key(self, key: PublicKey) -> bool:
        return key in self.engine.messenger.friends() and self.engine.friends.is_online(key)

    def connections(self, key: PublicKey) -> list[Connection]:
        """How a friend was reached, one behind the other."""
        changes = [event for event in self.events if isinstance(event, ConnectionChanged)]
        return [event.connection for event in changes if event.friend == key]
