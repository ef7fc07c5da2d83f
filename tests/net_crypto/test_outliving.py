"""Sessions go on when the process of one end is killed, wherever it stood; nobody notices."""

import pytest

from core import crypto
from core.endpoint import udp4
from core.net_crypto import Tag
from tests.net_crypto.lives import Mortal, Restless
from tests.net_crypto.world import Person, World


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> set[tuple[bytes, bytes]]:
    """S-26: sees each key and nonce that anybody seals with; none may come twice."""
    used: set[tuple[bytes, bytes]] = set()
    seal = crypto.seal

    def seal_once(key: crypto.SharedKey, nonce: bytes, plain: bytes) -> bytes:
        assert (key, nonce) not in used, "a nonce was used twice"
        used.add((key, nonce))
        return seal(key, nonce, plain)

    monkeypatch.setattr(crypto, "seal", seal_once)
    return used


def mortals(world: World, packets: int = 512) -> tuple[Mortal, Mortal]:
    """Two people with a session that is up on both sides."""
    pair = []
    for number, name in enumerate(("alice", "bob"), 1):
        one = Mortal(world, name, number, packets=packets)
        world.people.append(one)
        world.at_endpoint[one.endpoint] = one
        pair.append(one)
    alice, bob = pair
    alice.friend, bob.friend = bob.real.public, alice.real.public
    alice.open(bob)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 10)
    return alice, bob


def restless(world: World) -> tuple[Restless, Restless]:
    """Two people who have no session yet."""
    alice, bob = (Restless(world, name, number) for number, name in enumerate(("alice", "bob"), 1))
    for one, other in ((alice, bob), (bob, alice)):
        world.people.append(one)
        world.at_endpoint[one.endpoint] = one
        one.friend = other.real.public
    return alice, bob


def letters(of: Person, count: int) -> list[bytes]:
    return [b"\x40" + of.name.encode() + number.to_bytes(4, "big") for number in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_streams_both_ways_are_exact_however_often_both_ends_are_killed(seed: int) -> None:
    world = World(seed, loss=0.1 if seed % 2 else 0.0, delay=(0.01, 0.06))
    alice, bob = mortals(world)
    for one in (alice, bob):
        one.killer.begin((800, 2000, 6000)[seed % 3])
    count = 150
    for i in range(count):
        for one in (alice, bob):
            data = letters(one, count)[i]
            world.at(world.now + 0.01 * i, one.above.give, data)
    for i in range(3000):
        for one in (alice, bob):
            world.at(world.now + 0.02 * i, one.pulse)
    done = world.run_until(
        lambda: len(alice.above.stored) == len(bob.above.stored) == count, 60
    )
    assert done, (len(alice.above.stored), len(bob.above.stored))
    assert bob.above.stored == letters(alice, count)
    assert alice.above.stored == letters(bob, count)
    assert (alice.down, bob.down) == ([], [])
    for one in (alice, bob):
        assert one.killer.kills > 5
        assert not one.drops["crypto_kept_torn"]


@pytest.mark.parametrize("seed", range(8))
def test_what_a_friend_has_is_stored_also_where_sessions_end_amid_all_that(seed: int) -> None:
    """Killed from the first handshake on, and now and then one of them ends the session.

    Each letter comes at least once and no letter that was acknowledged comes twice: for each one
    that does there is an end of a session before which it was sent and not acknowledged.
    """
    world = World(seed, loss=0.05, delay=(0.01, 0.06))
    alice, bob = restless(world)
    count = 150
    for one in (alice, bob):
        one.killer.begin((1500, 5000)[seed % 2])
        for i, data in enumerate(letters(one, count)):
            world.at(world.now + 0.04 * i, one.above.letters.append, data)

    def close(one: Restless, other: Restless) -> None:
        one.do(one.crypto.close, other.real.public, world.now)

    def meet(one: Restless, other: Restless) -> None:
        if not len(one.crypto):
            one.do(one.open, other)

    for one, other in ((alice, bob), (bob, alice)):
        for _ in range(4):
            world.at(world.now + 10 * one.chance.random(), close, one, other)
        for i in range(600):
            world.at(world.now + 0.1 * i, meet, one, other)
        for i in range(3000):
            world.at(world.now + 0.02 * i, one.pulse)
    done = world.run_until(lambda: alice.above.delivered == bob.above.delivered == count, 50)
    assert done, (alice.above.delivered, bob.above.delivered)
    world.run_for(1)
    for one, other in ((alice, bob), (bob, alice)):
        assert one.killer.kills > 5
        stored = other.above.stored
        assert set(stored) == set(letters(one, count))
        assert one.above.twice >= len(stored) - count
        assert list(dict.fromkeys(stored)) == letters(one, count)
        assert not one.drops["crypto_kept_torn"]


class Mute:
    """Keeps what somebody says from now on to itself."""

    def __init__(self, world: World, who: Person) -> None:
        self._who = who
        self.sent: list[bytes] = []
        world.watch = self._see

    def _see(self, way: str, sender: Person, packet: bytes) -> bool:
        if sender is self._who:
            self.sent.append(packet)
        return sender is not self._who


def test_at_each_line_of_an_acknowledgement_a_letter_is_delivered_or_on_its_way() -> None:
    line, both = 0, set()
    while True:
        line += 1
        world = World(line)
        alice, bob = mortals(world)
        key = bob.real.public
        answers = Mute(world, bob)
        for seq in (1, 2, 3):
            alice.crypto.send(key, b"\x40text", world.now, Tag(seq, 70 + seq))
        world.run_for(0.1)
        alice.killer.left = line
        alice.take(answers.sent[-1], bob.endpoint)
        if not alice.killer.kills:
            break
        progress = alice.lasting.progress(key)
        assert progress is not None
        assert progress.taken == (3, 73)
        flying = [tag.letter for tag in alice.lasting.flying(key)]
        acked = [letter for letter in (71, 72, 73) if letter <= progress.acked.letter]
        assert acked + flying == [71, 72, 73], line
        both.add(bool(acked))
    assert line > 50
    assert both == {False, True}


def test_at_each_line_of_a_change_of_address_the_old_or_the_new_one_is_known() -> None:
    line, known = 0, set()
    while True:
        line += 1
        world = World(line)
        world.relay = True
        alice, bob = mortals(world)
        world.udp = False
        world.run_for(9)  # the way is not alive, and a new one is believed
        other = udp4(bytes((10, 1, 2, 3)), 33445)
        alice.killer.left = line
        alice.do(alice.crypto.set_endpoint, bob.real.public, other, world.now)
        if not alice.killer.kills:
            break
        where = alice.crypto._sessions[bob.real.public].path.v4
        assert where in (bob.endpoint, other), line
        known.add(where)
    assert line > 10
    assert known == {bob.endpoint, other}
