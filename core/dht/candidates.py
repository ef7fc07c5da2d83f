"""Nodes that asked us something and might belong into the table: a shard's proposals to dht.0, and
which of them dht.0 pings."""

from collections.abc import Callable

from core.dht.lists import CloseList
from core.dht.searches import Nearest, SearchEntry
from core.endpoint import Endpoint
from core.module import Context

MAX_CANDIDATES = 32  # c-toxcore ping.c: MAX_TO_PING
CANDIDATE_INTERVAL_S = 2.0  # c-toxcore ping.c: TIME_TO_PING
REPEAT_S = 5.0  # c-toxcore DHT.h: PING_TIMEOUT; by then the ping it was proposed for is lost


class Proposals:
    """What a shard proposes to dht.0: at most 32 nodes in 2 s, and each key once in 5 to 10 s.

    Two generations of keys: the older one is forgotten whole, every 5 s. A node whose ping was lost
    gets the next soon: it may ask us no more often than its own timings have it.
    """

    __slots__ = ("_left", "_old", "_period_end", "_turn", "_young", "closed_until")

    def __init__(self) -> None:
        self._young: dict[bytes, None] = {}  # at most 32 keys in 2 s for 5 s: 96
        self._old: dict[bytes, None] = {}
        self._turn = float("-inf")
        self._period_end = float("-inf")
        self._left = 0
        self.closed_until = float("-inf")
        """Before this nobody is admitted: all others need not be looked at."""

    def tidy(self, now: float) -> None:
        """Lets go of keys that may be proposed again."""
        if self._turn + REPEAT_S <= now and (self._young or self._old):
            self._young, self._old = {}, {}

    def admit(self, key: bytes, now: float) -> bool:
        """Tells whether this node may be proposed now, and remembers that it was."""
        if now >= self._turn:
            self._old = self._young if now < self._turn + REPEAT_S else {}
            self._young = {}
            self._turn = now + REPEAT_S
        if key in self._young or key in self._old:
            return False
        if now >= self._period_end:
            self._period_end = now + CANDIDATE_INTERVAL_S
            self._left = MAX_CANDIDATES
        if self._left == 0:
            return False
        self._left -= 1
        if self._left == 0:
            self.closed_until = min(self._period_end, self._turn)
        self._young[key] = None
        return True


class Candidates:
    """The nearest of the proposed nodes, pinged every 2 s; a searched node at once."""

    __slots__ = ("_close", "_drops", "_nearest", "_own_key", "_ping", "_pinged_at", "_searches")

    def __init__(
        self,
        context: Context,
        close: CloseList,
        searches: dict[bytes, SearchEntry],
        ping: Callable[[Endpoint, bytes, float], None],
    ) -> None:
        self._own_key = bytes(context.keys.public)
        self._drops = context.out.drops
        self._close = close
        self._searches = searches
        self._ping = ping
        self._nearest = Nearest(self._own_key, MAX_CANDIDATES)
        self._pinged_at = float("-inf")

    def offer(self, key: bytes, endpoint: Endpoint, now: float) -> float | None:
        """Takes a proposal; returns when `ping` is to be called, if it is kept."""
        if key == self._own_key:
            self._drops["dht_own_key"] += 1
            return None
        searched = self._searches.get(key)
        if searched is not None and searched.find(key) is None:
            self._ping(endpoint, key, now)
            return None
        client = self._close.by_key.get(key)
        if client is not None:
            association = client.association(endpoint)
            if (
                association is not None
                and association.endpoint == endpoint
                and not association.is_bad(now)
            ):
                return None
        elif not self._close.has_room(key, endpoint, now):
            self._drops["dht_candidate_no_room"] += 1
            return None
        if not self._nearest.offer(key, endpoint, now):
            self._drops["dht_candidate_too_many"] += 1
            return None
        return max(now, self._pinged_at + CANDIDATE_INTERVAL_S)

    def ping(self, now: float) -> None:
        """Pings all that are kept."""
        self._pinged_at = now
        for key, endpoint in self._nearest.take(now):
            self._ping(endpoint, key, now)
