"""Whole identities but for onion and DHT, in the network and time of `tests.net_crypto.world`."""

import hashlib
from collections.abc import Sequence

from core.crypto import KeyPair, PublicKey
from core.friend.connections import FriendConnections
from core.messenger import events
from core.messenger.events import Connection, Control, Event, MessageKind
from core.messenger.module import Messenger
from core.net_crypto import HeldMemory, SessionMemory
from core.packets.nodes import NodeInfo
from core.savedata.profile import Profile
from tests.messenger.real import E, Nothing
from tests.net_crypto.world import Person, Timed, World


class _Whole:
    """The timers of sessions, friend connections and messenger in one."""

    def __init__(self, person: "Chatter") -> None:
        self._parts: tuple[Timed, ...] = (person.crypto, person.connections, person.messenger)

    def next_timer(self) -> float | None:
        due = [when for part in self._parts if (when := part.next_timer()) is not None]
        return min(due, default=None)

    def handle_timer(self, now: float) -> None:
        for part in self._parts:
            part.handle_timer(now)


class Chatter(Person):
    """An identity with friends; `own_relays` are those by which it says it can be reached."""

    def __init__(
        self,
        world: World,
        name: str,
        number: int,
        real: KeyPair | None = None,
        *,
        memory: HeldMemory | None = None,
        kept: SessionMemory | None = None,
        own_relays: Sequence[NodeInfo] = (),
    ) -> None:
        super().__init__(world, name, number, real=real, memory=memory, kept=kept)
        self.events: list[Event] = []
        self.file = b""
        self.received: dict[int, bytearray] = {}
        nothing = Nothing(own_relays)
        self.connections = FriendConnections(
            self.crypto, nothing, nothing, nothing, self.entropy, self.drops
        )
        profile = Profile(self.real, b"spam", name.encode())
        self.messenger = Messenger(
            profile, self.connections, nothing, self, self.entropy, self.drops, world.now, 0.0
        )
        self.connections.listener = self.messenger
        self.crypto.listener = self.connections
        self.timed = _Whole(self)

    @property
    def key(self) -> PublicKey:
        """By which others name it."""
        return self.real.public

    def finds(self, other: "Chatter", *, address: bool = True) -> None:
        """Is told what onion and DHT would have found; without `address` the key alone."""
        if other.key not in self.messenger.friends():
            self.messenger.add_friend_by_key(other.key, self.world.now)
        self.connections.friend_found(other.key, other.dht.public, (), self.world.now)
        if address:
            self.connections.address_found(other.dht.public, other.endpoint, self.world.now)

    def told(self, kind: type[E]) -> list[E]:
        """Returns the events of a class."""
        return [event for event in self.events if isinstance(event, kind)]

    def reaches(self, other: "Chatter") -> Connection:
        """Returns how the friend is reached."""
        return self.messenger.friend(other.key).connection

    def store(self) -> None:
        """Says to what keeps the sessions that all is safe above, as who has a disk would."""
        lasting = self.crypto.lasting
        if lasting is None:
            return
        for key in self.messenger.friends():
            lasting.stored(key, lasting.handed(key), self.world.now)
        for over in lasting.ended():
            lasting.settled(over.serial)

    def says(self, other: "Chatter", text: str) -> int:
        """Sends a message."""
        kind = MessageKind.NORMAL
        return self.messenger.send_message(other.key, kind, text, self.world.now)

    def offers(self, other: "Chatter", data: bytes) -> int:
        """Offers a file, and gives it as it is asked for."""
        self.file = data
        return self.messenger.send_file(other.key, 0, len(data), None, "f", self.world.now)

    def event(self, event: Event, now: float) -> None:
        """Notes it; gives and takes files."""
        if isinstance(event, events.FileChunk):
            self.received[event.number] += event.data
            return
        self.events.append(event)
        if isinstance(event, events.FileOffer):
            self.received[event.number] = bytearray()
            self.messenger.file_control(event.friend, event.number, Control.RESUME, now)
        elif isinstance(event, events.FileChunkWanted):
            part = self.file[event.position : event.position + event.size]
            self.messenger.file_chunk(event.friend, event.number, event.position, part, now)


def content(size: int) -> bytes:
    """Returns bytes of which no two pieces are alike."""
    return hashlib.shake_128(b"simulated").digest(size)


def add(world: World, name: str, real: KeyPair | None = None) -> Chatter:
    """Adds an identity to the network; with the keys of another, in its place."""
    person = Chatter(world, name, len(world.people) + 1, real)
    world.people.append(person)
    world.at_endpoint[person.endpoint] = person
    return person


def friends(world: World) -> tuple[Chatter, Chatter]:
    """Returns two friends that have found each other and are online."""
    alice, bob = add(world, "alice"), add(world, "bob")
    alice.finds(bob)
    bob.finds(alice)
    direct = Connection.DIRECT
    assert world.run_until(lambda: alice.reaches(bob) is bob.reaches(alice) is direct)
    return alice, bob
