"""Datagrams in batches of up to 64: one system call each for reading and for sending a batch.

`recvmmsg` and `sendmmsg` are called through cffi's ABI mode, which needs no compiler; where they
cannot be reached, `recvfrom` and `sendto` take over behind the same names. Slots are made once:
a datagram costs no allocation but the bytes that its reader takes out of its slot.
"""

import errno
import select
import socket
import struct
from collections import Counter
from typing import Any, Literal, Protocol

from core.endpoint import SOCKADDR4_SIZE, SOCKADDR6_SIZE, Endpoint
from core.module import LocalError

BATCH = 64  # datagrams: beyond this the cost of the system call no longer falls
SLOT_SIZE = 2048  # c-toxcore network.h: MAX_UDP_PACKET_SIZE
_NAME_SIZE = 32  # bytes kept for an address: the 28 of IPv6 and room to align
_SIZE_T: Literal["L"] = "L"  # Linux: size_t is an unsigned long
_WRITABLE_WAIT_MS = 20  # how long a full socket buffer may delay a batch

_DECLARATIONS = """
struct iovec { void *iov_base; size_t iov_len; };
struct msghdr { void *msg_name; unsigned int msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
                void *msg_control; size_t msg_controllen; int msg_flags; };
struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
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


class Receiver(Protocol):
    """Reads one UDP socket."""

    names: list[memoryview]
    """Source of each datagram of the batch, in the form of an Endpoint."""
    window: memoryview
    """All slots in a row: datagram i begins at i * SLOT_SIZE."""

    def receive(self) -> list[int]:
        """Reads what is there without waiting and returns the sizes; -1: it was too long."""
        ...


class Sender(Protocol):
    """Sends on one UDP socket; a batch leaves when it is full or flushed."""

    def send(self, endpoint: bytes, packet: bytes) -> None:
        """Puts a datagram into the next slot."""
        ...

    def flush(self) -> int:
        """Sends what was put in and returns how many datagrams left."""
        ...


class _Slots:
    """64 message headers with their buffers, as memory that the kernel and Python share."""

    def __init__(self, ffi: Any, size: int) -> None:
        self.payload = ffi.new("unsigned char[]", BATCH * SLOT_SIZE)
        self.name = ffi.new("unsigned char[]", BATCH * _NAME_SIZE)
        self.vectors = ffi.new("struct iovec[]", BATCH)
        self.headers = ffi.new("struct mmsghdr[]", BATCH)
        for i in range(BATCH):
            self.vectors[i].iov_base = self.payload + i * SLOT_SIZE
            self.vectors[i].iov_len = SLOT_SIZE
            header = self.headers[i].msg_hdr
            header.msg_name = self.name + i * _NAME_SIZE
            header.msg_namelen = size
            header.msg_iov = self.vectors + i
            header.msg_iovlen = 1
        self.window = memoryview(ffi.buffer(self.payload)).cast("B")
        self.name_window = memoryview(ffi.buffer(self.name)).cast("B")
        header_size = ffi.sizeof("struct mmsghdr")
        words = memoryview(ffi.buffer(self.headers)).cast("B").cast("I")
        self.lengths = words[ffi.offsetof("struct mmsghdr", "msg_len") // 4 :: header_size // 4]
        self.flags = words[ffi.offsetof("struct msghdr", "msg_flags") // 4 :: header_size // 4]
        sizes = memoryview(ffi.buffer(self.vectors)).cast("B").cast(_SIZE_T)
        self.sizes = sizes[1::2]  # iov_len of each slot


class BatchReceiver:
    """Reads one UDP socket by recvmmsg."""

    def __init__(self, fd: int, family: int) -> None:
        assert _door is not None
        self._ffi, self._library = _door
        size = name_size(family)
        self._slots = _Slots(self._ffi, size)
        self._fd = fd
        self._lengths = self._slots.lengths
        self._flags = self._slots.flags
        self._headers = self._slots.headers
        self._call = self._library.recvmmsg
        self._none = self._ffi.NULL
        self.window = self._slots.window
        row = self._slots.name_window
        self.names = [row[i * _NAME_SIZE : i * _NAME_SIZE + size] for i in range(BATCH)]

    def receive(self) -> list[int]:
        """Reads up to 64 datagrams without waiting and returns their sizes."""
        count = self._call(self._fd, self._headers, BATCH, socket.MSG_DONTWAIT, self._none)
        if count <= 0:
            return []
        sizes: list[int] = self._lengths[:count].tolist()
        if SLOT_SIZE in sizes:
            for i, size in enumerate(sizes):
                if size == SLOT_SIZE and self._flags[i] & socket.MSG_TRUNC:
                    sizes[i] = -1
        return sizes


class BatchSender:
    """Sends on one UDP socket by sendmmsg."""

    def __init__(
        self, fd: int, family: int, drops: Counter[str], wait_ms: int = _WRITABLE_WAIT_MS
    ) -> None:
        assert _door is not None
        self._wait_ms = wait_ms
        self._ffi, self._library = _door
        self._size = name_size(family)
        self._slots = _Slots(self._ffi, self._size)
        self._fd = fd
        self._drops = drops
        self._headers = self._slots.headers
        self._call = self._library.sendmmsg
        self._sizes = self._slots.sizes
        self._window = self._slots.window
        self._name_window = self._slots.name_window
        self._count = 0
        self.sent = 0

    def send(self, endpoint: bytes, packet: bytes) -> None:
        """Puts a datagram into the next slot; sends the batch when that was the last one."""
        count = self._count
        size = len(packet)
        if size > SLOT_SIZE:
            raise LocalError(f"a datagram of {size} bytes is greater than {SLOT_SIZE}")
        start = count * SLOT_SIZE
        self._window[start : start + size] = packet
        start = count * _NAME_SIZE
        self._name_window[start : start + self._size] = endpoint
        self._sizes[count] = size
        self._count = count + 1
        if count == BATCH - 1:
            self.flush()

    def flush(self) -> int:
        """Sends what was put in and returns how many datagrams left; others are counted drops."""
        total = self._count
        if not total:
            return 0
        self._count = 0
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


def _wait_writable(fd: int, wait_ms: int) -> bool:
    if not wait_ms:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(wait_ms))


def _to_endpoint(address: Any) -> bytes:
    """Turns what recvfrom says into the bytes of an Endpoint."""
    if len(address) == 2:
        packed = socket.inet_aton(address[0])
        return struct.pack("=H", 2) + struct.pack("!H4s8x", address[1], packed)
    host, port, flow, scope = address
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    head = struct.pack("=H", 10) + struct.pack("!HI16s", port, flow, packed)
    return head + struct.pack("=I", scope)


def _from_endpoint(endpoint: bytes) -> tuple[Any, ...]:
    """Turns an Endpoint into what sendto takes."""
    port = endpoint[2] << 8 | endpoint[3]
    if len(endpoint) == SOCKADDR4_SIZE:
        return socket.inet_ntoa(endpoint[4:8]), port
    (scope,) = struct.unpack("=I", endpoint[24:28])
    return socket.inet_ntop(socket.AF_INET6, endpoint[8:24]), port, 0, scope


class SingleReceiver:
    """Reads one UDP socket by recvfrom_into: for systems without recvmmsg."""

    def __init__(self, fd: int, family: int) -> None:
        self._socket = socket.socket(fileno=fd, family=family, type=socket.SOCK_DGRAM)
        self._buffer = bytearray(BATCH * SLOT_SIZE)
        self.window = memoryview(self._buffer)
        self.names = [memoryview(b"")] * BATCH

    def receive(self) -> list[int]:
        """Reads up to 64 datagrams without waiting and returns their sizes."""
        sizes: list[int] = []
        while len(sizes) < BATCH:
            i = len(sizes)
            slot = self.window[i * SLOT_SIZE : (i + 1) * SLOT_SIZE]
            try:
                size, _, flags, address = self._socket.recvmsg_into([slot], 0, socket.MSG_DONTWAIT)
            except OSError:
                break
            sizes.append(-1 if flags & socket.MSG_TRUNC else size)
            self.names[i] = memoryview(_to_endpoint(address))
        return sizes


class SingleSender:
    """Sends on one UDP socket by sendto: for systems without sendmmsg."""

    def __init__(self, fd: int, family: int, drops: Counter[str]) -> None:
        self._socket = socket.socket(fileno=fd, family=family, type=socket.SOCK_DGRAM)
        self._drops = drops
        self._queue: list[tuple[bytes, bytes]] = []
        self.sent = 0

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


def receiver(fd: int, family: int) -> Receiver:
    """Makes the best receiver there is for a UDP descriptor."""
    return BatchReceiver(fd, family) if _door else SingleReceiver(fd, family)


def sender(fd: int, family: int, drops: Counter[str], wait_ms: int = _WRITABLE_WAIT_MS) -> Sender:
    """Makes the best sender there is for a UDP descriptor; `drops` gets what could not leave.

    `wait_ms`: how long a full socket buffer may delay a batch.
    """
    if _door:
        return BatchSender(fd, family, drops, wait_ms)
    return SingleSender(fd, family, drops)


__all__ = ["BACKEND", "BATCH", "SLOT_SIZE", "Endpoint", "Receiver", "Sender", "receiver", "sender"]
