"""Memory in which a worker keeps what its successor is to find, however this worker ends.

The supervisor makes one for each place in the node that wants it and holds its descriptor; the
worker gives it a size, maps it, and says what its bytes mean.
"""

import mmap
import os


def make() -> int:
    """Returns the descriptor of new memory, which is empty. Raises OSError."""
    return os.memfd_create("toxmesh-lasting", os.MFD_CLOEXEC)


def map_all(descriptor: int, size: int) -> mmap.mmap:
    """Maps memory, giving it at least `size` bytes: zeros, of which those that nobody writes take
    no room. Raises OSError."""
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)
    return mmap.mmap(descriptor, size)
