"""Who sends how much, by source prefix: counted while somebody looks, and not at all otherwise.

Of a small batch every datagram is counted, of a large one each sixteenth, from a place that changes
from batch to batch. The table is bounded by the method of Misra and Gries (1982): whoever sends
more than one in a thousand of what was sampled is in it, whatever a flood of strangers does.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from core.asking import listing
from core.endpoint import Endpoint, prefix_of

STRIDE = 16
ROOM = 1_024  # prefixes
WINDOW_S = 2.0  # what an answer is about
LIVES_S = 10.0  # after the last look
_MOST_TOLD = 256  # prefixes of one process

Counted = dict[bytes, list[int]]
"""By prefix: datagrams and bytes, as many as the sample stands for."""


class Sample:
    """Counts datagrams and bytes by the /24 or /64 that sent them."""

    __slots__ = ("_began", "_counts", "_last", "_skip", "until")

    def __init__(self, now: float) -> None:
        self.until = now + LIVES_S
        """When nobody looks any more."""
        self._began = now
        self._counts: Counted = {}
        self._last: tuple[float, Counted] = (0.0, {})  # seconds, and what was counted in them
        self._skip = 0

    def take(self, packets: Sequence[bytes], sources: Sequence[bytes], now: float) -> None:
        """Counts a part of a batch."""
        weight = 1
        if len(packets) > STRIDE:
            weight = STRIDE
            self._skip = (self._skip + 7) % STRIDE  # 7: every place once in 16 batches
            packets = packets[self._skip :: STRIDE]
            sources = sources[self._skip :: STRIDE]
        counts = self._counts
        for packet, source in zip(packets, sources, strict=True):
            prefix = prefix_of(Endpoint(source))
            row = counts.get(prefix)
            if row is None:
                if len(counts) >= ROOM:
                    self._forget()
                    continue
                row = counts[prefix] = [0, 0]
            row[0] += weight
            row[1] += weight * len(packet)
        if now - self._began >= WINDOW_S:
            self._turn(now)

    def _forget(self) -> None:
        """Takes the least from each, so that who sent least makes room."""
        counts = self._counts
        least = min(row[0] for row in counts.values())
        for prefix, row in list(counts.items()):
            if row[0] <= least:
                del counts[prefix]
            else:
                row[1] -= row[1] * least // row[0]
                row[0] -= least

    def _turn(self, now: float) -> None:
        self._last = (now - self._began, self._counts)
        self._counts = {}
        self._began = now

    def look(self, now: float) -> dict[str, Any]:
        """Returns the last whole window, and goes on counting for a while."""
        if now - self._began >= WINDOW_S:
            self._turn(now)
        self.until = now + LIVES_S
        seconds, counts = self._last
        rows: list[tuple[bytes, float, float]] = [
            (prefix, round(count / seconds, 1), round(size / seconds, 1))
            for prefix, (count, size) in counts.items()
        ]
        rows.sort(key=lambda row: (-row[1], row[0]))
        return {"seconds": round(seconds, 3), **listing(rows, {"limit": _MOST_TOLD})}


def prefix_text(prefix: bytes) -> str:
    """Returns `192.0.2.0/24` or `2001:db8:0:1::/64` of the 3 or 8 bytes of `prefix_of`."""
    if len(prefix) == 3:
        return f"{ip_address(prefix + bytes(1))}/24"
    return f"{ip_address(prefix + bytes(8))}/64"
