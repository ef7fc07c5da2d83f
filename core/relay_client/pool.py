"""All connections of one identity to TCP relays, and the ways through them to its peers.

A peer is named by its DHT key. Relays that may lead to it are tied to it: it is asked for at each
of them that is connected (`core.relay_client.lines`), one that links us carries its data, and while
none does, data goes out of band.
"""

from collections import Counter
from collections.abc import Iterable

from core.crypto import KeyPair, PublicKey
from core.endpoint import Endpoint
from core.entropy import Entropy
from core.relay_client.choosing import STANDING
from core.relay_client.interfaces import Dialer, RelayListener
from core.relay_client.lines import RelayLines
from core.relay_client.peers import LINKS_WANTED, Peer, Tie
from core.relay_client.proxy import Proxy
from core.relay_client.relays import AVOIDED_S, MAX_DOUBT, Relay, RelayState

MAX_STRANGERS = 16  # who lately wrote out of band without being a peer


class RelayPool(RelayLines):
    """The relays of one identity, and its peers.

    `standing` is how many relays are kept connected though nobody needs them.
    """

    __slots__ = ("_peers", "_strangers")

    def __init__(
        self,
        dht: KeyPair,
        entropy: Entropy,
        dialer: Dialer,
        listener: RelayListener,
        drops: Counter[str],
        now: float,
        proxy: Proxy | None = None,
        standing: int = STANDING,
    ) -> None:
        super().__init__(dht, entropy, dialer, listener, drops, proxy, standing)
        self._peers: dict[PublicKey, Peer] = {}
        self._strangers: dict[PublicKey, PublicKey] = {}  # and the relay that each came by

    # What the owner wants

    def add_peer(self, dht_key: PublicKey, now: float) -> None:
        """Wants this peer; what it lately wrote out of band has shown a relay of it already."""
        if dht_key in self._peers:
            return
        self._peers[dht_key] = peer = Peer(dht_key)
        shown = self._strangers.pop(dht_key, None)
        relay = None if shown is None else self._relays.get(shown)
        if relay is not None:
            self._tie(peer, relay, now)
            self._settle(now)

    def remove_peer(self, dht_key: PublicKey, now: float) -> None:
        """Gives a peer and its links up; the listener is not told."""
        peer = self._peers.pop(dht_key, None)
        if peer is None:
            return
        for tie in list(peer.ties.values()):
            self._untie(peer, tie.relay, now)
        self._settle(now)

    def add_relay_of(
        self, dht_key: PublicKey, endpoint: Endpoint, relay_key: PublicKey, now: float
    ) -> None:
        """Notes a relay by which a peer says it can be reached."""
        peer = self._peers.get(dht_key)
        if peer is None:
            return
        if relay_key not in self._relays and peer.links() >= LINKS_WANTED:
            return  # as c-toxcore does: it is linked well enough
        relay = self._noted(endpoint, relay_key)
        if relay is None:
            return
        tie = peer.ties.get(relay_key)
        if tie is not None:
            tie.spent = False
        elif not self._tie(peer, relay, now):
            return
        if relay.state is RelayState.IDLE:
            self._settle(now)

    def set_sleeping(self, dht_key: PublicKey, asleep: bool, now: float) -> None:
        """Lets a peer's links sleep, for UDP works, or wakes them."""
        peer = self._peers.get(dht_key)
        if peer is None or peer.asleep is asleep:
            return
        peer.asleep = asleep
        if not asleep:
            peer.try_all()
        self._settle(now)

    def send(self, dht_key: PublicKey, data: bytes, now: float) -> bool:
        """Sends data to a peer: by the relay that carries its data, by another one if that is
        full, out of band if none is linked yet. False if no relay took it."""
        peer = self._peers.get(dht_key)
        if peer is None:
            return False
        carrier = peer.trusted_carrier(now)
        if carrier is not None and self._send_on(carrier, peer, data, now):
            return True
        relays, trusted = peer.carriers(now)
        sent = any(
            self._send_on(relay, peer, data, now) for relay in relays if relay is not carrier
        )
        if sent or trusted:
            return sent  # if not, all are full
        for relay in [tie.relay for tie in peer.ties.values()]:
            if relay.connection is not None and relay.takes_oob(dht_key):
                sent = relay.connection.send_oob(dht_key, data) or sent
        return sent

    def send_oob(self, relay_key: PublicKey, dht_key: PublicKey, data: bytes, now: float) -> bool:
        """Answers what came out of band through a relay."""
        relay = self._relays.get(relay_key)
        if relay is None or relay.connection is None:
            return False
        return relay.connection.send_oob(dht_key, data)

    def send_onion(self, relay_key: PublicKey, packet: bytes, now: float) -> bool:
        """Gives a relay an onion packet: a whole `RelayOnionRequest`, encoded."""
        relay = self._relays.get(relay_key)
        if relay is None or relay.connection is None:
            return False
        return relay.connection.send_onion(packet)

    def relay_works(self, dht_key: PublicKey, now: float) -> None:
        """Says that the peer has got something that we sent by relays. Whoever says it once is
        taken to say it always: what comes from a peer then does not show that it gets our data."""
        peer = self._peers.get(dht_key)
        if peer is None or peer.asleep:
            return  # asleep: it was UDP that brought it
        guilty = peer.trust.received(now)
        if guilty is not None:
            self._blame(guilty, now)
        carrier = None if peer.carrier is None else self._relays.get(peer.carrier)
        if carrier is not None:
            carrier.doubt = 0

    # What the owner may ask

    def is_linked(self, dht_key: PublicKey) -> bool:
        """Tells whether a link with this peer is there."""
        peer = self._peers.get(dht_key)
        return peer is not None and peer.linked

    # What connections tell

    def route_changed(self, line: int, peer: PublicKey, now: float) -> None:
        """A way to a peer is there or gone."""
        relay = self._lines[line]
        wanted = self._peers.get(peer)
        if wanted is None:
            return
        if relay.is_linked(peer):
            wanted.ties[relay.key].spent = False
        else:
            relay.used_at = now
            wanted.lose(relay)
        self._set_timer(relay, now)
        self._look_at([wanted], now)

    def link_data(self, line: int, peer: PublicKey, data: bytes, now: float) -> None:
        """Data came on a link."""
        wanted = self._peers.get(peer)
        if wanted is not None:
            self._heard(wanted, now)
            self._listener.relay_data(peer, data, now)

    def oob_data(self, line: int, peer: PublicKey, data: bytes, now: float) -> None:
        """Data came out of band: whoever sent it can be reached by this relay."""
        relay = self._lines[line]
        wanted = self._peers.get(peer)
        if wanted is None:
            self._strangers.pop(peer, None)
            if len(self._strangers) >= MAX_STRANGERS:
                del self._strangers[next(iter(self._strangers))]
            self._strangers[peer] = relay.key
        else:
            tie = wanted.ties.get(relay.key)
            if tie is not None:
                tie.spent = False
            elif self._tie(wanted, relay, now):
                self._settle(now)
            if relay.takes_oob(peer) or relay.is_linked(peer):
                self._heard(wanted, now)
                self._listener.relay_data(peer, data, now)
                return
        self._listener.relay_oob(relay.key, peer, data, now)

    def onion_data(self, line: int, data: bytes, now: float) -> None:
        """Something came back through the onion."""
        self._listener.relay_onion(self._lines[line].key, data, now)

    # Ties

    def _tie(self, peer: Peer, relay: Relay, now: float) -> bool:
        room = peer.room()
        if room is False:
            self._drops["relay_client_ties_full"] += 1
            self._tidy(relay)
            return False
        if isinstance(room, Tie):
            self._untie(peer, room.relay, now)
        peer.ties[relay.key] = Tie(relay)
        relay.peers[peer.key] = peer
        if relay.state is RelayState.CONNECTED and relay.connection is not None:
            relay.used_at = now
            relay.connection.route(peer.key, now)
            self._set_timer(relay, now)
        return True

    # Trust

    def _send_on(self, relay: Relay, peer: Peer, data: bytes, now: float) -> bool:
        if relay.connection is None or not relay.connection.send(peer.key, data):
            return False
        if peer.carrier is None:
            peer.carrier = relay.key
        if peer.trust.sent(relay.key, now):
            self._doubt(peer, now)
        return True

    def _doubt(self, peer: Peer, now: float) -> None:
        """Lets another relay carry the data, to see whether that one does better."""
        if peer.leave_carrier(now):
            self._drops["relay_client_silent"] += 1

    def _heard(self, peer: Peer, now: float) -> None:
        guilty = peer.trust.heard(now)
        if guilty is not None:
            self._blame(guilty, now)

    def _blame(self, guilty: PublicKey, now: float) -> None:
        """Notes that a relay lost what another one brought to a peer."""
        relay = self._relays.get(guilty)
        if relay is None:
            return
        self._drops["relay_client_swallows"] += 1
        relay.doubt += 1
        if relay.doubt >= MAX_DOUBT and relay.state is RelayState.CONNECTED:
            relay.doubt = MAX_DOUBT - 1  # when it comes back, once is enough
            relay.trouble = "it swallows what is sent to peers"
            relay.retry_at = now + AVOIDED_S
            self._let_go(relay, now, RelayState.AVOIDED)

    def _look_at(self, peers: Iterable[Peer], now: float) -> None:
        """Tells of links that have come or gone, after all else has followed from them."""
        changed = []
        for peer in peers:
            linked = peer.links() > 0
            if linked is peer.linked or self._peers.get(peer.key) is not peer:
                continue
            peer.linked = linked
            changed.append(peer)
            if not linked:
                peer.try_all()
        self._settle(now)
        for peer in changed:
            self._listener.relay_link(peer.key, peer.linked, now)
