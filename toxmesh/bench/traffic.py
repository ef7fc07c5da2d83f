"""Datagrams at a rate that Python could not reach one by one: made before, sent 64 at a time.

The whole load leaves one socket. Its datagrams carry their source address in an IP_PKTINFO control
message: any address of 127.0.0.0/8 is ours to use, so that a node sees many sources and its budgets
per source stay switched on.
"""

import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cffi

from core import endpoint as endpoints
from core.endpoint import Endpoint

BATCH = 64  # datagrams in one system call
SLOT = 2048  # bytes; greater than any datagram of Tox
BUFFER = 4 << 20  # bytes asked of the kernel for each direction
PROBE_PAUSE = 0.02  # seconds between the requests of a probe where the load has a rate
LOST_AFTER = 0.5  # seconds; a request without an answer for so long counts as lost

_ffi = cffi.FFI()
_ffi.cdef("""
struct mmsghdr;
int recvmmsg(int fd, void *messages, unsigned int count, int flags, void *timeout);
int sendmmsg(int fd, void *messages, unsigned int count, int flags);
""")
_lib: Any = _ffi.dlopen(None)  # names of the C library: unknown to the type checker

_HEADER = struct.Struct("@PI4xPNPNi4xI4x")  # struct mmsghdr of 64-bit Linux
_VECTOR = struct.Struct("@PN")
_CONTROL = struct.Struct("@NiiI4s4s4x")  # cmsghdr and in_pktinfo
_CONTROL_SIZE = 28
_IP_PKTINFO = 8  # linux/in.h
_HEADER_SIZE = _HEADER.size


def source_address(index: int) -> bytes:
    """Returns a loopback address that shares its /24 with no other index below 62,500."""
    high, low = divmod(index, 250)
    return bytes((127, 1 + high % 250, 1 + low, 1 + high // 250))


class Packets:
    """A ring of datagrams in C memory, ready for sendmmsg from any place in it."""

    def __init__(
        self, packets: Sequence[bytes], sources: Sequence[bytes], target: Endpoint
    ) -> None:
        self.count = len(packets)
        slot = (max(map(len, packets)) + 7) & ~7
        self._name = _ffi.new("unsigned char[]", target)
        self._payload = _ffi.new("unsigned char[]", self.count * slot)
        self._vectors = _ffi.new("unsigned char[]", self.count * _VECTOR.size)
        self._controls = _ffi.new("unsigned char[]", self.count * _CONTROL.size)
        self._headers = _ffi.new("unsigned char[]", self.count * _HEADER_SIZE)
        payload, vectors = _ffi.buffer(self._payload), _ffi.buffer(self._vectors)
        controls, headers = _ffi.buffer(self._controls), _ffi.buffer(self._headers)
        name, at = self._at(self._name), self._at(self._payload)
        vector_at, control_at = self._at(self._vectors), self._at(self._controls)
        for i, packet in enumerate(packets):
            payload[i * slot : i * slot + len(packet)] = packet
            _VECTOR.pack_into(vectors, i * _VECTOR.size, at + i * slot, len(packet))
            _CONTROL.pack_into(
                controls, i * _CONTROL.size, _CONTROL_SIZE, 0, _IP_PKTINFO, 0,
                sources[i % len(sources)], bytes(4),
            )  # fmt: skip
            _HEADER.pack_into(
                headers, i * _HEADER_SIZE, name, len(target), vector_at + i * _VECTOR.size, 1,
                control_at + i * _CONTROL.size, _CONTROL.size, 0, 0,
            )  # fmt: skip

    @staticmethod
    def _at(memory: Any) -> int:
        return int(_ffi.cast("size_t", memory))

    def send(self, fd: int, position: int, count: int) -> int:
        """Sends up to `count` datagrams from `position` on; returns how many left."""
        count = min(count, self.count - position)
        done: int = _lib.sendmmsg(
            fd, self._headers + position * _HEADER_SIZE, count, socket.MSG_DONTWAIT
        )
        if done < 0:
            if _ffi.errno in (errno.EAGAIN, errno.ENOBUFS, errno.EINTR):
                return 0
            raise OSError(_ffi.errno, "sendmmsg")
        return done


class Receiver:
    """Reads a socket 64 datagrams at a time; slot i of `window` begins at i * SLOT."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._payload = _ffi.new("unsigned char[]", BATCH * SLOT)
        self._vectors = _ffi.new("unsigned char[]", BATCH * _VECTOR.size)
        self._headers = _ffi.new("unsigned char[]", BATCH * _HEADER_SIZE)
        at, vector_at = Packets._at(self._payload), Packets._at(self._vectors)
        vectors, headers = _ffi.buffer(self._vectors), _ffi.buffer(self._headers)
        for i in range(BATCH):
            _VECTOR.pack_into(vectors, i * _VECTOR.size, at + i * SLOT, SLOT)
            _HEADER.pack_into(
                headers, i * _HEADER_SIZE, 0, 0, vector_at + i * _VECTOR.size, 1, 0, 0, 0, 0
            )
        self.window = memoryview(_ffi.buffer(self._payload)).cast("B")
        words = memoryview(_ffi.buffer(self._headers)).cast("B").cast("I")
        self._lengths = words[_HEADER_SIZE // 4 - 2 :: _HEADER_SIZE // 4]

    def receive(self) -> int:
        """Reads what is there without waiting; returns how many datagrams that were."""
        count: int = _lib.recvmmsg(
            self._fd, self._headers, BATCH, socket.MSG_DONTWAIT, _ffi.NULL
        )
        return max(count, 0)

    def kinds(self, count: int) -> bytes:
        """Returns the first bytes of the first `count` datagrams."""
        return self.window[: count * SLOT : SLOT].tobytes()

    def packet(self, index: int) -> bytes:
        """Returns datagram `index` of the last batch."""
        return bytes(self.window[index * SLOT : index * SLOT + self._lengths[index]])


@dataclass(slots=True)
class Probe:
    """A client beside the load: one request at a time, each answer opened and checked."""

    sock: socket.socket
    requests: list[tuple[bytes, Callable[[bytes], bool]]] = field(default_factory=list)
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

    def quantile(self, share: float) -> float:
        """Returns the latency below which `share` of the probes lay; 0 without any."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Generator:
    """The one socket of the load and a few probes beside it."""

    def __init__(self, target: Endpoint, sources: int, probes: int = 8) -> None:
        self.target = target
        self.address = (socket.inet_ntoa(endpoints.ip_of(target)), endpoints.port_of(target))
        self.sources = [source_address(i) for i in range(sources)]
        self.sock = self._socket("0.0.0.0")
        self.port: int = self.sock.getsockname()[1]
        self.receiver = Receiver(self.sock.fileno())
        self.epoll = select.epoll()
        self.epoll.register(self.sock, select.EPOLLIN)
        self.probes: dict[int, Probe] = {}
        for i in range(probes):
            sock = self._socket(socket.inet_ntoa(source_address(60_000 + i)))
            self.probes[sock.fileno()] = Probe(sock)
            self.epoll.register(sock, select.EPOLLIN)

    @staticmethod
    def _socket(address: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        sock.bind((address, 0))
        sock.setblocking(False)
        return sock

    def endpoint(self, index: int) -> Endpoint:
        """Returns where answers to the load's datagram `index` come to."""
        return endpoints.udp4(self.sources[index % len(self.sources)], self.port)

    def close(self) -> None:
        """Gives all sockets back."""
        self.epoll.close()
        self.sock.close()
        for probe in self.probes.values():
            probe.sock.close()

    def packets(self, packets: Sequence[bytes]) -> Packets:
        """Makes a ring of the load: datagram i comes from source i modulo their number."""
        return Packets(packets, self.sources, self.target)

    def drain(self) -> None:
        """Throws away what is still under way."""
        quiet = time.monotonic() + 0.1
        end = quiet + 0.9
        while time.monotonic() < min(quiet, end):
            if self.epoll.poll(0.05):
                quiet = time.monotonic() + 0.1
                while self.receiver.receive():
                    pass
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

        Answers are datagrams whose first byte is `kind` (0x100: any). `take` is given each of them;
        a `rate` in datagrams a second holds the load below what the window alone would allow.
        """
        result = Result()
        probes = self.probes if probing else {}
        for probe in self.probes.values():
            probe.sent_at = None
        fd, receiver, poll = self.sock.fileno(), self.receiver, self.epoll.poll
        position = sent = answers = lost = 0
        marks: list[tuple[float, int]] = []
        begin = now = time.monotonic()
        end = begin + (600.0 if once else seconds)
        next_mark = begin
        while True:
            now = time.monotonic()
            if once and sent >= ring.count and sent - answers - lost <= 0:
                break
            if now >= end:
                break
            room = window - (sent - answers - lost)
            if once:
                room = min(room, ring.count - sent)
            if rate:
                room = min(room, int((now - begin) * rate) - sent)
            if room >= (1 if once or rate else BATCH // 2):
                count = ring.send(fd, position, min(room, BATCH))
                position = (position + count) % ring.count
                sent += count
            for probe in probes.values():
                if probe.sent_at is None:
                    if now >= probe.next_at:
                        self._ask(probe, result)
                elif now - probe.sent_at > 1.0:
                    result.unanswered += 1
                    self._ask(probe, result)
            busy = room > BATCH
            for ready, _ in poll(0 if busy else 0.002):
                if ready == fd:
                    count = receiver.receive()
                    kinds = receiver.kinds(count)
                    answers += count if kind == 0x100 else kinds.count(kind)
                    if take is not None:
                        for i in range(count):
                            if kinds[i] == kind:
                                take(receiver.packet(i))
                elif ready in probes:
                    self._hear(probes[ready], kind, result, PROBE_PAUSE if rate else 0.0)
            if now >= next_mark:
                next_mark = now + 0.05
                marks.append((now, sent))
                while marks[0][0] < now - LOST_AFTER:
                    lost = max(lost, marks.pop(0)[1] - answers)
        result.seconds = now - begin
        if not once:
            wait = time.monotonic() + LOST_AFTER
            while sent > answers + lost and time.monotonic() < wait:
                if poll(0.01):
                    count = receiver.receive()
                    answers += count if kind == 0x100 else receiver.kinds(count).count(kind)
            lost = max(0, sent - answers)
        result.sent += sent
        result.answers += answers
        result.lost += lost
        return result

    def _ask(self, probe: Probe, result: Result) -> None:
        if probe.requests:
            probe.turn = (probe.turn + 1) % len(probe.requests)
            probe.sock.sendto(probe.requests[probe.turn][0], self.address)
            probe.sent_at = time.monotonic()
            result.sent += 1

    def _hear(self, probe: Probe, kind: int, result: Result, pause: float) -> None:
        for packet in _read(probe.sock):
            if not packet or (kind != 0x100 and packet[0] != kind) or probe.sent_at is None:
                continue
            if probe.requests[probe.turn][1](packet):
                now = time.monotonic()
                result.latencies.append(now - probe.sent_at)
                result.answers += 1
                probe.sent_at, probe.next_at = None, now + pause
                if not pause:
                    self._ask(probe, result)
            else:
                result.wrong += 1

    def exchange(self, sock: socket.socket, packet: bytes, kind: int) -> bytes | None:
        """Sends one datagram and returns the answer of `kind`, or None after a second."""
        for _ in range(3):
            sock.sendto(packet, self.address)
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
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
