"""Who takes the time of answers gets the core at once, though floods share it.

On a core with other work a process that wakes up waits up to 3 ms for its turn, and would count
that as the node's time. Linux 6.12 and later let a process ask for short turns, which come sooner.
"""

import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cffi

SHORT_NS = 100_000  # the shortest turn that the kernel grants (sched/syscalls.c)
USUAL_NS = 0  # whatever the kernel gives to everybody

_SYSCALL = {"x86_64": 314, "aarch64": 274}.get(platform.machine())  # sched_setattr
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")  # linux/sched/types.h: struct sched_attr
_OLD_KERNEL = (errno.ENOSYS, errno.EINVAL, errno.EPERM)
_ffi = cffi.FFI()
_ffi.cdef("long syscall(long number, ...);")
_lib: Any = _ffi.dlopen(None)  # names of the C library: unknown to the type checker


def take_turns(nanoseconds: int) -> bool:
    """Asks for turns of this length; tells whether the kernel knows of such wishes."""
    if _SYSCALL is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    size = _ATTRIBUTES.size
    wish = _ATTRIBUTES.pack(size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0, 0, 0)
    memory = _ffi.new("unsigned char[]", wish)
    done: int = _lib.syscall(
        _SYSCALL, _ffi.cast("long", 0), memory, _ffi.cast("unsigned int", 0)
    )
    if done < 0 and _ffi.errno not in _OLD_KERNEL:
        raise OSError(_ffi.errno, "sched_setattr")
    return done == 0


@contextmanager
def prompt() -> Iterator[None]:
    """Short turns for this process; what it forks meanwhile inherits them, nodes must not."""
    take_turns(SHORT_NS)
    try:
        yield
    finally:
        take_turns(USUAL_NS)
