"""An exception that nobody named ends one connection or one question, and not all of the broker."""

import logging
import sys
import traceback
from collections import Counter, deque

_BUGS = 10  # HOUSE: ten in ten seconds end the process
_WINDOW_S = 10.0
_LOGGED = 64  # different ones

log = logging.getLogger("toxmesh.relay")


class Bugs:
    """Counts bugs, logs each once, and gives up where they do not end."""

    def __init__(
        self, drops: Counter[str], reason: str = "relay_bug", place: str = "the relay's streams"
    ) -> None:
        """`reason` is what is counted, `place` what the log says."""
        self._drops = drops
        self._reason = reason
        self._place = place
        self._times: deque[float] = deque(maxlen=_BUGS)
        self._seen: set[str] = set()

    def contain(self, now: float) -> None:
        """Notes the exception that is being handled; raises it again if it is the tenth in ten
        seconds, so that the process ends and a new one begins."""
        self._drops[self._reason] += 1
        trace = traceback.format_exc()
        place = trace[-200:]
        if place not in self._seen and len(self._seen) < _LOGGED:
            self._seen.add(place)
            log.error("a bug in %s (logged once):\n%s", self._place, trace)
        self._times.append(now)
        error = sys.exc_info()[1]
        if len(self._times) == _BUGS and now - self._times[0] < _WINDOW_S and error is not None:
            raise error
