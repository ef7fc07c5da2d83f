"""Sends the datagrams of a load and counts what comes back.

Two ways: `drive` keeps a ring of datagrams going as fast as a window of unanswered ones allows,
with a few probes beside it that open and check every answer; `pace` sends probes alone, each at its
own moment, to see how long a node with little to do takes.
"""

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from core import endpoint as endpoints
from core.endpoint import Endpoint
from toxmesh.bench.ring import (
    BATCH,
    MAX_SOURCES,
    SLOT,
    Packets,
    Receiver,
    source_address,
)

BUFFER = 4 << 20  # bytes asked of the kernel for each direction
PROBES = 8  # beside a load
PROBE_PAUSE = 0.01  # seconds between the requests of a probe: what they cost stays small
PROBE_SHARE = 0.1  # of a load that is held to a rate, their part at most
PROBE_PATIENCE = 1.0  # seconds until a probe gives an answer up
LOST_AFTER = 0.5  # seconds; a request without an answer for so long counts as lost
PAUSE = 0.0003  # seconds in which answers gather: waking up for each costs more than it does
SILENCE = 2.0  # seconds without any answer after which a ring is no longer sent to its end
MARK = 0.05  # seconds between two looks at what was sent by when
ANY = 0x100  # in the place of an answer's first byte: whatever comes

_SO_MEMINFO = 55  # linux/socket.h
_DROPS = 8 * 4  # linux/sock_diag.h: SK_MEMINFO_DROPS, the ninth number

Request: TypeAlias = tuple[bytes, Callable[[bytes], bool]]  # a datagram and the check of its answer


@dataclass(slots=True)
class Brake:
    """Pulled when a person has seen enough: every load ends at once with what it has."""

    pulled: bool = False


@dataclass(slots=True)
class Probe:
    """A client beside the load: one request at a time, each answer opened and checked."""

    sock: socket.socket
    requests: list[Request] = field(default_factory=list)
    turn: int = 0
    sent_at: float | None = None
    next_at: float = 0.0


@dataclass(slots=True)
class Result:
    """What one run of a load gave."""

    seconds: float = 0.0
    sent: int = 0
    answers: int = 0
    lost: int = 0
    latencies: list[float] = field(default_factory=list)  # seconds, of the probes
    wrong: int = 0  # answers to probes that did not stand the check
    unanswered: int = 0  # probes
    own_cpu: float = 0.0  # seconds that the load itself took

    def quantile(self, share: float) -> float:
        """Returns the latency below which `share` of the probes lay; 0 without any."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0


class Generator:
    """The one socket of the load and a few probes beside it."""

    def __init__(
        self,
        target: Endpoint,
        sources: int,
        probes: int = PROBES,
        brake: Brake | None = None,
        max_rate: float = 0.0,
    ) -> None:
        """Opens the sockets; `max_rate` in datagrams a second bounds all that is sent (0: nothing).

        More than one source is for an IPv4 node on loopback alone.
        """
        self.target = target
        self.address = (endpoints.to_text(target).rpartition(":")[0].strip("[]"),
                        endpoints.port_of(target))  # fmt: skip
        self.max_rate = max_rate
        self.brake = brake or Brake()
        spread = sources > 1
        self.sources = [source_address(i) for i in range(sources)] if spread else []
        self.sock = self._socket("0.0.0.0" if spread else self._own_address())
        self.home = endpoints.from_text(*self.sock.getsockname()[:2])
        self.receiver = Receiver(self.sock.fileno())
        self.epoll = select.epoll()  # of the probes
        self.probes: dict[int, Probe] = {}
        for i in range(probes):
            address = socket.inet_ntoa(source_address(MAX_SOURCES + i))
            sock = self._socket(address if spread else self._own_address())
            self.probes[sock.fileno()] = Probe(sock)
            self.epoll.register(sock, select.EPOLLIN)

    def _own_address(self) -> str:
        """Returns the address of ours from which the kernel reaches the target."""
        family = socket.AF_INET if endpoints.is_ipv4(self.target) else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(self.address)
            return str(sock.getsockname()[0])

    def _socket(self, address: str) -> socket.socket:
        family = socket.AF_INET if endpoints.is_ipv4(self.target) else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        sock.bind((address, 0))
        sock.setblocking(False)
        return sock

    def endpoint(self, index: int) -> Endpoint:
        """Returns where answers to the load's datagram `index` come to."""
        if not self.sources:
            return self.home
        return endpoints.udp4(
            self.sources[index % len(self.sources)], endpoints.port_of(self.home)
        )

    def close(self) -> None:
        """Gives all sockets back."""
        self.epoll.close()
        self.sock.close()
        for probe in self.probes.values():
            probe.sock.close()

    def dropped(self) -> int:
        """Returns how many answers the kernel threw away as our own sockets were full."""
        socks = [self.sock, *(probe.sock for probe in self.probes.values())]
        return sum(
            struct.unpack_from("=I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64), _DROPS)[0]
            for sock in socks
        )

    def packets(self, packets: Sequence[bytes]) -> Packets:
        """Makes a ring of the load: datagram i comes from source i modulo their number."""
        return Packets(packets, self.sources, self.target)

    def drain(self) -> None:
        """Throws away what is still under way."""
        now = time.monotonic()
        quiet, end = now + 0.1, now + 1.0
        while now < min(quiet, end):
            time.sleep(0.01)
            now = time.monotonic()
            while self.receiver.receive():
                quiet = now + 0.1
            for probe in self.probes.values():
                _read(probe.sock)

    def drive(
        self,
        ring: Packets,
        kind: int,
        *,
        seconds: float = 0.0,
        once: bool = False,
        window: int = 256,
        probing: bool = True,
        take: Callable[[bytes], None] | None = None,
        rate: float = 0.0,
    ) -> Result:
        """Sends the ring for `seconds`, or `once` through; at most `window` unanswered at a time.

        Answers are datagrams whose first byte is `kind` (ANY: all of them). `take` is given each;
        a `rate` in datagrams a second, probes included, holds the load below what the window
        alone would allow.
        """
        result = Result()
        rate = min(rate, self.max_rate) if rate and self.max_rate else rate or self.max_rate
        probes = self.probes if probing else {}
        pause = max(PROBE_PAUSE, len(probes) / (PROBE_SHARE * rate)) if rate else PROBE_PAUSE
        fd, receiver, poll, brake = self.sock.fileno(), self.receiver, self.epoll.poll, self.brake
        position = sent = answers = lost = known = 0
        least = 1 if once or rate else min(BATCH // 2, window)  # no call for a handful
        marks: list[tuple[float, int]] = []
        own = time.process_time()
        begin = next_mark = next_probes = heard_at = now = time.monotonic()
        end = begin + (600.0 if once else seconds)
        for place, probe in enumerate(self.probes.values()):  # one after the other
            probe.sent_at = None
            probe.next_at = begin + place * pause / len(self.probes)
        while now < end and not brake.pulled:
            if once and sent >= ring.count and sent - answers - lost <= 0:
                break
            room = window - (sent - answers - lost)
            if once:
                room = min(room, ring.count - sent)
            if rate:
                room = min(room, int((now - begin) * rate) - sent - result.sent)
            if room >= least:
                count = ring.send(fd, position, room)
                position = (position + count) % ring.count
                sent += count
            if now >= next_probes:
                next_probes = now + 0.001
                self._ask_all(probes, result, now)
            heard = count = BATCH
            while count == BATCH:
                count = receiver.receive()
                heard += count
                kinds = receiver.kinds(count)
                answers += count if kind == ANY else kinds.count(kind)
                if take is not None:
                    for i in range(count):
                        if kinds[i] == kind:
                            take(receiver.packet(i))
            for ready, _ in poll(0):
                if ready in probes:
                    self._hear(probes[ready], kind, result, pause)
            if heard < 2 * BATCH:
                time.sleep(PAUSE)
            now = time.monotonic()
            if now >= next_mark:
                next_mark = now + MARK
                if answers > known:
                    known, heard_at = answers, now
                elif once and now - heard_at > SILENCE:
                    break
                marks.append((now, sent))
                while marks[0][0] < now - LOST_AFTER:
                    lost = max(lost, marks.pop(0)[1] - answers)
        result.seconds = now - begin
        result.own_cpu = time.process_time() - own
        wait = time.monotonic() + LOST_AFTER
        asked = [probe for probe in probes.values() if probe.sent_at is not None]
        while (sent > answers + lost or asked) and time.monotonic() < wait:
            time.sleep(PAUSE)
            while count := receiver.receive():
                answers += count if kind == ANY else receiver.kinds(count).count(kind)
            for ready, _ in poll(0):
                if ready in probes:
                    self._hear(probes[ready], kind, result)
            asked = [probe for probe in asked if probe.sent_at is not None]
        result.unanswered += len(asked)
        result.sent += sent
        result.answers += answers
        result.lost += max(0, sent - answers)
        return result

    def pace(self, rate: float, seconds: float, kind: int) -> Result:
        """Sends `rate` probes a second, evenly, whatever has been answered; each is checked.

        A probe that still waits when its turn comes is passed over; without a free one nothing is
        sent at that moment, which shows as fewer sent than `rate * seconds`.
        """
        result = Result()
        rate = min(rate, self.max_rate) if self.max_rate else rate
        order = list(self.probes.values())
        for probe in order:
            probe.sent_at, probe.next_at = None, 0.0
        epoll, ready_to_read = self.epoll, (self.epoll.fileno(),)
        own = time.process_time()
        begin = now = time.monotonic()
        turn = due = 0
        while now - begin < seconds and not self.brake.pulled:
            while begin + due / rate <= now:
                due += 1
                for _ in order:
                    probe = order[turn % len(order)]
                    turn += 1
                    if probe.sent_at is not None and now - probe.sent_at > PROBE_PATIENCE:
                        result.unanswered += 1
                        probe.sent_at = None
                    if probe.sent_at is None:
                        self._ask(probe, result)
                        break
            wait = begin + due / rate - time.monotonic()
            # epoll counts in milliseconds, which is longer than the pause between two probes
            if wait > 0 and select.select(ready_to_read, (), (), wait)[0]:
                for fd, _ in epoll.poll(0):
                    if fd in self.probes:
                        self._hear(self.probes[fd], kind, result)
            now = time.monotonic()
        result.seconds = now - begin
        result.own_cpu = time.process_time() - own
        end = now + PROBE_PATIENCE
        while time.monotonic() < end and any(probe.sent_at is not None for probe in order):
            for fd, _ in epoll.poll(0.01):
                if fd in self.probes:
                    self._hear(self.probes[fd], kind, result)
        result.unanswered += sum(probe.sent_at is not None for probe in order)
        return result

    def _ask_all(self, probes: dict[int, Probe], result: Result, now: float) -> None:
        for probe in probes.values():
            if probe.sent_at is None:
                if now >= probe.next_at:
                    self._ask(probe, result)
            elif now - probe.sent_at > PROBE_PATIENCE:
                result.unanswered += 1
                self._ask(probe, result)

    def _ask(self, probe: Probe, result: Result) -> None:
        if probe.requests:
            probe.turn = (probe.turn + 1) % len(probe.requests)
            probe.sent_at = time.monotonic()
            probe.sock.sendto(probe.requests[probe.turn][0], self.address)
            result.sent += 1

    @staticmethod
    def _hear(probe: Probe, kind: int, result: Result, pause: float = 0.0) -> None:
        now = time.monotonic()
        packet = probe.sock.recv(SLOT)
        if not packet or (kind != ANY and packet[0] != kind) or probe.sent_at is None:
            return
        if probe.requests[probe.turn][1](packet):
            result.latencies.append(now - probe.sent_at)
            result.answers += 1
            probe.sent_at, probe.next_at = None, now + pause
        else:
            result.wrong += 1

    def exchange(self, sock: socket.socket, packet: bytes, kind: int) -> bytes | None:
        """Sends one datagram and returns the answer of `kind`, or None after three tries."""
        for _ in range(3):
            if self.max_rate:
                time.sleep(1 / self.max_rate)
            sock.sendto(packet, self.address)
            end = time.monotonic() + 0.4
            while time.monotonic() < end and not self.brake.pulled:
                self.epoll.poll(0.01)
                for answer in _read(sock):
                    if answer and answer[0] == kind:
                        return answer
        return None


def _read(sock: socket.socket) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(sock.recv(SLOT))
        except BlockingIOError:
            return packets
