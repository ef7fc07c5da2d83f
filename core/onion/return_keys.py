"""The node's own key that seals onion returns, and its rotation."""

from core.crypto import SecretKey, SharedKey, derive_key, open_sealed

ROTATION_S = 7200  # c-toxcore onion.c: KEY_REFRESH_INTERVAL
OVERLAP_S = 1200  # c-toxcore onion_client.h: ONION_PATH_MAX_LIFETIME; the reference has no overlap
_PURPOSE = "onion return"


class ReturnKeys:
    """The key of the present epoch, and that of the one before while paths made with it may live.

    Each shard derives both from the master secret, so that a return sealed by one opens on any
    other. An epoch is 2 hours of monotonic time; for 20 minutes of it the previous key still opens.
    """

    __slots__ = ("_current", "_from", "_master", "_overlap_until", "_previous", "_until")

    def __init__(self, master: SecretKey) -> None:
        self._master = master.reveal()
        self._from = self._until = self._overlap_until = -1.0
        self._current = self._previous = SharedKey(bytes(32))

    def _turn(self, now: float) -> None:
        epoch = max(0, int(now // ROTATION_S))
        self._from = float(epoch * ROTATION_S)
        self._until = self._from + ROTATION_S
        self._overlap_until = self._from + OVERLAP_S if epoch else -1.0
        self._current = derive_key(self._master, _PURPOSE, epoch)
        self._previous = derive_key(self._master, _PURPOSE, max(0, epoch - 1))

    def current(self, now: float) -> SharedKey:
        """Returns the key to seal with."""
        if not self._from <= now < self._until:
            self._turn(now)
        return self._current

    def ages(self, now: float) -> tuple[float, float, bool]:
        """Returns how old the present key is, in how many seconds the next one comes, and whether
        the previous one still opens."""
        self.current(now)
        return now - self._from, self._until - now, now < self._overlap_until

    def open(self, nonce: bytes, sealed: bytes, now: float) -> bytes | None:
        """Opens what any shard of this node sealed in this epoch or at the end of the last one."""
        if not self._from <= now < self._until:
            self._turn(now)
        plain = open_sealed(self._current, nonce, sealed)
        if plain is None and now < self._overlap_until:
            plain = open_sealed(self._previous, nonce, sealed)
        return plain
