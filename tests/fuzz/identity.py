"""Wrong packets at a whole identity: of strangers, of nodes, and of a friend inside its session.

The friend has the right keys for every box, so what is wrong comes as deep as anything can: to the
streams, friend connections, messenger and files. It takes up the session again when that ends.
"""

import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey
from core.endpoint import Endpoint, udp4
from core.entropy import SeededEntropy
from core.identity import Engine, EngineOptions
from core.messenger import events
from core.messenger.errors import MessengerError
from core.messenger.events import Control, Event, IdentityConnected
from core.net_crypto.states import State
from core.packets.messenger import FileControl, FileData, FileRequest, Offline
from core.packets.net_crypto import (
    CookieRequest,
    CookieRequestBody,
    CookieResponse,
    CryptoHandshake,
    CryptoHandshakeBody,
    SessionEnd,
)
from core.relay_client import Target
from core.savedata.profile import Profile
from core.wire import Record
from tests.fuzz.findings import Failure, Findings
from tests.fuzz.mutate import mutate
from tests.fuzz.wrong import CALLERS, Wrong
from tests.net_crypto.world import Person, World
from tests.packets.coverage import IN_SESSIONS
from tests.packets.samples import Dice, sample

STEP_S = 0.002  # made-up time from one packet to the next
POOL = 40  # packets of each kind
_U32 = 0xFFFFFFFF
_HOMES = [udp4(bytes((127, 0, 0, 1 + i)), 40_000 + i) for i in range(CALLERS)]
_WHOLE = (CookieRequest, CookieResponse, CryptoHandshake)
_RARE = frozenset((SessionEnd, Offline))  # they end what the others need


class Friend(Person):
    """The friend's own end, which is honest; what is wrong is sealed with its keys."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "friend", 1)
        self.said: list[bytes] = []
        self.heard: list[bytes] = []
        """Handshakes that it sent, and so can be sent again."""

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Notes what is on its way to the identity."""
        self.said.append(packet)
        if packet[0] == 0x1A:
            self.heard = [*self.heard[-9:], packet]


class Identity:
    """An identity under fire; it is its own host, and an application that accepts what comes."""

    def __init__(self, seed: int | str) -> None:
        self.chance = random.Random(f"identity {seed}")
        self.entropy = SeededEntropy(f"identity {seed}")
        self.world = World()
        self.friend = Friend(self.world)
        self.sent: list[tuple[Endpoint, bytes]] = []
        self.told: Counter[type[object]] = Counter()
        self._lines: set[int] = set()
        self.keys = KeyPair.generate(self.entropy)
        profile = Profile(self.keys, b"spam", b"target")
        options = EngineOptions(has_ipv6=False)
        self.engine = Engine(profile, self.entropy, self, self.now, 1.7e9, options)
        self.engine.messenger.add_friend_by_key(self.friend.real.public, self.now)
        self.meet()

    @property
    def now(self) -> float:
        """The made-up time."""
        return self.world.now

    def meet(self) -> None:
        """Has both know where the other is, as onion and DHT would find."""
        friend, engine = self.friend, self.engine
        engine.friend_found(friend.real.public, friend.dht.public, (), self.now)
        engine.address_found(friend.dht.public, friend.endpoint, self.now)
        friend.crypto.open(self.keys.public, engine.dht_key, self.now)
        friend.crypto.set_endpoint(self.keys.public, _HOMES[0], self.now)

    # The host of the engine

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Notes what the identity sends."""
        self.sent.append((endpoint, packet))

    def dial(self, line: int, target: Target) -> None:
        """Never comes about."""
        self._lines.add(line)

    def write(self, line: int, data: bytes) -> int:
        """Takes all."""
        return len(data)

    def hang_up(self, line: int) -> None:
        """Ends an attempt."""
        self._lines.discard(line)

    def event(self, event: Event | IdentityConnected, now: float) -> None:
        """Accepts files and gives what is wanted; now and then it does something else with them."""
        self.told[type(event)] += 1
        messenger = self.engine.messenger
        with suppress(MessengerError):
            if isinstance(event, events.FileOffer):
                control = self.chance.choice((Control.RESUME, Control.RESUME, Control.CANCEL))
                messenger.file_control(event.friend, event.number, control, now)
            elif isinstance(event, events.FileChunkWanted):
                data = bytes(event.size)
                messenger.file_chunk(event.friend, event.number, event.position, data, now)
            elif isinstance(event, events.Message | events.Typing):
                size = self.chance.choice((0, 3000, 100_000))
                messenger.send_file(event.friend, 0, size, None, "f", now)

    # One step

    def give(self, packet: bytes, source: Endpoint) -> None:
        """Brings a packet, over UDP or by a relay."""
        way = self.chance.random()
        if not packet:
            return
        if way < 0.8 or packet[0] not in (0x18, 0x19, 0x1A, 0x1B):
            self.engine.handle_packets((packet,), (source,), self.now)
        elif way < 0.9:
            self.engine.relay_data(self.friend.dht.public, packet, self.now)
        else:
            key = PublicKey(packet[1:33].ljust(32, b"\1"))
            self.engine.relay_oob(self.friend.dht.public, key, packet, self.now)

    def turn(self) -> list[bytes]:
        """Lets timers run and the honest half of the friend speak; returns what went elsewhere."""
        self.world.now += STEP_S
        now, elsewhere = self.now, []
        for part in (self.engine, self.friend.crypto):
            due = part.next_timer()
            if due is not None and due <= now:
                part.handle_timer(now)
        said, self.friend.said = self.friend.said, []
        for packet in said:
            self.engine.handle_packets((packet,), (self.friend.endpoint,), now)
        sent, self.sent = self.sent, []
        for endpoint, packet in sent:
            if endpoint == self.friend.endpoint:
                self.friend.take(packet, _HOMES[0])
            else:
                elsewhere.append(packet)
        for kept in (self.friend.taken, self.friend.lossy_taken):
            kept.clear()
        if self.friend.crypto.status(self.keys.public) is None:
            self.meet()
        return elsewhere


class FriendsNonsense:
    """What a friend with a bug, or a hostile one, sends to an identity."""

    def __init__(self, identity: Identity) -> None:
        self._at = identity
        self._chance = identity.chance
        dice = Dice(self._chance)
        self._inner: dict[type[Record], list[bytes]] = {
            cls: [sample(cls, dice).encode() for _ in range(POOL)] for cls in IN_SESSIONS
        }
        self._outer = {cls: [sample(cls, dice).encode() for _ in range(POOL)] for cls in _WHOLE}
        self._makers: dict[Callable[[], bytes | None], int] = {
            self._data: 90, self._request: 3, self._again: 2, self._handshake: 1, self._noise: 4,
        }  # fmt: skip

    def packet(self) -> bytes:
        """Makes the next one."""
        (maker,) = self._chance.choices(tuple(self._makers), list(self._makers.values()))
        return maker() or self._noise()

    def _noise(self) -> bytes:
        cls = self._chance.choice(_WHOLE)
        return mutate(self._chance.choice(self._outer[cls]), self._chance)

    def _nonce(self) -> Nonce:
        return Nonce(self._chance.randbytes(24))

    def _maybe_wrong(self, body: bytes) -> bytes:
        return mutate(body, self._chance) if self._chance.random() < 0.4 else body

    def _request(self) -> bytes:
        friend, engine, nonce = self._at.friend, self._at.engine, self._nonce()
        shared = crypto.precompute(friend.dht.secret, engine.dht_key)
        assert shared is not None
        body = CookieRequestBody(friend.real.public, bytes(32), b"the echo").encode()
        sealed = crypto.seal(shared, nonce, self._maybe_wrong(body))
        return b"\x18" + friend.dht.public + nonce + sealed

    def _handshake(self) -> bytes | None:
        friend = self._at.friend
        if not friend.heard:
            return None
        cookie, nonce = friend.heard[-1][1:113], self._nonce()
        shared = crypto.precompute(friend.real.secret, self._at.keys.public)
        assert shared is not None
        key = KeyPair.generate(self._at.entropy).public
        body = CryptoHandshakeBody(self._nonce(), key, crypto.sha512(cookie), bytes(112)).encode()
        wrong = mutate(body, self._chance)
        return b"\x1a" + cookie + nonce + crypto.seal(shared, nonce, wrong)

    def _again(self) -> bytes | None:
        return self._chance.choice(self._at.friend.heard) if self._at.friend.heard else None

    def _data(self) -> bytes | None:
        """Session data at the right place of the stream, or not far from it, or anywhere."""
        theirs = self._at.engine.crypto._sessions.get(self._at.friend.real.public)
        ours = self._at.friend.crypto._sessions.get(self._at.keys.public)
        if theirs is None or ours is None or ours.state is not State.ESTABLISHED:
            return None
        start, number = theirs.sending.start, theirs.receiving.start
        if self._chance.random() < 0.5:
            start += self._chance.randrange(-2, 1 + theirs.sending.span())
        if self._chance.random() < 0.3:
            number += self._chance.randrange(-2, 20)
        if self._chance.random() < 0.02:
            start, number = self._chance.getrandbits(32), self._chance.getrandbits(32)
        cls = self._chance.choice(IN_SESSIONS)
        if cls in _RARE and self._chance.random() < 0.95:
            return None
        data = self._near(self._chance.choice(self._inner[cls]))
        data = self._maybe_wrong(data)[:1373]
        plain = struct.pack(">II", start & _U32, number & _U32)
        plain += bytes(self._chance.randrange(8)) + data
        once, shared = ours.send_nonce.take(), ours._shared
        assert shared is not None
        return b"\x1b" + once[22:] + crypto.seal(shared, once, plain)

    def _near(self, data: bytes) -> bytes:
        """Has packets of files name one of a few, so that they meet transfers that there are."""
        at = {FileRequest.kind: 1, FileControl.kind: 2, FileData.kind: 1}.get(data[0], 0)
        number = self._chance.choice((0, 0, 0, 1, 2, 3))
        return data[:at] + bytes((number,)) + data[at + 1 :] if at else data


def run(count: int, seed: int | str) -> tuple[Identity, list[Failure]]:
    """Gives an identity `count` packets; nothing at all may come out of it, for it counts."""
    identity = Identity(seed)
    friends = FriendsNonsense(identity)
    nodes = Wrong(identity.engine.dht_key, seed, _HOMES)
    findings = Findings(seed)
    replies: list[bytes] = []
    for number in range(count):
        packet, source = friends.packet(), identity.friend.endpoint
        if replies:
            packet, source = replies.pop(), nodes.home()
        elif number % 4 == 0:
            packet, source = nodes.datagram(), nodes.home()
        with findings.of("identity", packet):
            identity.give(packet, source)
            _learn(identity.turn(), nodes, replies)
        if findings.full:
            break
    return identity, findings.failures


def _learn(sent: Sequence[bytes], nodes: Wrong, replies: list[bytes]) -> None:
    for packet in sent:
        nodes.learn(packet)
        reply = nodes.answer(packet)
        if reply is not None and len(replies) < 100:
            replies.append(reply)
