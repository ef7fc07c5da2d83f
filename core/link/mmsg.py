"""Datagrams in batches of up to 64: one system call each for reading and for sending a batch.

`recvmmsg` and `sendmmsg` are called through cffi's ABI mode, which needs no compiler; where they
cannot be reached, `recvmsg` and `sendto` take over behind the same names. The memory for a batch is
made once: a datagram costs no allocation but its own bytes, and the work for one is shared by all.
"""

import errno
import select
import socket
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal, Protocol

from core.endpoint import SOCKADDR4_SIZE, SOCKADDR6_SIZE, Endpoint
from core.module import LocalError

BATCH = 64  # datagrams: beyond this the cost of the system call no longer falls
SLOT_SIZE = 2048  # c-toxcore network.h: MAX_UDP_PACKET_SIZE
_SIZE_T: Literal["L"] = "L"  # Linux: size_t is an unsigned long
_STARTS = range(0, BATCH * SLOT_SIZE, SLOT_SIZE)
_WRITABLE_WAIT_MS = 20  # how long a full socket buffer may delay a batch

_DECLARATIONS = """
struct iovec { void *iov_base; size_t iov_len; };
struct msghdr { void *msg_name; unsigned int msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
                void *msg_control; size_t msg_controllen; int msg_flags; };
struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
ssize_t sendto(int fd, const void *data, size_t size, int flags,
               const void *name, unsigned int name_size);
"""


def _load() -> tuple[Any, Any] | None:
    """Returns cffi's door to the C library of this process, or None where it lacks the calls."""
    try:
        import cffi
    except ImportError:
        return None
    try:
        ffi = cffi.FFI()
        ffi.cdef(_DECLARATIONS)
        library: Any = ffi.dlopen(None)  # the C library's names are not known to the type checker
        if not (library.recvmmsg and library.sendmmsg):
            return None
    except (OSError, AttributeError, cffi.CDefError):
        return None
    return ffi, library


_door = _load()
BACKEND = "mmsg" if _door else "single"
"""Which of the two ways is in use."""


def name_size(family: int) -> int:
    """Returns how many bytes an Endpoint of an address family has."""
    return SOCKADDR4_SIZE if family == socket.AF_INET else SOCKADDR6_SIZE


Tap = Callable[[Sequence[bytes], Sequence[bytes]], None]
"""tap(packets, endpoints): sees each batch as it comes or leaves (`core.link.taps`)."""


class Receiver(Protocol):
    """Reads one UDP socket."""

    full: bool
    """Whether the last batch was a full one, so that there may be more."""

    def aim(self, fd: int, drops: Counter[str]) -> None:
        """Reads another socket of this family from now on."""
        ...

    def receive(self) -> tuple[Sequence[bytes], Sequence[Endpoint]]:
        """Reads up to 64 datagrams without waiting: they, and the Endpoint of each one's source.

        Those that are empty or too long for a slot are left out and counted.
        """
        ...


class Sender(Protocol):
    """Sends on one UDP socket; a batch leaves when it is full or flushed."""

    tap: Tap | None
    """Who looks on, if somebody does."""

    def aim(self, fd: int, drops: Counter[str]) -> None:
        """Sends on another socket of this family from now on; to be called after a flush."""
        ...

    def send(self, endpoint: bytes, packet: bytes) -> None:
        """Adds a datagram to the batch."""
        ...

    def flush(self) -> int:
        """Sends the batch and returns how many datagrams left."""
        ...


class _Headers:
    """64 message headers and their buffers, as memory that the kernel and Python share.

    The address of message i begins at i * the size of an Endpoint, so that all addresses of a batch
    are read or written as one piece.
    """

    def __init__(self, ffi: Any, name_size: int) -> None:
        self.payload = ffi.new("unsigned char[]", BATCH * SLOT_SIZE)
        self.names = ffi.new("unsigned char[]", BATCH * name_size)
        self.vectors = ffi.new("struct iovec[]", BATCH)
        self.headers = ffi.new("struct mmsghdr[]", BATCH)
        for i in range(BATCH):
            self.vectors[i].iov_base = self.payload + i * SLOT_SIZE
            self.vectors[i].iov_len = SLOT_SIZE
            header = self.headers[i].msg_hdr
            header.msg_name = self.names + i * name_size
            header.msg_namelen = name_size
            header.msg_iov = self.vectors + i
            header.msg_iovlen = 1
        header_size = ffi.sizeof("struct mmsghdr")
        words = memoryview(ffi.buffer(self.headers)).cast("B").cast("I")
        self.lengths = words[ffi.offsetof("struct mmsghdr", "msg_len") // 4 :: header_size // 4]
        self.flags = words[ffi.offsetof("struct msghdr", "msg_flags") // 4 :: header_size // 4]
        vectors = memoryview(ffi.buffer(self.vectors)).cast("B").cast(_SIZE_T)
        self.bases = vectors[0::2]  # iov_base of each message
        self.sizes = vectors[1::2]  # iov_len


class BatchReceiver:
    """Reads one UDP socket at a time by recvmmsg."""

    def __init__(self, fd: int, family: int, drops: Counter[str]) -> None:
        assert _door is not None
        ffi, library = _door
        size = name_size(family)
        self._memory = _Headers(ffi, size)
        self._fd = fd
        self._drops = drops
        self._headers = self._memory.headers
        self._lengths = self._memory.lengths
        self._payload = ffi.buffer(self._memory.payload)  # a slice of it is bytes: one copy
        self._names = ffi.buffer(self._memory.names)
        self._name_size = size
        self._split = [struct.Struct(f"{size}s" * count) for count in range(BATCH + 1)]
        self._call = library.recvmmsg
        self._none = ffi.NULL
        self.full = False

    def aim(self, fd: int, drops: Counter[str]) -> None:
        """Reads another socket of this family from now on, with the same memory of 128 KiB."""
        self._fd, self._drops = fd, drops

    def receive(self) -> tuple[Sequence[bytes], Sequence[Endpoint]]:
        """Reads up to 64 datagrams without waiting: they, and the source of each."""
        count = self._call(self._fd, self._headers, BATCH, socket.MSG_DONTWAIT, self._none)
        if count <= 0:
            self.full = False
            return (), ()
        self.full = count == BATCH
        sizes: list[int] = self._lengths[:count].tolist()
        payload = self._payload
        packets = [payload[at : at + size] for at, size in zip(_STARTS, sizes, strict=False)]
        sources = self._split[count].unpack(self._names[: count * self._name_size])
        if 0 in sizes or SLOT_SIZE in sizes:
            return self._sift(packets, sources, sizes)
        return packets, sources

    def _sift(
        self, packets: list[bytes], sources: tuple[Endpoint, ...], sizes: list[int]
    ) -> tuple[list[bytes], list[Endpoint]]:
        """Leaves out what is empty or was cut off."""
        good_packets: list[bytes] = []
        good_sources: list[Endpoint] = []
        flags = self._memory.flags[: len(sizes)].tolist()
        for packet, source, size, flag in zip(packets, sources, sizes, flags, strict=True):
            if not size:
                self._drops["empty"] += 1
            elif flag & socket.MSG_TRUNC:
                self._drops["too_long"] += 1
            else:
                good_packets.append(packet)
                good_sources.append(source)
        return good_packets, good_sources


class BatchSender:
    """Sends on one UDP socket at a time by sendmmsg."""

    def __init__(
        self, fd: int, family: int, drops: Counter[str], wait_ms: int = _WRITABLE_WAIT_MS
    ) -> None:
        assert _door is not None
        self._wait_ms = wait_ms
        self._ffi, self._library = _door
        size = name_size(family)
        self._memory = _Headers(self._ffi, size)
        self._fd = fd
        self._drops = drops
        self._headers = self._memory.headers
        self._call = self._library.sendmmsg
        self._call_for_one = self._library.sendto
        self._bases = self._memory.bases
        self._sizes = self._memory.sizes
        self._base = int(self._ffi.cast("size_t", self._memory.payload))
        self._payload = memoryview(self._ffi.buffer(self._memory.payload)).cast("B")
        self._names = memoryview(self._ffi.buffer(self._memory.names)).cast("B")
        self._endpoints: list[bytes] = []
        self._packets: list[bytes] = []
        self.sent = 0
        self.tap: Tap | None = None

    def aim(self, fd: int, drops: Counter[str]) -> None:
        """Sends on another socket of this family from now on; to be called after a flush."""
        self._fd, self._drops = fd, drops

    def send(self, endpoint: bytes, packet: bytes) -> None:
        """Adds a datagram to the batch; sends it when that was the last one."""
        if len(packet) > SLOT_SIZE:
            raise LocalError(f"a datagram of {len(packet)} bytes is greater than {SLOT_SIZE}")
        packets = self._packets
        packets.append(packet)
        self._endpoints.append(endpoint)
        if len(packets) == BATCH:
            self.flush()

    def flush(self) -> int:
        """Sends the batch and returns how many datagrams left; others are counted drops.

        All payloads become one piece, and so do all addresses: a batch is laid out in a handful of
        copies however many datagrams it has.
        """
        packets = self._packets
        total = len(packets)
        if not total:
            return 0
        if self.tap is not None:
            self.tap(packets, self._endpoints)
        if total == 1 and self._send_one(packets[0], self._endpoints[0]):
            return 1
        sizes = array(_SIZE_T, map(len, packets))
        data = b"".join(packets)
        names = b"".join(self._endpoints)
        packets.clear()
        self._endpoints.clear()
        self._payload[: len(data)] = data
        self._names[: len(names)] = names
        self._sizes[:total] = sizes
        offsets = accumulate(sizes[:-1], initial=self._base)
        self._bases[:total] = array(_SIZE_T, offsets)
        done = left = 0
        waited = False
        while done < total:
            count = self._call(self._fd, self._headers + done, total - done, socket.MSG_DONTWAIT)
            if count > 0:
                done += count
                left += count
                continue
            error = self._ffi.errno
            if error == errno.EINTR:
                continue
            if error in (errno.EAGAIN, errno.ENOBUFS):
                if not waited and _wait_writable(self._fd, self._wait_ms):
                    waited = True
                    continue
                self._drops["send_full"] += total - done
                break
            self._drops[f"send_error:{errno.errorcode.get(error, str(error))}"] += 1
            done += 1  # the kernel stopped at this datagram: go on with the next
        self.sent += left
        return left

    def _send_one(self, packet: bytes, name: bytes) -> bool:
        """Sends a batch of one datagram without laying it out: 5.0 us in place of 8.3. False: it is
        still there, and what is wrong with it is seen and counted when a batch is made of it."""
        flags = socket.MSG_DONTWAIT
        if self._call_for_one(self._fd, packet, len(packet), flags, name, len(name)) < 0:
            return False
        self._packets.clear()
        self._endpoints.clear()
        self.sent += 1
        return True


def _wait_writable(fd: int, wait_ms: int) -> bool:
    if not wait_ms:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(wait_ms))


def _to_endpoint(address: Any) -> Endpoint:
    """Turns what recvfrom says into the bytes of an Endpoint."""
    if len(address) == 2:
        packed = socket.inet_aton(address[0])
        return Endpoint(struct.pack("=H", 2) + struct.pack("!H4s8x", address[1], packed))
    host, port, flow, scope = address
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    head = struct.pack("=H", 10) + struct.pack("!HI16s", port, flow, packed)
    return Endpoint(head + struct.pack("=I", scope))


def _from_endpoint(endpoint: bytes) -> tuple[Any, ...]:
    """Turns an Endpoint into what sendto takes."""
    port = endpoint[2] << 8 | endpoint[3]
    if len(endpoint) == SOCKADDR4_SIZE:
        return socket.inet_ntoa(endpoint[4:8]), port
    (scope,) = struct.unpack("=I", endpoint[24:28])
    return socket.inet_ntop(socket.AF_INET6, endpoint[8:24]), port, 0, scope


class SingleReceiver:
    """Reads one UDP socket by recvmsg: for systems without recvmmsg."""

    def __init__(self, fd: int, family: int, drops: Counter[str]) -> None:
        self._socket = socket.socket(fileno=fd, family=family, type=socket.SOCK_DGRAM)
        self._drops = drops
        self._family = family
        self.full = False

    def aim(self, fd: int, drops: Counter[str]) -> None:
        """Reads another socket of this family from now on."""
        self._socket.detach()
        self._socket = socket.socket(fileno=fd, family=self._family, type=socket.SOCK_DGRAM)
        self._drops = drops

    def receive(self) -> tuple[Sequence[bytes], Sequence[Endpoint]]:
        """Reads up to 64 datagrams without waiting: they, and the source of each."""
        packets: list[bytes] = []
        sources: list[Endpoint] = []
        for count in range(BATCH):
            try:
                packet, _, flags, address = self._socket.recvmsg(SLOT_SIZE, 0, socket.MSG_DONTWAIT)
            except OSError:
                self.full = False
                return packets, sources
            self.full = count == BATCH - 1
            if not packet:
                self._drops["empty"] += 1
            elif flags & socket.MSG_TRUNC:
                self._drops["too_long"] += 1
            else:
                packets.append(packet)
                sources.append(_to_endpoint(address))
        return packets, sources


class SingleSender:
    """Sends on one UDP socket by sendto: for systems without sendmmsg."""

    def __init__(self, fd: int, family: int, drops: Counter[str]) -> None:
        self._socket = socket.socket(fileno=fd, family=family, type=socket.SOCK_DGRAM)
        self._drops = drops
        self._family = family
        self._queue: list[tuple[bytes, bytes]] = []
        self.sent = 0
        self.tap: Tap | None = None

    def aim(self, fd: int, drops: Counter[str]) -> None:
        """Sends on another socket of this family from now on; to be called after a flush."""
        self._socket.detach()
        self._socket = socket.socket(fileno=fd, family=self._family, type=socket.SOCK_DGRAM)
        self._drops = drops

    def send(self, endpoint: bytes, packet: bytes) -> None:
        """Keeps a datagram until the flush, or sends the batch when it is full."""
        if len(packet) > SLOT_SIZE:
            raise LocalError(f"a datagram of {len(packet)} bytes is greater than {SLOT_SIZE}")
        self._queue.append((endpoint, packet))
        if len(self._queue) >= BATCH:
            self.flush()

    def flush(self) -> int:
        """Sends what was kept and returns how many datagrams left; others are counted drops."""
        queue, self._queue = self._queue, []
        left = 0
        if queue and self.tap is not None:
            self.tap([packet for _, packet in queue], [endpoint for endpoint, _ in queue])
        for endpoint, packet in queue:
            try:
                self._socket.sendto(packet, socket.MSG_DONTWAIT, _from_endpoint(endpoint))
                left += 1
            except BlockingIOError:
                self._drops["send_full"] += 1
            except OSError as error:
                self._drops[f"send_error:{errno.errorcode.get(error.errno or 0, 'other')}"] += 1
        self.sent += left
        return left


def receiver(fd: int, family: int, drops: Counter[str]) -> Receiver:
    """Makes the best receiver there is for a UDP descriptor; `drops` gets what it leaves out."""
    return BatchReceiver(fd, family, drops) if _door else SingleReceiver(fd, family, drops)


def sender(fd: int, family: int, drops: Counter[str], wait_ms: int = _WRITABLE_WAIT_MS) -> Sender:
    """Makes the best sender there is for a UDP descriptor; `drops` gets what could not leave.

    `wait_ms`: how long a full socket buffer may delay a batch.
    """
    if _door:
        return BatchSender(fd, family, drops, wait_ms)
    return SingleSender(fd, family, drops)


__all__ = ["BACKEND", "BATCH", "SLOT_SIZE", "Endpoint", "Receiver", "Sender", "receiver", "sender"]
