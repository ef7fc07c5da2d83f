"""Token buckets for what costs curve arithmetic and can be caused from outside."""


class Budget:
    """So many per second, and a burst that a quiet time saves up."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._since = 0.0

    def take(self, now: float) -> bool:
        """Takes one; False if none is left."""
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
