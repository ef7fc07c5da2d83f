"""A friend that sends whatever it likes: nothing breaks, nothing grows, all is told or counted."""

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
