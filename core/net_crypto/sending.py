"""The sending half of a session's lossless data: numbers, what is on its way, what goes again."""

from collections import deque
from typing import Protocol

from core.net_crypto import requests
from core.net_crypto.rates import Feedback, RateRule, Sent
from core.net_crypto.tags import NO_TAG, Tag

WINDOW = 32768  # packets; c-toxcore net_crypto.h: CRYPTO_PACKET_BUFFER_SIZE
U32 = 0xFFFFFFFF
NEVER = float("inf")
RETRY_S = 0.1  # when no way took a packet
FIRST_RTT_S = 1.0  # c-toxcore net_crypto.h: DEFAULT_PING_CONNECTION
MIN_PROBE_S = 0.2
MAX_PROBE_S = 2.0
PROBE_PACKETS = 2
LOW_RTT_SAMPLES = 64
LATE_S = 0.2  # more than queues on the way usually hold
STOCK_PAUSE_S = 0.1  # c-toxcore net_crypto.c: two turns of 50 ms until it answers what just came
MIN_REORDER_S = 0.002
MAX_REORDER_FACTOR = 16


class Emit(Protocol):
    """Puts a lossless packet on its way."""

    def __call__(self, number: int, data: bytes, now: float) -> bool:
        """Sends it; False if no way took it."""
        ...


BY_RELAY = 44
"""Packets on their way through relays, at most. c-toxcore counts in 16 bits what has come from a
relay and was not read (network.c: net_socket_data_recv_buffer), and hangs for 23 s where that is
more: 44 packets are 62,436 bytes of relay frames, all that a relay can ever hold for the peer."""
DIRECT = WINDOW
"""And over UDP: as many as the rate rule lets go."""


class SendStream:
    """Packets get numbers, leave as the rate rule lets them, and stay until the peer has them.

    A packet that the peer misses counts as lost when one that left clearly later has arrived (RFC
    8985), so that a request which crossed a resend on its way causes no second one. How much later
    is "clearly" grows when resends turn out to have been needless.
    """

    __slots__ = (
        "_backoff",
        "_emit",
        "_exact",
        "_fresh",
        "_lost",
        "_low_rtt",
        "_min_rtt",
        "_newest",
        "_newest_at",
        "_packets",
        "_reorder_factor",
        "_resends",
        "_rtt_deviation",
        "end",
        "in_flight",
        "most_in_flight",
        "next",
        "pace_at",
        "probe_at",
        "rtt",
        "rule",
        "start",
    )

    def __init__(self, emit: Emit, rule: RateRule) -> None:
        self._emit = emit
        self.rule = rule
        self.start = 0  # the first number that the peer has not
        self.next = 0  # the first that was never sent
        self.end = 0  # the next to be given away
        self.in_flight = 0
        self.most_in_flight = DIRECT
        self.pace_at = NEVER  # when more may leave
        self.probe_at = NEVER  # when silence is answered by sending again
        self.rtt = 0.0  # smoothed, in seconds; 0: not known
        self._rtt_deviation = 0.0
        self._min_rtt = NEVER
        self._low_rtt = NEVER  # the least, but slowly forgotten, for the way may change
        self._packets: dict[int, Sent] = {}
        self._resends: deque[int] | None = None  # where nothing was lost: it has 760 bytes
        self._newest_at = float("-inf")  # when the latest of what arrived had left
        self._reorder_factor = 1
        self._backoff = 1
        self._fresh = 0  # delivered, as one packet of the peer says
        self._lost = 0  # and lost
        self._newest: Sent | None = None  # the latest of those that were sent once
        self._exact = True  # whether the peer misses nothing, as far as it said

    # What the application gives

    def queue(self, data: bytes, tag: Tag = NO_TAG) -> int | None:
        """Gives a packet its number; None if 32,768 are waiting already. The tag is for a stream
        that is kept."""
        number = self.end
        if (number - self.start) & U32 >= WINDOW:
            return None
        self._packets[number] = Sent(data)
        self.end = (number + 1) & U32
        return number

    def unsent(self) -> int:
        """Returns how many packets have not left yet."""
        return (self.end - self.next) & U32

    def is_ready(self, now: float) -> bool:
        """Tells whether what was queued just now may go: nothing waits in front of it, or the time
        for that has come."""
        return (self.end - self.next) & U32 == 1 or self.pace_at <= now

    def missed(self) -> bool:
        """Tells whether anything is to be sent again."""
        return bool(self._resends)

    def queued(self) -> int:
        """Returns how many packets the peer has not, as far as we know."""
        return len(self._packets)

    def span(self) -> int:
        """Returns how many numbers of the window are in use."""
        return (self.end - self.start) & U32

    # What leaves

    def pump(self, now: float) -> None:
        """Sends what the rate rule lets go: what is missing first, then what is new."""
        self.pace_at = NEVER
        if self._resends and not self._pump_resends(now):
            return
        if self.next != self.end and not self._pump_new(now):
            return
        self.rule.on_idle(self.in_flight, now)

    def _pump_resends(self, now: float) -> bool:
        """Tells whether all went."""
        allowed = 0
        while self._resends:
            number = self._resends[0]
            sent = self._packets.get(number)
            if sent is None or not sent.lost:
                self._resends.popleft()
                continue
            if allowed <= 0:
                allowed = self.rule.allowance(True, self.span(), self.in_flight, now)
                if allowed <= 0:
                    return self._wait(True, now)
            if not self._send(number, sent, now):
                return False
            self._resends.popleft()
            allowed -= 1
        return True

    def _pump_new(self, now: float) -> bool:
        room = self.most_in_flight - self.in_flight
        if room <= 0:
            self.rule.on_idle(self.in_flight, now)
            return False  # the peer's next word lets more go, or silence that is too long
        allowed = min(room, self.rule.allowance(False, self.span(), self.in_flight, now))
        while allowed > 0 and self.next != self.end:
            if not self._send(self.next, self._packets[self.next], now):
                return False
            self.next = (self.next + 1) & U32
            allowed -= 1
        return self.next == self.end or self._wait(False, now)

    def _wait(self, again: bool, now: float) -> bool:
        when = self.rule.next_time(again, self.span(), self.in_flight, now)
        self.pace_at = NEVER if when is None else when
        return False

    def _send(self, number: int, sent: Sent, now: float) -> bool:
        if not self._emit(number, sent.data, now):
            self.pace_at = now + RETRY_S
            return False
        sent.sent_at = now
        self.rule.on_send(sent, sent.sends > 0, self.in_flight, now)
        sent.sends += 1
        sent.lost = False
        self.in_flight += 1
        if self.probe_at == NEVER:
            self.probe_at = now + self._probe_pause()
        return True

    # What the peer says

    def acknowledge(self, start: int, now: float) -> bool | None:
        """Takes the number the peer waits for: it has all before.

        Returns True for the newest state of the peer, False for a late packet's older one, and None
        for a number that cannot be: the packet is to be dropped.
        """
        ahead = (start - self.start) & U32
        if not ahead:
            return True
        if ahead > (self.next - self.start) & U32:
            return False if U32 + 1 - ahead <= WINDOW else None
        take = self._packets.pop
        for number in range(self.start, self.start + ahead):
            sent = take(number & U32, None)
            if sent is not None:
                self._delivered(sent, now)
        self.start = start
        if not self._packets:
            self._packets = {}  # a dict that was great does not get small by itself
        return True

    def request(self, gaps: bytes, now: float) -> int:
        """Takes a request packet behind its id: what it steps over arrived, what it names did not.

        It must be the newest. Returns how many it named.
        """
        limit = (self.next - self.start) & U32
        position = 0  # of the first number that nothing is known of yet, from `start`
        named: list[tuple[int, Sent]] = []
        take = self._packets.pop
        for step, missing in requests.decode(gaps):
            last = position + step - 1
            for offset in range(position, min(last + (not missing), limit)):
                sent = take((self.start + offset) & U32, None)
                if sent is not None:
                    self._delivered(sent, now)
            if last >= limit:
                break
            if missing:
                number = (self.start + last) & U32
                held = self._packets.get(number)
                if held is not None and not held.lost:
                    named.append((number, held))
            position = last + 1
        self._exact = not gaps
        if named:
            self._find_lost(named, now)
        return len(named)

    def _delivered(self, sent: Sent, now: float) -> None:
        if not sent.lost:
            self.in_flight -= 1
        self._fresh += 1
        if sent.sends > 1:
            self._judge_resend(sent, now)
            return
        if self._newest is None or sent.sent_at > self._newest.sent_at:
            self._newest = sent
            self._newest_at = max(self._newest_at, sent.sent_at)

    def _judge_resend(self, sent: Sent, now: float) -> None:
        """A resend that arrived sooner than anything can was not what arrived."""
        if now - sent.sent_at >= self._min_rtt:
            self._newest_at = max(self._newest_at, sent.sent_at)
        elif self._reorder_factor < MAX_REORDER_FACTOR:
            self._reorder_factor += 1

    def _find_lost(self, named: list[tuple[int, Sent]], now: float) -> None:
        known_rtt = self.rtt or FIRST_RTT_S
        reorder = min(
            max(MIN_REORDER_S, min(self._min_rtt, known_rtt) / 4) * self._reorder_factor, known_rtt
        )
        left_before = self._newest_at - reorder
        patience = max(self._patience(1, LATE_S), reorder)
        for number, sent in named:
            # Without a proof by order it takes longer each time: who asks and asks gets no storm.
            if sent.sent_at < left_before or now - sent.sent_at > patience * sent.sends:
                sent.lost = True
                self._lost += 1
                self.in_flight -= 1
                if self._resends is None:
                    self._resends = deque()
                self._resends.append(number)

    def feedback(self, now: float) -> int:
        """Tells the rate rule what one packet of the peer said; returns how many it has more."""
        fresh, lost, newest = self._fresh, self._lost, self._newest
        if not fresh and not lost:
            return 0
        self._fresh, self._lost, self._newest = 0, 0, None
        sample = None if newest is None else now - newest.sent_at
        if sample is not None:
            self.learn_rtt(sample)
        if fresh:
            self._backoff = 1
            self.probe_at = now + self._probe_pause() if self._packets else NEVER
        said = Feedback(fresh, lost, newest, sample, self._exact)
        self.rule.on_feedback(said, self.in_flight, now)
        return fresh

    def learn_rtt(self, sample: float) -> None:
        """Takes a round trip in seconds.  RFC 6298, section 2."""
        self._min_rtt = min(self._min_rtt, sample)
        if sample <= self._low_rtt:
            self._low_rtt = sample
        else:
            self._low_rtt += (sample - self._low_rtt) / LOW_RTT_SAMPLES
        if not self.rtt:
            self.rtt, self._rtt_deviation = sample, sample / 2
            return
        self._rtt_deviation += (abs(self.rtt - sample) - self._rtt_deviation) / 4
        self.rtt += (sample - self.rtt) / 8

    # What silence means

    def _probe_pause(self) -> float:
        pause = max(MIN_PROBE_S, self._patience(2, LATE_S + STOCK_PAUSE_S)) * self._backoff
        return min(pause, MAX_PROBE_S)

    def _patience(self, round_trips: int, late_s: float) -> float:
        """Returns after which time an answer does not come any more.

        Round trips as they were seen are no good measure alone: a stock peer that has nothing else
        to say takes up to a second for its answer.
        """
        if not self.rtt:
            return round_trips * FIRST_RTT_S
        usual = round_trips * self.rtt + 4 * self._rtt_deviation
        return min(usual, round_trips * self._low_rtt + late_s)

    def probe(self, now: float) -> None:
        """Sends the oldest packets again, for the peer is silent: it may not know of them.

        A stock peer names what it misses at its own pace, and nothing when the last was lost.
        """
        self.probe_at = NEVER
        left = PROBE_PACKETS
        for offset in range((self.next - self.start) & U32):
            number = (self.start + offset) & U32
            sent = self._packets.get(number)
            if sent is None:
                continue
            counted = not sent.lost
            if not self._send(number, sent, now):
                break
            self.in_flight -= counted
            left -= 1
            if not left:
                break
        if left == PROBE_PACKETS:
            return
        self._backoff = min(2 * self._backoff, 16)
        self.probe_at = now + self._probe_pause()

    def room(self) -> int:
        """Returns how many packets of bulk data should be queued now."""
        return self.rule.room(self.unsent(), self.in_flight)
