"""File transfers: each rule of WIRE.md 1.16 and 2.8, between two messengers."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.messenger import errors, events
from core.messenger.events import Control, FileKind, Outcome
from core.messenger.transfer import FLOWING, INCOMING, MOVES, Incoming, Outgoing, State, Who
from core.packets.messenger import FILE_DATA_SIZE, FileControl, FileRequest, FileSeek
from tests.messenger.world import Side, World, connected

RESUME, PAUSE, CANCEL = Control.RESUME, Control.PAUSE, Control.CANCEL
FILE_ID = bytes(range(32))


def content(size: int) -> bytes:
    """Returns bytes of which no two pieces are alike."""
    return hashlib.shake_128(b"file").digest(size)


class Sender:
    """An application that sends files from memory as they are asked for."""

    def __init__(self, side: Side, *files: bytes, at_once: bool = True) -> None:
        self.side, self.at_once = side, at_once
        self.files = dict(enumerate(files))
        self.waiting: list[events.FileChunkWanted] = []
        side.application = self.take

    def take(self, event: events.Event, now: float) -> None:
        """Answers a request for data, at once or at `answer`."""
        if isinstance(event, events.FileChunkWanted):
            self.waiting.append(event)
            if self.at_once:
                self.answer()

    def answer(self) -> None:
        """Gives all that was asked for."""
        while self.waiting:
            one = self.waiting.pop(0)
            data = self.files[one.number][one.position : one.position + one.size]
            now = self.side.world.now
            self.side.messenger.file_chunk(one.friend, one.number, one.position, data, now)


class Receiver:
    """An application that keeps what it receives."""

    def __init__(self, side: Side, accepts: bool = True) -> None:
        self.side, self.accepts = side, accepts
        self.files: dict[int, bytearray] = {}
        side.application = self.take

    def take(self, event: events.Event, now: float) -> None:
        """Accepts offers, and checks that pieces come in order."""
        if isinstance(event, events.FileOffer):
            self.files[event.number] = bytearray()
            if self.accepts:
                self.side.messenger.file_control(event.friend, event.number, RESUME, now)
        elif isinstance(event, events.FileChunk):
            assert event.position == len(self.files[event.number])
            self.files[event.number] += event.data


def offer(world: World, size: int | None, kind: int = 0) -> int:
    """Alice offers Bob a file; returns its number."""
    number = world.alice.messenger.send_file(
        world.bob.key, kind, size, FILE_ID, "notes.txt", world.now
    )
    world.settle()
    return number


def ended(side: Side) -> list[Outcome]:
    """Returns how a side's transfers ended."""
    return [event.outcome for event in side.told(events.FileEnded)]


@pytest.mark.parametrize(
    "size",
    [0, 1, FILE_DATA_SIZE - 1, FILE_DATA_SIZE, FILE_DATA_SIZE + 1, 5 * FILE_DATA_SIZE, 300_000],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_file_of_any_size_arrives_whole(size: int, at_once: bool) -> None:
    world, data = connected(), content(size)
    sender, receiver = Sender(world.alice, data, at_once=at_once), Receiver(world.bob)
    offer(world, size)
    while sender.waiting:
        sender.answer()
        world.settle()
    assert receiver.files == {256: data}
    end = events.FileEnded(world.alice.key, 256, Outcome.COMPLETE, size)
    assert world.bob.told(events.FileEnded) == [end]
    assert world.alice.told(events.FileEnded) == [
        events.FileEnded(world.bob.key, 0, Outcome.COMPLETE, size)
    ]
    packets = [packet for packet in world.alice.sent if packet[0] == 0x52]
    assert len(packets) == max(1, -(-size // FILE_DATA_SIZE))
    assert world.alice.messenger.transfers(world.bob.key) == []


@pytest.mark.parametrize("size", [0, 5, FILE_DATA_SIZE, 2 * FILE_DATA_SIZE, 100_000])
def test_a_stream_ends_with_a_short_or_empty_piece(size: int) -> None:
    world, data = connected(), content(size)
    Sender(world.alice, data)
    receiver = Receiver(world.bob)
    offer(world, None)
    assert receiver.files == {256: data}
    assert ended(world.alice) == ended(world.bob) == [Outcome.COMPLETE]
    assert world.bob.told(events.FileOffer)[0].size is None
    last = [packet for packet in world.alice.sent if packet[0] == 0x52][-1]
    assert len(last) - 2 == size % FILE_DATA_SIZE


def test_an_offer_says_what_it_is() -> None:
    world = connected()
    number = offer(world, 1000)
    assert number == 0
    (told,) = world.bob.told(events.FileOffer)
    assert told == events.FileOffer(world.alice.key, 256, 0, 1000, FILE_ID, b"notes.txt")
    assert told.name == "notes.txt"
    assert not told.unsets_avatar
    assert world.alice.sent == [FileRequest(0, 0, 1000, FILE_ID, b"notes.txt").encode()]


def test_large_pieces_are_asked_for_and_never_more_than_two_wait() -> None:
    world, data = connected(), content(1_000_000)
    sender = Sender(world.alice, data)
    Receiver(world.bob)
    offer(world, len(data))
    wanted = world.alice.told(events.FileChunkWanted)
    assert max(one.size for one in wanted) == 47 * FILE_DATA_SIZE
    assert len(wanted) <= 20
    assert sender.waiting == []


def test_sixteen_places_stay_free_for_other_packets() -> None:
    world = connected()
    world.alice.capacity = 30
    Sender(world.alice, content(100_000))
    number = world.alice.messenger.send_file(world.bob.key, 0, 100_000, FILE_ID, b"f", world.now)
    world.alice.flying.clear()
    world.alice.hear(FileControl(1, number, int(RESUME)).encode())
    assert len(world.alice.flying) == 14
    with pytest.raises(errors.QueueFull):
        world.alice.messenger.send_custom(world.bob.key, b"\xa0", world.now)
    text = world.alice.messenger.send_message
    text(world.bob.key, events.MessageKind.NORMAL, "still possible", world.now)


@pytest.mark.parametrize("room", [1, 2, 48])
def test_files_share_the_room_fairly(room: int) -> None:
    world, sizes = connected(), [400_000, 400_000, 400_000]
    world.alice.capacity = 16 + room
    Sender(world.alice, *(content(size) for size in sizes))
    receiver = Receiver(world.bob)
    for size in sizes:
        world.alice.messenger.send_file(world.bob.key, 0, size, None, "f", world.now)
    while len(receiver.files) < 3 or not all(receiver.files.values()):
        world.alice.deliver()
        world.bob.deliver()
    before = [len(data) for data in receiver.files.values()]
    for _ in range(9):
        world.alice.deliver()
        world.bob.deliver()
    done = [len(data) - had for data, had in zip(receiver.files.values(), before, strict=True)]
    assert max(done) - min(done) <= 2 * FILE_DATA_SIZE < max(done)
    world.settle()
    assert ended(world.alice) == [Outcome.COMPLETE] * 3


def test_what_found_no_room_goes_on_by_itself() -> None:
    world = connected()
    Sender(world.alice, content(5000))
    receiver = Receiver(world.bob)
    world.alice.capacity = 16  # no bulk, and no acknowledgement that would tell of room
    offer(world, 5000)
    assert receiver.files == {256: b""}
    world.alice.capacity = 64
    world.wait(0.05)
    assert ended(world.alice) == [Outcome.COMPLETE]
    world.wait(0.05)
    assert world.alice.messenger.next_timer() is None


def test_a_session_that_takes_less_than_it_said_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, data = connected(), content(200_000)
    Sender(world.alice, data)
    receiver = Receiver(world.bob)
    monkeypatch.setattr(world.alice, "room", lambda key: 1000)
    offer(world, len(data))
    assert receiver.files == {256: data}


# Who may do what: the table of states

ACCEPTED = [State.RUNNING, State.PAUSED_HERE, State.PAUSED_THERE, State.PAUSED_BOTH]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("who", Who)
@pytest.mark.parametrize("control", [RESUME, PAUSE])
@pytest.mark.parametrize("outgoing", [True, False])
def test_who_paused_may_resume_and_only_what_runs_is_paused(
    state: State, who: Who, control: Control, outgoing: bool
) -> None:
    transfer = Outgoing(0, 0, 9, FILE_ID, None) if outgoing else Incoming(256, 0, 9, FILE_ID)
    transfer.state = state
    paused = {
        Who.WE: state in (State.PAUSED_HERE, State.PAUSED_BOTH),
        Who.THEY: state in (State.PAUSED_THERE, State.PAUSED_BOTH),
    }
    moved = transfer.moved(who, control)
    if state is State.OFFERED:
        accepts = control is RESUME and (who is Who.THEY) == outgoing
        assert moved is (State.RUNNING if accepts else None)
    elif state is State.FINISHING or paused[who] == (control is PAUSE):
        assert moved is None
    else:
        paused[who] = control is PAUSE
        assert (
            moved
            is {
                (False, False): State.RUNNING,
                (True, False): State.PAUSED_HERE,
                (False, True): State.PAUSED_THERE,
                (True, True): State.PAUSED_BOTH,
            }[paused[Who.WE], paused[Who.THEY]]
        )


def test_the_table_has_moves_only_between_states_in_which_data_flows() -> None:
    assert {state for state, _, _ in MOVES} == set(MOVES.values()) == set(ACCEPTED)
    assert set(ACCEPTED) == FLOWING


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_a_paused_file_rests_until_who_paused_it_goes_on(who: str) -> None:
    world, data = connected(), content(200_000)
    sender, receiver = Sender(world.alice, data, at_once=False), Receiver(world.bob)
    offer(world, len(data))
    pausing, other = (world.alice, world.bob) if who == "alice" else (world.bob, world.alice)
    numbers = {world.alice: 0, world.bob: 256}
    pausing.messenger.file_control(other.key, numbers[pausing], PAUSE, world.now)
    world.settle()
    assert other.told(events.FileControlled)[-1].control is PAUSE
    with pytest.raises(errors.TransferRefused, match="only the friend"):
        other.messenger.file_control(pausing.key, numbers[other], RESUME, world.now)
    with pytest.raises(errors.TransferRefused, match="paused here"):
        pausing.messenger.file_control(other.key, numbers[pausing], PAUSE, world.now)
    before = len(receiver.files[256])
    sender.answer()
    world.settle()
    assert len(receiver.files[256]) == before
    pausing.messenger.file_control(other.key, numbers[pausing], RESUME, world.now)
    sender.at_once = True
    sender.answer()
    world.settle()
    assert receiver.files[256] == data
    assert ended(world.alice) == [Outcome.COMPLETE]


def test_paused_by_both_both_have_to_resume() -> None:
    world, data = connected(), content(200_000)
    sender, receiver = Sender(world.alice, data, at_once=False), Receiver(world.bob)
    offer(world, len(data))
    for side, number in ((world.alice, 0), (world.bob, 256)):
        side.messenger.file_control(side.peer.key, number, PAUSE, world.now)
        world.settle()
    assert world.alice.messenger.transfers(world.bob.key)[0].state is State.PAUSED_BOTH
    world.alice.messenger.file_control(world.bob.key, 0, RESUME, world.now)
    sender.at_once = True
    sender.answer()
    world.settle()
    assert receiver.files[256] == b""
    world.bob.messenger.file_control(world.alice.key, 256, RESUME, world.now)
    world.settle()
    assert receiver.files[256] == data


def test_the_sender_cannot_accept_for_the_receiver() -> None:
    world = connected()
    number = offer(world, 10)
    with pytest.raises(errors.TransferRefused, match="has not accepted"):
        world.alice.messenger.file_control(world.bob.key, number, RESUME, world.now)
    world.bob.hear(FileControl(0, 0, int(RESUME)).encode())
    assert world.bob.drops == {"messenger_file_control": 1}


@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("accepted", [True, False])
def test_either_may_cancel_at_any_time(who: str, accepted: bool) -> None:
    world = connected()
    Sender(world.alice, content(200_000), at_once=False)
    Receiver(world.bob, accepts=accepted)
    offer(world, 200_000)
    side, number = (world.alice, 0) if who == "alice" else (world.bob, 256)
    side.messenger.file_control(side.peer.key, number, CANCEL, world.now)
    world.settle()
    assert ended(side) == [Outcome.WITHDRAWN]
    assert ended(side.peer) == [Outcome.CANCELLED]
    for one in world.sides:
        assert one.messenger.transfers(one.peer.key) == []
        assert one.drops == {}
    with pytest.raises(errors.UnknownTransfer):
        side.messenger.file_control(side.peer.key, number, CANCEL, world.now)


def test_cancels_that_cross_are_not_answered_for_ever() -> None:
    world = connected()
    offer(world, 10)
    world.alice.messenger.file_control(world.bob.key, 0, CANCEL, world.now)
    world.bob.messenger.file_control(world.alice.key, 256, CANCEL, world.now)
    world.settle()  # c-toxcore would go on
    assert [side.drops for side in world.sides] == [{"messenger_file_unknown": 1}] * 2


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("seek", [True, False])
def test_word_on_an_unknown_transfer_is_answered_by_a_cancel(direction: int, seek: bool) -> None:
    world = connected()
    packet = FileSeek(direction, 7, 1) if seek else FileControl(direction, 7, int(PAUSE))
    world.alice.hear(packet.encode())
    assert world.alice.sent == [FileControl(1 - direction, 7, int(CANCEL)).encode()]
    assert world.alice.drops == {"messenger_file_unknown": 1}


# Seeking and resuming


@pytest.mark.parametrize("at", [1, 1371, 50_000, 99_999])
def test_a_transfer_begins_where_the_receiver_wants(at: int) -> None:
    world, data = connected(), content(100_000)
    Sender(world.alice, data)
    receiver = Receiver(world.bob, accepts=False)
    offer(world, len(data))
    receiver.files[256] = bytearray(data[:at])
    world.bob.messenger.file_seek(world.alice.key, 256, at, world.now)
    world.bob.messenger.file_control(world.alice.key, 256, RESUME, world.now)
    world.settle()
    assert receiver.files[256] == data
    assert world.alice.told(events.FileChunkWanted)[0].position == at
    assert world.bob.sent[0] == FileSeek(1, 0, at).encode()
    assert len(world.bob.sent[0]) == 12


def test_a_transfer_that_broke_goes_on_by_its_file_id_after_a_restart() -> None:
    world, data = connected(), content(300_000)
    sender, receiver = Sender(world.alice, data, at_once=False), Receiver(world.bob)
    offer(world, len(data))
    sender.answer()
    world.settle()
    world.down()
    assert ended(world.alice) == ended(world.bob) == [Outcome.BROKEN]
    have = receiver.files[256]
    assert 0 < len(have) < len(data)
    world.bob = Side(world, "bob", world.bob.messenger.profile(world.now))
    receiver = Receiver(world.bob, accepts=False)
    world.up()
    Sender(world.alice, data)
    offer(world, len(data))
    (told,) = world.bob.told(events.FileOffer)
    assert told.file_id == FILE_ID
    receiver.files[told.number] = have
    world.bob.messenger.file_seek(world.alice.key, told.number, len(have), world.now)
    world.bob.messenger.file_control(world.alice.key, told.number, RESUME, world.now)
    world.settle()
    assert have == data


def test_only_the_receiver_seeks_and_only_before_it_accepts() -> None:
    world = connected()
    Sender(world.alice, content(100), at_once=False)
    Receiver(world.bob, accepts=False)
    offer(world, 100)
    for position in (100, -1):
        with pytest.raises(errors.BadValue, match=f"position {position} of a file of 100"):
            world.bob.messenger.file_seek(world.alice.key, 256, position, world.now)
    with pytest.raises(errors.TransferRefused):
        world.alice.messenger.file_seek(world.bob.key, 0, 5, world.now)
    world.alice.hear(FileSeek(1, 0, 100).encode())
    world.bob.hear(FileSeek(0, 0, 5).encode())
    world.bob.messenger.file_control(world.alice.key, 256, RESUME, world.now)
    world.settle()
    with pytest.raises(errors.TransferRefused):
        world.bob.messenger.file_seek(world.alice.key, 256, 5, world.now)
    world.alice.hear(FileSeek(1, 0, 5).encode())
    assert world.alice.drops == {"messenger_file_seek": 2}
    assert world.bob.drops == {"messenger_file_seek": 1}
    assert world.alice.told(events.FileChunkWanted)[0].position == 0


# Data that should not be


def test_data_beyond_the_end_is_cut_off() -> None:
    world = connected()
    receiver = Receiver(world.bob)
    offer(world, 10)
    world.bob.hear(b"\x52\x00" + bytes(range(20)))
    assert receiver.files[256] == bytes(range(10))
    assert ended(world.bob) == [Outcome.COMPLETE]


@pytest.mark.parametrize("data", [b"", b"short"])
def test_a_sender_that_ends_too_early_is_noticed(data: bytes) -> None:
    world = connected()
    receiver = Receiver(world.bob)
    offer(world, 5000)
    world.bob.hear(b"\x52\x00" + data)
    assert receiver.files[256] == data
    assert ended(world.bob) == [Outcome.SHORT]


def test_pieces_that_come_together_are_told_together() -> None:
    world = connected()
    receiver = Receiver(world.bob)
    one, other = (
        offer(world, size) + INCOMING for size in (3 * FILE_DATA_SIZE + 5, 60 * FILE_DATA_SIZE)
    )
    data = content(60 * FILE_DATA_SIZE)
    whole = [
        data[at : at + FILE_DATA_SIZE] for at in range(0, 60 * FILE_DATA_SIZE, FILE_DATA_SIZE)
    ]
    first = [b"\x52\x00" + piece for piece in whole[:3]]
    second = [b"\x52\x01" + piece for piece in whole]
    end = b"\x52\x00" + data[3 * FILE_DATA_SIZE :][:5]
    packets = [*first, b"\x40hello", *second, end, first[0]]
    world.bob.messenger.friend_packets(world.alice.key, packets, world.now)
    chunks = [(event.number, len(event.data)) for event in world.bob.told(events.FileChunk)]
    assert chunks == [
        (one, 3 * FILE_DATA_SIZE),
        (other, 47 * FILE_DATA_SIZE),
        (other, 13 * FILE_DATA_SIZE),
        (one, 5),
    ]
    assert receiver.files[one] == data[: 3 * FILE_DATA_SIZE + 5]
    assert receiver.files[other] == data
    assert world.bob.drops["messenger_file_data"] == 1  # what was behind the end
    assert [event.text for event in world.bob.told(events.Message)] == ["hello"]


def test_data_of_what_is_not_accepted_is_not_taken_or_answered() -> None:
    world = connected()
    Receiver(world.bob, accepts=False)
    offer(world, 5000)
    sent = len(world.bob.sent)
    world.bob.hear(b"\x52\x00" + bytes(1371))
    assert world.bob.drops == {"messenger_file_data": 1}
    assert len(world.bob.sent) == sent
    assert world.bob.messenger.transfers(world.alice.key)[0].position == 0


def test_a_number_in_use_is_not_taken_again() -> None:
    world = connected()
    packet = FileRequest(9, 0, 5, FILE_ID, b"").encode()
    world.bob.hear(packet)
    world.bob.hear(packet)
    assert world.bob.drops == {"messenger_file_number": 1}
    assert len(world.bob.told(events.FileOffer)) == 1


def test_256_files_each_way_and_then_no_more() -> None:
    world = connected()
    for side in world.sides:
        side.capacity = 1000
        for _ in range(256):
            side.messenger.send_file(side.peer.key, 0, 5, None, "f", world.now)
        with pytest.raises(errors.TransferRefused, match="256"):
            side.messenger.send_file(side.peer.key, 0, 5, None, "f", world.now)
    world.settle()
    for side in world.sides:
        assert len(side.messenger.transfers(side.peer.key)) == 512
        assert len({event.file_id for event in side.told(events.FileOffer)}) == 256
    world.down()
    assert len(world.alice.told(events.FileEnded)) == 512


def test_a_number_is_not_used_again_at_once() -> None:
    world = connected()
    first = offer(world, 5)
    world.alice.messenger.file_control(world.bob.key, first, CANCEL, world.now)
    second = offer(world, 5)
    world.alice.hear(FileControl(1, first, int(RESUME)).encode())  # late word on the first
    assert second != first
    assert world.alice.messenger.transfers(world.bob.key)[0].state is State.OFFERED


def test_only_the_data_that_is_wanted_is_taken_from_the_application() -> None:
    world = connected()
    give = world.alice.messenger.file_chunk
    number = offer(world, 100)
    for data, position, error, says in (
        (b"x", 0, errors.TransferRefused, "takes no data"),
        (b"x", 0, errors.BadValue, "data for position 0, and 40"),
        (b"x" * 61, 40, errors.BadValue, "61 bytes, and 60 are wanted"),
        (b"", 40, errors.BadValue, "end only a stream"),
    ):
        with pytest.raises(error, match=says):
            give(world.bob.key, number, position, data, world.now)
        if "takes" in says:
            world.bob.messenger.file_seek(world.alice.key, 256, 40, world.now)
            world.bob.messenger.file_control(world.alice.key, 256, RESUME, world.now)
            world.settle()
    give(world.bob.key, number, 40, b"y" * 20, world.now)
    give(world.bob.key, number, 60, b"z" * 40, world.now)
    with pytest.raises(errors.TransferRefused, match="takes no data"):
        give(world.bob.key, number, 100, b"x", world.now)
    world.settle()
    assert [one.data for one in world.bob.told(events.FileChunk)] == [b"y" * 20 + b"z" * 40]
    assert ended(world.alice) == [Outcome.COMPLETE]


def test_offers_that_no_packet_carries_are_refused() -> None:
    world = connected()
    send, key, now = world.alice.messenger.send_file, world.bob.key, world.now
    for kind, size, file_id, name in (
        (0, 1, None, "n" * 256),
        (0, (1 << 64) - 1, None, "n"),
        (0, -1, None, "n"),
        (1 << 32, 1, None, "n"),
        (0, 1, b"short", "n"),
    ):
        with pytest.raises(errors.BadValue):
            send(key, kind, size, file_id, name, now)
    world.alice.capacity = 0
    with pytest.raises(errors.QueueFull):
        send(key, 0, 1, None, "n", now)
    assert world.alice.messenger.transfers(key) == []


# Avatars


def test_an_avatar_is_sent_without_asking_and_named_by_its_hash() -> None:
    world, picture = connected(), content(60_000)
    receiver = Receiver(world.bob)
    world.alice.messenger.send_avatar(world.bob.key, picture, world.now)
    world.settle()
    (told,) = world.bob.told(events.FileOffer)
    assert told.kind == FileKind.AVATAR
    assert told.file_id == hashlib.sha256(picture).digest()
    assert receiver.files[256] == picture
    assert world.alice.told(events.FileChunkWanted) == []
    assert ended(world.alice) == [Outcome.COMPLETE]


def test_no_avatar_is_said_by_an_empty_one() -> None:
    world = connected()
    Receiver(world.bob)
    world.alice.messenger.send_avatar(world.bob.key, None, world.now)
    world.settle()
    assert world.bob.told(events.FileOffer)[0].unsets_avatar
    assert ended(world.alice) == ended(world.bob) == [Outcome.COMPLETE]
    with pytest.raises(errors.BadValue, match="65537"):
        world.alice.messenger.send_avatar(world.bob.key, bytes(65_537), world.now)


# Listeners that act at once


def test_a_listener_may_cancel_what_it_is_asked_for() -> None:
    world = connected()

    def cancel(event: events.Event, now: float) -> None:
        if isinstance(event, events.FileChunkWanted):
            world.alice.messenger.file_control(event.friend, event.number, CANCEL, now)

    world.alice.application = cancel
    Receiver(world.bob)
    offer(world, 5000)
    assert ended(world.alice) == [Outcome.WITHDRAWN]
    assert ended(world.bob) == [Outcome.CANCELLED]


def test_a_listener_may_remove_the_friend_in_the_middle_of_a_file() -> None:
    world = connected()
    Sender(world.alice, content(500_000))

    def remove(event: events.Event, now: float) -> None:
        if isinstance(event, events.FileOffer):
            world.bob.messenger.file_control(event.friend, event.number, RESUME, now)
        elif isinstance(event, events.FileChunk):
            world.bob.messenger.remove_friend(event.friend, now)

    world.bob.application = remove
    offer(world, 500_000)
    assert ended(world.bob) == ended(world.alice) == [Outcome.BROKEN]
    assert world.bob.drops["messenger_unknown_friend"] > 0


@given(
    size=st.one_of(st.none(), st.integers(0, 30_000)),
    pieces=st.lists(st.integers(1, 70_000), min_size=1, max_size=8),
    capacity=st.integers(17, 80),
    seek=st.integers(0, 30_000),
)
def test_a_file_arrives_whatever_pieces_are_given_and_however_much_room_there_is(
    size: int | None, pieces: list[int], capacity: int, seek: int
) -> None:
    world, data = connected(), content(30_000 if size is None else size)
    world.alice.capacity = capacity
    given = 0

    def give(event: events.Event, now: float) -> None:
        nonlocal given
        if isinstance(event, events.FileChunkWanted):
            most = min(event.size, pieces[given % len(pieces)])
            given += 1
            part = data[event.position : event.position + most]
            world.alice.messenger.file_chunk(event.friend, 0, event.position, part, now)

    world.alice.application = give
    receiver = Receiver(world.bob, accepts=False)
    offer(world, size)
    at = min(seek, max(0, len(data) - 1))
    receiver.files[256] = bytearray(data[:at])
    if at:
        world.bob.messenger.file_seek(world.alice.key, 256, at, world.now)
    world.bob.messenger.file_control(world.alice.key, 256, RESUME, world.now)
    world.settle()
    assert receiver.files[256] == data
    assert ended(world.alice) == ended(world.bob) == [Outcome.COMPLETE]
