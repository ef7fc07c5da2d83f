"""The nodes nearest to a searched key that answer, with what they know of it."""

from core.crypto import PublicKey, SharedKey
from core.dht.distance import number_of
from core.endpoint import Endpoint, is_lan, prefix_of
from core.onion_client.paths import STABLE_S, Path
from core.packets.announce import NOT_STORED, STORED_BY_OTHER
from core.packets.nodes import NodeInfo

MAX_PINGS = 3  # c-toxcore onion_client.h: ONION_NODE_MAX_PINGS, unanswered
NODE_TIMEOUT_S = 15.0  # c-toxcore onion_client.h: ONION_NODE_TIMEOUT
MIN_PING_S = 10.0  # c-toxcore onion_client.h: MIN_NODE_PING_TIME
REMEMBERED = 9  # c-toxcore onion_client.h: MAX_STORED_PINGED_NODES
NEVER = float("-inf")
NO_PING_ID = bytes(32)


class OnionNode:
    """One node that answered, the combined key with it, and what it said last."""

    __slots__ = (
        "added",
        "is_stored",
        "key",
        "node",
        "path",
        "pinged",
        "refusals",
        "shared",
        "unanswered",
    )

    def __init__(self, node: NodeInfo, shared: SharedKey, now: float) -> None:
        self.node = node
        self.shared = shared
        self.added = now
        self.pinged = NEVER
        self.unanswered = 0
        self.refusals = 0
        """Answers in a row with which it stored nothing; the first brings the ping id."""
        self.is_stored = NOT_STORED
        self.key = NO_PING_ID
        """A ping id, or the searched peer's data key if `is_stored` is 1."""
        self.path: Path | None = None
        """By which the last answer came."""

    def is_timed_out(self, now: float) -> bool:
        """Tells whether its place is free: three requests unanswered, and 15 s."""
        return self.unanswered >= MAX_PINGS and self.pinged + NODE_TIMEOUT_S <= now

    def is_old(self, path: Path, now: float) -> bool:
        """Tells whether node and path are 90 s old: stable unless a request hangs (c-toxcore
        onion_client.c: path_is_stable)."""
        return self.added + STABLE_S <= now and path.created + STABLE_S <= now

    def unstable_at(self, path: Path) -> float:
        """Returns when a request that hangs now ends the stability."""
        if not self.unanswered:
            return path.unstable_at()
        return min(self.pinged + NODE_TIMEOUT_S, path.unstable_at())


class NodeList:
    """At most `capacity` nodes, the nearest to a key; timed out ones give way first.

    Of one /24 or /64 there are at most a quarter, local networks apart: whoever has one network and
    makes keys near the searched one does not get all places. (The reference has no such limit.)
    """

    __slots__ = ("_number", "capacity", "nodes")

    def __init__(self, key: bytes, capacity: int) -> None:
        self._number = number_of(key)
        self.capacity = capacity
        self.nodes: list[OnionNode] = []

    @property
    def of_prefix(self) -> int:
        """How many nodes of one prefix there may be."""
        return self.capacity // 4

    def find(self, key: bytes) -> OnionNode | None:
        """Returns the node with this key."""
        for node in self.nodes:
            if node.node.key == key:
                return node
        return None

    def has_live(self, key: bytes, now: float) -> bool:
        """Tells whether the node is here and not timed out."""
        node = self.find(key)
        return node is not None and not node.is_timed_out(now)

    def live(self, now: float) -> list[OnionNode]:
        """Returns the nodes that are not timed out."""
        return [  # as `is_timed_out`, without a call for each after every packet
            node
            for node in self.nodes
            if node.unanswered < MAX_PINGS or node.pinged + NODE_TIMEOUT_S > now
        ]

    def wants(self, node: NodeInfo, now: float) -> bool:
        """Tells whether an answer of a node that is not here, or timed out, would bring it in."""
        return self._place(number_of(node.key) ^ self._number, node.endpoint, now) is not None

    def _place(self, distance: int, endpoint: Endpoint, now: float) -> int | None:
        """Returns the index of the node that gives way, or one behind the last."""
        nodes = self.nodes
        rivals = range(len(nodes))
        if not is_lan(endpoint):
            prefix = prefix_of(endpoint)
            same = [
                place
                for place in rivals
                if prefix_of(nodes[place].node.endpoint) == prefix
                and not nodes[place].is_timed_out(now)
            ]
            if len(same) >= self.of_prefix:
                farthest = max(same, key=self._distance)
                return farthest if distance < self._distance(farthest) else None
        for place in rivals:
            if nodes[place].is_timed_out(now):
                return place
        if len(nodes) < self.capacity:
            return len(nodes)
        farthest = max(rivals, key=self._distance)
        return farthest if distance < self._distance(farthest) else None

    def _distance(self, place: int) -> int:
        return number_of(self.nodes[place].node.key) ^ self._number

    def take(
        self,
        node: NodeInfo,
        shared: SharedKey,
        is_stored: int,
        key: bytes,
        path: Path,
        now: float,
    ) -> OnionNode | None:
        """Enters what a node answered; None if it is not here and all who are, are nearer."""
        entry = self.find(node.key)
        if entry is None:
            distance = number_of(node.key) ^ self._number
            place = self._place(distance, node.endpoint, now)
            if place is None:
                return None
            entry = OnionNode(node, shared, now)
            self.nodes[place : place + 1] = [entry]
        elif entry.is_timed_out(now):
            entry.added = now
            entry.pinged = NEVER
        entry.node = node
        entry.shared = shared
        entry.is_stored = is_stored
        entry.refusals = entry.refusals + 1 if is_stored == NOT_STORED else 0
        entry.key = key
        entry.path = path
        entry.unanswered = 0
        return entry

    def storing(self, now: float) -> list[OnionNode]:
        """Returns the nodes at which the searched peer is announced, if they are enough for
        something to be sent to it: a quarter of those that live (c-toxcore onion_client.c:
        send_onion_data)."""
        live = self.live(now)
        storing = [node for node in live if node.is_stored == STORED_BY_OTHER]
        return storing if live and len(storing) >= (len(live) - 1) // 4 + 1 else []


class Remembered:
    """The last nine keys that were asked because somebody named them: each once in 10 s."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: list[tuple[PublicKey, float]] = []

    def admit(self, key: PublicKey, now: float) -> bool:
        """Tells whether a node may be asked now, and remembers that it was."""
        for known, at in self._asked:
            if known == key and at + MIN_PING_S > now:
                return False
        self._asked.append((key, now))
        del self._asked[:-REMEMBERED]
        return True

    def forget(self) -> None:
        """Remembers none."""
        self._asked.clear()

    def tidy(self, now: float) -> None:
        """Lets go of those that may be asked again."""
        self._asked = [row for row in self._asked if row[1] + MIN_PING_S > now]
