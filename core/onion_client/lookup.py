"""What finding the nodes nearest to a key takes, be it our own key or a friend's."""

from abc import ABC, abstractmethod

from core.crypto import KeyPair, PublicKey, SharedKey, precompute
from core.onion_client.nodes import NodeList, Remembered
from core.onion_client.paths import Path, PathPool
from core.packets.nodes import NodeInfo

POPULATE_S = 600.0  # c-toxcore onion_client.c: ANNOUNCE_POPULATE_TIMEOUT
ROUND_S = 1.0  # c-toxcore's do_onion_client runs once in each second of its clock
SETTLE_S = 1.0  # what a first answer brings waits for the reference's next second: more follow
QUICK_ROUNDS = 10  # then each round waits twice as long; the reference goes on each second
NEVER = float("inf")


class Lookup(ABC):
    """A searched key, the nodes nearest to it, and when random nodes are to be asked for more."""

    __slots__ = (
        "_rounds",
        "data_key",
        "filled",
        "key",
        "nodes",
        "pool",
        "remembered",
        "requester",
        "round_at",
    )

    def __init__(
        self, key: PublicKey, requester: KeyPair, data_key: bytes, capacity: int, pool: PathPool
    ) -> None:
        self.key = key
        self.requester = requester
        """Who seals the requests: the real key for our own announce, else a temporary one."""
        self.data_key = data_key
        """What requests say there: others seal to it what they have for us; zeros in a search."""
        self.nodes = NodeList(key, capacity)
        self.pool = pool
        self.remembered = Remembered()
        self.filled = -NEVER
        """When the list was full, or last was to be filled from random nodes."""
        self.round_at = -NEVER
        self._rounds = 0

    def shared_with(self, key: PublicKey) -> SharedKey | None:
        """Returns the combined key of the requester and a node (31 us for one that is not here)."""
        known = self.nodes.find(key)
        return precompute(self.requester.secret, key) if known is None else known.shared

    @abstractmethod
    def take_answer(
        self, node: NodeInfo, shared: SharedKey, stored: int, key: bytes, path: Path, now: float
    ) -> None:
        """Enters an answer. Raises ProtocolViolation."""

    def hurry(self) -> None:
        """Has the next rounds follow quickly, as at the start."""
        self._rounds = 0
        self.round_at = -NEVER

    def populate_due(self, live: int, in_need: bool) -> float:
        """Returns when random nodes are to be asked, with so many living ones in the list."""
        if live >= self.nodes.capacity:
            return NEVER
        if in_need or live <= self.nodes.capacity // 2:
            return self.round_at
        return max(self.round_at, self.filled + POPULATE_S)

    def round_done(self, longest: float, now: float) -> None:
        """Random nodes were asked; the next round is at most `longest` seconds away."""
        self.filled = now
        self._rounds += 1
        exponent = max(0, self._rounds - QUICK_ROUNDS)
        self.round_at = now + min(longest, ROUND_S * 2.0 ** min(exponent, 16))
