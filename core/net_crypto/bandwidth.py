"""How fast to send: as fast as packets were seen to arrive, and now and then a little faster.

The model is that of BBR (Cardwell et al., ACM Queue 14(5), 2016): the greatest rate of delivery of
the last rounds and the shortest round trip of the last seconds say what the path holds, and losses
say nothing. The reference's rule (c-toxcore net_crypto.c: send_crypto_packets) takes losses and its
own queue for congestion, and gives way to both.

What differs from BBR: numbers are packets; the peer speaks only each 50 ms or more slowly, so that
as much as it takes in between may be on its way on top of the path's own product.
"""

import math

from core.net_crypto.rates import Feedback, Sent

START_WINDOW = 64.0  # c-toxcore net_crypto.h: CRYPTO_MIN_QUEUE_LENGTH, its first credit
MIN_WINDOW = 8.0
MIN_RATE = 8.0  # packets a second
FIRST_RTT_S = 0.1
HIGH_GAIN = 2.885  # 2 / ln 2: doubles the rate in each round
CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
WINDOW_GAIN = 2.0
RATE_ROUNDS = 10
RTT_LIFE_S = 10.0
RTT_PROBE_S = 0.2
FULL_GROWTH, FULL_ROUNDS = 1.25, 3
BURST_S = 0.02  # what a timer that comes late may send at once
BURST = 16.0
QUANTUM_S = 0.002
MAX_QUANTUM = 32.0
QUEUE_S = 0.1  # bulk data that waits behind the pacing
MIN_QUEUE = 16
MAX_PERIOD_S = 0.25
LOSS_SAMPLE, LOSS_SAMPLES = 50, 8
MAX_LOSS, EXCESS_LOSS = 0.5, 0.1
GIVE_WAY = 0.8
RECENT_RTTS = 6


class Bandwidth:
    """The rule of our own sessions."""

    __slots__ = (
        "_credit",
        "_credited_at",
        "_delivered",
        "_delivered_at",
        "_first_sent_at",
        "_full",
        "_full_rate",
        "_full_rounds",
        "_gain",
        "_last_sample",
        "_limited_until",
        "_losses",
        "_min_rtt",
        "_min_rtt_at",
        "_next_round",
        "_paced",
        "_period",
        "_phase",
        "_phase_at",
        "_probe_until",
        "_rate",
        "_rates",
        "_recent_rtts",
        "_round",
        "_sample_lost",
        "_sample_size",
        "_unsure",
        "_window",
        "_window_gain",
    )

    def __init__(self, now: float, phase: int = 2) -> None:
        """`phase` is where in the probing cycle this session begins, so that not all do at once."""
        self._credit = BURST
        self._credited_at = now
        self._delivered = 0
        self._delivered_at = self._first_sent_at = now
        self._limited_until = 0  # samples up to this delivery were not at full speed
        self._last_sample = 0.0
        self._unsure = 0.0  # delivered perhaps, but not heard of
        self._paced = START_WINDOW / FIRST_RTT_S / HIGH_GAIN
        self._window = START_WINDOW
        # Lists, not deques: these have 64 places at once, and sessions are many.
        self._losses: list[float] = []
        self._sample_lost = self._sample_size = 0
        self._rate = 0.0  # 0: not known yet
        self._rates: list[tuple[int, float]] = []  # falling maxima by round
        self._round = 0
        self._next_round = 0
        self._min_rtt = FIRST_RTT_S
        self._recent_rtts: list[float] = []
        self._min_rtt_at = float("-inf")
        self._period = 0.0
        self._full = False
        self._full_rate = 0.0
        self._full_rounds = 0
        self._gain = self._window_gain = HIGH_GAIN
        self._phase = phase % len(CYCLE)
        self._phase_at = now
        self._probe_until = 0.0  # while the path is emptied to see its round trip

    def rate(self) -> float:
        """Returns packets a second, without the gain of the moment.

        It is more than arrives, by what is lost whatever we do.
        """
        return self._paced

    def window(self) -> float:
        """Returns how many packets may be on their way."""
        return MIN_WINDOW if self._probe_until else self._window

    def _reckon(self) -> None:
        """Follows what was learnt."""
        if not self._rate:
            return
        loss = min(self._losses) if len(self._losses) == LOSS_SAMPLES else 0.0
        self._paced = max(MIN_RATE, self._rate / (1 - loss))
        product = self._paced * (self._min_rtt * self._window_gain + 1.5 * self._period)
        self._window = max(MIN_WINDOW, product + BURST)

    def allowance(self, again: bool, queued: int, in_flight: int, now: float) -> int:
        """Returns how many packets may leave now."""
        rate = self._paced * self._gain
        credit = self._credit + (now - self._credited_at) * rate
        self._credit = min(credit, max(BURST, rate * BURST_S))
        self._credited_at = now
        if again:
            return int(self._credit)  # a gap is filled whatever else is on its way
        return int(min(self._credit, self._space(in_flight, now)))

    def _space(self, in_flight: int, now: float) -> float:
        if self._probe_until and now >= self._probe_until:
            self._probe_until = 0.0
            self._min_rtt_at = now
        return self.window() - in_flight + self._unsure

    def next_time(self, again: bool, queued: int, in_flight: int, now: float) -> float | None:
        """Returns when the pacing lets the next few go."""
        if not again and self._space(in_flight, now) < 1:
            return self._probe_until or None
        rate = self._paced * self._gain
        quantum = max(1.0, min(rate * QUANTUM_S, MAX_QUANTUM))
        return self._credited_at + max(0.0, quantum - self._credit) / rate + 1e-6

    def on_send(self, sent: Sent, again: bool, in_flight: int, now: float) -> None:
        """Remembers with the packet what was known when it left."""
        if in_flight == 0:
            self._first_sent_at = self._delivered_at = now
        sent.delivered = self._delivered + int(self._unsure)
        sent.delivered_at = self._delivered_at
        sent.first_sent_at = self._first_sent_at
        self._credit -= 1

    def on_idle(self, in_flight: int, now: float) -> None:
        """What is on its way now does not show the path's full rate."""
        if self._space(in_flight, now) >= 1:
            self._limited_until = self._delivered + max(1, in_flight)

    def on_feedback(self, feedback: Feedback, in_flight: int, now: float) -> None:
        """Learns the rate of delivery, the round trip, and what is lost anyway."""
        self._learn_loss(feedback.delivered, feedback.lost)
        self._learn(feedback, in_flight, now)
        self._reckon()

    def _learn(self, feedback: Feedback, in_flight: int, now: float) -> None:
        newest, rtt_s = feedback.newest, feedback.rtt_s
        if not feedback.delivered:
            return
        pause = min(now - self._delivered_at, 1.0)
        self._delivered += feedback.delivered
        self._delivered_at = now
        self._unsure = 0.0
        if newest is None:
            return
        if rtt_s is not None:
            self._recent_rtts.append(rtt_s)
            del self._recent_rtts[:-RECENT_RTTS]
        if not feedback.exact:
            # What came behind the last gap we hear of later: taken for a delivery of that moment,
            # it would make the rate seem greater than it is.
            late = now - min(self._recent_rtts, default=self._min_rtt) - newest.sent_at
            self._unsure = max(0.0, min(late * self._rate, float(in_flight)))
        elapsed = max(newest.sent_at - newest.first_sent_at, now - newest.delivered_at)
        self._first_sent_at = newest.sent_at
        limited = newest.delivered < self._limited_until
        if not limited:
            self._period += (min(pause, MAX_PERIOD_S) - self._period) / 8
        began_round = newest.delivered >= self._next_round
        if began_round:
            self._round += 1
            self._next_round = self._delivered
        if elapsed > 0:
            arrived = self._delivered - newest.delivered
            self._learn_rate(arrived / elapsed, limited)
        expired = now > self._min_rtt_at + RTT_LIFE_S
        if rtt_s is not None and (rtt_s <= self._min_rtt or expired):
            self._min_rtt, self._min_rtt_at = max(rtt_s, 1e-4), now
            if expired and self._full and not limited and not self._probe_until:
                self._probe_until = now + RTT_PROBE_S + rtt_s
        if not self._full:
            if began_round and not limited:
                self._look_whether_full()
        else:
            self._move_on(in_flight, now)

    def _learn_loss(self, delivered: int, lost: int) -> None:
        """Follows the least share of losses of the last samples: that is the path's, not ours."""
        self._sample_lost += lost
        self._sample_size += delivered + lost
        if self._sample_size < LOSS_SAMPLE:
            return
        size = self._sample_size
        share = min(self._sample_lost / size, MAX_LOSS)
        self._sample_lost = self._sample_size = 0
        if self._full and self._losses:
            usual = sorted(self._losses)[len(self._losses) // 2]
            chance = 3 * math.sqrt(usual * (1 - usual) / size)
            if share > usual + max(EXCESS_LOSS, chance):
                self._give_way()
        self._losses.append(share)
        del self._losses[:-LOSS_SAMPLES]

    def _give_way(self) -> None:
        """A queue runs over: what once was the greatest rate is not there any more."""
        self._rate = max(min(self._rate, self._last_sample), self._rate * GIVE_WAY)
        self._rates.clear()
        self._rates.append((self._round, self._rate))

    def _learn_rate(self, sample: float, limited: bool) -> None:
        if limited and sample < self._rate:
            return
        self._last_sample = sample
        rates = self._rates
        while rates and rates[-1][1] <= sample:
            rates.pop()
        rates.append((self._round, sample))
        while rates[0][0] <= self._round - RATE_ROUNDS:
            del rates[0]
        self._rate = rates[0][1]

    def _look_whether_full(self) -> None:
        if self._rate >= self._full_rate * FULL_GROWTH:
            self._full_rate = self._rate
            self._full_rounds = 0
            return
        self._full_rounds += 1
        if self._full_rounds >= FULL_ROUNDS:
            self._full = True
            self._gain, self._window_gain = 1 / HIGH_GAIN, WINDOW_GAIN  # drain first

    def _move_on(self, in_flight: int, now: float) -> None:
        """Goes round the cycle: ask for more, let the queue run empty, keep the pace."""
        if self._probe_until > now:
            return
        product = self._rate * (self._min_rtt + self._period)
        if self._gain < CYCLE[1]:  # still draining
            if in_flight > product:
                return
            self._gain, self._phase_at = CYCLE[self._phase], now
            return
        if now - self._phase_at < max(self._min_rtt, self._period):
            return
        self._phase = (self._phase + 1) % len(CYCLE)
        self._phase_at = now
        self._gain = CYCLE[self._phase]

    def room(self, unsent: int, in_flight: int) -> int:
        """Returns how much more bulk data should wait behind the pacing."""
        queue = max(MIN_QUEUE, int(self._paced * max(QUEUE_S, 2 * self._period)))
        return max(0, queue - unsent)
