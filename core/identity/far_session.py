"""A session as the far half of an identity sees it: what was handed over, and what is safe here."""

from collections import deque
from typing import NamedTuple

from core.crypto import PublicKey
from core.identity.passing import Passed
from core.net_crypto.memory import HeldMemory

WINDOW = 4096  # packets handed over that the near half has not taken for sure, at most (ours)
ON_ITS_WAY = 256  # of them told on the link and not taken yet: the near half keeps these (ours)
BATCH = 64  # packets in one message at most
OVERHEAD = 64  # bytes that a packet costs here beside its own


class Given(NamedTuple):
    """A packet that is kept until it cannot be lost any more."""

    letter: int
    data: bytes


class FarSession:
    """One session. Packets that are handed over have sequence numbers 1, 2, 3 and so on."""

    __slots__ = (
        "_first",
        "_given",
        "_memory",
        "acked",
        "bulk",
        "confirmed",
        "friend",
        "over",
        "passed",
        "serial",
        "told",
        "upto",
    )

    def __init__(
        self,
        friend: PublicKey,
        serial: bytes,
        taken: int,
        upto: int,
        passed: Passed,
        memory: HeldMemory,
    ) -> None:
        """`taken` is the last sequence number that was handed over before, `upto` the last packet
        of the friend that is stored."""
        self.friend, self.serial = friend, serial
        self.upto = upto
        self.passed = passed
        self.acked = 0
        """The friend has all up to this sequence number."""
        self.bulk = 0
        """Up to which sequence number bulk data is wanted."""
        self.told = taken
        """The last sequence number that was told on this link."""
        self.confirmed = True
        """Whether the near half has told of it on this link."""
        self.over = False
        """Whether it has ended for the near half, and only what came in it is told yet."""
        self._memory = memory
        self._first = taken + 1  # sequence number of the first of:
        self._given: deque[Given] = deque()

    @property
    def next(self) -> int:
        """The sequence number of the next packet."""
        return self._first + len(self._given)

    def give(self, data: bytes, letter: int) -> int | None:
        """Keeps a packet to be told; its sequence number, or None: too much waits."""
        if len(self._given) >= WINDOW:
            return None
        if not self._memory.hold(len(data) + OVERHEAD):
            self._memory.hold(-len(data) - OVERHEAD)
            return None
        number = self.next
        self._given.append(Given(letter, data))
        self.passed.went(data)
        return number

    def taken(self, number: int) -> bool:
        """Forgets what the near half has taken; False: it has taken what was never handed over, or
        lacks what was forgotten here."""
        if self.over:
            return True
        if not self._first - 1 <= number < self.next:
            return False
        while self._first <= number:
            self._memory.hold(-len(self._given.popleft().data) - OVERHEAD)
            self._first += 1
        self.told = max(self.told, number)
        return True

    def attached(self) -> None:
        """The near half tells of it on a new link: what it has not taken is told again."""
        self.confirmed = True
        self.told = self._first - 1

    def abandon(self) -> None:
        """The near half says that it is over: nothing more goes out."""
        self.confirmed = self.over = True
        self.bulk = 0

    def to_tell(self) -> tuple[int, tuple[Given, ...]]:
        """Returns the next packets to be told and the number of the first; none if there are none,
        or the near half has enough in hand."""
        first = self.told + 1
        begin = first - self._first
        count = min(len(self._given) - begin, BATCH, ON_ITS_WAY - begin)
        if not self.confirmed or self.over or count <= 0:
            return first, ()
        self.told += count
        return first, tuple(self._given[begin + index] for index in range(count))

    def room(self) -> int:
        """How many packets of bulk data are wanted now."""
        if not self.confirmed:
            return 0
        return max(0, min(self.bulk - self.next + 1, WINDOW // 2 - len(self._given)))

    def close(self) -> None:
        """Gives back the memory of what was not taken."""
        for given in self._given:
            self._memory.hold(-len(given.data) - OVERHEAD)
        self._given.clear()
