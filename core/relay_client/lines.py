"""The connections of a pool: dialed when they are needed, timed, tried again, given up.

What is open follows from what is needed: the relays of peers that are awake and not linked often
enough, the links in use, three for the onion where there is no UDP, and so many in any case that
others find us. Each change ends in `_settle`, which dials and hangs up; nothing is polled.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable

from core.crypto import LOW_ORDER, KeyPair, PublicKey
from core.endpoint import udp4
from core.entropy import Entropy
from core.packets.nodes import NodeInfo
from core.relay_client.choosing import (
    ONION_RELAYS,
    UNUSED_S,
    for_onion,
    is_needed,
    to_dial,
    to_drop,
)
from core.relay_client.connection import Owner, RelayConnection
from core.relay_client.interfaces import Dialer, RelayListener
from core.relay_client.peers import Peer
from core.relay_client.proxy import Proxy, Target
from core.relay_client.relays import MAX_FAILURES, Relay, RelayState, RelayStatus, is_place
from core.timers import Timers

MAX_GENERAL = 32  # relays by which anybody may be reached
MAX_LINES = 64  # connections at a time, those being made included
_SOMEWHERE = udp4(bytes(4), 0)  # of a relay of which only a name is known


class RelayLines(Owner):
    """The relays of one identity and the connections to them."""

    __slots__ = (
        "_connected",
        "_dht",
        "_dialer",
        "_drops",
        "_entropy",
        "_lines",
        "_listener",
        "_next_line",
        "_onion_wanted",
        "_proxy",
        "_relays",
        "_settling",
        "_share_from",
        "_standing",
        "_told_connected",
        "_unsettled",
        "timers",
    )

    def __init__(
        self,
        dht: KeyPair,
        entropy: Entropy,
        dialer: Dialer,
        listener: RelayListener,
        drops: Counter[str],
        proxy: Proxy | None,
        standing: int,
    ) -> None:
        self._dht = dht
        self._entropy = entropy
        self._dialer = dialer
        self._listener = listener
        self._drops = drops
        self._proxy = proxy
        self._standing = standing
        self._relays: dict[PublicKey, Relay] = {}
        self._lines: dict[int, Relay] = {}
        self._next_line = 1
        self.timers: Timers[PublicKey] = Timers()
        """When `handle_timer` wants to be called, for whom."""
        self._onion_wanted = False
        self._connected = 0
        self._told_connected = False
        self._share_from = 0
        self._settling = False
        self._unsettled = False

    def add_relay(self, target: Target, key: PublicKey, now: float) -> None:
        """Notes a relay by which anybody may be reached; by name where a proxy resolves it."""
        relay = self._noted(target, key)
        if relay is None or relay.general:
            return
        if sum(one.general for one in self._relays.values()) >= MAX_GENERAL:
            worst = max(
                (one for one in self._relays.values() if one.general and not one.proven),
                key=lambda one: one.failures,
                default=None,
            )
            if worst is None or not worst.failures:
                self._drops["relay_client_relays_full"] += 1
                self._tidy(relay)
                return
            worst.general = False
            self._tidy(worst)
        relay.general = True
        self._settle(now)

    def keep_for_onion(self, wanted: bool, now: float) -> None:
        """Keeps three connections for the onion, in operation without UDP."""
        if self._onion_wanted is wanted:
            return
        self._onion_wanted = wanted
        if not wanted:
            for relay in self._relays.values():
                relay.onion = False
        self._settle(now)

    def is_connected(self) -> bool:
        """Tells whether any relay is connected."""
        return self._connected > 0

    def relays(self, most: int) -> list[NodeInfo]:
        """Returns connected relays to tell friends of, each time beginning with another one."""
        found = [
            node
            for relay in self._relays.values()
            if relay.state is RelayState.CONNECTED
            and not relay.doubt
            and (node := relay.node()) is not None
        ]
        if not found:
            return []
        start = self._share_from % len(found)
        self._share_from = start + min(most, len(found))
        return (found[start:] + found[:start])[:most]

    def onion_relays(self) -> list[NodeInfo]:
        """Returns the connections that are kept for the onion (at most three)."""
        return [
            relay.node() or NodeInfo(relay.key, _SOMEWHERE, tcp=True)
            for relay in self._relays.values()
            if relay.onion and relay.state is RelayState.CONNECTED
        ]

    def status(self) -> list[RelayStatus]:
        """Returns a row for each known relay."""
        return [relay.status() for relay in self._relays.values()]

    # What the dialer tells

    def handle_connected(self, line: int, now: float) -> None:
        """A dial has led to a TCP connection."""
        relay = self._lines.get(line)
        if relay is not None and relay.connection is not None:
            relay.connection.handle_connected(now)
            self._set_timer(relay, now)

    def handle_bytes(self, line: int, data: bytes, now: float) -> None:
        """Bytes came."""
        relay = self._lines.get(line)
        if relay is not None and relay.connection is not None:
            relay.connection.handle_bytes(data, now)
            self._set_timer(relay, now)

    def handle_writable(self, line: int, now: float) -> None:
        """A connection that had not taken all takes bytes again."""
        relay = self._lines.get(line)
        if relay is not None and relay.connection is not None:
            relay.connection.handle_writable()

    def handle_closed(self, line: int, now: float) -> None:
        """A connection has ended, or a dial has come to nothing."""
        relay = self._lines.get(line)
        if relay is None or relay.connection is None:
            return
        connected = relay.state is RelayState.CONNECTED
        if not connected:
            relay.connection.trouble = f"no connection ({relay.connection.stage.value})"
        relay.connection.fail("relay_client_lost" if connected else "relay_client_unreachable", now)

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, or None."""
        return self.timers.next()

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        for key in self.timers.expired(now):
            relay = self._relays.get(key)
            if relay is not None:
                relay.due = None
                self._wake(relay, now)

    def _wake(self, relay: Relay, now: float) -> None:
        if relay.state in (RelayState.RESTING, RelayState.AVOIDED):
            if relay.retry_at <= now:
                relay.go(RelayState.IDLE)
                self._tidy(relay)
                self._settle(now)
        elif relay.connection is not None:
            relay.connection.handle_timer(now)
            if relay.state is RelayState.CONNECTED and relay.used_at + UNUSED_S <= now:
                spent = [
                    tie
                    for peer in relay.peers.values()
                    if not (tie := peer.ties[relay.key]).spent and not relay.is_linked(peer.key)
                ]
                for tie in spent:
                    tie.spent = True
                if spent or not is_needed(relay):
                    self._settle(now)
        self._set_timer(relay, now)

    def _set_timer(self, relay: Relay, now: float) -> None:
        """Sets when this relay is looked at again, if that has changed."""
        if self._relays.get(relay.key) is not relay:
            return  # forgotten
        due: float | None = None
        if relay.state in (RelayState.RESTING, RelayState.AVOIDED):
            due = relay.retry_at
        elif relay.connection is not None:
            due = relay.connection.next_timer()
            unused_at = relay.used_at + UNUSED_S
            if relay.state is RelayState.CONNECTED and now < unused_at < due:
                due = unused_at
        if due == relay.due:
            return
        relay.due = due
        if due is None:
            self.timers.stop(relay.key)
        else:
            self.timers.set(relay.key, due)

    # What connections tell

    def connection_ready(self, line: int, now: float) -> None:
        """A handshake is done: all peers that this relay may lead to are asked for."""
        relay = self._lines[line]
        connection = relay.connection
        relay.ready(now)
        self._connected += 1
        for peer in list(relay.peers.values()):
            if connection is not None:
                connection.route(peer.key, now)
        self._settle(now)
        self._tell_connected(now)

    def connection_failed(self, line: int, reason: str, now: float) -> None:
        """A connection has ended: the relay is tried again if it was there once."""
        relay = self._lines[line]
        trouble = relay.connection.trouble if relay.connection is not None else ""
        relay.trouble = trouble or reason
        self._let_go(relay, now, RelayState.RESTING)

    @abstractmethod
    def _look_at(self, peers: Iterable[Peer], now: float) -> None:
        """Sees whether peers have links still, and settles."""
        ...

    # Relays

    def _noted(self, target: Target, key: PublicKey) -> Relay | None:
        """Returns the relay with this key, made known if it was not; None if it cannot be one."""
        if key in LOW_ORDER or key == self._dht.public:
            self._drops["relay_client_weak_key"] += 1
            return None
        if not is_place(target):
            self._drops["relay_client_address"] += 1
            return None
        relay = self._relays.get(key)
        if relay is None:
            self._relays[key] = relay = Relay(key, target)
        else:
            relay.add_target(target)
        return relay

    def _untie(self, peer: Peer, relay: Relay, now: float) -> None:
        peer.ties.pop(relay.key, None)
        relay.peers.pop(peer.key, None)
        if relay.connection is not None:
            relay.connection.unroute(peer.key, now)
        self._tidy(relay)

    def _tidy(self, relay: Relay) -> None:
        """Forgets a relay that nobody has a use for and that is not connected."""
        if relay.general or relay.peers or relay.connection is not None:
            return
        if relay.state is not RelayState.AVOIDED:
            self._relays.pop(relay.key, None)
            self.timers.stop(relay.key)

    # Connections

    def _settle(self, now: float) -> None:
        """Makes what is open follow what is needed."""
        if self._settling:
            self._unsettled = True
            return
        self._settling = True
        try:
            self._unsettled = True
            while self._unsettled:
                self._unsettled = False
                self._follow_needs(now)
        finally:
            self._settling = False

    def _follow_needs(self, now: float) -> None:
        relays = self._relays.values()
        standing = self._standing
        if self._onion_wanted:
            standing = max(standing, ONION_RELAYS)
            for relay in for_onion(relays):
                relay.onion = True
        room = MAX_LINES - len(self._lines)
        if room > 0:
            for relay in to_dial(relays, len(self._lines), standing, self._entropy)[:room]:
                self._dial(relay, now)
        for relay in to_drop(relays, self._connected - standing, now):
            if relay.state is RelayState.CONNECTED:
                self._let_go(relay, now, RelayState.IDLE)

    def _dial(self, relay: Relay, now: float) -> None:
        line = self._next_line
        self._next_line += 1
        target = relay.next_target()
        relay.connection = RelayConnection.to(
            line,
            relay.key,
            self._dht,
            lambda data: self._dialer.write(line, data),
            self,
            self._entropy,
            self._drops,
            now,
            None if self._proxy is None else self._proxy.tunnel(target),
        )
        if relay.connection is None:
            return  # a key of low order, which `_noted` lets nobody bring
        relay.line = line
        relay.go(RelayState.OPENING)
        self._lines[line] = relay
        self._set_timer(relay, now)
        self._dialer.dial(line, target if self._proxy is None else self._proxy.address)

    def _let_go(self, relay: Relay, now: float, to: RelayState) -> None:
        """Ends a relay's connection and decides what becomes of the relay."""
        was_connected = relay.state is RelayState.CONNECTED
        connection, relay.connection = relay.connection, None
        if connection is not None:
            connection.end()
        del self._lines[relay.line]
        self._dialer.hang_up(relay.line)
        relay.onion = False
        peers = list(relay.peers.values())
        if to is RelayState.RESTING:
            relay.rest(now, self._entropy)
            if not relay.general and (not relay.proven or relay.failures > MAX_FAILURES):
                for peer in peers:
                    self._untie(peer, relay, now)
                self._tidy(relay)
        else:
            relay.go(to)
            self._tidy(relay)
        self._set_timer(relay, now)
        if was_connected:
            self._connected -= 1
        for peer in peers:
            peer.lose(relay)
        self._look_at(peers, now)
        self._tell_connected(now)

    def _tell_connected(self, now: float) -> None:
        connected = self._connected > 0
        if connected is not self._told_connected:
            self._told_connected = connected
            self._listener.relay_connected(connected, now)
