"""Our own mistakes in one worker: each is counted and logged once, and too many end the worker."""

import logging
from collections import Counter, deque

_BUGS = 10  # HOUSE: ten in ten seconds end the worker
_WINDOW_S = 10.0
_LOGGED = 64  # different ones

log = logging.getLogger("toxmesh.worker")


class Bugs:
    """The exceptions that came out of a module and that nobody has named."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._times: deque[float] = deque(maxlen=_BUGS)
        self._seen: set[tuple[str, str]] = set()

    def add(self, kind: str, size: int, trace: str, now: float) -> bool:
        """Counts one and logs it once; returns whether there are too many for this worker."""
        self._drops["bug"] += 1
        place = (kind, trace[-200:])
        if place not in self._seen and len(self._seen) < _LOGGED:
            self._seen.add(place)
            log.error("a bug in handling %s of %d bytes (logged once):\n%s", kind, size, trace)
        self._times.append(now)
        if len(self._times) < _BUGS or now - self._times[0] >= _WINDOW_S:
            return False
        log.critical("%d bugs in %d s: this worker ends", _BUGS, _WINDOW_S)
        return True
