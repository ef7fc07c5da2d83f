"""When the sockets rest, so that what comes meanwhile shares a turn of broker and worker.

A turn costs as much as 20 frames, however few are in it. Sharing saves something only where several
clients send: two that wait for each other's frames would but wait longer. So a rest that gathered
no more than a pair is not repeated for a while, and the first frame after a pause never waits.
"""

from core.relay.limits import RelayLimits

_PAIR = 2  # connections that may be one exchange
_LONGEST_DOUBT = 64  # small turns at most between two rests that try whether it would help now


class Rest:
    """Decides after each turn whether the sockets rest before the next one."""

    def __init__(self, limits: RelayLimits) -> None:
        self.until: float | None = None
        """When the rest ends, or None while there is none."""
        self._limits = limits
        self._doubt = 0  # small turns to pass over after the next rest that gathers nothing
        self._passed = 0  # small turns still to pass over

    def after(self, ready: int, later: int, frames: int, now: float) -> bool:
        """Learns of a turn: connections that had something, how many of these with what may wait,
        and frames of commits since the turn before. Tells whether the sockets rest now, until
        `until`."""
        rested = self.until is not None
        self.until = None
        limits = self._limits
        if rested:
            self._judge(ready)
        if not (limits.rest_s and ready):
            return False
        if ready - later >= limits.rest_below or frames >= limits.rest_below:
            return False
        if self._passed:
            self._passed -= 1
            return False
        self.until = now + limits.rest_s
        return True

    def _judge(self, ready: int) -> None:
        """Learns what a rest has gathered; nothing at all means that nobody sends any more."""
        if ready > _PAIR:
            self._doubt = self._passed = 0
        elif ready:
            self._doubt = min(2 * self._doubt or 1, _LONGEST_DOUBT)
            self._passed = self._doubt
