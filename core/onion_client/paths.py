"""Onion paths: three hops with the keys for their layers, and six of them for one purpose."""

from core.crypto import KeyPair, PublicKey, SharedKey, precompute, seal
from core.endpoint import Endpoint, pack_ip_port
from core.entropy import Entropy
from core.onion_client.interfaces import OnionWays
from core.onion_client.path_nodes import PathNodes
from core.packets.nodes import NodeInfo

POOL_SIZE = 6  # c-toxcore onion_client.h: NUMBER_ONION_PATHS
MAX_UNANSWERED = 4  # c-toxcore onion_client.h: ONION_PATH_MAX_NO_RESPONSE_USES
FIRST_TIMEOUT_S = 4.0  # c-toxcore onion_client.h: ONION_PATH_FIRST_TIMEOUT
TIMEOUT_S = 10.0  # c-toxcore onion_client.h: ONION_PATH_TIMEOUT
LIFE_S = 1200.0  # c-toxcore onion_client.h: ONION_PATH_MAX_LIFETIME
STABLE_S = 90.0  # c-toxcore onion_client.c: TIME_TO_STABLE
FORMER_FIRSTS = 16  # first hops by which data may still come: stores keep an announce for 300 s

_ONION_REQUEST_0 = b"\x80"
_RELAY_ONION_REQUEST = b"\x08"
_FOREVER = float("inf")
# What a path keeps of its layers; an address is packed to 19 bytes, a key has 32.
_TO_SECOND, _TO_THIRD = slice(0, 51), slice(51, 102)
_INNER, _MIDDLE, _OUTER = slice(102, 134), slice(134, 166), slice(166, 198)


class Path:
    """Three hops, the keys of their layers, and how well it works.

    It is dead when four uses in a row were not answered, and 4 s passed since (10 s if it ever
    worked), and after 1200 s. It begins with two of the four: a new path is given up soon.
    """

    __slots__ = (
        "_layers",
        "confirmed",
        "created",
        "hops",
        "slot",
        "unanswered",
        "used",
    )

    def __init__(
        self,
        slot: int,
        hops: tuple[NodeInfo, ...],
        keys: tuple[SharedKey | None, SharedKey, SharedKey],
        publics: tuple[PublicKey, PublicKey],
        now: float,
    ) -> None:
        self.slot = slot
        self.hops = hops
        # One value in place of five, for there are thousands of paths: what stands before the
        # second and third layer, then the keys from the innermost layer on.
        to_second = pack_ip_port(hops[1].endpoint) + publics[0]
        to_third = pack_ip_port(hops[2].endpoint) + publics[1]
        outer, middle, inner = keys
        self._layers = b"".join((to_second, to_third, inner, middle, outer or b""))
        self.confirmed = False
        self.created = now
        self.used = now
        """When it was used last, before it had four unanswered uses."""
        self.unanswered = MAX_UNANSWERED // 2  # c-toxcore onion_client.c: random_path

    @property
    def relay(self) -> PublicKey | None:
        """The key of the TCP relay that is the first hop, or None."""
        return self.hops[0].key if self.hops[0].tcp else None

    def dead_at(self) -> float:
        """Returns when it will be dead unless an answer comes."""
        end = self.created + LIFE_S
        if self.unanswered < MAX_UNANSWERED:
            return end
        return min(end, self.used + (TIMEOUT_S if self.confirmed else FIRST_TIMEOUT_S))

    def unstable_at(self) -> float:
        """Returns when its last use will have been unanswered for too long to be relied upon."""
        return self.used + TIMEOUT_S if self.unanswered else _FOREVER

    def use(self, now: float) -> None:
        """Counts a packet sent through it."""
        if self.unanswered < MAX_UNANSWERED:
            self.used = now
        self.unanswered += 1

    def kill(self) -> None:
        """Makes it dead: its relay is gone."""
        self.created = -_FOREVER

    def wrap(self, own: PublicKey, nonce: bytes, destination: Endpoint, payload: bytes) -> bytes:
        """Returns packet 80 for the first hop; for a relay 08, which has no outermost layer.

        `own` is our DHT key; one nonce serves all layers.
        """
        layers = self._layers
        inner, middle = SharedKey(layers[_INNER]), SharedKey(layers[_MIDDLE])
        text = seal(inner, nonce, pack_ip_port(destination) + payload)
        text = layers[_TO_SECOND] + seal(middle, nonce, layers[_TO_THIRD] + text)
        outer = SharedKey(layers[_OUTER])
        if not outer:
            return _RELAY_ONION_REQUEST + nonce + text
        return _ONION_REQUEST_0 + nonce + own + seal(outer, nonce, text)


class PathPool:
    """Six paths for one purpose: our own announces, or everything about friends.

    With pools of their own for both, the nodes of a path cannot tell whose friends are searched.
    """

    __slots__ = ("_dht", "_entropy", "_nodes", "_paths", "_ways", "firsts")

    def __init__(self, dht: KeyPair, entropy: Entropy, nodes: PathNodes, ways: OnionWays) -> None:
        self._dht = dht
        self._entropy = entropy
        self._nodes = nodes
        self._ways = ways
        self._paths: list[Path | None] = [None] * POOL_SIZE
        self.firsts: list[Endpoint] = []
        """First hops of the latest paths, those that are dead included."""

    def __len__(self) -> int:
        return sum(path is not None for path in self._paths)

    def clear(self) -> None:
        """Forgets all paths: nothing is to be sent for a while."""
        self._paths = [None] * POOL_SIZE
        self.firsts.clear()

    def holds(self, path: Path) -> bool:
        """Tells whether a path is still in its place, be it alive or not."""
        return self._paths[path.slot] is path

    def pick(self, wanted: Path | None, now: float) -> Path | None:
        """Returns a path to be used now, and counts the use; None if no nodes are known.

        `wanted` is the path that was used before for the same thing: ping ids are good for its last
        hop alone. Where it is dead, a new path takes its place. None: a random one.
        """
        slot = self._entropy.below(POOL_SIZE) if wanted is None else wanted.slot
        path = self._paths[slot]
        if path is None or not self._is_usable(path, now):
            path = self._replace(slot, path, now)
            if path is None:
                return None
        path.use(now)
        return path

    def _is_usable(self, path: Path, now: float) -> bool:
        return path.dead_at() > now and (path.relay is None) == self._ways.uses_udp()

    def _replace(self, slot: int, old: Path | None, now: float) -> Path | None:
        if old is not None and not old.confirmed and old.unanswered >= MAX_UNANSWERED:
            self._nodes.failed(old.hops)
        self._paths[slot] = path = self._make(slot, now)
        if path is not None and path.relay is None:
            self.firsts.append(path.hops[0].endpoint)
            del self.firsts[:-FORMER_FIRSTS]
        return path

    def _make(self, slot: int, now: float) -> Path | None:
        self._nodes.learn(self._ways.path_nodes())
        relay = None
        if not self._ways.uses_udp():
            relays = self._ways.onion_relays()
            if not relays:
                return None
            relay = relays[self._entropy.below(len(relays))]
        hops = self._nodes.choose(3 if relay is None else 2, relay)
        if hops is None:
            return None
        outer = None
        if relay is None:
            outer = precompute(self._dht.secret, hops[0].key)
            if outer is None:
                return None
        else:
            hops = (relay, *hops)
        first, second = KeyPair.generate(self._entropy), KeyPair.generate(self._entropy)
        middle = precompute(first.secret, hops[1].key)
        inner = precompute(second.secret, hops[2].key)
        if middle is None or inner is None:
            return None
        keys = outer, middle, inner
        return Path(slot, hops, keys, (first.public, second.public), now)

    def answered(self, path: Path, now: float) -> None:
        """An answer came through a path: it works, and its nodes are good ones."""
        if self._paths[path.slot] is not path:
            return
        path.confirmed = True
        path.unanswered = 0
        self._nodes.worked(path.hops)
