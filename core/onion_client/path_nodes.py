"""The nodes that onion paths are made of, and which three of them make the next path."""

from collections import Counter
from collections.abc import Callable, Container, Iterable

from core.crypto import PublicKey
from core.endpoint import Endpoint, is_ipv4, is_lan, prefix_of
from core.entropy import Entropy
from core.packets.nodes import NodeInfo

MAX_PATH_NODES = 32  # c-toxcore onion_client.h: MAX_PATH_NODES
MAX_SAVED = 8  # c-toxcore Messenger.c: NUM_SAVED_PATH_NODES
ENOUGH = 3  # hops of a path; with fewer proven nodes the bootstrap nodes help out
SUSPECT_AFTER = 2  # paths in a row with this node that never carried an answer
CREDIT = 4  # so many more for one that was in a path that did
REPEAT_ONE_IN = 4  # paths for which, among suspects, a node is taken twice
REMEMBERED = 4  # times as many nodes have a record, also while they are not in the ring
LEARNED_AT_ONCE = 8  # c-toxcore onion_client.c: populate_path_nodes, MAX_FRIEND_CLIENTS


class PathNodes:
    """A ring of 32 nodes, the newest pushing out the oldest, and 32 bootstrap nodes besides.

    Not every node of the DHT does onion hops. So a path has at most one hop that is not proven, by
    a path that carried an answer, while there are enough others; and a suspect, which was in
    nothing but failures, is chosen last and leaves the ring first. (The reference keeps no such
    record.)

    The identities of one process have one ring of `capacity` nodes together, and are not hops for
    one another while there are others: `ours` are their DHT keys.
    """

    __slots__ = (
        "_bootstrap",
        "_capacity",
        "_entropy",
        "_failures",
        "_families",
        "_ours",
        "_ring",
        "_saved",
        "same",
    )

    def __init__(
        self,
        entropy: Entropy,
        capacity: int = MAX_PATH_NODES,
        ours: Container[bytes] = (),
        same: Callable[[NodeInfo], NodeInfo] = lambda node: node,
    ) -> None:
        self._entropy = entropy
        self._capacity = capacity
        self._ours = ours
        self.same = same
        """Returns an equal node that is kept anyway, if there is one."""
        self._ring: dict[PublicKey, NodeInfo] = {}  # oldest first
        self._bootstrap: dict[PublicKey, NodeInfo] = {}
        self._saved: set[PublicKey] = set()  # of those: nobody gave them to us
        self._failures: dict[
            PublicKey, int
        ] = {}  # in a row; below 0: proven; least lately noted first
        self._families: set[bool] = set()  # is_ipv4 of what the DHT talks with

    def __len__(self) -> int:
        return len(self._ring)

    def add_bootstrap(self, node: NodeInfo) -> None:
        """Keeps a node that serves until the DHT has found some; the oldest of 33 goes."""
        self._saved.discard(node.key)
        self._keep(node)

    def add_saved(self, node: NodeInfo) -> None:
        """Keeps a node of an earlier run as well, until it is a suspect. It has no credit: most
        were clients, which have another key since, and would spoil the paths of a small network."""
        if node.key not in self._bootstrap:
            self._saved.add(node.key)
            self._keep(node)

    def _keep(self, node: NodeInfo) -> None:
        if node.key not in self._bootstrap and len(self._bootstrap) >= MAX_PATH_NODES:
            oldest = next(iter(self._bootstrap))
            del self._bootstrap[oldest]
            self._saved.discard(oldest)
        self._bootstrap[node.key] = node

    def add(self, node: NodeInfo) -> bool:
        """Puts a node into the ring; one that is there keeps its place and its address. False if
        it is there, or a relay, or one of ours beside others."""
        ring = self._ring
        if node.key in ring or node.tcp:
            return False
        if node.key in self._ours:
            if ring and next(iter(ring)) not in self._ours:
                return False
        elif ring and next(iter(ring)) in self._ours:
            ring.clear()  # there are others now
        if len(ring) >= self._capacity:
            suspects = (key for key in ring if self.is_suspect(key))
            del ring[next(suspects, next(iter(ring)))]
        ring[node.key] = node
        return True

    def learn(self, nodes: Iterable[NodeInfo]) -> None:
        """Takes at most eight new ones of the nodes that the DHT itself talks with: their families
        can be sent to. Suspects with whom it talks no more are gone and leave the ring."""
        nodes = list(nodes)
        talking = {node.key for node in nodes}
        for key in [key for key in self._ring if key not in talking and self.is_suspect(key)]:
            del self._ring[key]
        added = 0
        for node in nodes:
            self._families.add(is_ipv4(node.endpoint))
            if added < LEARNED_AT_ONCE and not self.is_suspect(node.key):
                added += self.add(node)

    def worked(self, nodes: Iterable[NodeInfo]) -> None:
        """An answer came through a path of these nodes."""
        for node in nodes:
            self.add(node)
            self._note(node.key, -CREDIT)

    def failed(self, nodes: Iterable[NodeInfo]) -> None:
        """A path of these nodes died without ever carrying an answer: those of them are blamed that
        are not proven, or all if all are."""
        nodes = list(nodes)
        for node in [node for node in nodes if not self.is_proven(node.key)] or nodes:
            self._note(node.key, self._standing(node.key) + 1)
            if self._ring and node.key in self._saved and self.is_suspect(node.key):
                self._saved.remove(node.key)  # the DHT has found others
                del self._bootstrap[node.key]

    def _note(self, key: PublicKey, failures: int) -> None:
        self._failures.pop(key, None)
        self._failures[key] = failures
        if len(self._failures) > REMEMBERED * self._capacity:
            del self._failures[next(iter(self._failures))]

    def _standing(self, key: PublicKey) -> int:
        """Returns the node's failures in a row, less its credit. One that somebody gave us to begin
        with has credit in advance."""
        failures = self._failures.get(key)
        if failures is None:
            return -CREDIT if key in self._bootstrap and key not in self._saved else 0
        return failures

    def is_proven(self, key: PublicKey) -> bool:
        """Tells whether the node was in a path that worked, and not in many failures since."""
        return self._standing(key) < 0

    def is_suspect(self, key: PublicKey) -> bool:
        """Tells whether the node was in nothing but failures lately."""
        return self._standing(key) >= SUSPECT_AFTER

    def expected(self, most: int, of_prefix: int) -> int:
        """Returns how many places of a node list these nodes could fill, at most `most`."""
        prefixes: Counter[bytes] = Counter()
        count = 0
        for node in self._ring.values():
            if self.is_suspect(node.key):
                continue
            if not is_lan(node.endpoint):
                prefix = prefix_of(node.endpoint)
                prefixes[prefix] += 1
                if prefixes[prefix] > of_prefix:
                    continue
            count += 1
        return min(most, count)

    def sample(self, count: int) -> list[NodeInfo]:
        """Returns up to `count` different random nodes, half of them proven ones."""
        nodes = self._shuffled(list(self._known().values()))
        proven = [node for node in nodes if self.is_proven(node.key)][: (count + 1) // 2]
        return (proven + [node for node in nodes if node not in proven])[:count]

    def _known(self) -> dict[PublicKey, NodeInfo]:
        """Returns the ring, with the bootstrap nodes until enough of it is proven."""
        if sum(map(self.is_proven, self._ring)) < ENOUGH:
            return self._ring | self._bootstrap
        return self._ring

    def to_save(self) -> list[NodeInfo]:
        """Returns the eight newest, filled up with bootstrap nodes."""
        nodes = dict(reversed(self._ring.items()))
        for key, node in self._bootstrap.items():
            nodes.setdefault(key, node)
        return list(nodes.values())[:MAX_SAVED]

    def choose(self, count: int, relay: NodeInfo | None = None) -> tuple[NodeInfo, ...] | None:
        """Returns `count` hops in their order, behind `relay` if there is one; None if no node is
        known.

        No two of them share a /24 or /64 (local networks apart) while the known nodes allow it.
        Else prefixes repeat, and where less than `count` nodes are known even nodes: a network of
        one node can be used (the reference draws each hop without looking at the others). So it is
        now and then where all others are suspects.
        """
        nodes = self._shuffled(list(self._known().values()))
        if not nodes:
            return None
        good = [node for node in nodes if not self.is_suspect(node.key)]
        # Two at least: else one that loses what goes to others could have us make it the first and
        # the last hop. One that was given to us could do worse.
        enough = len(good) > 1 or (len(good) == 1 and good[0].key in self._bootstrap)
        if len(good) < count and not self._entropy.below(REPEAT_ONE_IN):
            nodes = good if enough else self._pair(nodes)
        # A hop on the open Internet sends nothing into local networks.
        outside = relay is not None and not is_lan(relay.endpoint)
        nodes.sort(key=lambda node: (outside and is_lan(node.endpoint), self.is_suspect(node.key)))
        hops = self._spread(nodes, count, relay)
        hops.sort(key=lambda hop: (not self._is_direct(hop.endpoint), not is_lan(hop.endpoint)))
        # Who is there twice stands at the beginning: the first hop, which knows us, is not the
        # last, which knows whom we ask, if there are two nodes at all.
        return tuple([hops[0]] * (count - len(hops)) + hops)

    def _pair(self, nodes: list[NodeInfo]) -> list[NodeInfo]:
        """Returns two nodes: good ones and those of the DHT first. Where one bad node is among
        three, no path of three different ones ever works."""
        nodes.sort(key=lambda node: (self.is_suspect(node.key), node.key not in self._ring))
        return nodes[:2]

    def _spread(self, nodes: list[NodeInfo], count: int, relay: NodeInfo | None) -> list[NodeInfo]:
        """Takes the first nodes of different prefixes, one unproven among them; if they are too
        few, others as well."""
        taken = set() if relay is None else {prefix_of(relay.endpoint)}
        trial = True
        hops: list[NodeInfo] = []
        unproven: list[NodeInfo] = []
        others: list[NodeInfo] = []
        for node in nodes:
            prefix = prefix_of(node.endpoint)
            if prefix in taken and not is_lan(node.endpoint):
                others.append(node)
            elif trial or self.is_proven(node.key):
                trial = trial and self.is_proven(node.key)
                taken.add(prefix)
                hops.append(node)
                if len(hops) == count:
                    return hops
            else:
                unproven.append(node)
        for node in unproven:
            if prefix_of(node.endpoint) in taken and not is_lan(node.endpoint):
                others.append(node)
            else:
                taken.add(prefix_of(node.endpoint))
                hops.append(node)
        return (hops + others)[:count]

    def _is_direct(self, endpoint: Endpoint) -> bool:
        """Tells whether we can send to this family ourselves, as a first hop needs it."""
        return not self._families or is_ipv4(endpoint) in self._families

    def _shuffled(self, nodes: list[NodeInfo]) -> list[NodeInfo]:
        for place in range(len(nodes) - 1, 0, -1):
            other = self._entropy.below(place + 1)
            nodes[place], nodes[other] = nodes[other], nodes[place]
        return nodes
