"""A friend that sends whatever it likes: nothing breaks, nothing grows, all is told or counted."""

import tracemalloc
from collections import Counter
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from core.messenger import events
from core.messenger.errors import QueueFull
from core.messenger.events import Control
from core.packets import messenger as packets
from tests.messenger.world import World, connected
from tests.packets.samples import Dice, sample

CLASSES = tuple(
    cls
    for cls in vars(packets).values()
    if isinstance(cls, type)
    and issubclass(cls, packets.MessengerPacket)
    and cls not in (packets.MessengerPacket, packets.Alive, packets.ShareRelays)
)
NUMBERS = st.integers(0, 3)  # few, so that packets meet transfers
DIRECTIONS = st.integers(0, 1)

valid = st.builds(
    lambda cls, seed: sample(cls, Dice(seed)).encode(),
    st.sampled_from(CLASSES),
    st.integers(0, 1 << 32),
)
on_files = st.one_of(
    st.builds(packets.FileControl, DIRECTIONS, NUMBERS, st.integers(0, 2)),
    st.builds(packets.FileSeek, DIRECTIONS, NUMBERS, st.integers(0, 3000)),
    st.builds(packets.FileData, NUMBERS, st.sampled_from([b"", b"short", bytes(1371)])),
    st.builds(
        packets.FileRequest,
        NUMBERS,
        st.integers(0, 2),
        st.sampled_from([0, 5, 1371, 5000, packets.UNKNOWN_SIZE]),
        st.just(bytes(32)),
        st.just(b"f"),
    ),
).map(lambda packet: packet.encode())
junk = st.builds(lambda kind, rest: bytes((kind,)) + rest, st.integers(16, 191), st.binary())
anything = st.one_of(valid, on_files, junk)


def busy(answers: bool) -> World:
    """Returns Alice and Bob online, with Alice's files offered to Bob; her application accepts
    what is offered and gives what is wanted, or does nothing."""
    world = connected()
    alice = world.alice

    def act(event: events.Event, now: float) -> None:
        with suppress(QueueFull):
            if isinstance(event, events.FileOffer):
                alice.messenger.file_control(event.friend, event.number, Control.RESUME, now)
            elif isinstance(event, events.FileChunkWanted):
                data = bytes(event.size)
                alice.messenger.file_chunk(event.friend, event.number, event.position, data, now)

    if answers:
        alice.application = act
    for size in (0, 3000, None):
        alice.messenger.send_file(world.bob.key, 0, size, None, "f", world.now)
    alice.flying.clear()
    alice.sent.clear()
    return world


@settings(max_examples=300)
@given(data=st.lists(anything, max_size=60), answers=st.booleans())
def test_a_friend_may_send_anything(data: list[bytes], answers: bool) -> None:
    world = busy(answers)
    alice = world.alice
    alice.capacity = 100_000
    if answers:
        alice.capacity = 200  # or a stream would never end
    for packet in data:
        before = sum(alice.drops.values()) + len(alice.events) + len(alice.sent)
        online = bool(alice.messenger.friend(world.bob.key).connection.value != "none")
        alice.hear(packet)
        after = sum(alice.drops.values()) + len(alice.events) + len(alice.sent)
        if packet[0] in (0x12, 0x40, 0x41, 0x50, 0x52) and online:
            assert after > before, "neither told nor counted"
        alice.messenger.friend_acknowledged(world.bob.key, alice.number - 1, world.now)
    view = alice.messenger.friend(world.bob.key)
    assert len(view.saved.name) <= 128
    assert len(view.saved.status_message) <= 1007
    assert len(alice.messenger.transfers(world.bob.key)) <= 512
    assert set(alice.drops) <= {
        "messenger_size",
        "messenger_not_online",
        "messenger_unknown_kind",
        "messenger_file_number",
        "messenger_file_unknown",
        "messenger_file_control",
        "messenger_file_seek",
        "messenger_file_data",
        "friend_request_size",
        "friend_request_nospam",
    }
    world.down()
    begun = Counter(one.number for one in alice.told(events.FileOffer)) + Counter((0, 1, 2))
    assert Counter(one.number for one in alice.told(events.FileEnded)) == begun
    assert alice.messenger.transfers(world.bob.key) == []
    assert alice.messenger.next_timer() is None


def test_s31_offers_of_absurd_sizes_take_256_places_and_no_memory() -> None:
    world = connected()
    alice = world.alice
    alice.capacity = 1000
    name = (b"../" * 85).ljust(255, b"\0")
    offers = [
        packets.FileRequest(number, 0, packets.UNKNOWN_SIZE - 1, bytes(32), name).encode()
        for number in range(256)
    ]
    tracemalloc.start()
    for offer in offers * 2:
        alice.hear(offer)
    for number in range(256):
        alice.messenger.file_control(world.bob.key, 256 + number, Control.RESUME, world.now)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 << 20
    assert held < 1 << 20
    told = alice.told(events.FileOffer)
    assert len(told) == len(alice.messenger.transfers(world.bob.key)) == 256
    assert {(one.size, one.name) for one in told} == {(packets.UNKNOWN_SIZE - 1, name.decode())}
    assert alice.drops["messenger_file_number"] == 256


def test_s31_seeks_and_data_beyond_the_end_are_counted_and_nothing_is_read_or_kept() -> None:
    world = connected()
    alice, bob = world.alice, world.bob.key
    ours = alice.messenger.send_file(bob, 0, 3000, None, "f", world.now)
    for position in (3000, 3001, packets.UNKNOWN_SIZE):
        alice.hear(packets.FileSeek(1, ours, position).encode())
    assert alice.drops["messenger_file_seek"] == 3
    alice.hear(packets.FileRequest(0, 0, 10, bytes(32), b"f").encode())
    alice.hear(packets.FileData(0, bytes(1371)).encode())
    assert alice.drops["messenger_file_data"] == 1  # it was not accepted yet
    alice.messenger.file_control(bob, 256, Control.RESUME, world.now)
    for _ in range(3):
        alice.hear(packets.FileData(0, bytes(1371)).encode())
    assert [len(one.data) for one in alice.told(events.FileChunk)] == [10]
    assert alice.drops["messenger_file_data"] == 3


def test_s31_a_file_of_no_size_is_over_with_its_first_packet() -> None:
    world = connected()
    alice = world.alice
    alice.hear(packets.FileRequest(7, 0, 0, bytes(32), b"").encode())
    alice.messenger.file_control(world.bob.key, 263, Control.RESUME, world.now)
    alice.hear(packets.FileData(7, b"").encode())
    assert [one.transferred for one in alice.told(events.FileEnded)] == [0]
    assert alice.messenger.transfers(world.bob.key) == []
