"""The relay shard once more, in the words of the declared packets: clear and slow.

A frame is opened alone, decoded by its class, and what it leads to is written down. What waits, and
for how long, are the rules of docs/architecture.md ("A receiver that does not keep up").

Three things differ from the declarations on purpose: a disconnect notice for a link id below 16 is
one for a link that was never given out; an onion request of a size that the next hop would not take
is counted, and closes only below 160 bytes; and addresses are read leniently, as by hops (an IPv4
address mapped into IPv6 is IPv4).
"""

from collections import Counter
from dataclasses import KW_ONLY, dataclass, field

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey, SharedKey
from core.endpoint import FAMILY_TCP_CLIENT, IP_PORT_SIZE, Endpoint
from core.entropy import Entropy
from core.module import Collected, Context
from core.packets.forwarding import Forwarding
from core.packets.onion import RETURN1_SIZE, OnionRequest1
from core.packets.relay import (
    MAX_FRAME_SIZE,
    RELAY_PACKETS,
    ClientHello,
    ConnectNotice,
    DisconnectNotice,
    HelloBody,
    OobReceive,
    OobSend,
    RelayData,
    RelayForwardRequest,
    RelayHello,
    RelayOnionRequest,
    RelayPing,
    RelayPong,
    RouteRequest,
    RouteResponse,
)
from core.relay import frames
from core.wire import Record, WireError
from tests.equality.rules import (
    SENDBACK_WINDOW_S,
    ReturnBoxes,
    Tags,
    padded_address,
    refused_target,
)

AHEAD_LOCAL = 32 << 10  # bytes sealed for a client before the broker has applied them
AHEAD_REMOTE = 16 << 10  # bytes handed to another shard
FRAME_EXTRA = 18  # length 2, MAC 16
PAST_FULL = 24 << 10  # bytes from one who is full to others who are, until it has room
HOLD_S = 7.0  # for one whose worker is or was away, though a ping is due
PAUSE_S = 1.0  # how long a sender waits for a receiver that is full
PING_INTERVAL_S = 30.0  # c-toxcore TCP_common.h: TCP_PING_FREQUENCY
LOOK_S = 0.05  # how often pauses are looked at without a reason

FRAME_SIZE = "frame_size"  # the length in front is none
FRAME_BOX = "frame_box"  # the box does not open, or has nothing in it
KIND = "kind"  # only a relay sends this, or nobody
NO_LINK = "no_link"  # a link id that was not given out
HELLO = "hello"  # not made for our key
CLOSES: dict[type[Record], str] = {
    RouteRequest: "route_size",
    ConnectNotice: "notice_size",
    DisconnectNotice: "notice_size",
    RelayPing: "ping_size",
    RelayPong: "pong_size",
    OobSend: "oob_size",
    RelayOnionRequest: "onion_size",
    RelayForwardRequest: "forward_size",
}
"""Why a connection is closed over a packet that is none of its class; a pong with the id 0, which
is none either, closes as `pong_zero`."""


@dataclass(eq=False)
class Receiver:
    """Whom frames are for: what is on its way to it, and what the broker says of its queue."""

    limit: int
    ahead: int = 0
    full: bool = False
    held: bool = False

    def has_room(self) -> bool:
        """Tells whether one more frame may be handed over."""
        return not self.full and self.ahead < self.limit


@dataclass(eq=False)
class Row:
    """What one input did to a connection."""

    consumed: int = 0
    received: int = 0
    sealed: int = 0
    done: int = 0
    out: bytes = b""


@dataclass(eq=False)
class Connection(Receiver):
    """A client of this shard."""

    limit: int = AHEAD_LOCAL
    _: KW_ONLY
    serial: int
    shared: SharedKey
    receive: Nonce
    send: Nonce
    confirmed: bool = False
    private: bool = False
    ping_id: int | None = None
    pinged: float | None = None
    links: dict[int, tuple[int, int] | None] = field(default_factory=dict)
    routes: int = 0
    rest: bytes = b""
    wait: int = frames.GO_ON
    waits_for: Receiver | None = None
    paused_since: float | None = None
    past: int = 0  # bytes of frames for full receivers, while its own queue is full
    held_since: float | None = None
    dropping: set[int] = field(default_factory=set)
    row: Row = field(default_factory=Row)
    closed: bool = False

    def is_behind(self) -> bool:
        """Its queue is full, and its stream may bring the answer that empties it."""
        return self.full and not self.held

    def may_pause(self, now: float) -> bool:
        """Tells whether its stream may wait: no ping, ours or its own, may be kept waiting."""
        if self.ping_id is not None or self.is_behind():
            return False
        if self.pinged is None or now - self.pinged > 1.5 * PING_INTERVAL_S:
            self.pinged = now
            return True
        return now - self.pinged < PING_INTERVAL_S - 1.0


class Closed(Exception):
    """A connection ends, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Waits(Exception):
    """A frame has to be taken again later."""

    def __init__(self, wait: int, receiver: Receiver | None = None) -> None:
        super().__init__(wait)
        self.wait = wait
        self.receiver = receiver


class DeclaredRelay:
    """One relay shard: `take` is one input, and what it leads to is read from the attributes."""

    def __init__(self, context: Context, out: Collected, hellos: Entropy) -> None:
        """`hellos`: where keys and nonces of handshakes come from; others are of `context`."""
        self.context = context
        self.out = out
        self._hellos = hellos
        self.connections: dict[int, Connection] = {}
        self.remotes: dict[int, Receiver] = {}
        self.effects: list[tuple[object, ...]] = []
        self.drops: Counter[str] = Counter()
        self.ended: list[Connection] = []
        """Connections that this input closed: what was sealed for them still goes out."""
        self._handed: list[tuple[int, Receiver, int]] = []  # sequence, for whom, bytes
        self._waiting: list[Connection] = []
        self._next_look = 0.0
        self._returns = ReturnBoxes(context.master)
        self._tags = Tags(context.master, "forwarding sendback", SENDBACK_WINDOW_S)
        self._sequence = 0

    def begin(self, sequence: int, applied: int) -> None:
        """Begins an input: the broker has applied the commits up to `applied`."""
        self._sequence = sequence
        self.effects, self.drops, self.ended = [], Counter(), []
        for connection in self.connections.values():
            connection.row = Row()
        for number, receiver, size in self._handed:
            if number <= applied:
                receiver.ahead -= size
        self._handed = [row for row in self._handed if row[0] > applied]
        self._forget_idle()

    def note(self, serial: int, note: int) -> None:
        """Learns from the broker how full a receiver's queue is, or that it is gone."""
        connection = self.connections.get(serial)
        if note == frames.FORGET:
            if connection is not None:
                self._forget(connection)
            return
        receiver = self._receiver(serial) if connection is None else connection
        receiver.full = note != frames.ROOM
        receiver.held = note == frames.HELD
        if note == frames.ROOM and connection is not None:
            connection.past = 0
        self._forget_idle()

    def _forget_idle(self) -> None:
        """Receivers of other shards that have room and nothing on its way are forgotten; who waits
        for one that was forgotten waits no longer."""
        self.remotes = {
            serial: receiver
            for serial, receiver in self.remotes.items()
            if receiver.ahead or receiver.full
        }

    def adopt(self, connection: Connection) -> None:
        """Takes a connection over: it is of this shard now."""
        self.remotes.pop(connection.serial, None)
        self.connections[connection.serial] = connection

    def _receiver(self, serial: int) -> Receiver:
        return self.remotes.setdefault(serial, Receiver(AHEAD_REMOTE))

    # What the broker has for clients

    def inbox(
        self, serial: int, frame: bytes, peer: tuple[int, int] | None, now: float
    ) -> None:
        """Seals a plain frame for its client; `peer` is the other half of a link that came up."""
        connection = self.connections.get(serial)
        if connection is None:
            return
        connection.row.done += 1
        self._seal(connection, frame)
        if frame[0] >= 16:
            return
        match RELAY_PACKETS[frame[0]].decode(frame):
            case RelayPing() as ping:
                if peer is None:  # else the broker asks how far the client has read
                    connection.ping_id = ping.ping_id
            case RouteResponse() as response:
                if response.link:
                    connection.links.setdefault(response.link, None)
                if peer is not None:
                    connection.links[response.link] = peer
                    self._seal(connection, ConnectNotice(response.link).encode())
                connection.routes = max(0, connection.routes - 1)
                if connection.wait == frames.ANSWER:
                    self._resume(connection, now)
            case ConnectNotice() as notice:
                if peer is not None and notice.link in connection.links:
                    connection.links[notice.link] = peer
            case DisconnectNotice() as gone:
                if gone.link in connection.links:
                    connection.links[gone.link] = None
            case OobReceive():
                pass

    def _seal(self, connection: Connection, plain: bytes) -> None:
        """Seals a frame: its size, and the box under the next nonce."""
        box = crypto.seal(connection.shared, connection.send, plain)
        connection.send = crypto.increment(connection.send)
        frame = len(box).to_bytes(2, "big") + box
        connection.row.out += frame
        connection.row.sealed += 1
        connection.ahead += len(frame)
        self._handed.append((self._sequence, connection, len(frame)))

    def hello(self, serial: int, data: bytes, private: bool) -> None:
        """Answers a client hello."""
        keys, entropy = self.context.keys, self._hellos
        try:
            hello = ClientHello.decode(data)
            shared = crypto.precompute(keys.secret, hello.sender)
            if shared is None:
                raise WireError("ClientHello", "a key of low order")
            body = HelloBody.open(shared, hello.nonce, hello.sealed)
            own = KeyPair.generate(entropy)
            session = crypto.precompute(own.secret, body.temporary_key)
            if session is None:
                raise WireError("HelloBody", "a key of low order")
        except WireError:
            self.effects.append((frames.CLOSE, serial, HELLO))
            return
        base = Nonce(entropy.bytes(24))
        nonce = Nonce(entropy.bytes(24))
        answer = RelayHello(nonce, HelloBody(own.public, base).seal(shared, nonce))
        connection = Connection(
            serial=serial, shared=session, receive=body.base_nonce, send=base, private=private
        )
        connection.row = Row(consumed=len(data), out=answer.encode())
        self.connections[serial] = connection
        self.effects.append((frames.HELLO, serial, session, body.base_nonce, base))

    # What clients say

    def stream(self, serial: int, data: bytes, now: float) -> None:
        """Takes a part of a client's stream."""
        connection = self.connections.get(serial)
        if connection is None:
            return
        connection.rest += data
        if connection.wait == frames.GO_ON:
            self._read(connection, now)

    def _read(self, connection: Connection, now: float) -> None:
        """Takes whole frames one by one, until one has to wait or ends the connection."""
        try:
            while len(connection.rest) >= 2:
                size = int.from_bytes(connection.rest[:2], "big")
                if not 0 < size <= MAX_FRAME_SIZE:
                    raise Closed(FRAME_SIZE)
                if len(connection.rest) < 2 + size:
                    return
                box = connection.rest[2 : 2 + size]
                plain = crypto.open_sealed(connection.shared, connection.receive, box)
                if not plain:
                    raise Closed(FRAME_BOX)
                if not connection.confirmed:
                    connection.confirmed = True
                    self.effects.append((frames.CONFIRM, connection.serial))
                self._frame(connection, plain, now)
                connection.receive = crypto.increment(connection.receive)
                connection.row.received += 1
                connection.row.consumed += 2 + size
                connection.rest = connection.rest[2 + size :]
        except Waits as waits:
            connection.wait, connection.waits_for = waits.wait, waits.receiver
            self._waiting.append(connection)
        except Closed as closed:
            self.effects.append((frames.CLOSE, connection.serial, closed.reason))
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        connection.closed = True
        connection.full = connection.held = False
        connection.ahead = 0
        self._handed = [row for row in self._handed if row[1] is not connection]
        del self.connections[connection.serial]
        self.ended.append(connection)
        if connection in self._waiting:
            self._waiting.remove(connection)

    def _frame(self, connection: Connection, plain: bytes, now: float) -> None:
        """Does what one packet asks for. Raises Closed or Waits."""
        if plain[0] >= 16:
            data = RelayData.decode(plain)
            self._data(connection, data, now)
            return
        cls = RELAY_PACKETS.get(plain[0])
        if cls is None or cls not in CLOSES:
            raise Closed(KIND)
        try:
            packet: Record = cls.decode(plain)
        except WireError:
            self._malformed(connection, cls, plain, now)
            return
        match packet:
            case RouteRequest():
                self._has_room_for_answer(connection)
                connection.routes += 1
                self.effects.append((frames.ROUTE, connection.serial, packet.peer))
            case DisconnectNotice():
                self._given_out(connection, packet.link)
                del connection.links[packet.link]
                self.effects.append((frames.UNLINK, connection.serial, packet.link))
            case RelayPing():
                self._has_room_for_answer(connection)
                connection.pinged = now
                self._pong(connection, packet.ping_id)
            case RelayPong():
                if packet.ping_id == connection.ping_id:
                    connection.ping_id = None
                    self.effects.append((frames.PONG, connection.serial))
                else:
                    answered = packet.ping_id.to_bytes(8, "big")
                    self.effects.append((frames.READ, connection.serial, answered))
            case OobSend():
                self.effects.append((frames.OOB, connection.serial, packet.peer, packet.data))
            case RelayOnionRequest():
                self._onion(connection, plain, now)
            case RelayForwardRequest():
                self._forward(connection, packet.destination, packet.data, now)

    def _malformed(
        self, connection: Connection, cls: type[Record], plain: bytes, now: float
    ) -> None:
        """A packet that is none of its class: mostly the end, but see the top of this module."""
        if cls is RelayPong and len(plain) == RelayPong.MAX_SIZE:
            raise Closed("pong_zero")
        if cls is DisconnectNotice and len(plain) == DisconnectNotice.MAX_SIZE:
            self._given_out(connection, plain[1])
        if cls is RelayOnionRequest and len(plain) >= RelayOnionRequest.MIN_SIZE:
            self._onion(connection, plain, now)
            return
        if cls is RelayForwardRequest and plain[1:2] == b"\x0a" and len(plain) >= 20:
            target = padded_address(plain[1:20])
            data = plain[20:]
            if target is not None and len(data) <= RelayForwardRequest.MAX_SIZE - 20:
                self._forward(connection, target, data, now)
                return
        raise Closed(CLOSES[cls])

    def _pong(self, connection: Connection, ping_id: int) -> None:
        """Answers a ping; as the reference, also one with the id 0, which no pong may have."""
        if ping_id:
            self._seal(connection, RelayPong(ping_id).encode())
        else:
            self._seal(connection, bytes((RelayPong.kind,)) + bytes(8))

    def _given_out(self, connection: Connection, link: int) -> None:
        """A link id has to be one that was given out, or may be so by an answer on its way."""
        if link not in connection.links:
            if connection.routes:
                raise Waits(frames.ANSWER)
            raise Closed(NO_LINK)

    def _has_room_for_answer(self, connection: Connection) -> None:
        """Who does not read answers is not read either."""
        if not connection.has_room():
            raise Waits(frames.OWN if connection.full else frames.AHEAD, connection)

    def _data(self, connection: Connection, data: RelayData, now: float) -> None:
        self._given_out(connection, data.link)
        peer = connection.links[data.link]
        other = None if peer is None else self.connections.get(peer[0])
        one_sided = other is not None and peer is not None and other.links.get(peer[1]) != (
            connection.serial,
            data.link,
        )
        if peer is None or one_sided:
            self.drops["relay_link_down"] += 1
            return
        receiver = self._receiver(peer[0]) if other is None else other
        if not receiver.has_room() and not self._may_pass(connection, receiver, data):
            self._no_room(connection, peer[0], receiver, now)
            return
        connection.dropping.discard(peer[0])
        if other is not None:
            self._seal(other, RelayData(peer[1], data.data).encode())
            return
        size = len(data.encode()) + FRAME_EXTRA
        receiver.ahead += size
        self._handed.append((self._sequence, receiver, size))
        self.effects.append((frames.PUSH, connection.serial, data.link, data.data))

    @staticmethod
    def _may_pass(connection: Connection, receiver: Receiver, data: RelayData) -> bool:
        """24 KiB go from one who is full to others who are: answers may wait behind them."""
        if not connection.is_behind() or not receiver.full or receiver.held:
            return False
        connection.past += len(data.encode()) + FRAME_EXTRA
        return connection.past <= PAST_FULL

    def _no_room(
        self, connection: Connection, serial: int, receiver: Receiver, now: float
    ) -> None:
        """The sender waits: a turn where the broker is behind, up to a second where the receiver is
        full, longer where its worker is away. Then its frames are dropped until there is room."""
        if not receiver.full:
            raise Waits(frames.AHEAD, receiver)
        if serial not in connection.dropping:
            if connection.paused_since is None or receiver.held:
                connection.paused_since = now
            held = connection.held_since
            if receiver.held and (held is None or now - held >= PING_INTERVAL_S):
                held = connection.held_since = now
            if (held is not None and now - held < HOLD_S) or (
                connection.may_pause(now) and now - connection.paused_since < PAUSE_S
            ):
                raise Waits(frames.PAUSED, receiver)
            connection.dropping.add(serial)
        connection.paused_since = None
        self.drops["relay_receiver_full"] += 1

    # Waiting

    def look(self, noted: bool, now: float) -> None:
        """Goes on with what waited, where there is a reason to look and the wait is over."""
        behind = any(connection.wait == frames.AHEAD for connection in self._waiting)
        if not self._waiting or not (noted or behind or now >= self._next_look):
            return
        self._next_look = now + LOOK_S
        for connection in list(self._waiting):
            if connection.wait == frames.ANSWER or connection.closed:
                continue
            if self._is_over(connection, now):
                self._resume(connection, now)

    @staticmethod
    def _is_over(connection: Connection, now: float) -> bool:
        receiver = connection.waits_for
        assert receiver is not None
        if connection.paused_since is not None and receiver.held:
            connection.paused_since = now
        if receiver.has_room() or (receiver.full and connection.wait == frames.AHEAD):
            return True
        since = connection.paused_since
        return since is not None and (now - since >= PAUSE_S or not connection.may_pause(now))

    def _resume(self, connection: Connection, now: float) -> None:
        self._waiting.remove(connection)
        if connection.waits_for is not None and not connection.waits_for.full:
            connection.paused_since = None
        connection.wait, connection.waits_for = frames.GO_ON, None
        self._read(connection, now)

    # Datagrams for clients

    def _refused(self, target: Endpoint, private: bool) -> bool:
        """Tells whether an address that a client names may not be sent to, and counts why."""
        reason = refused_target(target, self.context.options, private)
        if reason is not None:
            self.out.drops[reason] += 1
        return reason is not None

    def _onion(self, connection: Connection, plain: bytes, now: float) -> None:
        """The first hop for a client: its serial stands where an address would."""
        nonce, sender, sealed = Nonce(plain[1:25]), PublicKey(plain[44:76]), plain[76:]
        try:
            OnionRequest1(nonce, sender, sealed, bytes(RETURN1_SIZE)).encode()
        except ValueError:  # the next hop would not take it
            self.out.drops["onion_size"] += 1
            return
        target = padded_address(plain[25:44])
        if target is None:
            self.out.drops["target_family"] += 1
            return
        if self._refused(target, connection.private):
            return
        origin = bytes((FAMILY_TCP_CLIENT,)) + connection.serial.to_bytes(8, "big")
        fresh = self.context.entropy.bytes(24)
        way_back = self._returns.seal(fresh, origin.ljust(IP_PORT_SIZE, b"\x00"), now)
        self.out.send(target, OnionRequest1(nonce, sender, sealed, way_back).encode())

    def _forward(self, connection: Connection, target: Endpoint, data: bytes, now: float) -> None:
        if self._refused(target, connection.private):
            return
        way_back = b"\x02" + connection.serial.to_bytes(8, "big")
        sendback = self._tags.make(way_back, now) + way_back
        self.out.send(target, Forwarding(sendback, data).encode())
