"""The sessions of one identity: who shakes hands with us, and where each packet belongs."""

from collections import Counter
from collections.abc import Callable, Sequence

from core.crypto import NONCE_SIZE, KeyPair, Nonce, PublicKey, SharedKey, SharedKeys
from core.endpoint import Endpoint, prefix_of
from core.entropy import Entropy
from core.net_crypto.bandwidth import Bandwidth
from core.net_crypto.cookies import Cookie
from core.net_crypto.handshakes import Handshakes
from core.net_crypto.kept import Kept
from core.net_crypto.lasting import SavedSession, SessionMemory
from core.net_crypto.limits import CookieLimits
from core.net_crypto.memory import HeldMemory
from core.net_crypto.outliving import LastingSessions
from core.net_crypto.parts import Listener, Ways
from core.net_crypto.rates import RateRule
from core.net_crypto.sending import NEVER, WINDOW
from core.net_crypto.session import (
    FIRST_LOSSLESS,
    FIRST_LOSSY,
    KILL,
    LAST_LOSSLESS,
    LAST_LOSSY,
    Session,
    SessionStatus,
)
from core.net_crypto.states import Event, State
from core.net_crypto.table import NOBODY, SessionTable
from core.net_crypto.tags import NO_TAG, Tag
from core.packets.net_crypto import (
    MAX_CRYPTO_SIZE,
    MAX_DATA_SIZE,
    CookieRequest,
    CookieResponse,
    CryptoHandshake,
    CryptoHandshakeBody,
)
from core.timers import Timers
from core.wire import WireError

FREE_SLOTS = 16  # c-toxcore Messenger.c: MIN_SLOTS_FREE, kept from bulk data
MIN_DATA_SIZE = 28  # c-toxcore net_crypto.c: CRYPTO_DATA_PACKET_MIN_SIZE, and a byte


class NetCrypto:
    """The end-to-end encrypted sessions of one identity, by the real keys of its peers.

    A session is authentic to both real keys; a stranger gets no further than a cookie, which costs
    us nothing to keep. `rates` makes the rule that decides how fast a session sends, `memory` is
    what all sessions may hold of packets that came too early (several identities may share one).
    With `kept` the sessions outlive the process: `resume` takes them up again.
    """

    def __init__(
        self,
        real: KeyPair,
        dht: KeyPair,
        dht_keys: SharedKeys,
        entropy: Entropy,
        ways: Ways,
        drops: Counter[str],
        now: float,
        cookie_key: SharedKey | None = None,
        rates: Callable[[float, int], RateRule] = Bandwidth,
        memory: HeldMemory | None = None,
        kept: SessionMemory | None = None,
    ) -> None:
        self.drops = drops
        self._identity = real.public
        self._handshakes = Handshakes(real, dht, dht_keys, cookie_key, entropy, drops)
        self._entropy = entropy
        self._ways = ways
        self.listener: Listener
        """Who is told; to be set before the first packet: friend connections need this first."""
        self._udp_limits, self._relay_limits = CookieLimits(), CookieLimits()
        self._rates = rates
        self._memory = memory or HeldMemory()
        self._table = SessionTable()
        self._sessions = self._table.by_real_key
        self.timers: Timers[Session] = Timers()
        """When `handle_timer` wants to be called, for whom."""
        self._kept = kept
        self.lasting: LastingSessions | None = None
        """What the layer above says and asks of sessions that are kept."""
        if kept is not None:
            self.lasting = LastingSessions(real.public, kept, self._table, self._plan)

    # Packets in

    def handle_udp(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes a datagram of kind 18, 19, 1a or 1b. Raises WireError, but for a bad 1b."""
        if not packet:
            raise WireError("CryptoData", "is empty")
        kind = packet[0]
        if kind == 0x1B:
            self.handle_data((packet,), source, now)
        elif kind == 0x18:
            prefix = prefix_of(source)
            limits, send = self._udp_limits, self._ways.send_udp
            self._take_request(packet, limits, prefix, None, lambda a: send(source, a), now)
        elif kind == 0x19:
            self._take_response(packet, self._table.at_endpoint.get(source, NOBODY), source, now)
        elif kind == 0x1A:
            self._take_handshake(packet, source, None, now)

    def handle_data(self, packets: Sequence[bytes], source: Endpoint, now: float) -> None:
        """Takes datagrams of kind 1b that came together from one address."""
        self._take_data(packets, self._table.at_endpoint.get(source, NOBODY), source, now)

    def handle_relay(self, dht_key: PublicKey, packet: bytes, now: float) -> None:
        """Takes what came on the link with a peer through a relay. Raises WireError."""
        if not packet:
            raise WireError("CryptoData", "is empty")
        kind = packet[0]
        if kind == 0x1B:
            self._take_data((packet,), self._table.of_dht_key.get(dht_key, NOBODY), None, now)
        elif kind == 0x18:
            limits, send = self._relay_limits, self._ways.send_relay
            self._take_request(
                packet, limits, dht_key, dht_key, lambda a: send(dht_key, a, now), now
            )
        elif kind == 0x19:
            self._take_response(packet, self._table.of_dht_key.get(dht_key, NOBODY), None, now)
        elif kind == 0x1A:
            self._take_handshake(packet, None, None, now)
        else:
            self.drops["crypto_relay_kind"] += 1

    def handle_oob(
        self, relay_key: PublicKey, dht_key: PublicKey, packet: bytes, now: float
    ) -> None:
        """Takes what came out of band through a relay: 18 and 1a alone. Raises WireError."""
        if not packet:
            raise WireError("CryptoHandshake", "is empty")
        if packet[0] == 0x18:
            limits, send = self._relay_limits, self._ways.send_oob
            self._take_request(
                packet, limits, dht_key, dht_key, lambda a: send(relay_key, dht_key, a, now), now
            )
        elif packet[0] == 0x1A:
            self._take_handshake(packet, None, relay_key, now)
        else:
            self.drops["crypto_relay_kind"] += 1

    # Handshakes

    def _take_request(
        self,
        packet: bytes,
        limits: CookieLimits,
        source: bytes,
        named: PublicKey | None,
        answer: Callable[[bytes], object],
        now: float,
    ) -> None:
        """`named` is who the relay says it is from."""
        request = CookieRequest.decode(packet)
        if named is not None and request.sender != named:
            self.drops["crypto_cookie_sender"] += 1
            return
        expected = request.sender in self._table.of_dht_key
        response = self._handshakes.answer_request(request, limits, source, expected, now)
        if response is not None:
            answer(response)

    def _take_response(
        self, packet: bytes, sessions: tuple[Session, ...], source: Endpoint | None, now: float
    ) -> None:
        response = CookieResponse.decode(packet)
        for session in sessions:
            if session.state is not State.COOKIE_REQUESTING:
                continue
            cookie = self._handshakes.open_response(response, session)
            if cookie is None:
                continue
            session.move(Event.COOKIE)
            if session.sends == 1:
                session.sending.learn_rtt(max(now - session.started_at, 1e-4))
            self._heard(session, source, now)
            session.begin(self._handshakes.shake(session, cookie, now), now)
            self._plan(session)
            return
        self.drops["crypto_cookie_response"] += 1

    def _take_handshake(
        self, packet: bytes, source: Endpoint | None, relay_key: PublicKey | None, now: float
    ) -> None:
        opened = self._handshakes.open_handshake(CryptoHandshake.decode(packet), now)
        if opened is None:
            return
        cookie, body = opened
        session = self._session_for(cookie, body, source, now)
        if session is None:
            return
        began = session.state is State.COOKIE_REQUESTING
        session.agree(body.session_key, body.base_nonce, cookie.baked_ms)
        session.move(Event.HANDSHAKE)
        session.from_relay = relay_key
        self._heard(session, source, now)
        if began:
            session.begin(self._handshakes.shake(session, body.cookie, now), now)
        if session.state is State.NOT_CONFIRMED:
            session.tell(now)
            self._plan(session)

    def _session_for(
        self, cookie: Cookie, body: CryptoHandshakeBody, source: Endpoint | None, now: float
    ) -> Session | None:
        """Returns the session that takes a valid handshake, perhaps a new one; None if none does.

        A handshake with another session key ends the session there is, but only if its cookie is
        younger than the one by which that session came: whoever replays old handshakes ends none.
        """
        real_key, dht_key = cookie.real_key, cookie.dht_key
        session = self._sessions.get(real_key)
        if session is not None and session.peer_session_key:
            if session.peer_session_key == body.session_key:
                self.drops["crypto_handshake_again"] += 1
                if session.state is State.ESTABLISHED:
                    session.remind(now)
                return None
            if cookie.baked_ms <= session.cookie_ms:
                self.drops["crypto_handshake_old"] += 1
                return None
        if session is not None and (session.peer_session_key or session.dht_key != dht_key):
            self._remove(session)
            self.listener.session_down(real_key, now)
            if session.dht_key != dht_key:
                self.listener.new_dht_key(real_key, dht_key, now)
            session = self._sessions.get(real_key)
        if session is None:
            if not self.listener.accepts(real_key, dht_key, source, now):
                self.drops["crypto_refused"] += 1
                return None
            session = self._sessions.get(real_key) or self._add(real_key, dht_key, now)
        if session is not None and (session.dht_key != dht_key or session.peer_session_key):
            return None  # the listener has done otherwise meanwhile
        return session

    # Data

    def _take_data(
        self,
        packets: Sequence[bytes],
        sessions: tuple[Session, ...],
        source: Endpoint | None,
        now: float,
    ) -> None:
        """Takes data packets that came together: the hot path of everything that arrives.

        For each packet there is its box, its header, and its place in the stream; all else is done
        once for all of them (`_settle`), so that a file's packets cost the less the more there are.
        """
        taken: Session | None = None  # whose packets they are
        heard = False  # whether one was good
        for packet in packets:
            if not MIN_DATA_SIZE <= len(packet) <= MAX_CRYPTO_SIZE:
                self.drops["wire:CryptoData"] += 1
                continue
            for session in sessions:
                plain = session.open(packet)
                if plain is not None:
                    break
            else:
                self.drops["crypto_data_box" if sessions else "crypto_data_unknown"] += 1
                continue
            if session is not taken:
                if taken is not None:
                    self._settle(taken, source if heard else None, now)
                taken, heard = session, False
            reason = session.receive(packet, plain, now)
            if reason:
                self.drops[reason] += 1
            else:
                heard = True
            if session.state is State.DEAD:
                self._settle(session, None, now)
                taken = None
                sessions = tuple(one for one in sessions if one is not session)
        if taken is not None:
            self._settle(taken, source if heard else None, now)

    def _settle(self, session: Session, source: Endpoint | None, now: float) -> None:
        """Does what follows from a session's packets; `source`: where good ones came from."""
        if not self._table.has(session):
            return  # the listener closed it
        session.settle(now)
        if session.state is State.DEAD:
            self._ended(session, now)
            return
        if source is not None:
            session.heard_directly(source, now)
        if session.receiving.held_bytes != session.held_counted and not self._count_held(session):
            self._free_memory(now)
        if session.changed or session.receiving.request_at < session.planned:
            session.changed = False
            if session.due() < session.planned:
                self._plan(session)

    def _count_held(self, session: Session) -> bool:
        more = session.receiving.held_bytes - session.held_counted
        session.held_counted += more
        return self._memory.hold(more)

    def _free_memory(self, now: float) -> None:
        """Ends the session that holds most; what it holds the peer has let go of already."""
        worst = max(self._sessions.values(), key=lambda one: one.receiving.held_bytes)
        self.drops["crypto_memory"] += 1
        worst.send_plain(KILL, now)
        worst.move(Event.CLOSED)
        self._ended(worst, now)

    def _heard(self, session: Session, source: Endpoint | None, now: float) -> None:
        """A valid handshake or cookie came from there."""
        if source is None:
            return
        before = session.path.all()
        session.path.heard(source, now)
        self._table.follow(session, before)
        session.heard_directly(source, now)

    # Commands

    def open(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> None:
        """Begins a session unless there is one; with another DHT key the old one is killed.

        The listener hears `session_down` of a session that was up and is killed so.
        """
        session = self._sessions.get(real_key)
        if session is not None:
            if session.dht_key == dht_key:
                return
            self._kill(session, now)
            if session.was_up:
                self.listener.session_down(real_key, now)
            if real_key in self._sessions:
                return
        if not self._handshakes.can_meet(real_key, dht_key):
            return
        session = self._add(real_key, dht_key, now)
        if session is not None:
            session.begin(self._handshakes.ask_cookie(session), now)
            self._plan(session)

    def close(self, real_key: PublicKey, now: float) -> None:
        """Ends a session, and tells the peer so; `session_down` is not called."""
        session = self._sessions.get(real_key)
        if session is not None:
            self._kill(session, now)

    def set_endpoint(self, real_key: PublicKey, endpoint: Endpoint, now: float) -> None:
        """Takes a direct address that the DHT found; one of each family is kept."""
        session = self._sessions.get(real_key)
        if session is None:
            return
        before = session.path.all()
        if not session.path.hint(endpoint, now):
            return
        self._table.follow(session, before)
        if session.kept is not None:
            session.kept.follow(session.path, now)
        if session.temp_packet:
            self._ways.send_udp(endpoint, session.temp_packet)  # do not wait for the next second
        elif session.state is State.ESTABLISHED and not session.direct:
            session.tell(now)

    def send(
        self, real_key: PublicKey, data: bytes, now: float, tag: Tag = NO_TAG
    ) -> int | None:
        """Sends lossless data, id byte (16-191) first, at most 1,373 bytes.

        Returns its number, which `acknowledged` tells of; None: no session, or its window is full,
        or what is to outlive the process. By its tag `lasting` tells of it.
        """
        if not 1 <= len(data) <= MAX_DATA_SIZE or not FIRST_LOSSLESS <= data[0] <= LAST_LOSSLESS:
            raise ValueError(f"{len(data)} bytes with id {data[:1].hex()} are not lossless data")
        session = self._sessions.get(real_key)
        if session is None or session.state is not State.ESTABLISHED:
            return None
        sending = session.sending
        number = sending.queue(data, tag)
        if number is not None and sending.is_ready(now):
            sending.pump(now)
            if session.due() < session.planned:
                self._plan(session)
        return number

    def send_lossy(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        """Sends data, id byte (192-254) first, that may be lost; False: it cannot be sent."""
        if not 1 <= len(data) <= MAX_DATA_SIZE or not FIRST_LOSSY <= data[0] <= LAST_LOSSY:
            raise ValueError(f"{len(data)} bytes with id {data[:1].hex()} are not lossy data")
        session = self._sessions.get(real_key)
        if session is None or session.state is not State.ESTABLISHED:
            return False
        return session.send_plain(data, now)

    def room(self, real_key: PublicKey) -> int:
        """Returns how many packets of bulk data are wanted now; 16 slots are kept for the rest.

        When it has become more, `acknowledged` is called.
        """
        session = self._sessions.get(real_key)
        if session is None or session.state is not State.ESTABLISHED:
            return 0
        return max(0, min(session.room(), WINDOW - FREE_SLOTS - session.sending.span()))

    def status(self, real_key: PublicKey) -> SessionStatus | None:
        """Returns what can be said of a session, or None if there is none."""
        session = self._sessions.get(real_key)
        return None if session is None else session.status()

    # Time

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        self._udp_limits.tidy(now)
        self._relay_limits.tidy(now)
        for session in self.timers.expired(now):
            if not self._table.has(session):
                continue
            session.planned = NEVER
            session.handle_timer(now)
            if session.state is State.DEAD:
                self._ended(session, now)
            elif self._table.has(session):
                self._plan(session)

    def next_timer(self) -> float | None:
        """Returns when handle_timer is wanted next."""
        return self.timers.next()

    def _plan(self, session: Session) -> None:
        due = session.due()
        if due != NEVER and self._table.has(session):
            session.planned = due
            self.timers.set(session, due)

    # The table

    def __len__(self) -> int:
        return len(self._sessions)

    def _add(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> Session | None:
        if self._table.is_full():
            self.drops["crypto_sessions_full"] += 1
            return None
        kept = None
        if self._kept is not None:
            kept = self._kept.new(self._identity, real_key, self._entropy)
            if kept is None:
                self.drops["crypto_sessions_full"] += 1
                return None
        keys, nonce = KeyPair.generate(self._entropy), Nonce(self._entropy.bytes(NONCE_SIZE))
        session = self._make(real_key, dht_key, keys, nonce, kept, now)
        self._table.add(session)
        return session

    def _make(
        self,
        real_key: PublicKey,
        dht_key: PublicKey,
        keys: KeyPair,
        nonce: Nonce,
        kept: Kept | None,
        now: float,
    ) -> Session:
        rule = self._rates(now, self._entropy.below(8))
        ways, listener = self._ways, self.listener
        return Session(real_key, dht_key, keys, nonce, rule, ways, listener, self.drops, kept)

    def resume(self, now: float) -> list[PublicKey]:
        """Takes up the sessions that an earlier process of this identity left; to be called once,
        before the first packet.

        Returns the real keys of their peers. The listener is told nothing; what was not stored
        comes by `lasting.hand_again`. One that cannot go on is killed.
        """
        if self._kept is None:
            return []
        saved = self._kept.take_up(self._identity)
        return [one.keys.real_key for one in saved if self._resume(one, now)]

    def _resume(self, saved: SavedSession, now: float) -> bool:
        real_key, dht_key, secret = saved.keys[1:4]
        keys = KeyPair.from_secret(secret)
        session = self._make(real_key, dht_key, keys, saved.first_nonce, saved.kept, now)
        session.resume(saved, now)
        if not saved.is_whole or self._table.is_full() or real_key in self._sessions:
            self.drops["crypto_kept_torn"] += 1
            session.send_plain(KILL, now)
            saved.kept.forget()
            return False
        self._table.add(session)
        self._table.follow(session, [])
        self._count_held(session)
        session.tell(now)
        self._plan(session)
        return True

    def _kill(self, session: Session, now: float) -> None:
        if session.state is State.ESTABLISHED:
            session.send_plain(KILL, now)
        session.move(Event.CLOSED)
        self._remove(session)

    def _ended(self, session: Session, now: float) -> None:
        if self._table.has(session):
            self._remove(session)
            self.listener.session_down(session.real_key, now)

    def _remove(self, session: Session) -> None:
        session.state = State.DEAD
        session.receive_nonce = None  # nothing more of it is opened
        self._table.remove(session)
        self.timers.stop(session)
        self._memory.hold(-session.held_counted)
        if session.kept is not None:
            session.kept.close(session.was_up, session.receiving.start)
