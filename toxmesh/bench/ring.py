"""Datagrams at a rate that Python could not reach one by one: made before, sent by the hundred.

The whole load leaves one socket. On loopback its datagrams carry their source address in an
IP_PKTINFO control message: any address of 127.0.0.0/8 is ours to use, so that a node sees many
sources and its budgets per source stay switched on.
"""

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Any

import cffi

from core.endpoint import Endpoint

BATCH = 64  # datagrams that one system call reads
SEND_BATCH = 256  # and sends at most
SLOT = 2048  # bytes; greater than any datagram of Tox
MAX_SOURCES = 60_000  # source addresses of the load; the probes have those behind

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
_WAIT = (errno.EAGAIN, errno.ENOBUFS, errno.EINTR)


def source_address(index: int) -> bytes:
    """Returns a loopback address that shares its /24 with no other index below 62,500."""
    high, low = divmod(index, 250)
    return bytes((127, 1 + high % 250, 1 + low, 1 + high // 250))


def _address(memory: Any) -> int:
    return int(_ffi.cast("size_t", memory))


class Packets:
    """A ring of datagrams in C memory, ready for sendmmsg from any place in it."""

    def __init__(
        self, packets: Sequence[bytes], sources: Sequence[bytes], target: Endpoint
    ) -> None:
        """Lays out `packets`; number i leaves from source i modulo their number.

        Without `sources` the kernel says where they come from.
        """
        self.count = count = len(packets)
        slot = (max(map(len, packets)) + 7) & ~7
        self._memory = [
            _ffi.new("unsigned char[]", size)
            for size in (
                len(target), count * slot, count * _VECTOR.size, count * _CONTROL.size,
                count * _HEADER_SIZE,
            )
        ]  # fmt: skip
        name, at, vector_at, control_at, _ = map(_address, self._memory)
        where, payload, vectors, controls, headers = map(_ffi.buffer, self._memory)
        where[:] = target
        for i, packet in enumerate(packets):
            payload[i * slot : i * slot + len(packet)] = packet
            _VECTOR.pack_into(vectors, i * _VECTOR.size, at + i * slot, len(packet))
            if sources:
                _CONTROL.pack_into(
                    controls, i * _CONTROL.size, _CONTROL_SIZE, 0, _IP_PKTINFO, 0,
                    sources[i % len(sources)], bytes(4),
                )  # fmt: skip
            _HEADER.pack_into(
                headers, i * _HEADER_SIZE, name, len(target), vector_at + i * _VECTOR.size, 1,
                control_at + i * _CONTROL.size if sources else 0,
                _CONTROL.size if sources else 0, 0, 0,
            )  # fmt: skip
        self._headers = self._memory[-1]

    def send(self, fd: int, position: int, count: int) -> int:
        """Sends up to `count` datagrams from `position` on; returns how many left."""
        count = min(count, self.count - position, SEND_BATCH)
        done: int = _lib.sendmmsg(
            fd, self._headers + position * _HEADER_SIZE, count, socket.MSG_DONTWAIT
        )
        if done < 0:
            if _ffi.errno in _WAIT:
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
        at, vector_at = _address(self._payload), _address(self._vectors)
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
