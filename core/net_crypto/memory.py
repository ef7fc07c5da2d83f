"""What the sessions of a process may hold of packets that came before those in front of them."""

DEFAULT_BYTES = 256 << 20


class HeldMemory:
    """A budget in bytes, shared by as many sessions (of as many identities) as are given it.

    Each session alone is bound by its window: 32,768 packets, some 45 MB.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self.used = 0

    def hold(self, more: int) -> bool:
        """Counts so many bytes more (or fewer); False if it is too much now."""
        self.used += more
        return self.used <= self.limit
