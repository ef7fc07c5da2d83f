"""What looking on at datagrams costs a process: `python -m tests.link.bench_taps`."""

import time
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from core import batch
from core.asking import Events
from core.endpoint import Endpoint, from_text
from core.link import taps
from core.link.child import plain
from core.link.mmsg import Tap

PACKETS = [b"\0" + bytes(range(81))] * 64
SOURCES: list[Endpoint] = [from_text("192.0.2.1", 33445)] * 64
FILTERS: dict[str, dict[str, Any]] = {
    "kind": {"kinds": [9]},
    "key": {"key": "0011223344556677"},
    "address": {"network": "198.51.100.0/24"},
}
FOREVER = 1e9


class Reader:
    """What reads datagrams."""

    tap: Tap | None = None

    def read(self, packets: Sequence[bytes], sources: Sequence[Endpoint]) -> None:
        if self.tap is not None:
            self.tap(packets, sources)


def best(call: Callable[[], object], number: int = 300) -> float:
    """Returns the microseconds of one call, of the quickest of many rounds."""
    return min(timeit.repeat(call, number=number, repeat=30)) / number * 1e6


def reader(args: dict[str, Any], has_time: bool) -> Reader:
    """Makes a reader that is captured for ever, always or never with time for it."""
    taps.SHARE = taps.SPARE_SHARE = taps.BURST_S = FOREVER if has_time else 0.0
    made = Reader()
    looks = taps.Taps(made, [], Events())
    looks.questions()["capture"]("capture", {"id": 1, **args}, time.monotonic() + FOREVER)
    return made


def main() -> None:
    """Prints a line for each case."""
    nobody = Reader()
    empty = best(lambda: nobody.read(PACKETS, SOURCES), 10_000)
    said = [("nobody captures, a batch (the call of this bench included)", empty)]
    for has_time in (True, False):
        for name, args in FILTERS.items():
            made = reader(args, has_time)
            what = "looked at by" if has_time else "passed over, by"
            cost = best(partial(made.read, PACKETS, SOURCES))
            said.append((f"batch of 64 {what} {name}", cost))
    row = {"at": 1.5, "direction": "in", "address": "192.0.2.1:33445", "data": "AB" * 82}
    body = {"id": 1, "rows": [row] * 10, "passed_over": 0}
    told = best(lambda: batch.encode(1, 1, 1, 0, [["capture", plain(body)]])) / 10
    said.append(("a packet that is told", told))
    for what, cost in said:
        print(f"{cost:8.2f} us  {what}")


if __name__ == "__main__":
    main()
