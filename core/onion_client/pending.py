"""Announce requests that wait for their one answer."""

from core.crypto import SharedKey
from core.entropy import Entropy
from core.onion_client.lookup import Lookup
from core.onion_client.paths import Path
from core.packets.nodes import NodeInfo

CAPACITY = 256  # c-toxcore onion_client.c: ANNOUNCE_ARRAY_SIZE
PER_SEARCH = 16  # a friend's list asks no more at a time; the reference has 256 for all friends
TIMEOUT_S = 10.0  # c-toxcore onion_client.c: ANNOUNCE_TIMEOUT
_ID_SIZE = 8


class Asked:
    """What has to be known when the answer comes. (No tuple: a key has no repr.)"""

    __slots__ = ("at", "lookup", "node", "path", "shared")

    def __init__(
        self, lookup: Lookup, node: NodeInfo, shared: SharedKey, path: Path, at: float
    ) -> None:
        self.lookup = lookup
        self.node = node
        self.shared = shared
        self.path = path
        self.at = at


class PendingAnnounces:
    """Random ids of requests, each good for one answer within 10 s; the oldest of too many goes."""

    __slots__ = ("_entropy", "_waiting", "capacity")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        # By id, the oldest first. No OrderedDict: that keeps its memory when it is empty again.
        self._waiting: dict[bytes, Asked] = {}
        self.capacity = CAPACITY

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, asked: Asked) -> bytes:
        """Returns the 8 bytes that the node is to send back."""
        self._expire(asked.at)
        while len(self._waiting) >= self.capacity:
            del self._waiting[next(iter(self._waiting))]
        sendback = self._entropy.bytes(_ID_SIZE)
        while sendback in self._waiting:
            sendback = self._entropy.bytes(_ID_SIZE)
        self._waiting[sendback] = asked
        return sendback

    def find(self, sendback: bytes, now: float) -> Asked | None:
        """Returns the request that an answer belongs to. It is used up by `take` only when the
        answer opened: whoever saw the id on its way cannot spend it."""
        self._expire(now)
        return self._waiting.get(sendback)

    def take(self, sendback: bytes) -> None:
        """Uses up an id."""
        self._waiting.pop(sendback, None)
        self._rest()

    def _rest(self) -> None:
        """An empty dict keeps the memory of its fullest time, but for `clear`."""
        if not self._waiting:
            self._waiting.clear()

    def _expire(self, now: float) -> None:
        waiting = self._waiting
        while waiting:
            sendback = next(iter(waiting))
            if waiting[sendback].at + TIMEOUT_S > now:
                return
            del waiting[sendback]
            self._rest()
