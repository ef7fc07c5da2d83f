"""The reference's congestion rule, to be compared with ours (c-toxcore net_crypto.c; WIRE: W29).

It samples each 50 ms how many packets were sent and resent in the last 0.6 s (as seen a round trip
ago) and how its queue grew, takes the difference for the speed of the link, and sends 1.2 times as
much, or 0.9 times for a second after resends have used up its credit.
"""

import math

from core.net_crypto.rates import Feedback, Sent

TICK_S = 0.05
SAMPLES = 12
MIN_RATE = 4.0
MIN_QUEUE = 64
QUEUE_RATIO = 2.0
CONGESTION_S = 1.0
FREE_SLOTS = 16


class _Credit:
    """Packets that may leave, refilled at a rate."""

    def __init__(self, now: float) -> None:
        self.left = MIN_QUEUE
        self.at = now
        self.rest = 0.0

    def fresh(self, rate: float, now: float) -> int | None:
        """Returns how many have come since the last time, or None if it is not yet time."""
        if now - self.at < round(1000 / rate) / 1000:
            return None
        packets = rate * (now - self.at) + self.rest
        self.rest = packets - int(packets)
        self.at = now
        return int(packets)


class ReferenceRule:
    """One session's rule."""

    def __init__(self, now: float, phase: int = 0) -> None:
        self._rate = self._rate_again = MIN_RATE
        self._new, self._again = _Credit(now), _Credit(now)
        self._tick_at = now
        self._sent = self._resent = 0
        self._queues = [0] * SAMPLES
        self._sents = [0] * (2 * SAMPLES)
        self._resents = [0] * (2 * SAMPLES)
        self._congested_at = -math.inf
        self._rtt = 1.0

    def rate(self) -> float:
        """Returns packets a second."""
        return self._rate

    def allowance(self, again: bool, queued: int, in_flight: int, now: float) -> int:
        """Returns the credit for new packets, or that for resends."""
        self._look(queued, now)
        return self._again.left if again else self._new.left

    def next_time(self, again: bool, queued: int, in_flight: int, now: float) -> float | None:
        """Looks again a little later: the reference polls."""
        return now + 0.005

    def _look(self, queued: int, now: float) -> None:
        while now - self._tick_at > TICK_S:
            self._tick_at = max(self._tick_at + TICK_S, now - 2 * SAMPLES * TICK_S)
            self._tick(queued, now)
        fresh = self._new.fresh(self._rate, now)
        if fresh is not None:
            most = fresh * 4 + MIN_QUEUE
            self._new.left = most if self._new.left > most else self._new.left + fresh
        fresh = self._again.fresh(self._rate_again, now)
        if fresh is not None:
            self._again.left = fresh
        self._again.left = max(self._again.left, self._new.left)

    def _tick(self, queued: int, now: float) -> None:
        for row, value in (
            (self._queues, queued),
            (self._sents, self._sent),
            (self._resents, self._resent),
        ):
            row.append(value)
            del row[0]
        growth = queued - self._queues[0]
        self._sent = self._resent = 0
        delay = min(int(self._rtt / TICK_S + 0.5), SAMPLES)
        window = slice(SAMPLES - delay, 2 * SAMPLES - delay)
        sent, resent = sum(self._sents[window]), sum(self._resents[window])
        if growth > 0:
            sent -= growth
        else:
            resent = min(resent, -growth)
        speed = max(MIN_RATE, sent / (SAMPLES * TICK_S))
        ratio = queued / speed
        if ratio > QUEUE_RATIO and queued > MIN_QUEUE:
            self._rate = speed * QUEUE_RATIO / ratio
        elif self._congested_at + CONGESTION_S < now:
            self._rate = speed * 1.2
        else:
            self._rate = speed * 0.9
        self._rate = max(MIN_RATE, self._rate)
        self._rate_again = max(self._rate, (sent + resent) / (SAMPLES * TICK_S) * 1.2)

    def on_send(self, sent: Sent, again: bool, in_flight: int, now: float) -> None:
        """Takes from the credit; a resend that takes its last is a congestion."""
        self._again.left -= 1
        if not again:
            self._new.left -= 1
            self._sent += 1
            return
        self._resent += 1
        if self._new.left > 1:
            self._new.left -= 1
        else:
            self._new.left = 0
            self._congested_at = now

    def on_feedback(self, feedback: Feedback, in_flight: int, now: float) -> None:
        """The least round trip is kept for ever."""
        if feedback.rtt_s is not None:
            self._rtt = min(self._rtt, feedback.rtt_s)

    def on_idle(self, in_flight: int, now: float) -> None:
        """Nothing."""

    def room(self, unsent: int, in_flight: int) -> int:
        """Leaves 16 of the credit to other packets than file data."""
        return max(0, self._new.left - FREE_SLOTS - unsent)
