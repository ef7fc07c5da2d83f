"""One connection to a TCP relay: handshake, frames, links, pings.

Whatever the relay sends, no more than one frame of it is kept, a broken rule ends the connection
under a counted reason, and no link is believed in that was not asked for.
"""

from collections import Counter
from enum import Enum
from typing import Protocol

from core.crypto import MAC_SIZE, NONCE_SIZE, KeyPair, PublicKey, SharedKey, open_sealed
from core.entropy import Entropy
from core.module import ProtocolViolation
from core.packets.relay import (
    FIRST_LINK,
    MAX_FRAME_SIZE,
    MAX_OOB_SIZE,
    MAX_PLAIN_SIZE,
    RELAY_PACKETS,
    ConnectNotice,
    DisconnectNotice,
    OobReceive,
    OobSend,
    RelayForwarding,
    RelayOnionResponse,
    RelayPacket,
    RelayPing,
    RelayPong,
    RouteRequest,
    RouteResponse,
)
from core.relay_client.greeting import ANSWER_SIZE, Greeting
from core.relay_client.outgoing import Outgoing, Write
from core.relay_client.proxy import Tunnel, TunnelRefused
from core.wire import WireError

CONNECT_TIMEOUT_S = 10.0  # c-toxcore TCP_client.h: TCP_CONNECTION_TIMEOUT
PING_INTERVAL_S = 30.0  # c-toxcore TCP_common.h: TCP_PING_FREQUENCY
PONG_TIMEOUT_S = 10.0  # c-toxcore TCP_common.h: TCP_PING_TIMEOUT
HEARD_S = PING_INTERVAL_S + PONG_TIMEOUT_S  # so long a relay's ping stands for the answer to ours
MOST_SPARED = 9  # pings of ours in a row, or nobody would know how fast the relay is
MAX_LINKS = 256 - FIRST_LINK  # c-toxcore TCP_common.h: NUM_CLIENT_CONNECTIONS
MAX_LINK_DATA = MAX_PLAIN_SIZE - 1


class Stage(Enum):
    """Where in its life a connection is."""

    DIALING = "dialing"
    TUNNEL = "through the proxy"
    GREETING = "handshake"
    CONFIRMED = "connected"
    ENDED = "ended"


MOVES = {
    Stage.DIALING: (Stage.TUNNEL, Stage.GREETING, Stage.ENDED),
    Stage.TUNNEL: (Stage.GREETING, Stage.ENDED),
    Stage.GREETING: (Stage.CONFIRMED, Stage.ENDED),
    Stage.CONFIRMED: (Stage.ENDED,),
    Stage.ENDED: (),
}


class RouteState(Enum):
    """How far the way to a peer through this relay is."""

    ASKED = "asked"
    UNWANTED = "asked, and not wanted any more"
    GIVEN = "waits for the peer"
    LINKED = "linked"
    REFUSED = "refused"


class _Route:
    """A peer that this relay was asked for."""

    __slots__ = ("link", "peer", "state")

    def __init__(self, peer: PublicKey) -> None:
        self.peer = peer
        self.link = 0
        self.state = RouteState.ASKED


class Owner(Protocol):
    """Who is told what happens on a connection; `line` is its number."""

    __slots__ = ()

    def connection_ready(self, line: int, now: float) -> None:
        """The handshake is done."""
        ...

    def connection_failed(self, line: int, reason: str, now: float) -> None:
        """It has ended and is to be hung up; the reason is counted already."""
        ...

    def route_changed(self, line: int, peer: PublicKey, now: float) -> None:
        """A link was given, or its other side came or went."""
        ...

    def link_data(self, line: int, peer: PublicKey, data: bytes, now: float) -> None:
        """Data came on a link."""
        ...

    def oob_data(self, line: int, peer: PublicKey, data: bytes, now: float) -> None:
        """Data came out of band."""
        ...

    def onion_data(self, line: int, data: bytes, now: float) -> None:
        """Something came back through the onion."""
        ...


class RelayConnection:
    """The protocol of one connection, from its dial to its end.

    `tunnel` leads through a proxy. The dialer's answers never come from inside a write.
    """

    __slots__ = (
        "_deadline",
        "_drops",
        "_entropy",
        "_greeting",
        "_line",
        "_links",
        "_out",
        "_owner",
        "_ping_id",
        "_receive_nonce",
        "_rest",
        "_routes",
        "_shared",
        "_spared",
        "_tunnel",
        "linked",
        "received",
        "rtt_s",
        "stage",
        "trouble",
    )

    def __init__(
        self,
        line: int,
        greeting: Greeting,
        write: Write,
        owner: Owner,
        entropy: Entropy,
        drops: Counter[str],
        now: float,
        tunnel: Tunnel | None = None,
    ) -> None:
        self._line = line
        self._greeting: Greeting | None = greeting
        self._owner = owner
        self._entropy = entropy
        self._drops = drops
        self._tunnel = tunnel
        self._out = Outgoing(write)
        self._rest = b""
        self._shared: SharedKey | None = None
        self._receive_nonce = 0  # of the next frame, as a number
        self._routes: dict[PublicKey, _Route] = {}
        self._links: dict[int, _Route] = {}
        self._spared = 0  # pings of ours in a row
        self._ping_id = 0  # of our ping that was not answered yet
        self._deadline = now + CONNECT_TIMEOUT_S
        self.stage = Stage.DIALING
        self.linked = 0
        """How many peers are linked."""
        self.received = 0
        """Bytes that came."""
        self.rtt_s = 0.0
        """How long the last pong took; 0 before the first."""
        self.trouble = ""
        """Why it failed, for people, where the reason alone does not say it."""

    def __repr__(self) -> str:
        return f"RelayConnection({self._line}, {self.stage.value})"  # it holds keys

    @classmethod
    def to(
        cls,
        line: int,
        relay_key: PublicKey,
        own: KeyPair,
        write: Write,
        owner: Owner,
        entropy: Entropy,
        drops: Counter[str],
        now: float,
        tunnel: Tunnel | None = None,
    ) -> "RelayConnection | None":
        """Makes a connection that is being dialed; None for a relay key of low order."""
        greeting = Greeting.to(relay_key, own, entropy)
        if greeting is None:
            return None
        return cls(line, greeting, write, owner, entropy, drops, now, tunnel)

    # What the dialer tells

    def handle_connected(self, now: float) -> None:
        """TCP is there: the proxy or the relay is greeted."""
        if self.stage is not Stage.DIALING:
            return
        if self._tunnel is None:
            self._greet(now)
            return
        self._go(Stage.TUNNEL)
        try:
            self._out.put_raw(self._tunnel.start())
        except TunnelRefused as fault:
            self._refused(fault, now)

    def handle_bytes(self, data: bytes, now: float) -> None:
        """Takes what the relay, or the proxy before it, has sent."""
        self.received += len(data)
        try:
            if self.stage is Stage.TUNNEL and self._tunnel is not None:
                answer = self._tunnel.receive(data)
                if answer:
                    self._out.put_raw(answer)
                if not self._tunnel.open:
                    return
                data = self._tunnel.rest
                self._tunnel = None
                self._greet(now)
            if self.stage is Stage.GREETING:
                data = self._take_answer(self._rest + data, now)
            if self.stage is Stage.CONFIRMED:
                self._take_frames(self._rest + data if self._rest else data, now)
        except TunnelRefused as fault:
            self._refused(fault, now)
        except ProtocolViolation as fault:
            self.fail(fault.reason, now)

    def handle_writable(self) -> None:
        """The socket takes bytes again."""
        if self.stage is not Stage.ENDED:
            self._out.flush()

    def end(self) -> None:
        """The connection is gone, or not wanted any more; nobody is told."""
        if self.stage is not Stage.ENDED:
            self._go(Stage.ENDED)
        self._rest = b""
        self._routes.clear()
        self._links.clear()
        self.linked = 0

    def fail(self, reason: str, now: float) -> None:
        """Ends the connection under a reason that is counted, and tells its owner."""
        if self.stage is Stage.ENDED:
            return
        self._drops[reason] += 1
        self.end()
        self._owner.connection_failed(self._line, reason, now)

    def next_timer(self) -> float:
        """When `handle_timer` is to be called."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Pings, or gives up on a relay that does not answer in time."""
        if self.stage is Stage.ENDED or now < self._deadline:
            return
        if self.stage is not Stage.CONFIRMED:
            self.trouble = f"no answer in time ({self.stage.value})"
            self.fail("relay_client_connect_late", now)
        elif self._ping_id:
            self.trouble = "no answer to a ping"
            self.fail("relay_client_pong_late", now)
        else:
            self._ping(now)

    # What the owner wants

    def route(self, peer: PublicKey, now: float) -> bool:
        """Asks for a link to a peer; False if this connection has all links it can have."""
        route = self._routes.get(peer)
        if route is not None:
            if route.state is RouteState.UNWANTED:
                route.state = RouteState.ASKED
            return True
        if self.stage is not Stage.CONFIRMED or len(self._routes) >= MAX_LINKS:
            self._drops["relay_client_links_full"] += 1
            return False
        self._routes[peer] = _Route(peer)
        self._control(RouteRequest(peer), now)
        return True

    def unroute(self, peer: PublicKey, now: float) -> None:
        """Gives a peer's link up."""
        route = self._routes.get(peer)
        if route is None:
            return
        if route.state in (RouteState.ASKED, RouteState.UNWANTED):
            route.state = RouteState.UNWANTED  # its link is given back when it is known
            return
        del self._routes[peer]
        if route.state is RouteState.REFUSED:
            return
        del self._links[route.link]
        if route.state is RouteState.LINKED:
            self.linked -= 1
        self._control(DisconnectNotice(route.link), now)

    def route_state(self, peer: PublicKey) -> RouteState | None:
        """Returns how far the way to a peer is; None: not asked for."""
        route = self._routes.get(peer)
        return None if route is None else route.state

    def send(self, peer: PublicKey, data: bytes) -> bool:
        """Sends data on a link; False if there is none, or no room."""
        route = self._routes.get(peer)
        if route is None or route.state is not RouteState.LINKED:
            return False
        if not 0 < len(data) <= MAX_LINK_DATA:
            return False
        return self._out.put_data(bytes((route.link,)) + data)

    def send_oob(self, peer: PublicKey, data: bytes) -> bool:
        """Sends data out of band; False if it is too long for that, or there is no room."""
        if self.stage is not Stage.CONFIRMED or not 0 < len(data) <= MAX_OOB_SIZE:
            return False
        return self._out.put_data(OobSend(peer, data).encode())

    def send_onion(self, packet: bytes) -> bool:
        """Sends a whole packet 08 (`RelayOnionRequest`); False if there is no room."""
        if self.stage is not Stage.CONFIRMED or not 0 < len(packet) <= MAX_PLAIN_SIZE:
            return False
        return self._out.put_data(packet)

    @property
    def sent(self) -> int:
        """Bytes that the socket took."""
        return self._out.sent

    @property
    def waiting(self) -> int:
        """Bytes that wait for the socket."""
        return self._out.waiting

    # Greeting

    def _go(self, to: Stage) -> None:
        if to not in MOVES[self.stage]:
            raise ValueError(f"a connection goes not from {self.stage.value} to {to.value}")
        self.stage = to

    def _refused(self, fault: TunnelRefused, now: float) -> None:
        self.trouble = str(fault)
        self.fail(fault.reason, now)

    def _greet(self, now: float) -> None:
        self._go(Stage.GREETING)
        self._deadline = now + CONNECT_TIMEOUT_S
        if self._greeting is not None:
            self._out.put_raw(self._greeting.hello)

    def _take_answer(self, data: bytes, now: float) -> bytes:
        """Takes the relay's hello; returns what came behind it."""
        if len(data) < ANSWER_SIZE:
            self._rest = data
            return b""
        self._rest = b""
        greeting, self._greeting = self._greeting, None
        session = None if greeting is None else greeting.session(data[:ANSWER_SIZE])
        if session is None:
            self.trouble = "it does not have the key by which it is known"
            raise ProtocolViolation("relay_client_closed:hello")
        self._shared = session.shared
        self._receive_nonce = int.from_bytes(session.receive_nonce, "big")
        self._out.begin(session)
        self._go(Stage.CONFIRMED)
        self._ping(now)  # the first frame: only by it the relay confirms us
        self._owner.connection_ready(self._line, now)
        return data[ANSWER_SIZE:]

    # Frames

    def _take_frames(self, data: bytes, now: float) -> None:
        position, size = 0, len(data)
        self._rest = b""
        try:
            while size - position >= 2 and self.stage is Stage.CONFIRMED:
                box = data[position] << 8 | data[position + 1]
                if not MAC_SIZE < box <= MAX_FRAME_SIZE:
                    raise ProtocolViolation("relay_client_closed:frame_size")
                start, end = position + 2, position + 2 + box
                if end > size:
                    break
                plain = self._open(data[start:end])
                position = end  # whatever the owner does with it: the next one begins there
                if plain[0] >= FIRST_LINK:
                    self._take_data(plain, now)
                else:
                    self._take_control(plain, now)
        finally:
            if self.stage is Stage.CONFIRMED:
                self._rest = data[position:]

    def _open(self, box: bytes) -> bytes:
        nonce = self._receive_nonce
        shared = self._shared
        plain = None
        if shared is not None:
            plain = open_sealed(shared, nonce.to_bytes(NONCE_SIZE, "big"), box)
        if plain is None:
            raise ProtocolViolation("relay_client_closed:frame_box")
        self._receive_nonce = (nonce + 1) % (1 << 8 * NONCE_SIZE)
        return plain

    def _take_data(self, plain: bytes, now: float) -> None:
        route = self._links.get(plain[0])
        if route is None:  # it may have been on its way when we gave the link up
            self._drops["relay_client_unknown_link"] += 1
        elif len(plain) == 1:  # the peer's fault: c-toxcore's clients close here
            self._drops["relay_client_empty"] += 1
        else:
            self._owner.link_data(self._line, route.peer, plain[1:], now)

    def _take_control(self, plain: bytes, now: float) -> None:
        kind = RELAY_PACKETS.get(plain[0])
        if kind is None or kind not in _FROM_RELAY:
            raise ProtocolViolation("relay_client_closed:kind")
        try:
            packet = kind.decode(plain)
        except WireError as fault:
            raise ProtocolViolation(f"relay_client_closed:{kind.__name__}") from fault
        if isinstance(packet, RelayPing):
            if packet.ping_id:  # c-toxcore TCP_client.c leaves 0 without an answer
                self._control(RelayPong(packet.ping_id), now)
                self._spare_ping(now)
        elif isinstance(packet, RelayPong):
            self._take_pong(packet.ping_id, now)
        elif isinstance(packet, RouteResponse):
            self._take_route(packet.link, packet.peer, now)
        elif isinstance(packet, ConnectNotice | DisconnectNotice):
            self._take_notice(packet.link, isinstance(packet, ConnectNotice), now)
        elif isinstance(packet, OobReceive):
            self._owner.oob_data(self._line, packet.peer, packet.data, now)
        elif isinstance(packet, RelayOnionResponse):
            self._owner.onion_data(self._line, packet.data, now)
        else:  # a forwarding: we never ask for one
            self._drops["relay_client_unasked_forwarding"] += 1

    def _spare_ping(self, now: float) -> None:
        """The relay pings each 30 s too, and so it is there (the reference pings all the same)."""
        if not self._ping_id and self._spared < MOST_SPARED:
            self._spared, self._deadline = self._spared + 1, now + HEARD_S

    def _take_pong(self, ping_id: int, now: float) -> None:
        if ping_id != self._ping_id:
            self._drops["relay_client_unasked_pong"] += 1
            return
        self._ping_id = 0
        self.rtt_s = now - (self._deadline - PONG_TIMEOUT_S)
        self._deadline += PING_INTERVAL_S - PONG_TIMEOUT_S

    def _take_route(self, link: int, peer: PublicKey, now: float) -> None:
        route = self._routes.get(peer)
        if route is None or route.state not in (RouteState.ASKED, RouteState.UNWANTED):
            raise ProtocolViolation("relay_client_closed:unasked_route")
        if link in self._links:
            raise ProtocolViolation("relay_client_closed:link_twice")
        if route.state is RouteState.UNWANTED:
            del self._routes[peer]
            if link:
                self._control(DisconnectNotice(link), now)
            return
        if not link:
            route.state = RouteState.REFUSED
            self._drops["relay_client_route_refused"] += 1
        else:
            route.state = RouteState.GIVEN
            route.link = link
            self._links[link] = route
        self._owner.route_changed(self._line, peer, now)

    def _take_notice(self, link: int, is_there: bool, now: float) -> None:
        if link < FIRST_LINK:
            raise ProtocolViolation("relay_client_closed:ConnectNotice")
        route = self._links.get(link)
        if route is None:
            self._drops["relay_client_unknown_link"] += 1
            return
        state = RouteState.LINKED if is_there else RouteState.GIVEN
        if route.state is not state:
            route.state = state
            self.linked += 1 if is_there else -1
            self._owner.route_changed(self._line, route.peer, now)

    def _ping(self, now: float) -> None:
        self._spared = 0
        self._ping_id = int.from_bytes(self._entropy.bytes(8), "big") or 1
        self._deadline = now + PONG_TIMEOUT_S
        self._control(RelayPing(self._ping_id), now)

    def _control(self, packet: RelayPacket, now: float) -> None:
        if not self._out.put_control(packet.encode()):
            self.trouble = "it takes nothing"
            self.fail("relay_client_stuck", now)


_FROM_RELAY: frozenset[type[RelayPacket]] = frozenset(
    (
        RouteResponse,
        ConnectNotice,
        DisconnectNotice,
        RelayPing,
        RelayPong,
        OobReceive,
        RelayOnionResponse,
        RelayForwarding,
    )
)
