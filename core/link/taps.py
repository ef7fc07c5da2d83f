"""Who looks on at a process's packets: the count of senders by prefix, and captures.

While nobody does, a batch costs one look at an attribute, and so does an input of a relay worker.
All captures of a process together get a hundredth of its time while it is busy, that is while
batches are large, and a twentieth while it has time to spare; of an input whose frames are seen all
the time counts. What comes when that is used up passes unseen, and is counted as such.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from core.asking import BUSY, Ask, CannotAnswer, Events, whole_number
from core.capturing import LEASE_S, TCP, UDP, Capture, Seen, wanted_of
from core.endpoint import to_text
from core.link.mmsg import Sender, Tap
from core.sampling import Sample

SHARE = 0.01  # of the process's time, for captures, while it is busy
SPARE_SHARE = 0.05  # the same while it is not
BUSY_BATCH = 16  # datagrams in a batch of a process that is not far from its limit
BURST_S = 0.005  # of it that may be used at once
PACKET_S = 40e-6  # for what a packet that is told costs behind this place, measured
MOST_CAPTURES = 8
_DONE = 64


class Tapped(Protocol):
    """What reads datagrams."""

    tap: Tap | None


class FrameTap(Protocol):
    """Who looks on at frames."""

    def begin_frames(self, many: int) -> list[Seen] | None:
        """Returns where the frames of an input of some `many` go; None: it passes unseen."""
        ...

    def end_frames(self, seen: list[Seen] | None, passed: int) -> None:
        """Takes what came of it, or how many frames have passed unseen."""
        ...


@runtime_checkable
class Framed(Protocol):
    """What opens and seals frames."""

    frame_tap: FrameTap | None


class Taps:
    """Puts itself onto the sockets of a process while somebody looks, and takes itself off."""

    def __init__(
        self,
        reader: Tapped,
        senders: Iterable[Sender],
        events: Events,
        clock: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
        spent: Callable[[], float] = time.perf_counter,
        framed: Framed | None = None,
    ) -> None:
        """`spent`: a clock for short times; all in seconds."""
        self._reader = reader
        self._framed = framed
        self._begun = 0.0
        self._senders = list(senders)
        self._events = events
        self._clock = clock
        self._unix = unix
        self._spent = spent
        self._sample: Sample | None = None
        self._captures: dict[int, Capture] = {}
        self._done: deque[int] = deque(maxlen=_DONE)  # those that have told all
        self._credit = BURST_S
        self._filled = 0.0

    def questions(self) -> dict[str, Ask]:
        """Returns who answers what."""
        return {"prefixes": self._prefixes, "capture": self._capture, "capture end": self._end}

    def _prefixes(self, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Who sends most: the first look begins to count and shows nothing yet."""
        if self._sample is None or now >= self._sample.until:
            self._sample = Sample(now)
            self._put_on()
        return self._sample.look(now)

    def _capture(self, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Begins a capture, or goes on with one for another while."""
        number = whole_number(args, "id", 0, 1, 1 << 53)
        known = self._captures.get(number)
        if known is not None:
            known.until = now + LEASE_S
        elif number in self._done:
            return {}
        elif len(self._captures) >= MOST_CAPTURES:
            raise CannotAnswer(BUSY, f"{MOST_CAPTURES} captures run already; wait, or end one")
        else:
            self._captures[number] = Capture(number, wanted_of(args), now)
            self._put_on()
        return {}

    def _end(self, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
        self._captures.pop(whole_number(args, "id", 0, 1, 1 << 53), None)
        self._put_on()
        return {}

    def _put_on(self) -> None:
        """Looks at those sockets and frames that somebody wants to see."""
        wanted = [row.wanted for row in self._captures.values()]
        busy = any(row.has_datagrams for row in wanted)
        if self._framed is not None:
            self._framed.frame_tap = self if any(row.has_frames for row in wanted) else None
        self._reader.tap = self._came if busy or self._sample is not None else None
        for sender in self._senders:
            sender.tap = self._left if busy else None

    def _came(self, packets: Sequence[bytes], sources: Sequence[bytes]) -> None:
        now = self._clock()
        sample = self._sample
        if sample is not None:
            if now < sample.until:
                sample.take(packets, sources, now)
            else:
                self._sample = None
                self._put_on()
        if self._captures:
            self._look("in", packets, sources, now)

    def _left(self, packets: Sequence[bytes], endpoints: Sequence[bytes]) -> None:
        self._look("out", packets, endpoints, self._clock())

    def _look(
        self, direction: str, packets: Sequence[bytes], endpoints: Sequence[bytes], now: float
    ) -> None:
        """Gives a batch to all captures, unless they have used up their time."""
        if not self._has_time(len(packets), now):
            for row in self._captures.values():
                row.passed_over += len(packets) if row.wanted.has_datagrams else 0
            return
        begin = self._spent()
        told = 0
        for row in self._captures.values():
            found = row.take(direction, packets, endpoints, now)
            if found:
                told += len(found)
                self._tell(row, [
                    {"transport": UDP, "direction": direction, "address": address,
                     "data": packet.hex().upper(), "size": len(packet)}
                    for direction, address, packet in found
                ])  # fmt: skip
        self._credit -= self._spent() - begin + told * PACKET_S

    def _has_time(self, many: int, now: float) -> bool:
        """Ends what is over, and tells whether there is time for a batch of so many."""
        share = SHARE if many >= BUSY_BATCH else SPARE_SHARE
        self._credit = min(BURST_S, self._credit + (now - self._filled) * share)
        self._filled = now
        over = [row for row in self._captures.values() if row.until <= now or not row.left]
        if over:
            for row in over:
                del self._captures[row.number]
                if not row.left:
                    self._done.append(row.number)
            self._put_on()
        return self._credit > 0.0

    def begin_frames(self, many: int) -> list[Seen] | None:
        """Returns where the frames of an input of some `many` go; None: it passes unseen."""
        has_time = self._has_time(many, self._clock())
        self._begun = self._spent()
        return [] if has_time else None

    def end_frames(self, seen: list[Seen] | None, passed: int) -> None:
        """Takes what came of it, or how many frames have passed unseen."""
        if seen is None:
            for row in self._captures.values():
                row.passed_over += passed if row.wanted.has_frames else 0
            return
        now = self._clock()
        told = 0
        for row in self._captures.values():
            found = row.take_frames(seen, now)
            if found:
                told += len(found)
                self._tell(row, [
                    {"transport": TCP, "direction": frame.direction,
                     "address": to_text(frame.source), "client": frame.key.hex().upper(),
                     "data": frame.head.hex().upper(), "size": frame.size}
                    for frame in found
                ])  # fmt: skip
        self._credit -= self._spent() - self._begun + told * PACKET_S

    def _tell(self, capture: Capture, found: list[dict[str, Any]]) -> None:
        at = round(self._unix(), 6)
        rows = [{"at": at, **row} for row in found]
        body = {"id": capture.number, "rows": rows, "passed_over": capture.passed_over}
        capture.passed_over = 0
        self._events.emit("capture", body)
