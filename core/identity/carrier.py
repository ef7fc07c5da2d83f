"""The carrier of one identity: DHT node, onion client, relays and sessions, without the messenger.

Datagrams and bytes of relay connections go in; datagrams, bytes and dials come out by the host,
what friends send by the listeners. Nothing here knows a socket or a clock.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, ParamSpec, Protocol

from core import services
from core.crypto import KeyPair, PublicKey, SharedKeys
from core.dht.light import LightDht
from core.dht.requests import INNER_DHT_KEY
from core.endpoint import Endpoint, is_ipv4
from core.entropy import Entropy
from core.friend.connections import FriendConnections
from core.identity.neighbours import Neighbours
from core.identity.options import EngineOptions
from core.module import NodeOptions, ProtocolViolation
from core.net_crypto import NetCrypto
from core.net_crypto.lasting import SessionMemory
from core.onion import OnionModule
from core.onion_client import OnionClient
from core.packets.nodes import NodeInfo
from core.relay_client import Dialer, RelayPool
from core.timers import NEVER, Clock
from core.wire import WireError

MOST_KEYS = 14
"""Combined keys with nodes that are kept: 2.8 KB. They are of nodes of the DHT, and of who
announces itself here or has a path over us; what is computed anew costs 31 us."""
MOST_ANNOUNCES = 640
"""The reference keeps 160. The identities of a process have memory for these together
(core.identity.neighbours): a few, which all others know, keep more, and most a dozen."""
MOST_GROUPS = 64  # ours
MOST_DATA = 256  # c-toxcore announce.c: ANNOUNCE_BUCKETS of ANNOUNCE_BUCKET_SIZE
MOST_OWN_RELAYS = 2  # c-toxcore onion_client.c: send_dhtpk_announce, of the 4 nodes it names
MOST_SAVED_RELAYS = 8  # c-toxcore Messenger.h: NUM_SAVED_TCP_RELAYS
ONION_FRIEND_REQUEST = 0x20  # WIRE.md W30

_DHT_KINDS = frozenset((0x00, 0x01, 0x02, 0x04, 0x20, 0x21, 0x94))
_CRYPTO_KINDS = frozenset((0x18, 0x19, 0x1A))
_CRYPTO_DATA = 0x1B
_ONION_KINDS = frozenset((0x84, 0x86, 0x88))
_SERVED_KINDS = frozenset(
    kind
    for name in (services.ONION, services.ANNOUNCE, services.DATA, services.FORWARD)
    for kind in services.KINDS[name]
)

Handler = Callable[[bytes, Endpoint, float], None]
P = ParamSpec("P")


class CarrierHost(Dialer, Protocol):
    """Who owns the sockets of an identity."""

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Sends a datagram."""
        ...


class CarrierListener(Protocol):
    """Who hears what comes to an identity outside of its sessions."""

    def friend_request(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Somebody, friend or not, sent a friend request through the onion; id byte first."""
        ...

    def reachable(self, connected: bool, now: float) -> None:
        """Friends can find us now, or not any more."""
        ...


class KnownNodes(NamedTuple):
    """Nodes by which an identity comes back after a restart."""

    dht_nodes: tuple[NodeInfo, ...]
    relays: tuple[NodeInfo, ...]
    path_nodes: tuple[NodeInfo, ...]


class Part(Protocol):
    """What the carrier has the time for."""

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        ...


@lru_cache(maxsize=16)
def _usual_options(
    has_ipv4: bool, has_ipv6: bool, lan_discovery: bool, lan_targets: tuple[Endpoint, ...]
) -> NodeOptions:
    """Returns what thousands of identities of one host have in common."""
    return NodeOptions(
        has_ipv4=has_ipv4,
        has_ipv6=has_ipv6,
        lan_discovery=lan_discovery,
        lan_targets=lan_targets,
    )


class Carrier:
    """All of one identity between the wire and what friends say.

    `friends.listener` and `listener` are to be set before the first packet; `bootstrap` is to be
    called when the friends are added.
    """

    def __init__(
        self,
        keys: KeyPair,
        entropy: Entropy,
        host: CarrierHost,
        now: float,
        unix_offset: float,
        options: EngineOptions,
        dht_nodes: Sequence[NodeInfo] = (),
        dht_keys: KeyPair | None = None,
        neighbours: Neighbours | None = None,
        drops: Counter[str] | None = None,
        kept: SessionMemory | None = None,
    ) -> None:
        """`unix_offset` is what has to be added to `now` for Unix seconds, `dht_nodes` are those
        that were known before; without `dht_keys` new ones are made, as for every start.
        `neighbours` is what the process's identities share; without UDP none is used, so that what
        relays are asked for does not depend on what other identities know. They may share `drops`
        as well, and `kept`, in which sessions outlive the process."""
        if options.proxy is not None:
            options = replace(options, udp=False)
        if neighbours is None or not options.udp:
            neighbours = Neighbours(entropy)
        self.options = options
        self._host = host
        self._now = now
        self._connected = False
        self.listener: CarrierListener
        self.drops: Counter[str] = Counter() if drops is None else drops
        """What was refused, by reason."""
        dht_keys = dht_keys or KeyPair.generate(entropy)
        self.dht_key = dht_keys.public
        """By which nodes and relays know us until the next start."""
        shared = SharedKeys(dht_keys.secret, MOST_KEYS)
        self.dht = LightDht(
            dht_keys, shared, entropy, self, self, self.drops, self._node_options(dht_nodes), now,
            neighbours.table,
        )  # fmt: skip
        proxy, standing = options.proxy, options.standing_relays
        self.relays = RelayPool(dht_keys, entropy, host, self, self.drops, now, proxy, standing)
        self.onion = OnionClient(
            keys, dht_keys, entropy, self, self, self.drops, now, unix_offset, neighbours.path_nodes
        )
        self.crypto = NetCrypto(
            keys, dht_keys, shared, entropy, self, self.drops, now, kept=kept
        )
        self.friends = FriendConnections(
            self.crypto, self.onion, self.dht, self.relays, entropy, self.drops
        )
        self.crypto.listener = self.friends
        self._clocks: list[tuple[Clock, Part]] = []
        for part in (self.crypto, self.friends, self.onion, self.relays):
            self.keep_time_for(part, part.timers)
        if options.udp:
            self.keep_time_for(self.dht, self.dht.clock)
        self.serving: OnionModule | None = None
        """What this identity does for others as a node of the DHT, as every client does."""
        if options.udp and options.serves:
            self.serving = OnionModule(
                self.dht.context, MOST_ANNOUNCES, MOST_GROUPS, MOST_DATA, self.dht.table,
                neighbours.announce_rows,
            )  # fmt: skip
            self.dht.add_onion(self.serving)
            self.keep_time_for(self.serving, self.serving)
        self.relays.keep_for_onion(not options.udp, now)

    def _node_options(self, dht_nodes: Sequence[NodeInfo]) -> NodeOptions:
        options = self.options
        usual = _usual_options(
            options.has_ipv4,
            options.has_ipv6,
            options.lan_discovery and options.udp,
            options.lan_targets,
        )
        if not dht_nodes:
            return usual
        saved = tuple((node.endpoint, bytes(node.key)) for node in dht_nodes)
        return replace(usual, saved_nodes=saved)

    def keep_time_for(self, part: Part, *clocks: Clock) -> None:
        """Calls a part, its own or somebody else's, when one of these clocks says so."""
        self._clocks += [(clock, part) for clock in clocks]

    def bootstrap(self, nodes: Sequence[NodeInfo], now: float, saved: bool = False) -> None:
        """Takes nodes to begin with: of the DHT, and relays (`tcp`). `saved`: those that the onion
        paths of an earlier run were made of; they may be gone."""
        usable = [node for node in nodes if self._reaches(node.endpoint)]
        for node in usable:
            if node.tcp:
                self.relays.add_relay(node.endpoint, node.key, now)
            else:
                self.onion.add_bootstrap(node.endpoint, node.key, saved)
        if self.options.udp:
            rows = [(node.endpoint, bytes(node.key)) for node in usable if not node.tcp]
            self.dht.bootstrap(rows, now)

    def _reaches(self, endpoint: Endpoint) -> bool:
        return self.options.has_ipv4 if is_ipv4(endpoint) else self.options.has_ipv6

    # What comes in

    def handle_packets(
        self, packets: Sequence[bytes], sources: Sequence[Endpoint], now: float
    ) -> None:
        """Takes datagrams; what is wrong with one is counted, and the others go on.

        Those of sessions wait until all others are handled, for they cost less together.
        """
        self._now = now
        drops = self.drops
        data: dict[Endpoint, list[bytes]] = {}
        for packet, source in zip(packets, sources, strict=True):
            kind = packet[0]
            if kind == _CRYPTO_DATA:
                if source in data:
                    data[source].append(packet)
                else:
                    data[source] = [packet]
                continue
            handler = self._handler_of(kind)
            if handler is None:
                drops["identity_kind"] += 1
                continue
            try:
                handler(packet, source, now)
            except WireError as error:
                drops[f"wire:{error.packet}"] += 1
            except ProtocolViolation as error:
                drops[error.reason] += 1
        for source, together in data.items():
            self.crypto.handle_data(together, source, now)

    def _handler_of(self, kind: int) -> Handler | None:
        if kind in _CRYPTO_KINDS:
            return self.crypto.handle_udp
        if kind in _DHT_KINDS:
            return self.dht.handle_packet
        if kind in _ONION_KINDS:
            return self.onion.handle_packet
        if self.serving is not None and kind in _SERVED_KINDS:
            return self.serving.handle_packet
        return None

    def handle_relay_bytes(self, line: int, data: bytes, now: float) -> None:
        """Takes bytes of a relay connection."""
        self._now = now
        self.relays.handle_bytes(line, data, now)

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        self._now = now
        for clock, part in self._clocks:
            if clock.first <= now:
                part.handle_timer(now)

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called next."""
        first = min([clock.first for clock, _ in self._clocks])
        return None if first == NEVER else first

    # How packets leave (core.net_crypto.Ways, core.onion_client.OnionWays, core.dht.light)

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Sends a datagram, if this identity does that."""
        if self.options.udp:
            self._host.send_udp(endpoint, packet)

    def send_relay(self, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        """Sends a packet to a peer through a relay."""
        return self.relays.send(dht_key, packet, now)

    def send_oob(self, relay_key: PublicKey, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        """Answers what came out of band through a relay."""
        return self.relays.send_oob(relay_key, dht_key, packet, now)

    def path_nodes(self) -> list[NodeInfo]:
        """Returns DHT nodes for onion paths."""
        return self.dht.path_nodes(self._now)

    def onion_relays(self) -> list[NodeInfo]:
        """Returns relays that may be first hops."""
        return self.relays.onion_relays()

    def send_onion(self, relay_key: PublicKey, packet: bytes, now: float) -> bool:
        """Gives a relay an onion request."""
        return self.relays.send_onion(relay_key, packet, now)

    def uses_udp(self) -> bool:
        """Tells whether onion paths begin at UDP nodes: not while none of them answers."""
        return self.options.udp and (
            self.dht.is_connected(self._now) or not self.relays.is_connected()
        )

    def send_dht_request(self, dht_key: PublicKey, plain: bytes, now: float) -> int:
        """Sends a friend something by nodes that know its DHT key."""
        return self.dht.send_request(dht_key, plain, now) if self.options.udp else 0

    def own_nodes(self, most: int) -> list[NodeInfo]:
        """Returns nodes by which a friend reaches us: at most two relays, then DHT nodes."""
        relays = self.relays.relays(min(most, MOST_OWN_RELAYS))
        return [*relays, *self.dht.close_nodes(most - len(relays))]

    # What the DHT found (core.dht.light.DhtListener)

    def address_found(self, dht_key: bytes, endpoint: Endpoint, now: float) -> None:
        """A friend answers from this address."""
        self.friends.address_found(dht_key, endpoint, now)

    def dht_request(self, sender: bytes, plain: bytes, source: Endpoint, now: float) -> None:
        """Somebody sent us something by a DHT request."""
        if plain[0] == INNER_DHT_KEY:
            self.onion.dht_key_heard(PublicKey(sender), plain, now)
        else:
            self.drops["identity_dht_request"] += 1

    def dht_connected(self, connected: bool, now: float) -> None:
        """DHT nodes answer, or none does any more."""
        self.onion.network_changed(now)
        # Without UDP, and while no node answers over it, the onion goes through relays.
        self.relays.keep_for_onion(not connected, now)

    # What relays bring (core.relay_client.RelayListener)

    def relay_data(self, dht_key: PublicKey, data: bytes, now: float) -> None:
        """A peer's packet."""
        self._counted(self.crypto.handle_relay, dht_key, data, now)

    def relay_oob(self, relay_key: PublicKey, dht_key: PublicKey, data: bytes, now: float) -> None:
        """A packet of somebody to whom there is no link."""
        self._counted(self.crypto.handle_oob, relay_key, dht_key, data, now)

    def relay_onion(self, relay_key: PublicKey, data: bytes, now: float) -> None:
        """An answer that came back through the onion."""
        self._counted(self.onion.handle_relay, relay_key, data, now)

    def _counted(self, handle: Callable[P, None], *what: P.args, **named: P.kwargs) -> None:
        try:
            handle(*what, **named)
        except WireError as error:
            self.drops[f"wire:{error.packet}"] += 1
        except ProtocolViolation as error:
            self.drops[error.reason] += 1

    def relay_link(self, dht_key: PublicKey, linked: bool, now: float) -> None:
        """There is a link with a peer, or none any more."""
        self.friends.relay_link(dht_key, linked, now)

    def relay_connected(self, connected: bool, now: float) -> None:
        """A relay is connected, or none any more."""
        self.onion.network_changed(now)

    # What the onion brings (core.onion_client.OnionListener)

    def friend_found(
        self, real_key: PublicKey, dht_key: PublicKey, nodes: tuple[NodeInfo, ...], now: float
    ) -> None:
        """A friend told its DHT key."""
        self.friends.friend_found(real_key, dht_key, nodes, now)

    def onion_data(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Somebody, friend or not, sent a friend request."""
        if data[0] == ONION_FRIEND_REQUEST:
            self.listener.friend_request(real_key, data, now)
        else:
            self.drops["identity_onion_data"] += 1

    def onion_connected(self, connected: bool, now: float) -> None:
        """Friends can find us now, or not any more."""
        if connected != self._connected:
            self._connected = connected
            self.listener.reachable(connected, now)

    @property
    def connected(self) -> bool:
        """Whether friends can find us."""
        return self._connected

    # End

    def shut_down(self, now: float) -> None:
        """Ends all sessions, so that friends see at once that we are gone; to be saved before."""
        for key in self.friends.real_keys():
            self.crypto.close(key, now)

    def leave(self) -> None:
        """Is at work no more: the other identities of the process do without it."""
        self.dht.leave()
        if self.serving is not None:
            self.serving.leave()

    # To disk

    def known_nodes(self) -> KnownNodes:
        """Returns nodes to come back by; a kind of which none is known is empty."""
        return KnownNodes(
            tuple(self.dht.nodes_to_save()),
            tuple(self.relays.relays(MOST_SAVED_RELAYS)),
            tuple(self.onion.path_nodes_to_save()),
        )
