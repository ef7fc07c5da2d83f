"""Which shard of a role answers for a key: 256 slots, handed out to shards by a table."""

from collections import Counter
from dataclasses import dataclass

SLOT_COUNT = 256
SLOT_BYTE = 8
"""Byte of a key that names its slot. A leading byte would put every key that was announced to this
node on one shard, since those share the node's own prefix."""

IDENTITY_ROLES = ("net_crypto", "messenger")
"""Roles that serve identities, not strangers: identities have sockets of their own, and nothing
that comes to the node's port is for these roles."""


def slot_of(key: bytes) -> int:
    """Returns the slot (0..255) of a 32-byte key."""
    return key[SLOT_BYTE]


@dataclass(frozen=True, slots=True)
class SlotTable:
    """Slots of one role: `shards[slot]` is the number of the shard that owns it."""

    generation: int
    shards: tuple[int, ...]

    @classmethod
    def even(cls, count: int, generation: int = 0) -> "SlotTable":
        """Gives `count` shards (at least 1) equal shares of the slots, in turn."""
        if count < 1:
            raise ValueError("a role without shards has no slot table")
        return cls(generation, tuple(slot % count for slot in range(SLOT_COUNT)))

    def shard_of(self, key: bytes) -> int:
        """Returns the shard that owns a 32-byte key."""
        return self.shards[key[SLOT_BYTE]]

    def adding(self, shard: int) -> "SlotTable":
        """Returns the table in which a new shard has its share; slots go to it and nowhere else."""
        counts = Counter(self.shards)
        owners = list(self.shards)
        for _ in range(SLOT_COUNT // (len(counts) + 1)):
            giver = max(counts, key=lambda row: (counts[row], -row))
            owners[len(owners) - 1 - owners[::-1].index(giver)] = shard  # the last one it has
            counts[giver] -= 1
        return SlotTable(self.generation + 1, tuple(owners))

    def without(self, shard: int) -> "SlotTable":
        """Returns the table in which the others share what a shard has; they keep their own."""
        counts = Counter(row for row in self.shards if row != shard)
        if not counts:
            raise ValueError("a role without shards has no slot table")
        owners = list(self.shards)
        for slot, owner in enumerate(owners):
            if owner == shard:
                taker = owners[slot] = min(counts, key=lambda row: (counts[row], row))
                counts[taker] += 1
        return SlotTable(self.generation + 1, tuple(owners))
