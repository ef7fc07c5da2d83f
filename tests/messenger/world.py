"""Two messengers joined by a session that loses nothing, and does nothing before it is told to."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from core.crypto import PublicKey
from core.entropy import SeededEntropy
from core.messenger.events import ConnectionChanged, Event
from core.messenger.module import Messenger
from core.packets.nodes import NodeInfo
from core.savedata.profile import Profile

E = TypeVar("E", bound=Event)
UNIX_OFFSET = 1_700_000_000.0


class Side:
    """One messenger with its side of the session, its onion, and all that it told."""

    def __init__(self, world: "World", name: str, profile: Profile | None = None) -> None:
        self.world = world
        self.profile = profile or Profile.generate(SeededEntropy(name), name.encode())
        self.key = self.profile.keys.public
        self.events: list[Event] = []
        self.drops: Counter[str] = Counter()
        self.application: Callable[[Event, float], None] = lambda event, now: None
        self.wanted: list[PublicKey] = []
        self.capacity = 64
        """Packets that the session takes before the first is acknowledged."""
        self.number = 0
        self.flying: deque[tuple[int, bytes]] = deque()
        self.lossy: deque[bytes] = deque()
        self.onion: list[tuple[PublicKey, bytes]] = []
        self.onion_finds = True
        self.sent: list[bytes] = []
        self.messenger = Messenger(
            self.profile,
            connections=self,
            onion=_Onion(self),
            listener=self,
            entropy=SeededEntropy(name),
            drops=self.drops,
            now=world.now,
            unix_offset=UNIX_OFFSET,
        )

    @property
    def peer(self) -> "Side":
        """The other side."""
        return self.world.bob if self is self.world.alice else self.world.alice

    # Connections

    def add(self, real_key: PublicKey, now: float, relays: Sequence[NodeInfo] = ()) -> None:
        self.wanted.append(real_key)

    def remove(self, real_key: PublicKey, now: float) -> None:
        self.wanted.remove(real_key)

    def send(self, real_key: PublicKey, data: bytes, now: float, letter: int = 0) -> int | None:
        assert now == self.world.now
        if not self.is_online(real_key) or len(self.flying) >= self.capacity:
            return None
        number, self.number = self.number, (self.number + 1) & 0xFFFFFFFF
        self.flying.append((number, data))
        self.sent.append(data)
        return number

    def send_lossy(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        self.lossy.append(data)
        return self.is_online(real_key)

    def room(self, real_key: PublicKey) -> int:
        return max(0, self.capacity - 16 - len(self.flying))

    def is_online(self, real_key: PublicKey) -> bool:
        return self.world.is_up and real_key == self.peer.key

    # Listener

    def event(self, event: Event, now: float) -> None:
        assert now == self.world.now
        self.events.append(event)
        self.application(event, now)

    def told(self, kind: type[E]) -> list[E]:
        """Returns the events of a class."""
        return [event for event in self.events if isinstance(event, kind)]

    def hear(self, data: bytes) -> None:
        """Takes a packet as if the other side had sent it."""
        self.messenger.friend_packets(self.peer.key, (data,), self.world.now)

    def deliver(self) -> bool:
        """Gives the peer what is on its way, and acknowledges it; False: there is nothing."""
        if not self.flying and not self.lossy:
            return False
        now, flying = self.world.now, list(self.flying)
        self.flying.clear()
        if flying:
            self.peer.messenger.friend_packets(self.key, [data for _, data in flying], now)
        while self.lossy:
            self.peer.messenger.friend_lossy(self.key, self.lossy.popleft(), now)
        if flying and self.world.is_up:
            self.messenger.friend_acknowledged(self.peer.key, flying[-1][0], now)
        return True


class _Onion:
    def __init__(self, side: Side) -> None:
        self._side = side

    def send(self, real_key: PublicKey, data: bytes, now: float) -> int:
        """Notes what would be routed, if the friend was found."""
        if not self._side.onion_finds:
            return 0
        self._side.onion.append((real_key, data))
        return 3


class World:
    """Alice and Bob, their session and the clock."""

    def __init__(self, friends: bool = True) -> None:
        self.now = 1000.0
        self.is_up = False
        self.alice = Side(self, "alice")
        self.bob = Side(self, "bob")
        if friends:
            for side in self.sides:
                side.messenger.add_friend_by_key(side.peer.key, self.now)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both sides."""
        return self.alice, self.bob

    def up(self) -> None:
        """Brings the session up and lets both say what they say then."""
        self.is_up = True
        for side in self.sides:
            side.messenger.friend_online(side.peer.key, self.now)
        self.settle()

    def down(self) -> None:
        """Ends the session; what is on its way is lost."""
        self.is_up = False
        for side in self.sides:
            side.flying.clear()
            side.messenger.friend_offline(side.peer.key, self.now)

    def settle(self) -> None:
        """Delivers until nobody says anything."""
        for _ in range(100_000):
            if not any([side.deliver() for side in self.sides]):
                return
        raise AssertionError("they go on for ever")

    def wait(self, seconds: float) -> None:
        """Lets time pass, with all timers."""
        end = self.now + seconds
        while True:
            due = [when for side in self.sides if (when := side.messenger.next_timer()) is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            for side in self.sides:
                side.messenger.handle_timer(self.now)
            self.settle()
        self.now = end


def connected() -> World:
    """Returns Alice and Bob online, with nothing said since."""
    world = World()
    world.up()
    for side in world.sides:
        assert side.told(ConnectionChanged)
        side.events.clear()
        side.sent.clear()
    return world
