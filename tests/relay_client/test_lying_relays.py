"""A pool among relays that say anything at any time, or nothing, or vanish."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.crypto import KeyPair, PublicKey, SharedKeys, increment, seal
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.relay.handshake import Accepted, answer_hello
from core.relay_client import RelayPool, Target
from core.relay_client.connection import RouteState
from core.relay_client.lines import MAX_LINES
from core.relay_client.peers import MAX_TIES
from core.relay_client.pool import MAX_STRANGERS

RELAYS = [KeyPair.generate(SeededEntropy(f"relay {n}")) for n in range(5)]
SHARED = {relay.public: SharedKeys(relay.secret) for relay in RELAYS}
PEERS = [KeyPair.generate(SeededEntropy(f"peer {n}")).public for n in range(4)]
PLACES = [from_text("192.0.2.1", 1000 + n) for n in range(5)]


class Liars:
    """A pool, its sockets, its listener and all relays."""

    def __init__(self) -> None:
        self.now = 100.0
        self.entropy = SeededEntropy("liars")
        self.drops: Counter[str] = Counter()
        self.links: dict[PublicKey, bool] = {}
        self.connected = False
        self.lines: dict[int, bytearray] = {}
        self.sessions: dict[int, Accepted] = {}
        self.room = 1 << 30
        self.data = 0
        self.told = 0
        self.pool = RelayPool(
            KeyPair.generate(self.entropy), self.entropy, self, self, self.drops, self.now
        )

    def dial(self, line: int, target: Target) -> None:
        assert line not in self.lines
        self.lines[line] = bytearray()

    def write(self, line: int, data: bytes) -> int:
        taken = min(self.room, len(data))
        self.room -= taken
        self.lines[line] += data[:taken]
        return taken

    def hang_up(self, line: int) -> None:
        del self.lines[line]
        self.sessions.pop(line, None)

    def relay_data(self, dht_key: PublicKey, data: bytes, now: float) -> None:
        self.data += 1
        if data[0] & 15 == 7:
            self.pool.remove_peer(dht_key, now)
            self.links.pop(dht_key, None)

    def relay_oob(self, relay_key: PublicKey, dht_key: PublicKey, data: bytes, now: float) -> None:
        if data[0] & 1:
            self.pool.add_peer(dht_key, now)
        self.pool.send_oob(relay_key, dht_key, b"\x19", now)

    def relay_onion(self, relay_key: PublicKey, data: bytes, now: float) -> None:
        self.data += 1

    def relay_link(self, dht_key: PublicKey, linked: bool, now: float) -> None:
        assert self.links.get(dht_key, False) is not linked, "told twice"
        self.links[dht_key] = linked
        self.told += 1
        if linked:
            self.pool.send(dht_key, b"\x1b", now)
        elif self.told % 3 == 0:
            self.pool.set_sleeping(dht_key, self.told % 2 == 0, now)
        elif self.told % 7 == 0:
            self.pool.remove_peer(dht_key, now)
            self.links.pop(dht_key, None)

    def relay_connected(self, connected: bool, now: float) -> None:
        assert self.connected is not connected, "told twice"
        self.connected = connected

    def step(self, op: str, number: int, raw: bytes) -> None:
        """Does one thing; `number` chooses whom it concerns."""
        pool, now, peer = self.pool, self.now, PEERS[number % len(PEERS)]
        relay = number % len(RELAYS)
        line = sorted(self.lines)[number % len(self.lines)] if self.lines else 0
        if op == "add relay":
            pool.add_relay(PLACES[relay], RELAYS[relay].public, now)
        elif op == "add peer":
            pool.add_peer(peer, now)
        elif op == "remove peer":
            pool.remove_peer(peer, now)
            self.links.pop(peer, None)
        elif op == "relay of":
            pool.add_relay_of(peer, PLACES[relay], RELAYS[relay].public, now)
        elif op == "sleep":
            pool.set_sleeping(peer, bool(raw and raw[0] & 1), now)
        elif op == "onion":
            pool.keep_for_onion(bool(raw and raw[0] & 1), now)
        elif op == "send":
            pool.send(peer, raw or b"\x1b", now)
        elif op == "works":
            pool.relay_works(peer, now)
        elif op == "full":
            self.room = len(raw)
        elif op == "room":
            self.room = 1 << 30
            for each in list(self.lines):
                pool.handle_writable(each, now)
        elif op == "wait":
            self.wait(number)
        elif not line:
            return
        elif op == "accept":
            self.accept(line)
        elif op == "close":
            pool.handle_closed(line, now)
        elif op == "garbage":
            pool.handle_bytes(line, raw, now)
        elif op == "frame" and line in self.sessions:
            self.frame(line, raw)
        elif op == "good" and line in self.sessions:
            self.link(line, peer)

    def accept(self, line: int) -> None:
        if line in self.sessions:
            return
        self.pool.handle_connected(line, self.now)
        key = self.pool._lines[line].key
        hello = bytes(self.lines[line][:128])
        accepted = answer_hello(hello, SHARED[key], self.entropy) if len(hello) == 128 else None
        if accepted is not None:
            self.sessions[line] = accepted
            self.pool.handle_bytes(line, accepted.answer, self.now)

    def link(self, line: int, peer: PublicKey) -> None:
        """Does what an honest relay would do for this peer next."""
        connection = self.pool._lines[line].connection
        assert connection is not None
        state = connection.route_state(peer)
        link = bytes((16 + PEERS.index(peer),))
        if state is RouteState.ASKED:
            self.frame(line, b"\x01" + link + peer)
        elif state is RouteState.GIVEN:
            self.frame(line, b"\x02" + link)
        elif state is RouteState.LINKED:
            self.frame(line, link + b"data")
        else:
            self.frame(line, b"\x07" + peer + b"oob")

    def warm(self, relays: int) -> None:
        """Begins with relays that are connected and peers that are linked by them."""
        for number in range(relays):
            for peer in range(2):
                self.step("add peer", peer, b"")
                self.pool.add_relay_of(PEERS[peer], PLACES[number], RELAYS[number].public, self.now)
        for line in list(self.lines):
            self.accept(line)
            for key in PEERS[:2] * 3:
                self.link(line, key)

    def frame(self, line: int, packet: bytes) -> None:
        session = self.sessions.get(line)
        if session is None:
            return
        box = seal(session.shared, session.send_nonce, packet)
        self.sessions[line] = session._replace(send_nonce=increment(session.send_nonce))
        self.pool.handle_bytes(line, len(box).to_bytes(2, "big") + box, self.now)

    def wait(self, seconds: int) -> None:
        until = self.now + seconds
        calls = 0
        while (due := self.pool.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.pool.handle_timer(self.now)
            after = self.pool.next_timer()
            assert after is None or after > self.now, "due again at once"
            calls += 1
            assert calls < 2000, "it polls"
        self.now = until

    def check(self) -> None:
        """What holds at any time."""
        pool = self.pool
        rows = pool.status()
        assert set(self.lines) == set(pool._lines)
        assert len(self.lines) <= MAX_LINES
        connected = sum(row.state == "connected" for row in rows)
        assert connected == pool._connected
        assert pool.is_connected() is self.connected is (connected > 0)
        for peer in PEERS:
            assert pool.is_linked(peer) is self.links.get(peer, False)
        for known in pool._peers.values():
            assert len(known.ties) <= MAX_TIES
            assert known.linked is (known.links() > 0)
            for key, tie in known.ties.items():
                assert pool._relays[key] is tie.relay
                assert tie.relay.peers[known.key] is known
        for relay in pool._relays.values():
            assert all(pool._peers[key] is peer for key, peer in relay.peers.items())
            assert (relay.connection is not None) is (
                relay.state.value in ("connecting", "connected")
            )
            assert relay.general or relay.peers or relay.state.value not in ("idle", "rests")
        assert len(pool._strangers) <= MAX_STRANGERS
        assert all(row.waiting < 64 * 1024 for row in rows)
        onion = pool.onion_relays()
        assert len(onion) <= 3


OPS = (
    "add relay",
    "add peer",
    "remove peer",
    "relay of",
    "sleep",
    "onion",
    "send",
    "works",
    "full",
    "room",
    "wait",
    "accept",
    "close",
    "garbage",
    "frame",
    "good",
)
_RAW = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda link, peer: bytes((1, link)) + peer, st.integers(0, 255), st.sampled_from(PEERS)
    ),
    st.builds(lambda kind, link: bytes((kind, link)), st.integers(2, 3), st.integers(0, 255)),
    st.builds(lambda peer, data: b"\x07" + peer + data, st.sampled_from(PEERS), st.binary()),
)
_STEP = st.tuples(st.sampled_from(OPS), st.integers(0, 60), _RAW)
_OFTEN = st.tuples(
    st.sampled_from(("relay of", "add peer", "accept", "good", "good", "send", "wait", "close")),
    st.integers(0, 20),
    st.just(b"\x1b"),
)


@given(st.integers(0, 5), st.lists(st.one_of(_OFTEN, _STEP), max_size=60))
def test_a_pool_stays_consistent_whatever_relays_and_owner_do(
    relays: int, steps: list[tuple[str, int, bytes]]
) -> None:
    world = Liars()
    world.warm(relays)
    assert world.data == 2 * relays
    world.check()
    for op, number, raw in steps:
        world.step(op, number, raw)
        world.check()
    for peer in PEERS:
        world.pool.remove_peer(peer, world.now)
        world.links.pop(peer, None)
    world.check()
