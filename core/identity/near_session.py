"""A session as the near half of an identity sees it: what came and is not stored by the far half,
and what the far half handed over and net_crypto has not taken yet."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from core.crypto import PublicKey
from core.identity.far_session import BATCH
from core.identity.passing import Passed
from core.messenger.numbers import reached
from core.net_crypto.tags import NO_TAG, Progress, Tag

ON_ITS_WAY = 4  # batches of packets told and not stored (ours); what comes meanwhile gathers


class Batch:
    """Packets that are told together."""

    __slots__ = ("packets", "upto")

    def __init__(self, packets: list[bytes], upto: int) -> None:
        self.packets = packets
        self.upto = upto
        """The session's number of the last of them."""


class Pending(NamedTuple):
    """A packet for which the session has no room yet."""

    tag: Tag
    data: bytes


class NearSession:
    """One session, up or over."""

    __slots__ = (
        "_batches",
        "_told",
        "advanced",
        "announced",
        "direct",
        "end_told",
        "friend",
        "have",
        "over",
        "passed",
        "pending",
        "progress",
        "serial",
    )

    def __init__(self, friend: PublicKey, serial: bytes, passed: Passed | None) -> None:
        """`passed` is None for a session that began before this process."""
        self.friend, self.serial = friend, serial
        self.passed = passed
        self.direct = False
        self.over = False
        self.announced = self.end_told = False
        """Whether its beginning and its end were told on this link."""
        self.progress = Progress(NO_TAG, NO_TAG)
        """As it was told by net_crypto last."""
        self.advanced: tuple[Progress, int] | None = None
        """What was told of that, with the number up to which bulk data is wanted."""
        self.have = 0
        """The last sequence number that the far half handed over."""
        self.pending: deque[Pending] = deque()
        self._batches: deque[Batch] = deque()  # not stored by the far half
        self._told = 0  # of these

    # What came from the friend

    def came(self, packets: Iterable[bytes], upto: int) -> None:
        """Keeps packets to be told."""
        packets = list(packets)
        last = self._batches[-1] if len(self._batches) > self._told else None
        if last is not None and len(last.packets) + len(packets) <= BATCH:
            last.packets += packets
            last.upto = upto
        else:
            self._batches.append(Batch(packets, upto))

    def to_tell(self) -> Batch | None:
        """Returns the next packets to be told, unless enough are on their way."""
        if self._told == min(len(self._batches), ON_ITS_WAY):
            return None
        self._told += 1
        return self._batches[self._told - 1]

    def stored(self, upto: int) -> None:
        """Forgets what is safe above."""
        while self._batches and reached(upto, self._batches[0].upto):
            batch = self._batches.popleft()
            self._told = max(0, self._told - 1)
            if self.passed is not None:
                self.passed.came(batch.packets)

    def is_stored(self) -> bool:
        """Tells whether all that came is safe above."""
        return not self._batches

    # What goes to the friend

    def hand(self, first: int, packets: Iterable[tuple[int, bytes]]) -> bool:
        """Takes packets over, but for those that it had; False: there is a gap before them."""
        if first > self.have + 1:
            return False
        for seq, (letter, data) in enumerate(packets, first):
            if seq > self.have:
                self.have = seq
                self.pending.append(Pending(Tag(seq, letter), data))
        return True

    # Links

    def relink(self) -> None:
        """Another link has begun: all that is not stored is told again, and all that net_crypto has
        not taken is handed over again."""
        self.announced = self.end_told = False
        self.advanced = None
        self._told = 0
        self.pending.clear()
        self.have = self.progress.taken.seq
