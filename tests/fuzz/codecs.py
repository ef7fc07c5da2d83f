"""Mutated packets of every declared class through encode and decode.

Whatever bytes come, decoding raises WireError or gives a value that encodes to these bytes.
"""

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from functools import partial

from core import batch
from core.packets import ALL, UDP_PACKETS
from core.wire import Record, WireError
from tests.fuzz.findings import Failure, Findings
from tests.fuzz.mutate import mutate
from tests.packets.samples import Dice, sample

CHUNK = 10_000  # packets under one seed
SAMPLES = 40  # valid ones of each class, made anew for each chunk
UNTOUCHED = 0.02  # share of packets that stay as they are, so that the way to "valid" stays tried


def _frames(chance: random.Random) -> list[bytes]:
    """Makes frames as broker and workers exchange them."""
    return [
        batch.encode(
            chance.choice((batch.DATAGRAMS, batch.MESSAGES, 3, 10)),
            chance.getrandbits(16),
            chance.getrandbits(32),
            chance.randrange(3),
            [chance.randbytes(16), chance.randbytes(chance.randrange(200))],
        )
        for _ in range(SAMPLES)
    ]


def _check(cls: type[Record], data: bytes) -> bool:
    """Returns whether it was a packet. AssertionError if it comes out otherwise than it went in."""
    try:
        value = cls.decode(data)
    except WireError:
        return False
    again = value.encode()
    assert again == data, f"encodes to {again.hex()}"
    return True


def _check_frame(data: bytes) -> bool:
    try:
        frame = batch.decode(data)
        if frame.kind == batch.MESSAGES:
            batch.messages(frame.items)
    except WireError:
        return False
    return True


def chunk(seed: str, count: int = CHUNK) -> tuple[int, int, list[Failure]]:
    """Tries `count` packets; returns how many, how many of them were valid, and what failed."""
    chance = random.Random(seed)
    dice = Dice(chance)
    pools = {cls: [sample(cls, dice).encode() for _ in range(SAMPLES)] for cls in ALL}
    targets: list[tuple[str, Callable[[bytes], bool], list[bytes]]] = [
        (cls.__name__, partial(_check, cls), pool)
        for cls, pool in pools.items()
    ]
    targets.append(("frame between processes", _check_frame, _frames(chance)))
    by_kind = [
        pool for classes in UDP_PACKETS.values() for pool in (pools[cls] for cls in classes)
    ]
    valid = 0
    findings = Findings(seed, 20)
    for number in range(count):
        name, check, pool = targets[number % len(targets)]
        data = pool[int(chance.random() * SAMPLES)]
        if chance.random() >= UNTOUCHED:
            data = mutate(data, chance, by_kind[int(chance.random() * len(by_kind))])
        with findings.of(name, data):  # WireError is no finding: `check` takes it
            valid += check(data)
        if findings.full:
            break
    return count, valid, findings.failures


def _job(job: tuple[str, int]) -> tuple[int, int, list[Failure]]:
    return chunk(*job)


def run(
    count: int, seed: int, processes: int | None = None
) -> Iterator[tuple[int, int, list[Failure]]]:
    """Tries `count` packets in several processes; yields (done, valid, failures) as they come."""
    jobs = [
        (f"{seed}:{start // CHUNK}", min(CHUNK, count - start)) for start in range(0, count, CHUNK)
    ]
    done = valid = 0
    with multiprocessing.get_context("fork").Pool(processes or os.cpu_count()) as pool:
        for tried, good, failures in pool.imap_unordered(_job, jobs):
            done += tried
            valid += good
            yield done, valid, failures
