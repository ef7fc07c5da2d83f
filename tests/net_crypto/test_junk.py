"""A flood of all that strangers can send: nothing of it is kept, and it keeps no friend out.

Ten thousand packets a second in made-up time, over UDP from one address and from many, on links of
relays and out of band: noise, good cookie requests of nobody we know, handshakes with cookies that
are forged, stale, or good and with noise behind them, and what was overheard of friends.
"""

import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from core import crypto
from core.crypto import KeyPair, PublicKey
from core.endpoint import Endpoint, udp4
from core.messenger import events
from core.messenger.events import Connection
from core.net_crypto import SessionMemory
from core.net_crypto.cookies import LIFE_S
from core.net_crypto.handshakes import REAL_KEYS
from core.net_crypto.lasting import PACKETS, SESSIONS
from core.net_crypto.limits import MAX_PURSES
from core.packets.net_crypto import CookieResponse, CookieResponseBody
from core.wire import WireError
from tests.messenger.chatter import Chatter, add
from tests.net_crypto.test_hostile import ELSEWHERE, ENTROPY, STRANGER, Ear, handshake, request
from tests.net_crypto.world import KEYS, Person, World

PER_TICK, TICK_S = 100, 0.01
PAUSE_S = LIFE_S + 1  # of friends between their starts: so long is an overheard handshake good
SIZES = {0x18: 145, 0x19: 161, 0x1A: 385, 0x1B: 100}
LEAK = 4 << 20  # more than an allocator's disorder, and less than five bytes a packet


class Hearer(Ear):
    """Opens the answers that a stranger gets, and keeps the cookies."""

    def __init__(self, world: World, victim: Person) -> None:
        super().__init__(world, "stranger", 99)
        self.cookies: deque[bytes] = deque(maxlen=200)
        self._shared = crypto.precompute(STRANGER.secret, victim.dht.public)

    def take(self, packet: bytes, source: Endpoint) -> None:
        assert self._shared is not None
        answer = CookieResponse.decode(packet)
        body = CookieResponseBody.open(self._shared, answer.nonce, answer.sealed)
        self.cookies.append(body.cookie)


class Flood:
    """Sends packets to one identity."""

    def __init__(self, world: World, victim: Chatter) -> None:
        self._world, self._victim = world, victim
        self.left = self.sent = 0
        self._chance = random.Random("flood")
        self._noise = [self._chance.randbytes(2000) for _ in range(50)]
        self._sources = [udp4(self._chance.randbytes(4), 1) for _ in range(5_000)]
        self._strangers = [KeyPair.generate(ENTROPY) for _ in range(200)]
        self.hearer = Hearer(world, victim)
        self.hearer.endpoint = ELSEWHERE
        world.at_endpoint[ELSEWHERE] = self.hearer
        self._stale = b""
        self.overheard: deque[tuple[Endpoint, bytes]] = deque(maxlen=100)
        """Cookie requests and handshakes of friends, with where they came from."""
        world.watch = self._overhear
        self._makers: tuple[Callable[[], tuple[Endpoint, bytes]], ...] = (
            self._noise_of_many, self._noise_of_one, self._nobody, self._nobody_of_many,
            self._half_a_friend, self._forged, self._stale_cookie, self._good_cookie,
            self._good_handshake, self._replay, self._replay_elsewhere,
        )  # fmt: skip

    def _overhear(self, way: str, sender: Person, packet: bytes) -> bool:
        if packet[0] in (0x18, 0x1A) and sender is not self._victim:
            heard = (sender.endpoint, packet)
            self._world.at(self._world.now + 0.1, self.overheard.append, heard)
        return True

    def _bytes(self, size: int) -> bytes:
        start = self._chance.randrange(1500 - size)
        return self._chance.choice(self._noise)[start : start + size]

    def _some(self) -> Endpoint:
        return self._chance.choice(self._sources)

    def _kind(self) -> bytes:
        kind = self._chance.choice((0x18, 0x19, 0x1A, 0x1B))
        return bytes((kind,)) + self._chance.randbytes(32) + self._bytes(SIZES[kind] - 33)

    def _noise_of_many(self) -> tuple[Endpoint, bytes]:
        return self._some(), self._kind()

    def _noise_of_one(self) -> tuple[Endpoint, bytes]:
        return ELSEWHERE, self._kind()

    def _nobody(self) -> tuple[Endpoint, bytes]:
        return ELSEWHERE, request(self._victim)

    def _nobody_of_many(self) -> tuple[Endpoint, bytes]:
        keys = self._chance.choice(self._strangers)
        return self._some(), request(self._victim, keys, keys.public)

    def _half_a_friend(self) -> tuple[Endpoint, bytes]:
        """A friend's address and DHT key, and noise."""
        if not self.overheard:
            return self._noise_of_many()
        source, packet = self._chance.choice(self.overheard)
        if self._chance.random() < 0.3:
            return source, b"\x1b" + self._bytes(99)
        return source, packet[:33] + self._bytes(len(packet) - 33)

    def _forged(self) -> tuple[Endpoint, bytes]:
        return self._some(), b"\x1a" + self._bytes(384)

    def _with_cookie(self, cookie: bytes) -> tuple[Endpoint, bytes]:
        return self._some(), b"\x1a" + cookie + self._bytes(384 - len(cookie))

    def _stale_cookie(self) -> tuple[Endpoint, bytes]:
        return self._with_cookie(self._stale)

    def _good_cookie(self) -> tuple[Endpoint, bytes]:
        if not self.hearer.cookies:
            return self._nobody()
        return self._with_cookie(self.hearer.cookies[-1])

    def _good_handshake(self) -> tuple[Endpoint, bytes]:
        if not self.hearer.cookies:
            return self._nobody()
        return self._some(), handshake(self._victim, self.hearer.cookies[-1])

    def _replay(self) -> tuple[Endpoint, bytes]:
        return self._chance.choice(self.overheard) if self.overheard else self._noise_of_many()

    def _replay_elsewhere(self) -> tuple[Endpoint, bytes]:
        return self._some(), self._replay()[1]

    def ripen(self) -> None:
        """Gets a cookie, and lets it become stale."""
        self._victim.take(request(self._victim), ELSEWHERE)
        self._world.run_for(LIFE_S + 1)
        self._stale = self.hearer.cookies.popleft()

    def begin(self, count: int) -> None:
        """Begins to send so many packets."""
        self.left = count
        self._tick()

    def _tick(self) -> None:
        crypto_, now = self._victim.crypto, self._world.now
        for _ in range(PER_TICK):
            source, packet = self._chance.choice(self._makers)()
            way = self._chance.random()
            named = PublicKey(packet[1:33])  # the relay says truly who sends a request
            try:
                if way < 0.6:
                    crypto_.handle_udp(packet, source, now)
                elif way < 0.8:
                    crypto_.handle_relay(named, packet, now)
                else:
                    crypto_.handle_oob(STRANGER.public, named, packet, now)
            except WireError:
                self._victim.wire_errors += 1
        self.left -= PER_TICK
        self.sent += PER_TICK
        if self.left > 0:
            self._world.at(now + TICK_S, self._tick)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Friend:
    """One that starts again and again: by UDP, or by relays alone."""

    def __init__(self, world: World, bob: Chatter, name: str, way: Connection) -> None:
        self._world, self._bob, self._name = world, bob, name
        self.way = way
        self._real = KeyPair.generate(ENTROPY)
        self._now: Chatter | None = None
        self._starts = 0

    def start(self) -> None:
        """Comes with another DHT key and from another address; both find each other."""
        if self._now is not None:
            self._world.people.remove(self._now)
        self._starts += 1
        self._now = add(self._world, f"{self._name} {self._starts}", self._real)
        address = self.way is Connection.DIRECT
        self._now.finds(self._bob, address=address)
        self._bob.finds(self._now, address=address)

    def is_met(self) -> bool:
        """Tells whether both see each other, by the way that is theirs."""
        assert self._now is not None
        return self._now.reaches(self._bob) is self._bob.reaches(self._now) is self.way

    def speak(self) -> None:
        """Says something."""
        assert self._now is not None
        self._now.says(self._bob, f"{self._now.name} is here")


@pytest.mark.parametrize(
    ("count", "starts"), [(60_000, 3), pytest.param(1_000_000, 8, marks=pytest.mark.slow)]
)
def test_a_flood_of_junk_is_not_kept_and_keeps_no_friend_out(count: int, starts: int) -> None:
    world = World(7)
    world.relay = True
    kept = SessionMemory()
    bob = Chatter(world, "bob", 1, kept=kept)
    world.people.append(bob)
    world.at_endpoint[bob.endpoint] = bob
    flood = Flood(world, bob)
    friends = [
        Friend(world, bob, "alice", Connection.DIRECT),
        Friend(world, bob, "carol", Connection.RELAY),
    ]
    flood.ripen()
    resident = 0
    for number in range(starts):
        end = world.now + PAUSE_S
        flood.begin(count // starts)
        for friend in friends:
            friend.start()
            assert world.run_until(friend.is_met, 2), f"{friend.way} is kept out at {number}"
            friend.speak()
        world.run_for(end - world.now)
        bob.store()
        assert len(bob.told(events.Message)) == len(friends) * (number + 1)
        resident = resident or _resident()
    assert flood.sent == count
    assert _resident() - resident < LEAK
    _check_bounds(bob)
    assert kept.sessions.left >= SESSIONS - len(friends)
    assert kept.packets.left >= PACKETS - 10  # what friends may have on its way
    for reason in (
        "crypto_cookie_box", "crypto_cookie_limit:source", "crypto_cookie_limit:all",
        "crypto_cookie_response", "crypto_cookie", "crypto_cookie_old", "crypto_handshake_box",
        "crypto_handshake_again", "crypto_data_box", "crypto_data_unknown", "friend_unknown",
    ):  # fmt: skip
        assert bob.drops[reason] > 20, reason


def _check_bounds(bob: Chatter) -> None:
    assert len(bob.crypto) == 2
    assert len(bob.crypto._table.of_dht_key) == 2
    assert len(bob.crypto._table.at_endpoint) <= 4
    handshakes = bob.crypto._handshakes
    assert len(handshakes.real_keys) <= REAL_KEYS
    assert len(handshakes._dht_keys) <= KEYS
    for limits in (bob.crypto._udp_limits, bob.crypto._relay_limits):
        assert len(limits) <= 2 * MAX_PURSES
    assert len(bob.drops) < 40
    assert bob.crypto._memory.used == 0
