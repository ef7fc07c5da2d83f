"""Datagrams that wait for a busy worker: bounded, and what is dropped is chosen by class.

Only UDP datagrams wait here, so only they are ever dropped: the oldest of the class that is worth
least, as long as that class has more than its share; every drop is counted `queue_full:<class>`.
"""

from collections import Counter, deque

LIMIT = 8192  # datagrams for one worker: some 50 ms of its work
BATCH = 64

CLASSES = ("query", "onion", "announce", "other")
"""From the class that is dropped first to the one that is dropped last (SECURITY R-06)."""

_RESERVE = 8  # each class keeps a share of 1/8 however many there are of the others

_QUERY, _ONION, _ANNOUNCE, _OTHER = range(4)
CLASS_OF = [_OTHER] * 256
"""Class by kind."""
for _kind in (0x00, 0x02):  # requests of strangers: they ask again, and others can answer
    CLASS_OF[_kind] = _QUERY
for _kind in (0x80, 0x81, 0x82, 0x8C, 0x8D, 0x8E):
    CLASS_OF[_kind] = _ONION
for _kind in (0x83, 0x85, 0x87, 0x90, 0x91, 0x92, 0x93, 0x95, 0x97):
    CLASS_OF[_kind] = _ANNOUNCE

Entry = tuple[int, bytes, bytes]
"""Index of the socket, source, datagram."""


class WaitingQueue:
    """What one worker has not been given yet."""

    def __init__(self, drops: Counter[str], limit: int = LIMIT) -> None:
        self._drops = drops
        self._limit = limit
        self._share = limit // _RESERVE
        self._rows: tuple[deque[Entry], ...] = tuple(deque() for _ in CLASSES)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, socket: int, source: bytes, packet: bytes) -> None:
        """Appends a datagram (with at least one byte); drops one when there are too many."""
        self._rows[CLASS_OF[packet[0]]].append((socket, source, packet))
        self._count += 1
        if self._count > self._limit:
            self._shed()

    def put_all(self, socket: int, items: list[memoryview]) -> None:
        """Appends copies of datagrams: source and datagram in turn, as views of receive slots."""
        rows = self._rows
        pairs = iter(items)
        for source, packet in zip(pairs, pairs, strict=False):
            rows[CLASS_OF[packet[0]]].append((socket, bytes(source), bytes(packet)))
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
