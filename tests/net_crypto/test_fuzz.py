"""Any bytes, anywhere: nothing but WireError comes out, and nothing is answered to noise."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.wire import WireError
from tests.net_crypto.test_hostile import ELSEWHERE, Insider, cookie_from, handshake
from tests.net_crypto.world import World

KINDS = st.sampled_from([0x18, 0x19, 0x1A, 0x1B])
SIZES = {0x18: 145, 0x19: 161, 0x1A: 385}


@settings(max_examples=300)
@given(kind=KINDS, noise=st.binary(max_size=420), right=st.booleans(), way=st.integers(0, 2))
def test_noise_is_refused_and_not_answered(kind: int, noise: bytes, right: bool, way: int) -> None:
    world = World()
    bob = world.add("bob")
    packet = bytes((kind,)) + noise
    if right and kind in SIZES:
        packet = packet.ljust(SIZES[kind], b"\x07")[: SIZES[kind]]
    before = bob.drops.total()
    refused = 0
    try:
        if way == 0:
            bob.crypto.handle_udp(packet, ELSEWHERE, world.now)
        elif way == 1:
            bob.crypto.handle_relay(bob.dht.public, packet, world.now)
        else:
            bob.crypto.handle_oob(bob.dht.public, bob.real.public, packet, world.now)
    except WireError:
        refused = 1
    assert refused + bob.drops.total() - before == 1
    assert sum(world.kinds.values()) == 0
    assert len(bob.crypto) == 0


@settings(max_examples=30, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 384), st.integers(0, 7)), min_size=1, max_size=4))
def test_a_handshake_with_a_bit_changed_makes_no_session(flips: list[tuple[int, int]]) -> None:
    world = World()
    bob = world.add("bob")
    good = handshake(bob, cookie_from(world, bob))
    packet = bytearray(good)
    for place, bit in flips:
        packet[place] ^= 1 << bit
    if bytes(packet) == good or packet[0] != 0x1A:
        return
    bob.take(bytes(packet), ELSEWHERE)
    assert len(bob.crypto) == 0
    assert bob.asked == []


@settings(max_examples=60, deadline=None)
@given(
    said=st.lists(
        st.tuples(
            st.integers(0, 40),
            st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1)),
            st.binary(min_size=1, max_size=60),
        ),
        max_size=30,
    )
)
def test_a_friend_may_say_anything_that_is_sealed_well(
    said: list[tuple[int, int, bytes]],
) -> None:
    insider = Insider(World())
    bob = insider.bob
    for _ in range(20):
        bob.send(insider.alice, b"\x40 to be acknowledged")
    for start, number, data in said:
        insider.say(start, number, data)
        insider.world.run_for(0.05)
    session = bob.crypto._sessions.get(insider.alice.real.public)
    if session is not None:
        assert session.receiving.held_bytes == session.held_counted
        assert len(session.receiving.held) <= 30
    bob.crypto.close(insider.alice.real.public, insider.world.now)
    assert bob.crypto._memory.used == 0
    assert not bob.crypto._table.of_dht_key
    assert not bob.crypto._table.at_endpoint
