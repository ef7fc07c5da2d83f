"""Everything that friends say, over a network that loses, doubles and mixes packets: it arrives
exactly, whoever else is at home in the same process."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.messenger import events
from core.messenger.events import MessageKind, Outcome
from core.net_crypto import HeldMemory, SessionMemory
from core.net_crypto.lasting import PACKETS
from core.net_crypto.session import Session
from core.savedata.profile import UserStatus
from core.wire import Record, WireError
from tests.messenger.everything import (
    LONG,
    LOSSY,
    MESSAGES,
    PIECE,
    SEEK_TO,
    Talker,
    relay_of,
    tell,
)
from tests.net_crypto.world import Person, World
from tests.packets.coverage import IN_SESSIONS, OF_SESSIONS


class Rough(World):
    """A bad network, in which each line has a chance of its own: whatever others send, a line's
    packets are lost and late in the same way."""

    def __init__(self, seed: int, loss: float) -> None:
        super().__init__(seed, delay=(0.02, 0.3), loss=loss, duplication=0.1)
        self._lines: dict[str, random.Random] = {}
        self.traces: dict[str, list[tuple[float, str, bytes]]] = {}

    def carry(self, way: str, sender: Person, packet: bytes, arrive: Callable[..., None]) -> None:
        """Brings a packet to where it belongs, perhaps; and notes it."""
        seed = f"{self.seed}/line of {sender.name}"
        self.chance = self._lines.setdefault(sender.name, random.Random(seed))
        self.traces.setdefault(sender.name, []).append((self.now, way, packet))
        super().carry(way, sender, packet, arrive)


def pair(
    world: World,
    number: int,
    memory: HeldMemory | None = None,
    kept: SessionMemory | None = None,
) -> tuple[Talker, Talker]:
    """Adds two people, always the same two of this number."""
    people = []
    for side, name in enumerate(("alice", "bob")):
        person = Talker(world, f"{name} {number}", 2 * number + side, memory, kept)
        world.people.append(person)
        world.at_endpoint[person.endpoint] = person
        people.append(person)
    return people[0], people[1]


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (2, 0.1), (3, 0.3)])
def test_each_packet_crosses_a_bad_network_and_all_arrives_exactly(
    monkeypatch: pytest.MonkeyPatch, seed: int, loss: float
) -> None:
    seen: Counter[type[Record]] = Counter()
    receive = Session.receive

    def note(session: Session, packet: bytes, plain: bytes, now: float) -> str:
        seen.update(classes_of(plain[8:].lstrip(b"\0")))
        return receive(session, packet, plain, now)

    monkeypatch.setattr(Session, "receive", note)
    world = Rough(seed, loss)
    world.relay = True
    alice, bob = pair(world, 1)
    tell(world, [(alice, bob)])
    assert {cls for cls in IN_SESSIONS if not seen[cls]} == set()
    assert {cls.__name__ for cls in OF_SESSIONS if not world.kinds[cls.kind]} == set()
    check(alice, bob, loss)


def classes_of(data: bytes) -> Iterator[type[Record]]:
    """Yields the declared packets that these bytes are."""
    for cls in IN_SESSIONS:
        try:
            cls.decode(data)
        except WireError:
            continue
        yield cls


def check(alice: Talker, bob: Talker, loss: float) -> None:
    """All that Alice said has its effect at Bob, once and in order."""
    texts = [(row.kind, row.text) for row in bob.told(events.Message)]
    assert texts == [(MessageKind(number % 2), str(number)) for number in range(MESSAGES)]
    assert [row.text for row in alice.told(events.Message)] == [text for _, text in texts]
    view = bob.messenger.friend(alice.key)
    assert (view.saved.name, view.saved.status_message) == (b"Ada", b"in the garden")
    assert view.saved.status is UserStatus.AWAY
    assert [row.typing for row in bob.told(events.Typing)] == [True, False]
    custom = bob.told(events.CustomPacket)
    assert [row.data[0] for row in custom if row.lossless] == [0xA0, 0xBF, 0x45]
    arrived = len(custom) - 3
    assert LOSSY * 2 * (1 - loss) * 0.6 <= arrived <= LOSSY * 2
    for name in ("whole", "stream", ""):  # the last is the avatar
        assert bob.file_named(name) == PIECE
    assert bob.file_named("paused") == LONG
    assert bob.file_named("late") == PIECE[SEEK_TO:]
    ends = Counter(end.outcome for end in alice.told(events.FileEnded))
    assert ends == {Outcome.COMPLETE: 5, Outcome.CANCELLED: 1}
    assert relay_of(alice.name) in bob.connections.relays_to_save(alice.key)


def traces(shards: list[list[int]], keeps: bool) -> dict[str, Any]:
    """Returns all that each person sent and was told; the pairs of each inner list share a process
    and its memory, that for sessions which outlive it too if it `keeps` them."""
    found: dict[str, Any] = {}
    for numbers in shards:
        world, memory, kept = Rough(5, 0.15), HeldMemory(), SessionMemory() if keeps else None
        world.relay = True

        def told(one: Talker, world: Rough = world) -> None:
            found[one.name] = (list(world.traces[one.name]), list(one.events), one.drops.copy())

        tell(world, [pair(world, number, memory, kept) for number in numbers], told)
        assert memory.used == 0
        assert kept is None or kept.packets.left == PACKETS
    return found


@pytest.mark.parametrize("keeps", [False, True])
def test_an_identity_does_the_same_in_one_shard_with_others_and_in_one_of_its_own(
    keeps: bool,
) -> None:
    together = traces([[1, 2, 3]], keeps)
    assert len(together) == 6
    assert traces([[3, 1], [2]], keeps) == together
    assert traces([[1], [2], [3]], keeps) == together
