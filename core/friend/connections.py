"""Friend connections: from a friend's real key to a session that stays up.

The onion finds the friend's DHT key, the DHT its address, relays carry what UDP cannot, and
net_crypto makes the session. Friends are named by their real keys.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from core.crypto import PublicKey
from core.endpoint import Endpoint, is_ipv4, is_lan, port_of, with_port
from core.entropy import Entropy
from core.friend.parts import Crypto, Dht, Listener, Onion, Relays, SessionView
from core.friend.peer import DHT_TIMEOUT_S, Peer, State
from core.packets.messenger import MAX_SHARED_RELAYS, Alive, ShareRelays
from core.packets.nodes import NodeInfo
from core.timers import Timers
from core.wire import WireError

ALIVE_S = 14.4
"""Between words that we are alive: two of them before the peer's 32 s are over, and none is lost,
for they are lossless. (c-toxcore friend_connection.h: FRIEND_PING_INTERVAL, 8 s. Sessions break
their silence each 3.6 s anyhow, and this then takes the place of each fourth of those words.)"""
ANSWER_S = ALIVE_S / 2
"""A friend's word that is so near before ours is answered by it: both ends then speak together."""
YIELD_S = 0.5  # that who answered waits longer: the other is to be the first again
LOOK_S = 8.0  # ours: to share relays while there is none
DEAD_S = 32.0  # c-toxcore friend_connection.h: FRIEND_CONNECTION_TIMEOUT
SHARE_S = 120.0  # c-toxcore friend_connection.h: SHARE_RELAYS_INTERVAL
AGAIN_S = 2.0  # ours: after what could not be sent, and between looks at a session that is not up
_ALIVE = Alive().encode()
_ALIVE_KIND, _SHARE_KIND = Alive.kind, ShareRelays.kind


class FriendStatus(NamedTuple):
    """A friend connection as an operator sees it."""

    state: State
    dht_key: PublicKey | None
    direct: bool
    locks: int
    relays: int
    """How many relays of the friend are kept."""
    addresses: tuple[Endpoint, ...]
    session: SessionView | None


def _nothing(real_key: PublicKey) -> None:
    """Whoever keeps friends' relays for a successor sets something else here."""


class FriendConnections:
    """Keeps a session with each friend, as far as the friend can be found."""

    def __init__(
        self,
        crypto: Crypto,
        onion: Onion,
        dht: Dht,
        relays: Relays,
        entropy: Entropy,
        drops: Counter[str],
    ) -> None:
        self._crypto, self._onion, self._dht, self._relays = crypto, onion, dht, relays
        self.listener: Listener
        """Whom it tells; to be set before the first friend, for the messenger needs this first."""
        self.relay_noted: Callable[[PublicKey], None] = _nothing
        """Is told of whom another relay was heard."""
        self._entropy = entropy
        self._drops = drops
        self._peers: dict[PublicKey, Peer] = {}
        self._by_dht_key: dict[bytes, list[Peer]] = {}
        """Who has a DHT key, or says so: any friend may name that of another."""
        self.timers: Timers[PublicKey] = Timers()
        """When `handle_timer` wants to be called, for whom."""

    # Commands

    def add(self, real_key: PublicKey, now: float, relays: Sequence[NodeInfo] = ()) -> None:
        """Wants a session with a friend; who calls it twice must call `remove` twice."""
        peer = self._peers.get(real_key)
        if peer is not None:
            peer.locks += 1
        else:
            peer = self._peers[real_key] = Peer(real_key)
            self._onion.add_friend(real_key, now)
        for relay in relays:
            self._note_relay(peer, relay, now)

    def remove(self, real_key: PublicKey, now: float) -> None:
        """Wants it no more; the last one to say so ends the session. Unknown keys are ignored."""
        peer = self._peers.get(real_key)
        if peer is None:
            return
        peer.locks -= 1
        if peer.locks > 0:
            return
        del self._peers[real_key]
        self.timers.stop(real_key)
        self._let_go(peer, now)
        self._onion.remove_friend(real_key, now)
        self._crypto.close(real_key, now)

    def send(self, real_key: PublicKey, data: bytes, now: float, letter: int = 0) -> int | None:
        """Sends lossless data; its packet number, or None: not online, or the queue is full.

        A messenger whose end is the end of this too has no use for a `letter`."""
        return self._crypto.send(real_key, data, now)

    def send_lossy(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        """Sends data that may be lost; False: not online."""
        return self._crypto.send_lossy(real_key, data, now)

    def room(self, real_key: PublicKey) -> int:
        """How many packets of bulk data would be taken now."""
        return self._crypto.room(real_key)

    def real_keys(self) -> list[PublicKey]:
        """Returns all with whom a session is wanted."""
        return list(self._peers)

    def is_online(self, real_key: PublicKey) -> bool:
        """Tells whether a session with the friend is up."""
        peer = self._peers.get(real_key)
        return peer is not None and peer.state is State.ONLINE

    def status(self, real_key: PublicKey, now: float) -> FriendStatus | None:
        """Returns what an operator wants to know; None for one that is no friend."""
        peer = self._peers.get(real_key)
        if peer is None:
            return None
        return FriendStatus(
            state=peer.state,
            dht_key=peer.dht_key,
            direct=peer.direct,
            locks=peer.locks,
            relays=len(peer.relays()),
            addresses=tuple(peer.addresses(now)),
            session=self._crypto.status(real_key),
        )

    def relays_to_save(self, real_key: PublicKey) -> list[NodeInfo]:
        """Returns the relays by which the friend could be reached, at most 24, oldest first."""
        peer = self._peers.get(real_key)
        return peer.relays() if peer is not None else []

    # What onion, DHT and relays found

    def friend_found(
        self, real_key: PublicKey, dht_key: PublicKey, nodes: Sequence[NodeInfo], now: float
    ) -> None:
        """The friend's own word of its DHT key, its relays, and DHT nodes near it."""
        peer = self._peers.get(real_key)
        if peer is None:
            self._drops["friend_unknown"] += 1
            return
        self._hear_dht_key(peer, dht_key, now)
        for node in nodes:
            if node.tcp:
                self._note_relay(peer, node, now)
            else:
                self._dht.ask(node.endpoint, node.key, dht_key, now)

    def address_found(self, dht_key: bytes, endpoint: Endpoint, now: float) -> None:
        """A searched DHT key answered from this address."""
        for peer in tuple(self._by_dht_key.get(dht_key, ())):
            peer.key_heard = now
            if peer.note_address(endpoint, False, now) and not peer.direct:
                self._crypto.set_endpoint(peer.key, endpoint, now)

    def relay_link(self, dht_key: PublicKey, linked: bool, now: float) -> None:
        """There is a way to a peer through a relay: no need to wait with a session for it."""
        for peer in tuple(self._by_dht_key.get(dht_key, ())):
            if linked and peer.state is State.CONNECTING:
                peer.next_try = now
                self._plan(peer)

    # What net_crypto tells

    def accepts(
        self, real_key: PublicKey, dht_key: PublicKey, source: Endpoint | None, now: float
    ) -> bool:
        """A peer shook hands: tells whether it is a friend, who is to have a session."""
        peer = self._peers.get(real_key)
        if peer is None:
            self._drops["friend_unknown"] += 1
            return False
        self._hear_dht_key(peer, dht_key, now)
        if source is not None:
            peer.note_address(source, True, now)
        return True

    def new_dht_key(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> None:
        """The peer shook hands again, and its DHT key is another one: it has begun anew."""
        peer = self._peers.get(real_key)
        if peer is not None:
            self._hear_dht_key(peer, dht_key, now)

    def session_up(self, real_key: PublicKey, now: float) -> None:
        """The session carries data."""
        peer = self._peers.get(real_key)
        if peer is None:
            self._drops["friend_unknown"] += 1
            self._crypto.close(real_key, now)
            return
        if peer.state is State.ONLINE:
            return
        view = self._crypto.status(real_key)
        if view is not None and peer.dht_key is None:
            self._hear_dht_key(peer, view.dht_key, now)
        peer.state = State.ONLINE
        peer.heard = peer.next_share = now
        # spread, for all friends of a host that was away come back at once
        peer.next_alive = now + ALIVE_S * self._entropy.below(256) / 256
        self._plan(peer)
        self._onion.set_online(real_key, True, now)
        self.listener.friend_online(real_key, now)
        if view is not None and view.direct:
            self.direct_changed(real_key, True, now)

    def take_up(self, real_key: PublicKey, now: float) -> None:
        """Goes on with a session that an earlier process left: relays are to carry it at once."""
        self.session_up(real_key, now)
        peer = self._peers.get(real_key)
        if peer is not None and peer.dht_key is not None:
            self._offer_relays(peer, peer.dht_key, now)

    def session_down(self, real_key: PublicKey, now: float) -> None:
        """The session is over: a new one is made as long as the DHT key is good."""
        peer = self._peers.get(real_key)
        if peer is not None and peer.state is State.ONLINE:
            self._go_offline(peer, now)

    def direct_changed(self, real_key: PublicKey, direct: bool, now: float) -> None:
        """UDP carries the session, so that relays may sleep; or only they do."""
        peer = self._peers.get(real_key)
        if peer is None:
            return
        changed, peer.direct = peer.direct != direct, direct
        if peer.dht_key is not None:
            self._relays.set_sleeping(peer.dht_key, direct, now)
        self._search(peer, now)
        view = self._crypto.status(real_key) if direct else None
        if view is not None and view.endpoint is not None:
            peer.note_address(view.endpoint, True, now)
        if changed and peer.state is State.ONLINE:
            self.listener.friend_direct(real_key, direct, now)

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        """Lossless packets came. Any is a sign of life; c-toxcore waits for 10 alone, which a
        long queue of other packets can hold up."""
        peer = self._peers.get(real_key)
        if peer is None:
            self._drops["friend_unknown"] += len(packets)
            return
        peer.heard = now
        others: list[bytes] = []
        for data in packets:
            kind = data[0]
            if kind == _SHARE_KIND:
                self._take_relays(peer, data, now)
            elif kind != _ALIVE_KIND:
                others.append(data)
            elif peer.state is State.ONLINE and peer.next_alive <= now + ANSWER_S:
                self._say_alive(peer, now)
                peer.next_alive += YIELD_S
                self._plan(peer)
        if others:
            self.listener.friend_packets(real_key, others, now)

    def lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """A lossy packet came."""
        if real_key in self._peers:
            self.listener.friend_lossy(real_key, data, now)
        else:
            self._drops["friend_unknown"] += 1

    def acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        """The peer has all lossless packets up to this one."""
        peer = self._peers.get(real_key)
        if peer is None:
            return
        if number != peer.acknowledged and not peer.direct and peer.dht_key is not None:
            self._relays.relay_works(peer.dht_key, now)
        peer.acknowledged = number
        self.listener.friend_acknowledged(real_key, number, now)

    # Time

    def next_timer(self) -> float | None:
        """Returns when `handle_timer` wants to be called; None: not before something happens."""
        return self.timers.next()

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        for real_key in self.timers.expired(now):
            peer = self._peers.get(real_key)
            if peer is None:
                continue
            if peer.state is State.ONLINE:
                self._keep_alive(peer, now)
            elif peer.state is State.CONNECTING:
                self._connect(peer, now)
            if self._peers.get(real_key) is peer:
                self._plan(peer)

    def _plan(self, peer: Peer) -> None:
        """Sets the peer's one timer to what it has to do next."""
        if peer.state is State.ONLINE:
            due = min(peer.next_alive, peer.next_share, peer.heard + DEAD_S)
        elif peer.state is State.CONNECTING:
            due = min(peer.next_try, peer.key_heard + DHT_TIMEOUT_S)
        else:
            self.timers.stop(peer.key)
            return
        self.timers.set(peer.key, due)

    def _keep_alive(self, peer: Peer, now: float) -> None:
        if peer.heard + DEAD_S <= now:
            self._drops["friend_silent"] += 1
            self._go_offline(peer, now)
            self._crypto.close(peer.key, now)
            return
        if peer.next_alive <= now:
            self._say_alive(peer, now)
        if peer.next_share <= now:
            peer.next_share = now + (SHARE_S if self._share_relays(peer, now) else LOOK_S)

    def _say_alive(self, peer: Peer, now: float) -> None:
        sent = self._crypto.send(peer.key, _ALIVE, now)
        peer.next_alive = now + (ALIVE_S if sent is not None else AGAIN_S)

    def _share_relays(self, peer: Peer, now: float) -> bool:
        """Tells the friend by which relays it can reach us; False: there is none, or no room."""
        relays = self._relays.relays(MAX_SHARED_RELAYS)
        if not relays:
            return False
        for relay in relays:  # where it looks for us we have to be
            self._note_relay(peer, relay, now)
        packet = ShareRelays(tuple(relays)).encode()
        return self._crypto.send(peer.key, packet, now) is not None

    def _connect(self, peer: Peer, now: float) -> None:
        """Has a session made, or forgets a DHT key of which nothing was heard for too long."""
        if peer.dht_key is None or peer.key_heard + DHT_TIMEOUT_S <= now:
            self._let_go(peer, now)
            peer.state = State.SEARCHING
            self._onion.set_dht_key(peer.key, None, now)
            self._crypto.close(peer.key, now)
            return
        peer.next_try = now + AGAIN_S
        view = self._crypto.status(peer.key)
        told = peer.offered and view is not None and view.dht_key == peer.dht_key
        self._crypto.open(peer.key, peer.dht_key, now)
        if told:
            return
        peer.offered = True
        for endpoint in peer.addresses(now):
            self._crypto.set_endpoint(peer.key, endpoint, now)
        self._offer_relays(peer, peer.dht_key, now)

    def _offer_relays(self, peer: Peer, dht_key: PublicKey, now: float) -> None:
        for relay in peer.newest_relays():
            self._relays.add_relay_of(dht_key, relay.endpoint, relay.key, now)

    # Changes

    def _hear_dht_key(self, peer: Peer, dht_key: PublicKey, now: float) -> None:
        """Takes the friend's DHT key; another than before is of a friend that began anew."""
        if peer.dht_key == dht_key:
            peer.key_heard = now
            return
        if peer.state is State.ONLINE:
            self._go_offline(peer, now)
        if self._peers.get(peer.key) is not peer:
            return  # the listener has removed it
        self._let_go(peer, now)
        peer.dht_key, peer.key_heard = dht_key, now
        self._by_dht_key.setdefault(dht_key, []).append(peer)
        peer.state = State.CONNECTING
        peer.offered = False
        peer.next_try = now
        self._search(peer, now)
        self._relays.add_peer(dht_key, now)
        self._onion.set_dht_key(peer.key, dht_key, now)
        self._plan(peer)

    def _search(self, peer: Peer, now: float) -> None:
        """Has the DHT look for the friend as long as UDP does not carry a session with it. (The
        reference goes on with that: eight more nodes for each friend to be asked each minute.)"""
        dht_key, wanted = peer.dht_key, not peer.direct
        if dht_key is None or peer.searched == wanted:
            return
        if wanted:
            peer.searched = self._dht.search(dht_key, now)
        else:
            peer.searched = False
            self._dht.stop_search(dht_key)

    def _let_go(self, peer: Peer, now: float) -> None:
        """Ends what is done for the peer's DHT key."""
        dht_key, peer.dht_key = peer.dht_key, None
        if dht_key is None:
            return
        if peer.searched:
            peer.searched = False
            self._dht.stop_search(dht_key)
        others = self._by_dht_key[dht_key]
        others.remove(peer)
        if not others:
            del self._by_dht_key[dht_key]
            self._relays.remove_peer(dht_key, now)

    def _go_offline(self, peer: Peer, now: float) -> None:
        peer.state = State.CONNECTING
        peer.direct = peer.offered = False
        peer.key_heard = peer.next_try = now  # it was there a moment ago
        self._plan(peer)
        self._onion.set_online(peer.key, False, now)
        if peer.dht_key is not None:
            self._relays.set_sleeping(peer.dht_key, False, now)
        self._search(peer, now)
        self.listener.friend_offline(peer.key, now)

    # Relays

    def _take_relays(self, peer: Peer, data: bytes, now: float) -> None:
        try:
            relays = ShareRelays.decode(data).relays
        except WireError:
            self._drops["friend_share_relays"] += 1
            return
        for relay in relays:
            self._note_relay(peer, relay, now)

    def _note_relay(self, peer: Peer, relay: NodeInfo, now: float) -> None:
        """Keeps a relay of the friend, and has it used while its DHT key is known."""
        endpoint = relay.endpoint
        if not port_of(endpoint):
            self._drops["friend_relay_port"] += 1
            return
        if relay.key == peer.dht_key and is_lan(endpoint):  # a client that is a relay itself
            known = [one for one in peer.addresses(now) if is_ipv4(one) == is_ipv4(endpoint)]
            if known:
                endpoint = with_port(known[-1], port_of(endpoint))
        peer.note_relay(NodeInfo(relay.key, endpoint, True))
        self.relay_noted(peer.key)
        if peer.dht_key is not None:
            self._relays.add_relay_of(peer.dht_key, endpoint, relay.key, now)
