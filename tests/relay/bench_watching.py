"""What a frame costs a relay worker, seen and unseen: `python -m tests.relay.bench_watching`."""

import time

from core import crypto
from core.capturing import Seen
from core.crypto import KeyPair, Nonce, SharedKey, SharedKeys
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.relay import RelayShard
from core.relay.frames import ROOM

INPUTS, FRAMES, TURNS = 200, 64, 5
ALICE, BOB = SharedKey(bytes(range(32))), SharedKey(bytes(range(1, 33)))
HERE = from_text("192.0.2.1", 1000)
PACKETS = {"data of 200 bytes": b"\x10" + bytes(200), "ping": b"\x04" + bytes(7) + b"\1"}


def inputs(plain: bytes) -> list[list[object]]:
    """Returns inputs of a shard with two linked clients, of whom one sends the same frame always.
    """
    records: list[object] = []
    for serial, shared in ((1, ALICE), (2, BOB)):
        records += (
            serial, b"k" * 32, shared, bytes(24), bytes(24), True, HERE, None, [16, 3 - serial, 16],
            ROOM,
        )  # fmt: skip
    made: list[list[object]] = []
    for sequence in range(INPUTS):
        stream = b""
        for number in range(sequence * FRAMES, (sequence + 1) * FRAMES):
            box = crypto.seal(ALICE, Nonce(number.to_bytes(24, "big")), plain)
            stream += len(box).to_bytes(2, "big") + box
        new = [] if sequence else records
        made.append([1, sequence + 1, sequence, [], new, [], [], [1, len(stream)], stream])
    return made


def cost(plain: bytes, seen: bool) -> float:
    """Returns microseconds of CPU for each frame."""
    entropy = SeededEntropy("bench")
    keys = SharedKeys(KeyPair.generate(entropy).secret)
    shard = RelayShard(keys, entropy, lambda *_: True, lambda *_: True)
    spent = 0.0
    for items in inputs(plain):
        rows: list[Seen] | None = [] if seen else None
        shard.see(rows)
        begin = time.process_time()
        shard.handle(items, 1000.0)
        spent += time.process_time() - begin
        if rows is not None and len(rows) != 2 * FRAMES:
            raise SystemExit(f"{len(rows)} frames were seen of {2 * FRAMES}")
    return spent / (INPUTS * FRAMES) * 1e6


def main() -> None:
    """Prints a line for each kind of frame."""
    for name, plain in PACKETS.items():
        unseen, seen = (min(cost(plain, row) for _ in range(TURNS)) for row in (False, True))
        print(f"{unseen:8.2f} us unseen, {seen:.2f} us seen  {name}")


if __name__ == "__main__":
    main()
