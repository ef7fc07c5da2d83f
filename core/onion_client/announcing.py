"""Announcing ourselves: twelve nodes near our real key that tell others how to write to us."""

from core.crypto import KeyPair, PublicKey, SharedKey
from core.module import ProtocolViolation
from core.onion_client.asker import Asker
from core.onion_client.lookup import SETTLE_S, Lookup
from core.onion_client.nodes import MAX_PINGS, NEVER, NO_PING_ID, NODE_TIMEOUT_S, OnionNode
from core.onion_client.paths import STABLE_S, Path
from core.packets.announce import NOT_STORED, STORED_BY_OTHER
from core.packets.nodes import NodeInfo

TARGETS = 12  # c-toxcore onion_client.h: MAX_ONION_CLIENTS_ANNOUNCE
NOT_ANNOUNCED_S = 3.0  # c-toxcore onion_client.c: ANNOUNCE_INTERVAL_NOT_ANNOUNCED
MOST_DOUBLINGS = 5  # of that time, for nodes that refuse again and again: 96 s
ANNOUNCED_S = 15.0  # c-toxcore onion_client.c: ANNOUNCE_INTERVAL_ANNOUNCED
STABLE_ANNOUNCE_S = 120.0  # c-toxcore onion_client.c: ANNOUNCE_INTERVAL_STABLE
ROUND_SIZE = 6  # c-toxcore onion_client.c: do_announce, random nodes asked at a time
LONGEST_ROUND_S = 120.0  # between rounds in a network of few nodes
LONGEST_ROUND_OFFLINE_S = 5.0


class OwnAnnounce(Lookup):
    """Our own key, and when each node is to be told again that we are here."""

    __slots__ = ("_last",)

    def __init__(self, real: KeyPair, data_key: PublicKey, asker: Asker) -> None:
        super().__init__(real.public, real, data_key, TARGETS, asker.for_self)
        self._last = NEVER  # when any node was told

    def take_answer(
        self, node: NodeInfo, shared: SharedKey, stored: int, key: bytes, path: Path, now: float
    ) -> None:
        """Enters an answer. One that tells us of our own key as of another's is refused, unless it
        names our data key: then the announce stands, but the node gave no ping id."""
        if stored == STORED_BY_OTHER:
            if key != self.data_key:
                raise ProtocolViolation("onion_client_not_ours")
            key = NO_PING_ID
        self.nodes.take(node, shared, stored, key, path, now)

    def standing(self, now: float) -> tuple[int, int]:
        """Returns how many nodes live, and how many of these keep our announcement."""
        stored = [node.is_stored != NOT_STORED for node in self.nodes.live(now)]
        return len(stored), sum(stored)

    def due(self, connected: bool, now: float) -> float:
        """Returns when `run` has something to do, or when a place in the list becomes free."""
        live = self.nodes.live(now)
        when = self.populate_due(len(live), not connected)
        again = self._last + ANNOUNCED_S
        for node in live:
            if node.unanswered >= MAX_PINGS:
                due = node.pinged + NODE_TIMEOUT_S
            else:
                due = self._node_due(node, now)
                if again < due and node.pinged > NEVER:
                    due = again
            if due < when:
                when = due
        return when

    def _node_due(self, node: OnionNode, now: float) -> float:
        """Returns when a node is to be told again if nothing comes from it until then."""
        if node.pinged == NEVER:
            return node.added + SETTLE_S
        path = node.path
        if path is None:
            return node.pinged + NOT_ANNOUNCED_S
        dead_at = path.dead_at()
        if dead_at <= now or not self.pool.holds(path):
            return node.pinged + NOT_ANNOUNCED_S
        if node.is_stored == NOT_STORED:
            # A full node stays full for a while. (The reference asks again each 3 s.)
            doublings = min(max(0, node.refusals - 2), MOST_DOUBLINGS)
            return node.pinged + NOT_ANNOUNCED_S * (1 << doublings)
        latest = node.pinged + ANNOUNCED_S
        unstable_at = node.unstable_at(path)
        if unstable_at > now and node.is_old(path, now):
            latest = min(max(unstable_at, latest), node.pinged + STABLE_ANNOUNCE_S)
        return min(max(dead_at, node.pinged + NOT_ANNOUNCED_S), latest)

    def run(self, connected: bool, asker: Asker, now: float) -> None:
        """Tells the nodes whose time has come, and asks random ones where some are missing."""
        live = self.nodes.live(now)
        candidates = [node for node in live if node.unanswered < MAX_PINGS]
        for node in candidates:
            if self._node_due(node, now) <= now:
                self._announce(node, asker, now)
        told = [node for node in candidates if node.pinged > NEVER]
        if told and self._last + ANNOUNCED_S <= now:
            self._announce(min(told, key=lambda node: node.pinged), asker, now)
        if len(live) >= TARGETS:
            self.filled = now
            self.remembered.tidy(now)
        elif self.populate_due(len(live), not connected) <= now:
            longest = LONGEST_ROUND_S if connected else LONGEST_ROUND_OFFLINE_S
            asker.populate(self, ROUND_SIZE, longest, now)

    def _announce(self, node: OnionNode, asker: Asker, now: float) -> None:
        path = node.path
        if node.unanswered == MAX_PINGS - 1 and node.added + STABLE_S <= now:
            path = None  # the last chance of an old node: by another path
        if asker.ask(self, node.node, now, node.shared, node.key, path):
            node.pinged = now
            node.unanswered += 1
            self._last = now
