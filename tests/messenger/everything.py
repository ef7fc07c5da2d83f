"""Two friends who say everything that there is to say: one packet of each kind at least."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from core.crypto import KeyPair
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.messenger import events
from core.messenger.errors import QueueFull
from core.messenger.events import Connection, Control, Event, MessageKind
from core.net_crypto import HeldMemory, SessionMemory
from core.packets.nodes import NodeInfo
from core.savedata.profile import UserStatus
from tests.messenger.chatter import Chatter, content
from tests.net_crypto.world import World

LOOK_S = 0.01  # made-up time from one look at what is waited for to the next
PIECE, LONG = content(20_000), content(1_000_000)
SEEK_TO = 12_345
MESSAGES = 20
LOSSY = 30

Wait = Callable[[], object]


def relay_of(name: str) -> NodeInfo:
    """Returns the relay by which somebody says it can be reached."""
    key = KeyPair.generate(SeededEntropy(f"relay of {name}")).public
    return NodeInfo(key, from_text("198.51.100.7", 3389), True)


class Talker(Chatter):
    """Does with a file that it is offered what the file's name says."""

    def __init__(
        self,
        world: World,
        name: str,
        number: int,
        memory: HeldMemory | None = None,
        kept: SessionMemory | None = None,
    ) -> None:
        relays = (relay_of(name),)
        super().__init__(world, name, number, memory=memory, kept=kept, own_relays=relays)
        self.files: dict[int, bytes] = {}
        self.names: dict[str, int] = {}
        """Of what was offered to us: by name."""
        self.paused_at = 0.0

    def offers_as(
        self, other: Chatter, name: str, data: bytes = PIECE, *, stream: bool = False
    ) -> None:
        """Offers a file, whose size may be untold."""
        size = None if stream else len(data)
        number = self.messenger.send_file(other.key, 0, size, None, name, self.world.now)
        self.files[number] = data

    def event(self, event: Event, now: float) -> None:
        """Notes it; gives and takes files."""
        self.events.append(event)
        if isinstance(event, events.FileOffer):
            self._offered(event, now)
        elif isinstance(event, events.FileChunkWanted):
            data = self.files[event.number][event.position : event.position + event.size]
            with suppress(QueueFull):
                self.messenger.file_chunk(event.friend, event.number, event.position, data, now)
        elif isinstance(event, events.FileChunk):
            self.received[event.number] += event.data
            if event.number == self.names.get("paused") and not self.paused_at:
                self.paused_at = now
                self.messenger.file_control(event.friend, event.number, Control.PAUSE, now)

    def _offered(self, offer: events.FileOffer, now: float) -> None:
        self.names[offer.name] = offer.number
        self.received[offer.number] = bytearray()
        control = Control.RESUME
        if offer.name == "late":
            self.messenger.file_seek(offer.friend, offer.number, SEEK_TO, now)
        elif offer.name == "stopped":
            control = Control.CANCEL
        self.messenger.file_control(offer.friend, offer.number, control, now)

    def file_named(self, name: str) -> bytes:
        """Returns what was received of a file."""
        return bytes(self.received[self.names[name]])


def story(alice: Talker, bob: Talker) -> Iterator[Wait]:
    """Has Alice say everything to Bob, and yields what is to be waited for before it goes on."""
    world = alice.world

    def both(what: Callable[[Talker, Talker], object]) -> Wait:
        return lambda: what(alice, bob) and what(bob, alice)

    def after(seconds: float) -> Wait:
        end = world.now + seconds
        return lambda: world.now >= end

    for one, other in ((alice, bob), (bob, alice)):  # as if they had met in a conference
        one.connections.add(other.key, world.now)
        one.connections.friend_found(other.key, other.dht.public, (), world.now)
        one.connections.address_found(other.dht.public, other.endpoint, world.now)
    yield both(lambda one, other: one.connections.is_online(other.key))
    alice.messenger.add_friend(bob.messenger.tox_id, "we met in a conference", world.now)
    yield lambda: bob.told(events.FriendRequest)
    bob.messenger.add_friend_by_key(alice.key, world.now)
    yield both(lambda one, other: one.reaches(other) is not Connection.NONE)

    messenger = alice.messenger
    messenger.set_name("Ada", world.now)
    messenger.set_status_message("in the garden", world.now)
    messenger.set_status(UserStatus.AWAY, world.now)
    messenger.set_typing(bob.key, True, world.now)
    for number in range(MESSAGES):
        for one, other in ((alice, bob), (bob, alice)):
            kind = MessageKind(number % 2)
            one.messenger.send_message(other.key, kind, f"{number}", world.now)
    for first in (0xA0, 0xBF, 0x45, *[0xC0, 0xFE] * LOSSY):
        messenger.send_custom(bob.key, bytes((first,)) + b"custom", world.now)
    yield lambda: len(alice.told(events.Receipt)) == len(bob.told(events.Receipt)) == MESSAGES

    for name in ("whole", "late", "stopped"):
        alice.offers_as(bob, name)
    alice.offers_as(bob, "paused", LONG)
    alice.offers_as(bob, "stream", stream=True)
    messenger.send_avatar(bob.key, PIECE, world.now)
    yield lambda: bob.paused_at
    yield after(3)
    bob.messenger.file_control(alice.key, bob.names["paused"], Control.RESUME, world.now)
    yield both(lambda one, other: len(one.told(events.FileEnded)) == 6)
    yield after(9)  # for a sign of life
    messenger.remove_friend(bob.key, world.now)
    yield lambda: bob.reaches(alice) is Connection.NONE
    alice.connections.remove(bob.key, world.now)
    yield lambda: not bob.connections.is_online(alice.key)


def tell(
    world: World,
    pairs: Sequence[tuple[Talker, Talker]],
    told: Callable[[Talker], None] = lambda one: None,
    limit_s: float = 300,
) -> None:
    """Lets time pass until the stories of all are told; `told` hears of both when theirs is."""
    stories = {story(*pair): pair for pair in pairs}
    waits = {one: next(one) for one in stories}
    end = world.now + limit_s
    while waits:
        assert world.now < end, "some story does not end"
        world.run_for(LOOK_S)
        for pair in stories.values():
            for person in pair:
                person.store()
        for one, wait in list(waits.items()):
            if not wait():
                continue
            following = next(one, None)
            if following is not None:
                waits[one] = following
                continue
            del waits[one]
            for person in stories[one]:
                told(person)
