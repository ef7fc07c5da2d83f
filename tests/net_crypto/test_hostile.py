"""What strangers, and peers that break the rules, can do: nothing, and it is counted."""

import struct
from functools import partial

import pytest

from core import crypto
from core.crypto import LOW_ORDER, KeyPair, Nonce, PublicKey
from core.endpoint import Endpoint, udp4
from core.entropy import SeededEntropy
from core.net_crypto import HeldMemory
from core.net_crypto.session import Session
from core.packets.net_crypto import (
    CookieRequest,
    CookieRequestBody,
    CookieResponse,
    CookieResponseBody,
    CryptoHandshake,
    CryptoHandshakeBody,
)
from core.wire import WireError
from tests.net_crypto.test_sessions import pair
from tests.net_crypto.world import Person, World

ENTROPY = SeededEntropy("hostile")
STRANGER = KeyPair.generate(ENTROPY)
ELSEWHERE = udp4(bytes((66, 6, 6, 6)), 666)


def nonce() -> Nonce:
    return Nonce(ENTROPY.bytes(24))


def request(to: Person, keys: KeyPair = STRANGER, real: bytes = STRANGER.public) -> bytes:
    """A good cookie request."""
    shared = crypto.precompute(keys.secret, to.dht.public)
    assert shared is not None
    once = nonce()
    body = CookieRequestBody(PublicKey(real), bytes(32), b"the echo")
    return CookieRequest(keys.public, once, body.seal(shared, once)).encode()


class Wire:
    """Keeps what a person sends, by kind."""

    def __init__(self, world: World) -> None:
        self.sent: list[tuple[Person, bytes]] = []
        world.watch = self._see

    def _see(self, way: str, sender: Person, packet: bytes) -> bool:
        self.sent.append((sender, packet))
        return True

    def of(self, sender: Person, kind: int) -> list[bytes]:
        return [packet for one, packet in self.sent if one is sender and packet[0] == kind]


class Ear(Person):
    """Keeps what comes, and answers nothing."""

    def __init__(self, world: World, name: str, number: int) -> None:
        super().__init__(world, name, number)
        self.heard: list[bytes] = []

    def take(self, packet: bytes, source: Endpoint) -> None:
        self.heard.append(packet)


def cookie_from(world: World, person: Person, keys: KeyPair = STRANGER) -> bytes:
    """Asks for a cookie and opens the answer."""
    host = Ear(world, "stranger", 99)
    host.endpoint = ELSEWHERE
    world.at_endpoint[ELSEWHERE] = host
    person.take(request(person, keys), ELSEWHERE)
    world.run_for(1)
    shared = crypto.precompute(keys.secret, person.dht.public)
    assert shared is not None
    answer = CookieResponse.decode(host.heard[0])
    body = CookieResponseBody.open(shared, answer.nonce, answer.sealed)
    assert body.echo == b"the echo"
    return body.cookie


def handshake(
    to: Person,
    cookie: bytes,
    *,
    keys: KeyPair = STRANGER,
    session_key: bytes | None = None,
    hashed: bytes | None = None,
) -> bytes:
    shared = crypto.precompute(keys.secret, to.real.public)
    assert shared is not None
    once = nonce()
    public = KeyPair.generate(ENTROPY).public if session_key is None else PublicKey(session_key)
    digest = crypto.sha512(cookie if hashed is None else hashed)
    body = CryptoHandshakeBody(nonce(), public, digest, ENTROPY.bytes(112))
    return CryptoHandshake(cookie, once, body.seal(shared, once)).encode()


def see_each_other(one: Person, other: Person) -> bool:
    return one.sees(other) and other.sees(one)


def drops_of(person: Person, packet: bytes) -> dict[str, int]:
    before = person.drops.copy()
    person.take(packet, ELSEWHERE)
    return dict(person.drops - before)


# S-09: cookies


def test_s09_junk_silences_neither_friends_nor_other_strangers() -> None:
    """The reference is silenced by ten such packets a second, from wherever they come."""
    world = World()
    alice, bob = world.add("alice"), world.add("bob")
    bob.crypto.open(alice.real.public, alice.dht.public, world.now)  # knows the friend's DHT key
    bob.crypto.close(alice.real.public, world.now)
    junk = CookieRequest(STRANGER.public, nonce(), bytes(88)).encode()
    spoofed = CookieRequest(alice.dht.public, nonce(), bytes(88)).encode()

    def flood(left: int) -> None:
        for number in range(20):
            far = udp4(bytes((7, left & 255, number, 1)), 1)
            bob.take(CookieRequest(PublicKey(ENTROPY.bytes(32)), nonce(), bytes(88)).encode(), far)
            bob.take(junk, ELSEWHERE)
            bob.take(spoofed, alice.endpoint)
        if left:
            world.at(world.now + 0.02, flood, left - 1)

    flood(200)
    world.run_for(1)
    alice.open(bob)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 2)
    assert bob.drops["crypto_cookie_box"] > 1000
    assert bob.drops["crypto_cookie_limit:all"] > 500
    other = world.add("a stranger in a quiet moment")
    world.run_for(6)
    other.open(bob)
    assert world.run_until(lambda: other.sees(bob), 2)


def test_s09_whom_we_look_for_is_answered_though_strangers_pushed_its_key_out() -> None:
    world = World()
    alice, bob = world.add("alice"), world.add("bob")
    world.watch = lambda way, sender, packet: sender is alice or packet[0] != 0x18
    bob.open(alice)

    def flood() -> None:
        for _ in range(10):
            far = udp4(b"\x07" + ENTROPY.bytes(3), 1)
            bob.take(CookieRequest(PublicKey(ENTROPY.bytes(32)), nonce(), bytes(88)).encode(), far)
        world.at(world.now + 0.001, flood)

    flood()
    world.run_for(2)
    assert bob.crypto._handshakes._dht_keys.known(alice.dht.public) is None
    alice.open(bob)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 1)


def test_s09_good_requests_of_one_source_are_answered_ten_times_a_second() -> None:
    world = World()
    bob = world.add("bob")
    packet = request(bob)
    answers = 0
    for _ in range(5000):
        before = bob.drops.total()
        bob.take(packet, ELSEWHERE)
        answers += bob.drops.total() == before
        world.now += 0.001
    assert 50 <= answers <= 62
    assert bob.drops["crypto_cookie_limit:source"] == 5000 - answers


def test_a_friend_that_floods_pays_alone() -> None:
    world = World()
    alice, bob = pair(world)
    packets = [request(bob, alice.dht, alice.real.public) for _ in range(30)]
    for packet in packets:
        bob.take(packet, alice.endpoint)
    assert bob.drops["crypto_cookie_limit:peer"] == 20


def test_purses_are_bounded_and_a_source_beyond_them_begins_anew() -> None:
    world = World()
    bob = world.add("bob")
    for number in range(5000):
        source = udp4(bytes((9, number >> 8, number & 255, 1)), 1)
        sender = PublicKey(number.to_bytes(32, "big"))  # each is a key that was not heard of
        bob.take(CookieRequest(sender, nonce(), bytes(88)).encode(), source)
    limits = bob.crypto._udp_limits
    assert 512 < len(limits) <= 1024
    limits.tidy(world.now + 0.9)
    assert len(limits) > 0
    limits.tidy(world.now + 1)
    assert len(limits) == 0


def test_cookie_requests_that_are_none() -> None:
    world = World()
    bob = world.add("bob")
    assert drops_of(bob, CookieRequest(STRANGER.public, nonce(), bytes(88)).encode()) == {
        "crypto_cookie_box": 1
    }
    for weak in LOW_ORDER:
        bob.take(CookieRequest(weak, nonce(), bytes(88)).encode(), ELSEWHERE)
    assert bob.drops["crypto_weak_key"] > 0
    other = KeyPair.generate(ENTROPY).public
    bob.crypto.handle_relay(other, request(bob), world.now)
    assert bob.drops["crypto_cookie_sender"] == 1
    bob.crypto.handle_oob(other, other, request(bob), world.now)
    assert bob.drops["crypto_cookie_sender"] == 2


def test_s09_cookies_old_future_forged_and_of_another_hash_open_nothing() -> None:
    world = World()
    bob = world.add("bob")
    cookie = cookie_from(world, bob)
    for place in (0, 30, 111):
        broken = bytearray(cookie)
        broken[place] ^= 1
        assert drops_of(bob, handshake(bob, bytes(broken))) == {"crypto_cookie": 1}
    assert drops_of(bob, handshake(bob, cookie, hashed=b"x")) == {"crypto_cookie_hash": 1}
    wrong = KeyPair.generate(ENTROPY)
    assert drops_of(bob, handshake(bob, cookie, keys=wrong)) == {"crypto_handshake_box": 1}
    good = handshake(bob, cookie)
    world.now -= 2
    assert drops_of(bob, good) == {"crypto_cookie_future": 1}
    world.now += 17.1
    assert drops_of(bob, good) == {"crypto_cookie_old": 1}
    assert len(bob.crypto) == 0
    world.now -= 1.2
    bob.take(good, ELSEWHERE)
    assert len(bob.crypto) == 1


def test_a_handshake_with_a_session_key_of_low_order_makes_no_session_up() -> None:
    world = World()
    bob = world.add("bob")
    weak = next(iter(LOW_ORDER))
    assert drops_of(bob, handshake(bob, cookie_from(world, bob), session_key=weak)) == {
        "crypto_weak_key": 1
    }
    assert bob.up == []
    world.run_for(20)
    assert len(bob.crypto) == 0


def test_a_cookie_that_nobody_asked_for_is_nothing() -> None:
    world = World()
    bob = world.add("bob")
    answer = CookieResponse(nonce(), bytes(136)).encode()
    assert drops_of(bob, answer) == {"crypto_cookie_response": 1}
    alice = world.add("alice")
    world.udp = False
    alice.open(bob)
    alice.take(answer, bob.endpoint)
    assert alice.drops["crypto_cookie_response"] == 1


# S-25, S-26: replays


def test_s25_replayed_handshakes_make_one_session_and_reset_no_nonce() -> None:
    world = World()
    wire = Wire(world)
    alice, bob = pair(world)
    old = wire.of(alice, 0x1A)[0]
    world.run_for(1)
    first = bob.crypto._sessions[alice.real.public]
    low = first.send_nonce._low
    for _ in range(1000):
        bob.take(old, alice.endpoint)
        bob.take(old, ELSEWHERE)
    assert bob.crypto._sessions[alice.real.public] is first
    assert bob.drops["crypto_handshake_again"] == 2000
    assert (first.send_nonce._low - low) % 65536 <= 1  # one reminder
    assert bob.down == []


def test_s25_an_older_handshake_does_not_end_a_newer_session() -> None:
    world = World()
    wire = Wire(world)
    alice, bob = pair(world)
    old = wire.of(alice, 0x1A)[0]
    world.watch = lambda way, sender, packet: False
    alice.crypto.close(bob.real.public, world.now)
    world.watch = None
    world.run_for(1)
    alice.open(bob)
    assert world.run_until(lambda: len(bob.up) == 2 and alice.sees(bob), 2)
    bob.take(old, alice.endpoint)
    assert bob.drops["crypto_handshake_old"] == 1
    assert len(bob.down) == 1
    alice.send(bob, b"\x40still here")
    world.run_for(1)
    assert bob.taken == [b"\x40still here"]


def test_s26_every_packet_replayed_three_times_and_in_reverse_is_taken_once() -> None:
    world = World()
    wire = Wire(world)
    alice, bob = pair(world)
    for number in range(50):
        alice.send(bob, b"\x40" + bytes((number,)))
        alice.crypto.send_lossy(bob.real.public, b"\xc8" + bytes((number,)), world.now)
    world.run_for(1)
    data = wire.of(alice, 0x1B)
    for _ in range(3):
        for packet in reversed(data):
            bob.take(packet, alice.endpoint)
    world.run_for(1)
    assert len(bob.taken) == len(bob.lossy_taken) == 50
    assert bob.drops["crypto_replay"] >= 150
    assert bob.drops["crypto_data_repeated"] >= 150


def test_s26_no_nonce_is_used_twice_though_the_counter_wraps() -> None:
    world = World(delay=(0.001, 0.001))
    alice, bob = pair(world)
    session = alice.crypto._sessions[bob.real.public]
    nonces = {session.send_nonce.take() for _ in range(200_000)}
    assert len(nonces) == 200_000


# Peers


class Insider:
    """Alice's end of a session with Bob in the hands of somebody who knows no rules."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alice, self.bob = pair(world)
        world.run_for(5)
        self.session: Session = self.alice.crypto._sessions[self.bob.real.public]
        world.udp = False

    def say(self, start: int, number: int, data: bytes) -> dict[str, int]:
        once = self.session.send_nonce.take()
        shared = self.session._shared
        assert shared is not None
        plain = struct.pack(">II", start, number) + data
        packet = b"\x1b" + once[22:] + crypto.seal(shared, once, plain)
        before = self.bob.drops.copy()
        self.bob.take(packet, self.alice.endpoint)
        return dict(self.bob.drops - before)


@pytest.fixture
def insider() -> Insider:
    return Insider(World())


def test_data_outside_the_windows_is_refused(insider: Insider) -> None:
    assert insider.say(0, 32768, b"\x40x") == {"crypto_data_window": 1}
    assert insider.say(1, 0, b"\x40x") == {"crypto_data_window": 1}  # we have sent nothing
    assert insider.say(40000, 0, b"\x40x") == {"crypto_data_window": 1}
    assert insider.say(0, 0, b"\x40x") == {}
    assert insider.say(0, 0, b"\x40x") == {"crypto_data_repeated": 1}
    assert insider.say(0, 32768, b"\x40x") == {}
    assert insider.say(0, 32768, b"\x40x") == {"crypto_data_repeated": 1}
    assert insider.bob.taken == [b"\x40x"]


@pytest.mark.parametrize("kind", [*range(3, 16), 255])
def test_ids_that_are_reserved_are_refused(insider: Insider, kind: int) -> None:
    assert insider.say(0, 0, bytes((kind,)) + b"data") == {"crypto_data_id": 1}
    assert insider.bob.sees(insider.alice)


def test_padding_alone_is_nothing(insider: Insider) -> None:
    assert insider.say(0, 0, bytes(5)) == {"crypto_data_empty": 1}
    assert insider.say(0, 0, bytes(9)) == {"crypto_data_empty": 1}


def test_data_from_nowhere_and_under_no_key(insider: Insider) -> None:
    noise = b"\x1b" + ENTROPY.bytes(99)
    assert drops_of(insider.bob, noise) == {"crypto_data_unknown": 1}
    before = insider.bob.drops.copy()
    insider.bob.take(noise, insider.alice.endpoint)
    assert dict(insider.bob.drops - before) == {"crypto_data_box": 1}
    for size in (1, 3, 27, 1401):
        wrong = (b"\x1b" + bytes(1400))[:size]
        assert drops_of(insider.bob, wrong) == {"wire:CryptoData": 1}
    with pytest.raises(WireError):
        insider.bob.crypto.handle_udp(b"", ELSEWHERE, 0)
    with pytest.raises(WireError):
        insider.bob.crypto.handle_relay(STRANGER.public, b"", 0)
    with pytest.raises(WireError):
        insider.bob.crypto.handle_oob(STRANGER.public, STRANGER.public, b"", 0)
    insider.bob.crypto.handle_relay(STRANGER.public, b"\x20x", 0)
    insider.bob.crypto.handle_oob(STRANGER.public, STRANGER.public, b"\x1bx", 0)
    assert insider.bob.drops["crypto_relay_kind"] == 2


def test_s30_sparse_packets_fill_one_window_and_no_more() -> None:
    memory = HeldMemory(limit=50 << 20)
    world = World()
    alice, bob = world.add("alice"), world.add("bob", memory=memory)
    alice.open(bob)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 5)
    insider = Insider.__new__(Insider)
    insider.world, insider.alice, insider.bob = world, alice, bob
    insider.session = alice.crypto._sessions[bob.real.public]
    data = b"\x52" + bytes(1372)
    for number in range(1, 32768):
        insider.say(0, number, data)
    assert memory.used == 32767 * 1373 <= 48 << 20
    assert bob.sees(alice)
    bob.crypto.close(alice.real.public, world.now)
    assert memory.used == 0


def test_s30_the_greatest_holder_goes_when_all_hold_too_much() -> None:
    memory = HeldMemory(limit=100_000)
    world = World()
    people = [world.add(name) for name in ("alice", "carol")]
    bob = world.add("bob", memory=memory)
    insiders = []
    for one in people:
        one.open(bob)
        assert world.run_until(partial(see_each_other, one, bob), 5)
        insider = Insider.__new__(Insider)
        insider.world, insider.alice, insider.bob = world, one, bob
        insider.session = one.crypto._sessions[bob.real.public]
        insiders.append(insider)
    for number in range(1, 51):
        insiders[0].say(0, number, b"\x52" + bytes(1372))
    for number in range(1, 30):
        insiders[1].say(0, number, b"\x52" + bytes(1372))
    assert bob.drops["crypto_memory"] == 1
    assert bob.down == [people[0].real.public]
    assert bob.sees(people[1])
    assert memory.used == 29 * 1373


def test_s30_requests_for_everything_again_and_again_cause_no_storm(insider: Insider) -> None:
    world, bob = insider.world, insider.bob
    world.udp = True
    for _ in range(200):
        bob.send(insider.alice, b"\x40" + bytes(500))
    world.run_for(2)
    start = insider.alice.crypto._sessions[bob.real.public].receiving.start
    for _ in range(100):
        bob.send(insider.alice, b"\x40" + bytes(500))
    world.watch = lambda way, sender, packet: sender is bob  # only bob speaks
    world.kinds.clear()
    assert start == 200
    for _ in range(1000):
        insider.say(200, 0, b"\x01" + b"\x01" * 100)
        world.run_for(0.001)
    assert bob.drops["crypto_request_early"] >= 850
    assert world.kinds[0x1B] <= 800  # in a second: no more than it would send on its own


def test_an_event_that_cannot_be_is_counted_and_changes_nothing() -> None:
    from core.net_crypto.states import Event, State

    world = World()
    alice, _bob = pair(world)
    session = next(iter(alice.crypto._sessions.values()))
    assert not session.move(Event.COOKIE)
    assert session.state is State.ESTABLISHED
    assert alice.drops["crypto_state"] == 1


def test_there_is_a_greatest_number_of_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.net_crypto.table.MAX_SESSIONS", 3)
    world = World()
    alice = world.add("alice")
    for _ in range(5):
        other = KeyPair.generate(ENTROPY)
        alice.crypto.open(other.public, other.public, world.now)
    assert len(alice.crypto) == 3
    assert alice.drops["crypto_sessions_full"] == 2
    alice.crypto.open(next(iter(LOW_ORDER)), STRANGER.public, world.now)
    assert alice.drops["crypto_weak_key"] == 1


def test_secrets_are_in_no_repr() -> None:
    world = World()
    alice, bob = pair(world)
    session = alice.crypto._sessions[bob.real.public]
    texts = (repr(alice.crypto), repr(session), repr(session.status()), repr(session.keys))
    secrets = (alice.real.secret, alice.dht.secret, session.keys.secret)
    shown = "".join(texts)
    assert session._shared is not None
    for secret in (*(one.reveal() for one in secrets), session._shared):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
