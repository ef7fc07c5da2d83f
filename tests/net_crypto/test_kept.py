"""What is kept of sessions that outlive their process: how much, how long, what is not whole."""

import mmap
import random
import struct
from collections import deque

import pytest

from core.crypto import KeyPair, Nonce, increment
from core.entropy import SeededEntropy
from core.net_crypto import SessionMemory, Tag, layout
from core.net_crypto.keeping import KeptReceiveNonce, KeptSendNonce
from core.net_crypto.regions import Region, size_for
from tests.net_crypto.test_outliving import letters, mortals
from tests.net_crypto.world import Person, World

ENTROPY = SeededEntropy("kept")
STRANGER = KeyPair.generate(ENTROPY).public
FORM = struct.Struct("=QQ16sQ")


def region(memory: mmap.mmap, name: bytes = b"testing1") -> Region:
    return Region(name, FORM, 4, memory, 64)


def test_of_a_piece_that_was_in_hand_when_its_writer_was_killed_nothing_is_found() -> None:
    for cut in range(FORM.size + 1):
        memory = mmap.mmap(-1, 64 + size_for(FORM, 4))
        first = region(memory)
        assert first.find() == []
        whole, reused = first.take(), first.take()
        assert whole is not None
        assert reused is not None
        FORM.pack_into(memory, whole, 7, 1, b"whole", 7)
        FORM.pack_into(memory, reused, 8, 1, b"earlier", 8)
        first.give_back(reused)
        assert first.take() == reused
        memory[reused : reused + cut] = FORM.pack(9, 2, b"later", 9)[:cut]
        second = region(memory)
        assert second.find() == ([whole, reused] if cut > FORM.size - 8 else [whole])
        assert second.left == (2 if cut > FORM.size - 8 else 3)
        assert second.last_number in (8, 9)


def test_memory_of_another_layout_is_empty() -> None:
    memory = mmap.mmap(-1, 64 + size_for(FORM, 4))
    first = region(memory)
    place = first.take()
    assert place is not None
    FORM.pack_into(memory, place, 7, 1, b"whole", 7)
    other = region(memory, b"testing2")
    assert other.find() == []
    assert [other.take() for _ in range(5)][4] is None
    assert region(memory, b"testing2").find() == []


def test_an_identity_is_found_where_it_was_until_it_is_forgotten() -> None:
    memory: list[mmap.mmap] = []

    def lasting(size: int) -> mmap.mmap:
        memory.append(memory[0] if memory else mmap.mmap(-1, size))
        return memory[0]

    real, dht, later = (KeyPair.generate(ENTROPY) for _ in range(3))
    first = SessionMemory(lasting, identities=2, sessions=2, packets=16)
    assert first.identity(real.public) is None
    assert first.keep_identity(real.public, dht.secret, 33445)
    assert first.keep_identity(real.public, later.secret, 33446)
    assert first.keep_identity(dht.public, dht.secret, 1)
    assert first.keep_identity(real.public, later.secret, 33447)
    assert not first.keep_identity(later.public, dht.secret, 2)
    second = SessionMemory(lasting, identities=2, sessions=2, packets=16)
    saved = second.identity(real.public)
    assert saved is not None
    assert (saved.dht_secret, saved.port) == (later.secret, 33447)
    assert later.secret.reveal().hex() not in repr(saved)
    assert second.identities() == sorted((real.public, dht.public))
    second.forget_identity(real.public)
    third = SessionMemory(lasting, identities=2, sessions=2, packets=16)
    assert third.identities() == [dht.public]


def test_no_secret_is_in_what_a_saved_session_says_of_itself() -> None:
    world = World()
    alice, _ = mortals(world)
    memory = SessionMemory(alice._map, identities=4, sessions=8, packets=512)
    (saved,) = memory.take_up(alice.real.public)
    text = repr(saved)
    assert repr(saved.keys.secret) not in text
    assert saved.keys.secret.hex() not in text
    assert memory.take_up(alice.real.public) == []


def test_progress_names_what_is_taken_over_delivered_and_on_its_way() -> None:
    world = World()
    alice, bob = mortals(world)
    key, lasting = bob.real.public, alice.lasting
    assert lasting.progress(key) == (Tag(0, 0), Tag(0, 0))
    world.udp = False
    for tag in (Tag(1, 0), Tag(2, 71), Tag(3, 75), Tag(4, 0)):
        alice.crypto.send(key, b"\x40x", world.now, tag)
    alice.crypto.send(key, b"\x40untagged", world.now)
    assert lasting.progress(key) == (Tag(4, 75), Tag(0, 0))
    assert lasting.flying(key) == (Tag(2, 71), Tag(3, 75))
    alice.die()
    assert alice.lasting.progress(key) == (Tag(4, 75), Tag(0, 0))
    assert alice.lasting.flying(key) == (Tag(2, 71), Tag(3, 75))
    world.udp = True
    assert world.run_until(lambda: alice.acknowledged_to == 4, 5)
    assert alice.lasting.progress(key) == (Tag(4, 75), Tag(4, 75))
    assert alice.lasting.flying(key) == ()
    alice.die()
    assert alice.lasting.progress(key) == (Tag(4, 75), Tag(4, 75))
    assert alice.kept.packets.left == 512


def test_what_was_not_stored_is_handed_up_again_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    alice, bob = mortals(world)
    key = alice.real.public
    sent = letters(alice, 20)
    for data in sent:
        alice.send(bob, data)
    assert world.run_until(lambda: len(bob.above.stored) == 20, 5)
    assert bob.lasting.handed(key) == 19
    for number in (-1, 20, 5000, 1 << 31):
        bob.lasting.stored(key, number, world.now)
    bob.lasting.stored(key, 4, world.now)
    bob.lasting.stored(key, 3, world.now)
    assert bob.kept.packets.left == 512 - 15
    again: list[bytes] = []
    monkeypatch.setattr(bob.above, "take", lambda serial, upto, packets: again.extend(packets))
    bob.do(bob.lasting.hand_again, key, world.now)
    assert again == sent[5:]
    bob.lasting.stored(key, 19, world.now)
    bob.do(bob.lasting.hand_again, key, world.now)
    assert again == sent[5:]
    assert bob.kept.packets.left == 512


def test_who_stores_nothing_gets_no_more_than_a_share_and_then_all_of_it() -> None:
    world = World(bandwidth=2000)
    alice, bob = mortals(world, packets=128)
    key = alice.real.public
    sent = letters(alice, 200)
    alice.above.given.extend((Tag(seq, 0), data) for seq, data in enumerate(sent, 1))
    for i in range(600):
        world.at(world.now + 0.05 * i, alice.pulse)
    world.run_for(3)
    assert len(bob.above.stored) == 32 == bob.kept.share
    assert bob.drops["crypto_kept_full"] > 0
    assert alice.lasting.progress(bob.real.public).taken.seq <= 32 + 24

    def store() -> None:
        bob.lasting.stored(key, bob.lasting.handed(key), world.now)

    for i in range(600):
        world.at(world.now + 0.05 * i, store)
    assert world.run_until(lambda: len(bob.above.stored) == 200, 30)
    assert bob.above.stored == sent
    assert bob.down == []


def test_packets_that_came_too_early_never_take_the_place_of_the_next_one() -> None:
    world = World()
    alice, bob = mortals(world, packets=64)
    world.udp = False
    session = alice.crypto._sessions[bob.real.public]

    def say(number: int) -> None:
        bob.take(session._seal(number, b"\x40" + bytes((number,))), alice.endpoint)

    for number in range(1, 40):
        say(number)
    assert bob.kept.packets.left == 64 - 12  # a quarter of a quarter is left
    assert bob.drops["crypto_kept_full"] == 39 - 12
    say(0)
    assert [data[1] for data in bob.above.stored] == list(range(13))


def test_s30_friends_who_send_only_what_is_too_early_keep_nobody_from_sending() -> None:
    world = World()
    alice, bob = mortals(world, packets=64)
    hostile = [world.add(f"friend {number}") for number in range(6)]
    for friend in hostile:
        friend.open(bob)
    assert world.run_until(lambda: len(bob.crypto) == 7 and all(map(bob.sees, hostile)), 5)
    for friend in hostile:
        session = friend.crypto._sessions[bob.real.public]
        for number in range(1, 30):
            bob.take(session._seal(number, b"\x40early"), friend.endpoint)
    assert bob.kept.packets.left == 32
    sent = letters(alice, 100)
    for one in (alice, bob):
        one.above.given.extend((Tag(seq, 0), data) for seq, data in enumerate(sent, 1))
    for i in range(300):
        world.at(world.now + 0.02 * i, bob.pulse)
        world.at(world.now + 0.02 * i, alice.pulse)
    assert world.run_until(lambda: len(bob.above.stored) == len(alice.above.stored) == 100, 30)
    assert bob.above.stored == alice.above.stored == sent


def test_a_session_that_is_over_stays_known_until_the_layer_above_knows() -> None:
    world = World()
    alice, bob = mortals(world)
    serial = bob.lasting.serial(alice.real.public)
    sent = letters(alice, 5)
    for data in sent:
        alice.send(bob, data)
    bob.crypto.send(alice.real.public, b"\x40known", world.now, Tag(1, 9))
    assert world.run_until(lambda: bob.acknowledged_to == 0 and alice.acknowledged_to == 4, 5)
    bob.lasting.stored(alice.real.public, 1, world.now)
    alice.crypto.close(bob.real.public, world.now)
    world.run_for(1)
    assert bob.down == [alice.real.public]
    for _ in range(2):
        (ended,) = bob.lasting.ended()
        assert ended == (alice.real.public, serial, 4, sent[2:], Tag(1, 9))
        bob.friend = None
        bob.die()
    assert bob.resumed == [[], []]
    bob.lasting.settled(bytes(8))
    bob.lasting.settled(serial)
    assert bob.lasting.ended() == []
    assert bob.kept.packets.left == 512
    assert bob.kept.sessions.left == 8


def test_when_all_places_are_taken_the_oldest_that_is_over_goes_first() -> None:
    world = World()
    alice, bob = mortals(world)
    for _ in range(20):
        alice.crypto.close(bob.real.public, world.now)
        world.run_for(0.1)
        alice.open(bob)
        assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 5)
    assert len(alice.lasting.ended()) == 7
    for ended in alice.lasting.ended():
        alice.lasting.settled(ended.serial)
    others = [KeyPair.generate(ENTROPY) for _ in range(9)]
    for one in others:
        alice.crypto.open(one.public, one.public, world.now)
    assert alice.drops["crypto_sessions_full"] == 2
    world.run_for(20)  # none of them answers
    assert alice.kept.sessions.left == 7


def test_a_session_of_which_a_packet_is_missing_ends_and_the_peer_hears_so() -> None:
    world = World()
    alice, bob = mortals(world)
    world.udp = False
    for data in letters(alice, 3):
        alice.send(bob, data)
    world.udp = True
    kept = alice.crypto._sessions[bob.real.public].kept
    assert kept is not None
    place, _ = kept.outgoing[1]
    assert alice.memory is not None
    struct.pack_into("=I", alice.memory, place + 32, 77)
    alice.friend = None
    alice.die()
    assert alice.resumed == [[]]
    assert alice.drops["crypto_kept_torn"] == 1
    assert world.run_until(lambda: bob.down, 5)
    assert bob.above.stored == []
    assert alice.kept.sessions.left == 8
    assert alice.kept.packets.left == 512


def test_s26_nothing_that_came_before_the_kill_is_taken_again() -> None:
    world = World()
    alice, bob = mortals(world)
    heard: list[bytes] = []

    def watch(way: str, sender: Person, packet: bytes) -> bool:
        if sender is alice:
            heard.append(packet)
        return True

    world.watch = watch
    for number in range(10):
        alice.crypto.send(bob.real.public, b"\x40" + bytes((number,)), world.now)
        alice.crypto.send_lossy(bob.real.public, b"\xc8" + bytes((number,)), world.now)
        world.run_for(0.1)
    assert len(bob.lossy_taken) == len(bob.above.stored) == 10
    alice.crypto.close(bob.real.public, world.now)
    kill = heard.pop()
    bob.die()
    for packet in [*heard, *reversed(heard)]:
        bob.take(packet, alice.endpoint)
    assert len(bob.lossy_taken) == len(bob.above.stored) == 10
    assert bob.sees(alice)
    bob.take(kill, alice.endpoint)
    assert bob.down == [alice.real.public]


@pytest.mark.parametrize("direct", [True, False])
def test_the_way_that_the_session_had_is_taken_again_at_once(direct: bool) -> None:
    world = World()
    alice, bob = mortals(world)
    world.relay = True
    world.udp = direct
    world.run_for(10)
    ways: list[str] = []

    def watch(way: str, sender: Person, packet: bytes) -> bool:
        if sender is alice:
            ways.append(way)
        return True

    status = alice.crypto.status(bob.real.public)
    assert status is not None
    assert status.direct is direct
    world.watch = watch
    alice.die()
    alice.send(bob, b"\x40" + bytes(500))
    world.run_for(0.05)
    assert set(ways[1:]) == {"udp" if direct else "relay"}
    status = alice.crypto.status(bob.real.public)
    assert status is not None
    assert status.direct is direct
    world.run_for(0.1)
    assert len(bob.above.stored) == 1


def test_the_words_of_a_row_lie_where_its_form_says() -> None:
    assert layout.SESSION.size % 8 == layout.PACKET.size % 8 == layout.IDENTITY.size % 8 == 0
    assert layout.ENDPOINTS_AT == 8 * (layout.WAYS + 1)
    assert layout.ENDPOINTS_AT + 2 * layout.ENDPOINTS.size == layout.KEYS_AT
    assert layout.KEYS_AT + layout.KEYS.size + 8 == layout.SESSION.size


def test_s26_the_windows_of_nonces_go_on_where_they_were() -> None:
    """Half a million packets, both ends killed a thousand times, some of them lost or late."""
    chance = random.Random("nonces")
    memory = SessionMemory(None, identities=1, sessions=2, packets=16)
    base = Nonce(b"\xff" * 22 + b"\xa0\x00")  # it will wrap
    places = [memory.new(STRANGER, STRANGER, ENTROPY) for _ in range(2)]
    ours, theirs = places
    assert ours is not None
    assert theirs is not None
    sending, receiving = KeptSendNonce(base, ours), KeptReceiveNonce(base, theirs)
    last = -1
    late: deque[bytes] = deque(maxlen=1000)
    for number in range(500_000):
        if not number % 977:
            sending = KeptSendNonce(increment(base, ours.word(layout.NONCES)), ours)
        if not number % 991:
            receiving = KeptReceiveNonce(base, theirs)
        nonce = sending.take()
        position = (int.from_bytes(nonce, "big") - int.from_bytes(base, "big")) % (1 << 192)
        assert position > last
        last = position
        late.append(nonce)
        nonce = chance.choice(late) if not number % 10 else nonce
        if number % 7:
            assert receiving.complete(nonce[22:]) == nonce
            receiving.used(nonce[22:])
    assert last == 499_999 + 511 * (4 * 256 - 977)  # nonces were left out at each kill
