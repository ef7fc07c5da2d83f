"""One session: its keys, its state, its two streams, and the way its packets go."""

import struct
from collections import Counter
from typing import NamedTuple

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey, SharedKey
from core.endpoint import Endpoint
from core.net_crypto import requests
from core.net_crypto.keeping import (
    KeptReceiveNonce,
    KeptReceiveStream,
    KeptSendNonce,
    KeptSendStream,
)
from core.net_crypto.kept import Kept
from core.net_crypto.lasting import SavedSession
from core.net_crypto.layout import SessionKeys
from core.net_crypto.nonces import ReceiveNonce, SendNonce
from core.net_crypto.parts import Listener, Ways
from core.net_crypto.path import DirectPath
from core.net_crypto.rates import RateRule
from core.net_crypto.receiving import ReceiveStream
from core.net_crypto.sending import BY_RELAY, DIRECT, NEVER, SendStream
from core.net_crypto.states import Event, State, after
from core.packets.net_crypto import MAX_DATA_SIZE, SessionEnd

RESEND_S = 1.0  # c-toxcore net_crypto.h: CRYPTO_SEND_PACKET_INTERVAL
MAX_SENDS = 8  # c-toxcore net_crypto.h: MAX_NUM_SENDPACKET_TRIES
KEEP_S = 3.6  # silence that the peer may hear: twice before its 8 s of UDP are over
ANSWER_S = 2.75  # silence that ends when the peer speaks: one turn for both ends' words
YIELD_S = 3.8  # instead of KEEP_S for who answered: the other is to be the first again
REQUEST_PAUSE_S = 0.01  # peers send requests 50 ms apart; a window's worth takes 2 ms to read
CONFIRMS = 3  # how often a new session says each second that it is up
KILL = SessionEnd().encode()
FIRST_LOSSLESS, LAST_LOSSLESS = 16, 191  # c-toxcore net_crypto.h: PACKET_ID_RANGE_*
FIRST_LOSSY, LAST_LOSSY = 192, 254
MIN_PLAIN_SIZE = 9

_header = struct.Struct(">II")
_pack_header, _read_header = _header.pack, _header.unpack_from
# c-toxcore net_crypto.h: CRYPTO_MAX_PADDING
_PADDING = tuple(bytes((MAX_DATA_SIZE - size) % 8) for size in range(MAX_DATA_SIZE + 1))


class SessionStatus(NamedTuple):
    """What can be said of a session."""

    state: State
    direct: bool
    endpoint: Endpoint | None
    dht_key: PublicKey
    rtt_s: float
    send_rate: float
    """Packets a second."""
    queued: int
    """Lossless packets that the peer has not yet."""
    missing: int
    """Lossless packets of the peer that are known to be on their way or lost."""
    sent_bytes: int
    received_bytes: int


class Session:
    """A session with one peer. What comes in here is addressed to it already.

    With a place in memory that outlives the process (`kept`) it goes on in another one.
    """

    __slots__ = (
        "_drops",
        "_keep_s",
        "_listener",
        "_ready",
        "_requested_at",
        "_shared",
        "_starved",
        "_told_at",
        "_told_start",
        "_ways",
        "base_nonce",
        "changed",
        "confirms",
        "cookie_ms",
        "dht_key",
        "direct",
        "echo",
        "endpoint",
        "from_relay",
        "held_counted",
        "kept",
        "keys",
        "last_sent_at",
        "path",
        "peer_session_key",
        "planned",
        "real_key",
        "receive_nonce",
        "received_bytes",
        "receiving",
        "resend_at",
        "send_nonce",
        "sending",
        "sends",
        "sent_bytes",
        "started_at",
        "state",
        "temp_packet",
        "was_up",
    )

    def __init__(
        self,
        real_key: PublicKey,
        dht_key: PublicKey,
        keys: KeyPair,
        base_nonce: Nonce,
        rule: RateRule,
        ways: Ways,
        listener: Listener,
        drops: Counter[str],
        kept: Kept | None = None,
    ) -> None:
        self.real_key, self.dht_key = real_key, dht_key
        self.keys = keys
        self.kept = kept
        self.base_nonce = base_nonce
        self._ways, self._listener, self._drops = ways, listener, drops
        self.state = State.COOKIE_REQUESTING
        self.was_up = False
        self.path = DirectPath()
        self.direct = False
        self.endpoint: Endpoint | None = None  # where the last packet went; None: to a relay
        self.from_relay: PublicKey | None = None  # how its handshake came: answered the same way
        self.echo = b""
        self.temp_packet = b""  # the cookie request or handshake that is sent until it is answered
        self.sends = 0
        self.started_at = 0.0  # when it was sent first
        self.resend_at = NEVER
        self.cookie_ms = -1  # when the cookie of the peer's handshake was baked
        self.peer_session_key = b""
        self._shared: SharedKey | None = None
        self.receive_nonce: ReceiveNonce | None = None
        self._ready: list[bytes] = []  # in order, to be handed upward together
        self.send_nonce: SendNonce
        self.sending: SendStream
        self.receiving: ReceiveStream
        if kept is None:
            self.send_nonce = SendNonce(base_nonce)
            self.sending = SendStream(self._emit, rule)
            self.receiving = ReceiveStream(self._ready.append)
        else:
            self.send_nonce = KeptSendNonce(base_nonce, kept)
            self.sending = KeptSendStream(self._emit, rule, kept)
            self.receiving = KeptReceiveStream(self._ready.append, kept)
        self.sending.most_in_flight = BY_RELAY  # until something comes by UDP
        self.last_sent_at = -NEVER
        self._keep_s = KEEP_S
        self.confirms = 0
        self.planned = NEVER  # when the module looks at it next
        self.sent_bytes = self.received_bytes = 0
        self.held_counted = 0  # bytes, as the module has counted them
        self.changed = False  # whether `due` may be sooner than it was
        self._told_start = 0  # of our packets: the listener knows that the peer has all before
        self._starved = False  # somebody asked for room since the last word of it
        self._told_at = -NEVER
        self._requested_at = -NEVER

    # State

    def move(self, event: Event) -> bool:
        """Goes where the event leads; False (and counted) if it is not legal here."""
        state = after(self.state, event)
        if state is None:
            self._drops["crypto_state"] += 1
            return False
        self.state = state
        return True

    def begin(self, packet: bytes, now: float) -> None:
        """Sends a cookie request or handshake, which is sent again until it is answered."""
        self.temp_packet = packet
        self.sends = 1
        self.started_at = now
        self.resend_at = now + RESEND_S
        self.transmit(packet, now, always=True)

    def agree(self, session_key: PublicKey, base_nonce: Nonce, cookie_ms: int) -> None:
        """Takes the peer's half of the session; its key is not of low order."""
        self._know(session_key, cookie_ms)
        kept = self.kept
        if kept is None:
            self.receive_nonce = ReceiveNonce(base_nonce)
            return
        kept.agree(
            SessionKeys(
                kept.identity,
                self.real_key,
                self.dht_key,
                self.keys.secret.reveal(),
                session_key,
                self.base_nonce,
                base_nonce,
                cookie_ms,
            )
        )
        self.receive_nonce = KeptReceiveNonce(base_nonce, kept)

    def _know(self, session_key: PublicKey, cookie_ms: int) -> None:
        self._shared = crypto.precompute(self.keys.secret, session_key)
        self.peer_session_key = session_key
        self.cookie_ms = cookie_ms

    def resume(self, saved: SavedSession, now: float) -> None:
        """Goes on where an earlier process was; the way that it had counts as alive now."""
        kept, keys = saved.kept, saved.keys
        self._know(keys.peer_key, keys.cookie_ms)
        self.receive_nonce = KeptReceiveNonce(Nonce(keys.peer_base_nonce), kept)
        self.state = State.ESTABLISHED
        self.was_up = True
        self.confirms = CONFIRMS
        self._told_start = self.sending.start
        self.sending.probe_at = self.sending.pace_at = now
        for endpoint in saved.endpoints:
            self.path.hint(endpoint, now)
        if saved.alive is not None:
            self.path.heard(saved.alive, now)
            self.direct = True
            self.sending.most_in_flight = DIRECT

    # Out

    def transmit(self, packet: bytes, now: float, always: bool = False) -> bool:
        """Sends by UDP if that is alive, else by relay; `always`: by both. False: by none."""
        self.last_sent_at = now
        self.sent_bytes += len(packet)
        best = self.endpoint = self.path.best(now)
        if best is not None:
            self._ways.send_udp(best, packet)
            return True
        targets = self.path.to_probe(len(packet), always, now)
        for endpoint in targets:
            self._ways.send_udp(endpoint, packet)
        back = self.from_relay if always else None
        if back is not None and self._ways.send_oob(back, self.dht_key, packet, now):
            return True
        return self._ways.send_relay(self.dht_key, packet, now) or bool(targets)

    def _seal(self, number: int, data: bytes) -> bytes:
        nonce = self.send_nonce.take()
        plain = _pack_header(self.receiving.start, number) + _PADDING[len(data)] + data
        assert self._shared is not None  # there is one in the states that send
        return b"\x1b" + nonce[22:] + crypto.seal(self._shared, nonce, plain)

    def _emit(self, number: int, data: bytes, now: float) -> bool:
        self.receiving.told_in_passing()
        return self.transmit(self._seal(number, data), now)

    def send_plain(self, data: bytes, now: float) -> bool:
        """Sends a packet without a number of its own: lossy data, a kill."""
        return self.transmit(self._seal(self.sending.next, data), now)

    def tell(self, now: float) -> None:
        """Sends a request packet: what is here, what is missing, and that we are alive."""
        self._told_at = now
        request = self.receiving.request(self.sending.rtt, MAX_DATA_SIZE, now)
        self.send_plain(request, now)

    def _answer(self, now: float) -> None:
        """Says now what would be due at once or soon: this turn sends it for nothing."""
        if self.state is not State.ESTABLISHED:
            return
        silent = self.direct and self.last_sent_at + ANSWER_S <= now
        if silent or self.receiving.request_at <= now:
            self.tell(now)
            self._keep_s = YIELD_S
            self.changed = True
            self.planned = NEVER  # what was planned for this would come in vain

    def room(self) -> int:
        """Returns how many packets of bulk data should be queued now."""
        self._starved = True
        return self.sending.room()

    # In

    def open(self, packet: bytes) -> bytes | None:
        """Returns the plain text of a data packet, or None if it is not of this session."""
        nonce, shared = self.receive_nonce, self._shared
        if nonce is None or shared is None:
            return None
        return crypto.open_sealed(shared, nonce.complete(packet[1:3]), packet[3:])

    def receive(self, packet: bytes, plain: bytes, now: float) -> str:
        """Takes an opened data packet; returns why it is refused, or nothing.

        The state must be one that takes data. A kill moves it to DEAD, and the caller ends it. What
        the packet brings and says has its effect in `settle`.
        """
        assert self.receive_nonce is not None
        position = self.receive_nonce.used(packet[1:3])
        if len(plain) < MIN_PLAIN_SIZE:
            return "crypto_data_empty"
        start, number = _read_header(plain)
        data = plain[8:] if plain[8] else plain[8:].lstrip(b"\0")
        if not data:
            return "crypto_data_empty"
        kind = data[0]
        lossless = FIRST_LOSSLESS <= kind <= LAST_LOSSLESS
        if not lossless and not self.receive_nonce.is_new(position):
            return "crypto_replay"
        sending = self.sending
        fresh: bool | None = True
        if start != sending.start:
            fresh = sending.acknowledge(start, now)
            self.changed = True
        if fresh is None:
            return "crypto_data_window"
        self.received_bytes += len(packet)
        if kind == KILL[0]:
            self.move(Event.KILL)
            return ""
        if self.state is not State.ESTABLISHED:
            self._come_up(now)
        if lossless:
            return self.receiving.take(number, data, now)
        self.changed = True
        return self._take_unnumbered(kind, number, data, fresh, now)

    def _take_unnumbered(self, kind: int, number: int, data: bytes, fresh: bool, now: float) -> str:
        if kind == requests.REQUEST:
            self.receiving.learn_end(number, now)
            if now < self._requested_at + REQUEST_PAUSE_S:
                return "crypto_request_early"
            if fresh:
                self._requested_at = now
                self.sending.request(data[1:], now)
        elif FIRST_LOSSY <= kind <= LAST_LOSSY:
            self.receiving.learn_end(number, now)
            self._hand_up(now)
            if self.state is State.ESTABLISHED:
                self._listener.lossy(self.real_key, data, now)
        else:
            return "crypto_data_id"
        return ""

    def _come_up(self, now: float) -> None:
        self.move(Event.DATA)
        if self.sends == 1 and not self.sending.rtt:
            self.sending.learn_rtt(max(now - self.started_at, 1e-4))
        self.was_up = True
        self.temp_packet = b""
        self.resend_at = NEVER
        self.from_relay = None
        self.confirms = CONFIRMS
        self.changed = True
        if self.kept is not None:
            self.kept.begin(self.path, now)
        self.tell(now)
        self._listener.session_up(self.real_key, now)

    def settle(self, now: float) -> None:
        """Does what follows from packets that came together: hands upward what is in order, and
        sends what the peer's word lets go. The listener may end the session meanwhile."""
        self._hand_up(now)
        if not self.changed or self.state is not State.ESTABLISHED:
            return
        fresh = self.sending.feedback(now)
        if not (fresh or self.sending.missed()):
            return
        self.sending.pump(now)
        if self.sending.start != self._told_start:
            self._tell_start(now)
        else:
            self._offer_room(now)

    def hand_again(self, packets: list[bytes], now: float) -> None:
        """Hands up what is not stored, and whatever waits for that with it."""
        self._ready[:] = packets
        self._hand_up(now)

    def _hand_up(self, now: float) -> None:
        if self._ready:
            packets = self._ready[:]
            self._ready.clear()
            self._listener.lossless(self.real_key, packets, now)

    def _tell_start(self, now: float) -> None:
        self._starved = False
        self._told_start = self.sending.start
        last = (self.sending.start - 1) & 0xFFFFFFFF
        self._listener.acknowledged(self.real_key, last, now)

    def _offer_room(self, now: float) -> None:
        """Lets whoever waited for room know of it, if there is any."""
        if not self._starved or not self.sending.start:
            return
        if 2 * self.sending.room() > self.sending.unsent():
            self._tell_start(now)

    def heard_directly(self, source: Endpoint, now: float) -> None:
        """An authentic packet of the session came by UDP."""
        self.path.heard(source, now)
        if not self.direct and self.state is State.ESTABLISHED:
            self._turn(True, now)
        self._answer(now)

    def _turn(self, direct: bool, now: float) -> None:
        """Goes over UDP from now on, or by relays."""
        self.direct = direct
        self.sending.most_in_flight = DIRECT if direct else BY_RELAY
        if self.kept is not None:
            self.kept.follow(self.path, now)
        self._listener.direct_changed(self.real_key, direct, now)

    # Time

    def due(self) -> float:
        """Returns when `handle_timer` has something to do."""
        if self.state is not State.ESTABLISHED:
            return self.resend_at
        sending = self.sending
        when = min(self._keep_at(), self.receiving.request_at, sending.pace_at, sending.probe_at)
        return min(when, self.path.alive_until()) if self.direct else when

    def _keep_at(self) -> float:
        """Returns when silence is to be broken, so that the direct way stays or comes back."""
        if self.confirms:
            return self._told_at + RESEND_S
        if self.direct:
            return self.last_sent_at + self._keep_s
        return max(self.path.next_probe(), self._told_at + RESEND_S)

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        if self.state is not State.ESTABLISHED:
            if self.resend_at <= now:
                self._resend(now)
            return
        sending = self.sending
        if sending.probe_at <= now:
            sending.probe(now)
        if sending.pace_at <= now:
            sending.pump(now)
        if self.receiving.request_at <= now:
            self.tell(now)
        elif self._keep_at() <= now:
            self.confirms = max(0, self.confirms - 1)
            self._keep_s = KEEP_S
            self.tell(now)
        if self.direct and self.path.alive_until() <= now:
            self._turn(False, now)
        if self.state is State.ESTABLISHED:
            self._offer_room(now)

    def _resend(self, now: float) -> None:
        if self.sends >= MAX_SENDS:
            self.move(Event.EXPIRED)
            return
        self.sends += 1
        self.resend_at = now + RESEND_S
        self.transmit(self.temp_packet, now, always=True)
        if self.state is State.NOT_CONFIRMED:
            self.tell(now)

    def remind(self, now: float) -> None:
        """The peer shook hands again: it does not know yet that the session is up."""
        if self._told_at + RESEND_S / 2 <= now:
            self.tell(now)

    def status(self) -> SessionStatus:
        """Returns what can be said of it."""
        return SessionStatus(
            self.state,
            self.direct,
            self.endpoint,
            self.dht_key,
            self.sending.rtt,
            self.sending.rule.rate(),
            self.sending.queued(),
            self.receiving.missing(),
            self.sent_bytes,
            self.received_bytes,
        )
