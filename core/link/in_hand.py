"""How many datagrams a worker has in hand, where it can be read after the worker's death.

One number in memory that the supervisor made and the worker maps. The worker alone writes it and
the supervisor reads it once the worker is gone, so that what died with it is counted.
"""

import mmap
import os

_SIZE = 8  # bytes; a page is mapped anyway


class InHand:
    """The number, as worker (sets it) and supervisor (reads it) see it."""

    def __init__(self, fd: int) -> None:
        """Maps the memory behind a descriptor, which stays the caller's to close."""
        self._map = mmap.mmap(fd, _SIZE)
        self._words = memoryview(self._map).cast("Q")

    @staticmethod
    def make() -> int:
        """Returns the descriptor of new memory. Raises OSError."""
        fd = os.memfd_create("toxmesh-in-hand", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        return fd

    @staticmethod
    def read(fd: int) -> int:
        """Returns the number behind a descriptor."""
        return int.from_bytes(os.pread(fd, _SIZE, 0), "little")

    def set(self, count: int) -> None:
        """Says how many datagrams are in hand; 0: all answers have left."""
        self._words[0] = count
