"""What friends say: presence, messages with receipts, typing, custom packets."""

from dataclasses import replace

import pytest

from core.crypto import LOW_ORDER, KeyPair, PublicKey
from core.entropy import SeededEntropy
from core.messenger import errors, events
from core.messenger.events import Connection, MessageKind
from core.messenger.numbers import reached
from core.savedata.profile import FriendState, SavedFriend, UserStatus
from core.tox_id import ToxId
from tests.messenger.world import UNIX_OFFSET, Side, World, connected

STRANGER = KeyPair.generate(SeededEntropy("stranger")).public


def test_friends_come_online_and_tell_who_they_are() -> None:
    world = World()
    world.alice.messenger.set_status_message("in the garden", world.now)
    world.alice.messenger.set_status(UserStatus.BUSY, world.now)
    world.alice.messenger.set_typing(world.bob.key, True, world.now)
    world.up()
    key = world.alice.key
    assert world.bob.events == [
        events.ConnectionChanged(key, Connection.RELAY),
        events.NameChanged(key, b"alice"),
        events.StatusMessageChanged(key, b"in the garden"),
        events.StatusChanged(key, UserStatus.BUSY),
        events.Typing(key, True),
    ]
    saved = world.bob.messenger.friend(key).saved
    assert (saved.name, saved.status_message, saved.status) == (b"alice", b"in the garden", 2)


def test_everything_is_sent_again_on_each_online_and_told_only_when_it_changed() -> None:
    world = connected()
    world.down()
    world.up()
    assert sum(packet[0] == 0x30 for packet in world.alice.sent) == 1
    assert world.bob.told(events.NameChanged) == []
    assert [one.online for one in world.bob.told(events.ConnectionChanged)] == [False, True]


def test_a_friend_is_online_only_when_it_says_so() -> None:
    world = World(friends=False)
    world.alice.messenger.add_friend_by_key(world.bob.key, world.now)
    world.up()
    assert world.alice.events == []
    with pytest.raises(errors.NotConnected):
        world.alice.messenger.send_message(world.bob.key, MessageKind.NORMAL, "hi", world.now)


def test_one_that_is_added_while_a_session_is_up_is_told_at_once() -> None:
    world = World(friends=False)
    world.up()
    for side in world.sides:
        side.messenger.add_friend_by_key(side.peer.key, world.now)
    world.settle()
    assert world.alice.told(events.ConnectionChanged)[0].online
    assert world.bob.told(events.ConnectionChanged)[0].online


def test_changes_are_told_to_who_is_online() -> None:
    world = connected()
    world.alice.messenger.set_name("Алиса", world.now)
    world.alice.messenger.set_status_message("", world.now)
    world.settle()
    changed = world.bob.told(events.NameChanged)
    assert [one.name for one in changed] == ["Алиса"]
    assert world.alice.messenger.profile(world.now).name.decode() == "Алиса"


def test_what_a_full_queue_had_no_room_for_is_told_later() -> None:
    world = connected()
    world.alice.capacity = 0
    world.alice.messenger.set_name("Alice B.", world.now)
    world.alice.messenger.set_status(UserStatus.AWAY, world.now)
    world.settle()
    assert world.bob.events == []
    world.alice.capacity = 64
    world.wait(1.0)
    assert [type(one) for one in world.bob.events] == [events.NameChanged, events.StatusChanged]
    assert world.alice.messenger.next_timer() is None


def test_what_waits_is_told_as_soon_as_there_is_room() -> None:
    world = connected()
    world.alice.messenger.set_typing(world.bob.key, True, world.now)
    world.alice.capacity = 1
    world.alice.messenger.set_name("Alice B.", world.now)
    world.alice.capacity = 64
    world.settle()
    assert world.bob.told(events.NameChanged)


@pytest.mark.parametrize("kind", MessageKind)
@pytest.mark.parametrize("text", ["x", "naïve ☂", "y" * 1372])
def test_messages_arrive_and_have_their_receipts(kind: MessageKind, text: str) -> None:
    world = connected()
    number = world.alice.messenger.send_message(world.bob.key, kind, text, world.now)
    assert world.alice.events == []
    world.settle()
    (message,) = world.bob.told(events.Message)
    assert (message.kind, message.text) == (kind, text)
    assert world.alice.events == [events.Receipt(world.bob.key, number)]


def test_messages_keep_their_order_and_numbers() -> None:
    world = connected()
    world.alice.number = 0xFFFFFFFE
    numbers = [
        world.alice.messenger.send_message(world.bob.key, MessageKind.NORMAL, str(n), world.now)
        for n in range(5)
    ]
    world.settle()
    assert [one.text for one in world.bob.told(events.Message)] == ["0", "1", "2", "3", "4"]
    assert [one.message for one in world.alice.told(events.Receipt)] == numbers == [1, 2, 3, 4, 5]


def test_a_receipt_comes_when_all_up_to_the_message_has_arrived_and_not_before() -> None:
    world = connected()
    send = world.alice.messenger.send_message
    first = world.alice.number
    numbers = [send(world.bob.key, MessageKind.NORMAL, "x", world.now) for _ in range(3)]
    for packet, receipts in ((first - 1, 0), (first, 1), (first + 2, 3)):
        world.alice.messenger.friend_acknowledged(world.bob.key, packet, world.now)
        assert [one.message for one in world.alice.told(events.Receipt)] == numbers[:receipts]


def test_numbers_of_packets_begin_again() -> None:
    assert reached(5, 5)
    assert reached(3, 0xFFFFFFFF)
    assert not reached(0xFFFFFFFF, 3)


def test_messages_without_receipt_are_named_when_the_session_goes() -> None:
    world = connected()
    number = world.alice.messenger.send_message(world.bob.key, MessageKind.NORMAL, "x", world.now)
    world.down()
    assert world.alice.events == [
        events.Unconfirmed(world.bob.key, (number,)),
        events.ConnectionChanged(world.bob.key, Connection.NONE),
    ]
    world.up()
    assert world.alice.told(events.Receipt) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [("x" * 1373, "1373 bytes, more than 1372"), ("☂" * 458, "1374 bytes"), ("", "needs a text")],
)
def test_texts_that_no_packet_carries_are_refused(text: str, says: str) -> None:
    world = connected()
    with pytest.raises(errors.BadValue, match=says):
        world.alice.messenger.send_message(world.bob.key, MessageKind.NORMAL, text, world.now)
    assert world.alice.sent == []


def test_names_and_status_messages_have_their_bounds() -> None:
    world = World()
    with pytest.raises(errors.BadValue, match="129 bytes, more than 128"):
        world.alice.messenger.set_name("n" * 129, world.now)
    with pytest.raises(errors.BadValue, match="1008 bytes, more than 1007"):
        world.alice.messenger.set_status_message(b"n" * 1008, world.now)


def test_commands_say_why_they_cannot_be_done() -> None:
    world = World()
    messenger, now = world.alice.messenger, world.now
    with pytest.raises(errors.UnknownFriend):
        messenger.send_message(STRANGER, MessageKind.NORMAL, "x", now)
    with pytest.raises(errors.NotConnected):
        messenger.send_message(world.bob.key, MessageKind.NORMAL, "x", now)
    with pytest.raises(errors.NotConnected):
        messenger.send_file(world.bob.key, 0, 1, None, "f", now)
    with pytest.raises(errors.AlreadyFriend):
        messenger.add_friend_by_key(world.bob.key, now)
    with pytest.raises(errors.AlreadyFriend, match="own"):
        messenger.add_friend_by_key(world.alice.key, now)
    with pytest.raises(errors.BadValue):
        messenger.add_friend_by_key(PublicKey(next(iter(LOW_ORDER))), now)
    world.up()
    world.alice.capacity = 0
    with pytest.raises(errors.QueueFull):
        messenger.send_message(world.bob.key, MessageKind.NORMAL, "x", now)
    with pytest.raises(errors.QueueFull):
        messenger.send_custom(world.bob.key, b"\xa0", now)


def test_typing_is_told_when_it_changes_and_ends_with_the_session() -> None:
    world = connected()
    for typing in (True, True, False, True):
        world.alice.messenger.set_typing(world.bob.key, typing, world.now)
        world.settle()
    assert [one.typing for one in world.bob.told(events.Typing)] == [True, False, True]
    assert world.bob.messenger.friend(world.alice.key).typing
    world.down()
    assert not world.bob.told(events.Typing)[-1].typing


@pytest.mark.parametrize(("first", "lossless"), [(160, True), (191, True), (69, True)])
def test_custom_packets_arrive(first: int, lossless: bool) -> None:
    world = connected()
    data = bytes((first,)) + b"d" * 1372
    world.alice.messenger.send_custom(world.bob.key, data, world.now)
    world.settle()
    assert world.bob.events == [events.CustomPacket(world.alice.key, data, lossless)]


@pytest.mark.parametrize("first", [192, 200, 254])
def test_custom_packets_that_may_be_lost_arrive(first: int) -> None:
    world = connected()
    world.alice.messenger.send_custom(world.bob.key, bytes((first, 1)), world.now)
    assert not world.alice.flying
    world.settle()
    assert world.bob.events == [events.CustomPacket(world.alice.key, bytes((first, 1)), False)]


@pytest.mark.parametrize("data", [b"", b"\x40hello", b"\x9f", b"\xff", b"\xa0" + bytes(1373)])
def test_custom_packets_of_other_kinds_or_sizes_are_refused(data: bytes) -> None:
    world = connected()
    with pytest.raises(errors.BadValue):
        world.alice.messenger.send_custom(world.bob.key, data, world.now)


def test_udp_or_relay_is_told_while_online() -> None:
    world = World()
    world.alice.messenger.friend_direct(world.bob.key, True, world.now)
    world.up()
    world.alice.messenger.friend_direct(world.bob.key, True, world.now)
    world.alice.messenger.friend_direct(world.bob.key, False, world.now)
    told = [one.connection for one in world.alice.told(events.ConnectionChanged)]
    assert told == [Connection.DIRECT, Connection.RELAY]


def test_a_friend_is_seen_until_it_goes() -> None:
    world = connected()
    assert world.alice.messenger.profile(world.now).friends[0].last_seen == 1000 + UNIX_OFFSET
    world.now += 50
    world.down()
    world.now += 500
    assert world.alice.messenger.profile(world.now).friends[0].last_seen == 1050 + UNIX_OFFSET


def test_a_profile_comes_back_with_friends_and_what_they_said() -> None:
    world = connected()
    world.bob.messenger.set_name("Bob the Builder", world.now)
    world.settle()
    profile = world.alice.messenger.profile(world.now)
    again = Side(world, "alice", profile)
    view = again.messenger.friend(world.bob.key)
    assert view.saved.name == b"Bob the Builder"
    assert view.connection is Connection.NONE
    assert again.wanted == [world.bob.key]
    assert again.messenger.profile(world.now) == profile


def test_a_removed_friend_is_told_and_is_offline() -> None:
    world = connected()
    world.alice.messenger.remove_friend(world.bob.key, world.now)
    assert world.alice.messenger.friends() == world.alice.wanted == []
    world.settle()
    assert [one.online for one in world.bob.told(events.ConnectionChanged)] == [False]
    with pytest.raises(errors.UnknownFriend):
        world.alice.messenger.remove_friend(world.bob.key, world.now)


def test_a_listener_may_remove_the_friend_that_it_is_told_of() -> None:
    world = World()

    def drop(event: events.Event, now: float) -> None:
        if isinstance(event, events.ConnectionChanged) and event.online:
            world.alice.messenger.remove_friend(event.friend, now)

    world.alice.application = drop
    world.up()
    assert world.alice.messenger.friends() == []
    assert world.bob.told(events.ConnectionChanged)[-1].connection is Connection.NONE


# What nobody should send


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x30" + bytes(129), "messenger_size"),
        (b"\x31" + bytes(1008), "messenger_size"),
        (b"\x32", "messenger_size"),
        (b"\x32\x03", "messenger_size"),
        (b"\x33\x01\x01", "messenger_size"),
        (b"\x40", "messenger_size"),
        (b"\x41", "messenger_size"),
        (b"\x19\x00", "messenger_size"),
        (b"\x50" + bytes(44), "messenger_size"),
        (b"\x51\x00\x00", "messenger_size"),
        (b"\x51\x02\x00\x00", "messenger_size"),
        (b"\x51\x01\x00\x03", "messenger_size"),
        (b"\x52", "messenger_file_data"),
        (b"\x52\x00data", "messenger_file_data"),
        (b"\x51\x01\x00\x02", "messenger_file_unknown"),
        (b"\x60invite", "messenger_unknown_kind"),
        (b"\x12" + bytes(4), "friend_request_size"),
    ],
)
def test_bad_packets_are_counted_and_nothing_happens(data: bytes, reason: str) -> None:
    world = connected()
    world.alice.hear(data)
    assert world.alice.drops == {reason: 1}
    assert world.alice.events == []
    assert world.alice.sent == []


def test_nothing_is_taken_before_online_or_of_strangers() -> None:
    world = World()
    world.is_up = True
    world.alice.hear(b"\x40hello")
    world.alice.messenger.friend_lossy(world.bob.key, b"\xc8", world.now)
    assert world.alice.drops == {"messenger_not_online": 2}
    world.alice.messenger.friend_packets(STRANGER, (b"\x40hello",), world.now)
    world.alice.messenger.friend_lossy(STRANGER, b"\xc8", world.now)
    assert world.alice.drops["messenger_unknown_friend"] == 2
    assert world.alice.events == []
    world.alice.messenger.friend_online(STRANGER, world.now)
    world.alice.messenger.friend_offline(STRANGER, world.now)
    world.alice.messenger.friend_direct(STRANGER, True, world.now)
    world.alice.messenger.friend_acknowledged(STRANGER, 1, world.now)
    assert world.alice.events == []


def test_text_that_is_no_utf8_is_shown_and_kept() -> None:
    world = connected()
    world.alice.hear(b"\x40\xff\xfeok")
    (message,) = world.alice.told(events.Message)
    assert message.raw == b"\xff\xfeok"
    assert message.text == "\ufffd\ufffdok"


# Friend requests


def test_a_request_goes_out_until_the_friend_comes() -> None:
    world = World(friends=False)
    alice, bob = world.alice, world.bob
    alice.messenger.add_friend(bob.messenger.tox_id, "it is Alice", world.now)
    assert alice.messenger.friend(bob.key).saved.state is FriendState.ADDED
    alice.onion_finds = False
    world.wait(3)
    assert alice.onion == []
    alice.onion_finds = True
    world.wait(2)
    assert len(alice.onion) == 1
    assert alice.messenger.friend(bob.key).saved.state is FriendState.REQUESTED
    for pause, sent in ((5, 2), (10, 3), (20, 4)):
        world.wait(pause)
        assert len(alice.onion) == sent
    bob.messenger.onion_data(alice.key, alice.onion[0][1], world.now)
    assert bob.events == [events.FriendRequest(alice.key, b"it is Alice")]
    bob.messenger.add_friend_by_key(alice.key, world.now)
    world.up()
    world.wait(10_000)
    assert len(alice.onion) == 4
    saved = alice.messenger.friend(bob.key).saved
    assert (saved.state, saved.request_text) == (FriendState.CONFIRMED, b"")


def test_a_request_goes_inside_a_session_that_is_up_for_another_reason() -> None:
    world = World(friends=False)
    world.up()
    world.alice.messenger.add_friend(world.bob.messenger.tox_id, "we met at Ben's", world.now)
    world.wait(0)
    assert world.alice.onion == []
    assert [one.text for one in world.bob.told(events.FriendRequest)] == ["we met at Ben's"]


def test_a_request_with_another_nospam_replaces_the_one_before() -> None:
    world = World(friends=False)
    alice, old = world.alice, world.bob.messenger.tox_id
    alice.messenger.add_friend(old, "hello", world.now)
    with pytest.raises(errors.AlreadyFriend):
        alice.messenger.add_friend(old, "hello", world.now)
    alice.messenger.add_friend(ToxId(old.key, b"new!"), "hello again", world.now)
    world.wait(0)
    assert alice.onion == [(old.key, b"\x20new!hello again")]
    with pytest.raises(errors.BadValue, match="needs a text"):
        alice.messenger.add_friend(old, "", world.now)
    with pytest.raises(errors.BadValue, match="922 bytes, more than 921"):
        alice.messenger.add_friend(old, "x" * 922, world.now)


def test_requests_that_are_saved_go_on() -> None:
    world = World(friends=False)
    world.alice.messenger.add_friend(world.bob.messenger.tox_id, "hello", world.now)
    world.wait(1)
    profile = world.alice.messenger.profile(world.now)
    side = Side(world, "alice", profile)
    side.messenger.handle_timer(world.now)
    assert [key for key, _ in side.onion] == [world.bob.key]


def test_a_saved_friend_that_was_to_be_asked_without_a_text_is_a_friend() -> None:
    world = World(friends=False)
    friend = SavedFriend(world.bob.key, FriendState.REQUESTED)
    profile = replace(world.alice.profile, friends=(friend,))
    side = Side(world, "alice", profile)
    assert side.messenger.friend(world.bob.key).saved.state is FriendState.CONFIRMED


def test_one_who_was_removed_may_ask_again() -> None:
    world = World(friends=False)
    packet = b"\x20" + world.alice.profile.nospam + b"hello"
    take = world.alice.messenger.onion_data
    take(world.bob.key, packet, world.now)
    take(world.bob.key, packet, world.now)
    assert len(world.alice.events) == 1
    world.alice.messenger.add_friend_by_key(world.bob.key, world.now)
    world.alice.messenger.remove_friend(world.bob.key, world.now)
    take(world.bob.key, packet, world.now)
    assert len(world.alice.events) == 2


def test_a_new_nospam_changes_the_tox_id_and_the_old_one_is_taken_if_wanted() -> None:
    world = World(friends=False)
    messenger, old = world.alice.messenger, world.alice.profile.nospam
    messenger.set_nospam(b"new!", others=(old,))
    assert messenger.tox_id.nospam == b"new!"
    messenger.onion_data(STRANGER, b"\x20" + old + b"hello", world.now)
    assert len(world.alice.events) == 1
    messenger.set_nospam(b"new!")
    messenger.onion_data(world.bob.key, b"\x20" + old + b"hello", world.now)
    assert world.alice.drops == {"friend_request_nospam": 1}
    with pytest.raises(errors.BadValue, match="4 bytes"):
        messenger.set_nospam(b"short"[:3])
