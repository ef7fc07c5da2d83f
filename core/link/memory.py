"""Keeps the memory of large buffers in the process, where the C library lets itself be told so.

glibc gives each block from 128 KiB on pages of its own and takes them back when it is freed, and
returns the end of the heap as soon as 128 KiB of it are free. A frame of relayed data is greater
than that, is copied some four times between two processes, and costs a page fault for each 4 KiB of
each copy: a fifth of the CPU of a relayed frame (`python -m toxmesh.bench --only relay`).
"""

from typing import Any

_M_TRIM_THRESHOLD = -1  # glibc malloc.h
_M_MMAP_THRESHOLD = -3
_LARGEST = 2 << 20  # bytes: the usual frames are smaller
_KEPT = 4 << 20  # bytes of free memory at the end of a heap


def keep_large_buffers() -> bool:
    """Makes malloc take blocks up to 2 MiB from the heap and keep 4 MiB free at its end.

    False where the C library has no such setting; all works without it.
    """
    try:
        import cffi

        ffi = cffi.FFI()
        ffi.cdef("int mallopt(int parameter, int value);")
        library: Any = ffi.dlopen(None)  # its names are not known to the type checker
        mallopt = library.mallopt
    except (ImportError, OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
