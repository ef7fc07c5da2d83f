"""Datagrams whose sender's key has to be computed first: they wait while known keys are served.

A combined key costs as much as ten answers, so a flood of new keys must not stand before those who
are known. Whoever runs a module catches `KeyMiss`, puts the datagram here, and gives it to the
module again when the batch is done and there is time for a few multiplications.
"""

from collections import Counter, deque

from core.endpoint import Endpoint, prefix_of

CAPACITY = 4096  # 0.13 s of multiplications at 31 us each
SHARE = 64  # for one /24 or /64


Waiting = tuple[int, Endpoint, bytes, bytes, bytes]
"""One datagram as it came: index of its socket, source, bytes; then the public key whose combined
key it waits for, and the prefix that it is counted under."""


class Misses:
    """A queue of such datagrams, first come first served, bounded in all and per source prefix.

    When it is full, or the sender's prefix has filled its share, the new datagram is refused and
    counted (`new_key:all`, `new_key:prefix`): a flood from one prefix takes no place of others.
    """

    __slots__ = ("_drops", "_queue", "_taken", "capacity", "share")

    def __init__(
        self, drops: Counter[str], capacity: int = CAPACITY, share: int = SHARE
    ) -> None:
        self._drops = drops
        self.capacity = capacity
        self.share = share
        self._queue: deque[Waiting] = deque()
        self._taken: dict[bytes, int] = {}  # places by prefix; none without a place

    def put(self, socket: int, source: Endpoint, packet: bytes, key: bytes) -> bool:
        """Keeps a datagram; False (and counted) if there is no place for it."""
        prefix = prefix_of(source)
        places = self._taken
        taken = places.get(prefix, 0)
        if taken >= self.share:
            self._drops["new_key:prefix"] += 1
            return False
        queue = self._queue
        if len(queue) >= self.capacity:
            self._drops["new_key:all"] += 1
            return False
        places[prefix] = taken + 1
        queue.append((socket, source, packet, key, prefix))
        return True

    def fullest(self) -> int:
        """Returns how many places the prefix has that has the most of them."""
        return max(self._taken.values(), default=0)

    def take(self, count: int) -> list[Waiting]:
        """Returns up to `count` datagrams, oldest first, and forgets them."""
        next_row = self._queue.popleft
        places = self._taken
        rows = [next_row() for _ in range(min(count, len(self._queue)))]
        for _, _, _, _, prefix in rows:
            left = places[prefix] - 1
            if left:
                places[prefix] = left
            else:
                del places[prefix]
        return rows

    def __len__(self) -> int:
        return len(self._queue)
