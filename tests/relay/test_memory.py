"""Large buffers stay in the process: a frame between processes costs no page faults."""

import resource

from core.link.memory import keep_large_buffers


def faults(size: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        bytes(bytearray(size))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_blocks_of_the_size_of_a_frame_are_used_again() -> None:
    size = 256 << 10
    assert keep_large_buffers()
    faults(size)  # the heap grows once
    assert faults(size) < 50 * size // 4096 // 10
