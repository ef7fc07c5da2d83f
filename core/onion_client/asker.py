"""Sends what goes through the onion: announce requests, and data to route."""

from collections import Counter
from collections.abc import Iterable

from core.crypto import KeyPair, Nonce, PublicKey, SharedKey
from core.dht.addresses import refusal
from core.endpoint import Endpoint, is_lan
from core.entropy import Entropy
from core.onion_client.budget import Budget
from core.onion_client.interfaces import OnionWays
from core.onion_client.lookup import Lookup
from core.onion_client.nodes import NO_PING_ID
from core.onion_client.path_nodes import PathNodes
from core.onion_client.paths import Path, PathPool
from core.onion_client.pending import Asked, PendingAnnounces
from core.packets.announce import NO_RETURN, AnnounceRequest, AnnounceRequestBody
from core.packets.nodes import NodeInfo

NAMED_RATE = 8.0  # nodes asked in a second because an answer named them: 4 in an answer
NAMED_BURST = 64
PAUSE_S = 1.0  # before the next try when no path can be made; doubled up to the longest
LONGEST_PAUSE_S = 15.0
_NO_RELAY = "onion_client_relay_refused"


class Asker:
    """Both path pools, the pending requests, and the door to the network."""

    __slots__ = (
        "_drops",
        "_entropy",
        "_named",
        "_own_dht",
        "_pause",
        "_ways",
        "blocked_until",
        "for_friends",
        "for_self",
        "path_nodes",
        "pending",
    )

    def __init__(
        self,
        dht: KeyPair,
        entropy: Entropy,
        ways: OnionWays,
        drops: Counter[str],
        path_nodes: PathNodes | None = None,
    ) -> None:
        self._own_dht = dht.public
        self._entropy = entropy
        self._ways = ways
        self._drops = drops
        self._named = Budget(NAMED_RATE, NAMED_BURST)
        self.path_nodes = PathNodes(entropy) if path_nodes is None else path_nodes
        self.for_self = PathPool(dht, entropy, self.path_nodes, ways)
        self.for_friends = PathPool(dht, entropy, self.path_nodes, ways)
        self.pending = PendingAnnounces(entropy)
        self.blocked_until = float("-inf")
        """Nothing can be sent before that: there was no path."""
        self._pause = PAUSE_S

    def unblock(self) -> None:
        """There may be nodes or relays now."""
        self.blocked_until = float("-inf")
        self._pause = PAUSE_S

    def ask(
        self,
        lookup: Lookup,
        node: NodeInfo,
        now: float,
        shared: SharedKey | None = None,
        ping_id: bytes = NO_PING_ID,
        path: Path | None = None,
    ) -> bool:
        """Sends an announce request, by `path` or its successor, or by a random path; False if no
        packet left."""
        shared = shared or lookup.shared_with(node.key)
        if shared is None:
            return False
        chosen = self.path(lookup.pool, path, now)
        if chosen is None:
            return False
        sendback = self.pending.add(Asked(lookup, node, shared, chosen, now))
        nonce = Nonce(self._entropy.bytes(24))
        body = AnnounceRequestBody(ping_id, lookup.key, PublicKey(lookup.data_key), sendback)
        request = AnnounceRequest(
            nonce, lookup.requester.public, body.seal(shared, nonce), NO_RETURN
        )
        if self.send(chosen, node.endpoint, request.payload(), now):
            return True
        self.pending.take(sendback)
        return False

    def offer(
        self, lookup: Lookup, nodes: Iterable[NodeInfo], teller: Endpoint, now: float
    ) -> None:
        """Asks those of the named nodes that would come into the list.

        Only a node of a local network may name addresses of local networks. (The reference looks
        at where the packet came from, which is the first hop, or whoever forged its address.)
        """
        from_lan = is_lan(teller)
        for node in nodes:
            if node.key == self._own_dht:
                continue
            if refusal(node.endpoint, from_lan) is not None:
                self._drops["onion_client_address"] += 1
            elif (
                not lookup.nodes.has_live(node.key, now)
                and lookup.nodes.wants(node, now)
                and lookup.remembered.admit(node.key, now)
            ):
                if not self._named.take(now):
                    self._drops["onion_client_named_full"] += 1
                    return
                self.ask(lookup, node, now)

    def populate(self, lookup: Lookup, count: int, longest: float, now: float) -> None:
        """Asks up to `count` random nodes of the paths, to fill a list."""
        self.path_nodes.learn(self._ways.path_nodes())
        for node in self.path_nodes.sample(count):
            if not lookup.nodes.has_live(node.key, now):
                self.ask(lookup, node, now)
        lookup.round_done(longest, now)

    def path(self, pool: PathPool, wanted: Path | None, now: float) -> Path | None:
        """Returns a path to be used now; None (and a pause) if there is none."""
        path = pool.pick(wanted, now)
        if path is None:
            self._block(now)
        return path

    def send(self, path: Path, destination: Endpoint, payload: bytes, now: float) -> bool:
        """Sends a payload through a path; False if its relay does not take it."""
        nonce = self._entropy.bytes(24)
        packet = path.wrap(self._own_dht, nonce, destination, payload)
        relay = path.relay
        if relay is None:
            self._ways.send_udp(path.hops[0].endpoint, packet)
        elif not self._ways.send_onion(relay, packet, now):
            self._drops[_NO_RELAY] += 1
            path.kill()
            self._block(now)
            return False
        self._pause = PAUSE_S
        return True

    def _block(self, now: float) -> None:
        if self.blocked_until > now:
            return
        self.blocked_until = now + self._pause
        self._pause = min(LONGEST_PAUSE_S, 2 * self._pause)
