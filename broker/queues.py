"""Datagrams that wait for a busy worker: bounded, and what is dropped is chosen by class.

Only UDP datagrams wait here, so only they are ever dropped: the oldest of the class that is worth
least, as long as that class has more than its share; every drop is counted `queue_full:<class>`.
"""

from collections import Counter, deque

from core.link.dispatch import CLASS_OF, CLASSES

LIMIT = 8192  # datagrams for one worker: some 50 ms of its work
BATCH = 64

_RESERVE = 8  # each class keeps a share of 1/8 however many there are of the others

Entry = tuple[int, bytes, bytes]
"""Index of the socket, source, datagram."""


class WaitingQueue:
    """What one worker has not been given yet."""

    def __init__(self, drops: Counter[str], limit: int = LIMIT) -> None:
        self._drops = drops
        self._rows: tuple[deque[Entry], ...] = tuple(deque() for _ in CLASSES)
        self._count = 0
        self.resize(limit)

    def resize(self, limit: int) -> None:
        """Sets how many may wait, and drops those that are too many."""
        self._limit = limit
        self._share = limit // _RESERVE
        while self._count > limit:
            self._shed()

    def __len__(self) -> int:
        return self._count

    def put(self, socket: int, source: bytes, packet: bytes) -> None:
        """Appends a datagram (with at least one byte); drops one when there are too many."""
        self._rows[CLASS_OF[packet[0]]].append((socket, source, packet))
        self._count += 1
        if self._count > self._limit:
            self._shed()

    def put_all(self, socket: int, items: list[bytes]) -> None:
        """Appends datagrams: source and datagram in turn."""
        rows = self._rows
        pairs = iter(items)
        for source, packet in zip(pairs, pairs, strict=False):
            rows[CLASS_OF[packet[0]]].append((socket, source, packet))
        self._count += len(items) >> 1
        while self._count > self._limit:
            self._shed()

    def _shed(self) -> None:
        """Drops the oldest datagram of the least valued class that has more than its share."""
        for name, row in zip(CLASSES, self._rows, strict=True):
            if len(row) > self._share:
                row.popleft()
                self._count -= 1
                self._drops[f"queue_full:{name}"] += 1
                return

    def withdraw(self) -> list[Entry]:
        """Takes out all that waits, each class in its order."""
        rows = [entry for row in self._rows for entry in row]
        for row in self._rows:
            row.clear()
        self._count = 0
        return rows

    def take(self, most: int = BATCH) -> tuple[int, list[bytes]]:
        """Removes up to `most` datagrams that came to one socket.

        Returns its index, and source and datagram in turn. Every class that waits gets its part, so
        that a flood of one kind does not starve the others.
        """
        waiting = [row for row in self._rows if row]
        items: list[bytes] = []
        if not waiting:
            return 0, items
        socket = waiting[0][0][0]
        left = most
        while left > 0 and waiting:
            share = max(1, left // len(waiting))
            still = []
            for row in waiting:
                popleft = row.popleft
                for _ in range(min(share, left, len(row))):
                    entry = popleft()
                    if entry[0] != socket:
                        row.appendleft(entry)
                        break
                    items += entry[1:]
                    left -= 1
                else:
                    if row:
                        still.append(row)
            waiting = still
        self._count -= len(items) >> 1
        return socket, items
