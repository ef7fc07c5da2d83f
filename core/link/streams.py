"""New TCP streams: `accept4` gives one that never waits, with its peer as an Endpoint, in one call.

Python's own `accept` makes four system calls, an object of two classes and a text of the address;
it takes over, in this module, where the C library cannot be reached.
"""

import os
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from core.endpoint import Endpoint, from_text, udp4, udp6

Stream: TypeAlias = socket.SocketType
"""A socket without what `socket.socket` adds to it for users of files and names."""

Accept = Callable[[socket.socket], tuple[Stream, Endpoint]]

_NAME4_SIZE = 16  # bytes: sockaddr_in
_NAME_SIZE = 28  # bytes: sockaddr_in6
_INET, _INET6, _STREAM = int(socket.AF_INET), int(socket.AF_INET6), int(socket.SOCK_STREAM)


def _accept_one(listener: socket.socket) -> tuple[Stream, Endpoint]:
    stream, name = listener.accept()
    stream.setblocking(False)
    return stream, from_text(name[0].partition("%")[0], name[1])


def _load() -> Accept | None:
    try:
        import cffi

        ffi = cffi.FFI()
        ffi.cdef("int accept4(int fd, void *name, unsigned int *size, int flags);")
        library: Any = ffi.dlopen(None)  # its names are not known to the type checker
        accept4 = library.accept4
        flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    except (ImportError, OSError, AttributeError):
        return None
    memory = ffi.new("unsigned char[]", _NAME_SIZE)
    name = ffi.buffer(memory, _NAME_SIZE)
    size = ffi.new("unsigned int *")
    stream_of = socket.SocketType

    def accept_direct(listener: socket.socket) -> tuple[Stream, Endpoint]:
        size[0] = _NAME_SIZE
        fd = accept4(listener.fileno(), memory, size, flags)
        if fd < 0:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        peer = name[: size[0]]
        port = peer[2] << 8 | peer[3]
        # plain numbers: `listener.family` and its like make an object of an enum each time
        if size[0] == _NAME4_SIZE:
            return stream_of(_INET, _STREAM, 0, fd), udp4(peer[4:8], port)
        return stream_of(_INET6, _STREAM, 0, fd), udp6(peer[8:24], port)

    return accept_direct


_direct = _load()
accept: Accept = _direct or _accept_one
"""accept(listener): the next stream of a TCP listener over IPv4 or IPv6, and where it is from.

Raises BlockingIOError where there is none, OSError as the system call says.
"""
