"""Request packets: which lossless packets are missing, in as few bytes as the wire has for it.

WIRE: W28. A cursor stands in front of the first number that is waited for. A byte of 1-255 moves it
by so much, to a number that is missing; 0 moves it by 255, to one that is there. All between is
there as well.
"""

from collections.abc import Container, Iterator

from core.packets.net_crypto import MissingPackets

REQUEST = MissingPackets.kind
_U32 = 0xFFFFFFFF


def encode(start: int, end: int, held: Container[int], most: int) -> bytes:
    """Returns the packet of at most `most` bytes that names what of start..end-1 is not held."""
    packet = bytearray((REQUEST,))
    step = 1
    for offset in range((end - start) & _U32):
        if (start + offset) & _U32 not in held:
            packet.append(step)
            step = 0
        elif step == 255:
            packet.append(0)
            step = 0
        else:
            step += 1
            continue
        if len(packet) >= most:
            break
        step = 1
    return bytes(packet)


def decode(gaps: bytes) -> Iterator[tuple[int, bool]]:
    """Yields (steps, named) for each byte behind the id: how far the cursor moves, and whether the
    number it comes to is missing. What it moves over is there."""
    for step in gaps:
        yield (step, True) if step else (255, False)
