"""Nodes that asked us something and might belong into the table: a shard's proposals to dht.0."""

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
        self._young: set[bytes] = set()  # at most 32 keys in 2 s for 5 s: 96
        self._old: set[bytes] = set()
        self._turn = float("-inf")
        self._period_end = float("-inf")
        self._left = 0
        self.closed_until = float("-inf")
        """Before this nobody is admitted: all others need not be looked at."""

    def admit(self, key: bytes, now: float) -> bool:
        """Tells whether this node may be proposed now, and remembers that it was."""
        if now >= self._turn:
            self._old = self._young if now < self._turn + REPEAT_S else set()
            self._young = set()
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
        self._young.add(key)
        return True

