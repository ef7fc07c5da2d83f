"""Which loads there are, in which order they are run, and how many clients that takes."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from toxmesh.bench.clients import Clients
from toxmesh.bench.loads import LoadError
from toxmesh.bench.measured import Measured, figures_of_frames, measure
from toxmesh.bench.relay import AT_ONCE, RelayLoad
from toxmesh.bench.rows import Once, Row, alternate
from toxmesh.bench.suite import ALONE, FRESH, FRESH_LOAD, NAMES, RATE_LOAD, Suite
from toxmesh.bench.target import Target
from toxmesh.bench.traffic import PROBES, Brake, Result

HANDSHAKES = "relay handshake"
MANY_KEYS = 1000  # handshakes are for so many clients and more: a relay keeps one of each
WARM_S = 0.5  # of a relay load, before it is measured


@dataclass(frozen=True, slots=True)
class FrameLoad:
    """Relayed frames: `in_flight` of `size` bytes under way from each connection."""

    size: int
    connections: int
    in_flight: int

    @property
    def name(self) -> str:
        """What the load is called."""
        return f"relay {self.size} B {self.connections}x{self.in_flight}"


FRAMES = {
    load.name: load
    for load in (
        FrameLoad(1400, 100, 5),
        FrameLoad(1400, 100, 32),
        FrameLoad(1400, 1000, 2),
        FrameLoad(100, 100, 5),
    )
}
ALL = (*NAMES, HANDSHAKES, *FRAMES)
RELAY = frozenset({HANDSHAKES, *FRAMES})


@dataclass(frozen=True, slots=True)
class Options:
    """How hard, how long, and from where."""

    keys: tuple[int, ...] = (MANY_KEYS,)  # numbers of client keys, each a row
    seconds: float = 3.0  # of each measurement
    repeats: int = 1  # measurements of each load at each node
    sources: int = 1000  # loopback addresses; 1: the kernel's choice
    window: int = 256  # unanswered requests at a time
    rate: float = 0.0  # datagrams a second that hold each UDP load; 0: as many as it takes
    max_rate: float = 0.0  # the same for all that is sent before it as well


def chosen(words: str | None, among: Sequence[str] = ALL) -> list[str]:
    """Returns the loads that comma-separated words name: by a whole name, or by any part of one.

    ValueError says which word names none.
    """
    if words is None:
        return list(among)
    found: set[str] = set()
    for word in filter(None, (word.strip() for word in words.split(","))):
        named = {word} & set(among) or {name for name in among if word in name}
        if not named:
            raise ValueError(f"no load is called {word!r}; there are: {', '.join(among)}")
        found |= named
    return [name for name in among if name in found]


def clients_needed(names: Sequence[str], keys: Sequence[int], repeats: int = 1) -> int:
    """Returns how many clients these loads take in all; new ones are new only once."""
    needed = max(keys)
    if RELAY & set(names):
        needed = max(needed, *(load.connections for load in FRAMES.values()))
    return needed + PROBES + (repeats * FRESH if FRESH_LOAD in names else 0)


def udp_jobs(names: Sequence[str], numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Returns the UDP loads in the order in which they are run, with their numbers of keys.

    tox-bootstrapd keeps 160 announces for five minutes: so one key comes before many.
    """
    numbers = sorted(numbers)
    some = next((number for number in numbers if number >= MANY_KEYS), numbers[-1])
    return [
        (name, numbers[-1] if name == FRESH_LOAD else number)
        for name in names
        if name in NAMES
        for number in ((some,) if name in ALONE else numbers)
    ]


def relay_jobs(names: Sequence[str], numbers: Sequence[int]) -> list[tuple[str, int | None]]:
    """Returns the loads of the relay in the order in which they are run, with numbers of keys."""
    many = [number for number in numbers if number >= MANY_KEYS] or [max(numbers)]
    found: list[tuple[str, int | None]] = []
    for name in names:
        if name == HANDSHAKES:
            found += [(name, number) for number in many]
        elif name in FRAMES:
            found.append((name, None))
    return found


def run(
    targets: Sequence[Target],
    clients: Clients,
    names: Sequence[str],
    options: Options,
    brake: Brake,
) -> Iterator[Row]:
    """Runs loads one after the other and yields what each gave, at one target after the other.

    A load is measured at all targets in turn, as often as the options say, before the next one
    begins. Ends when the brake is pulled.
    """
    datagrams = udp_jobs(names, options.keys)
    with ExitStack() as stack:
        suites = [
            stack.enter_context(
                Suite(
                    target, clients, options.sources, options.window, brake, options.max_rate
                ).closing()
            )
            for target in (targets if datagrams else ())
        ]
        for name, keys in datagrams:
            if brake.pulled:
                return
            ways = [_prepared(suite, name, keys, options) for suite in suites]
            yield from alternate(ways, options.repeats, lambda: brake.pulled)
    for name, number in relay_jobs(names, options.keys):
        if brake.pulled:
            return
        ways = [
            partial(handshakes, target, target.relay, clients, number, options, brake)
            if number is not None
            else partial(frames, target, target.relay, clients, FRAMES[name], options, brake)
            for target in targets
            if target.relay is not None
        ]
        yield from alternate(ways, options.repeats, lambda: brake.pulled)


def _prepared(suite: Suite, name: str, keys: int, options: Options) -> Once:
    """Prepares a load of the UDP socket; one that the node does not let happen has no answers."""

    def nothing(error: LoadError) -> Measured:
        return Measured(suite.node.name, name, keys, Result(), None, str(error))

    try:
        prepared = suite.prepare(name, keys)
    except LoadError as error:
        return partial(nothing, error)

    def once() -> Measured:
        try:
            return suite.again(prepared, options.seconds, options.rate)
        except LoadError as error:
            return nothing(error)

    return once


def handshakes(
    target: Target,
    address: tuple[str, int],
    clients: Clients,
    keys: int,
    options: Options,
    brake: Brake,
) -> Measured:
    """Measures connections that are made, prove themselves, and go."""
    relay = RelayLoad(clients, address, options.sources, brake)
    at_once = max(1, min(AT_ONCE, keys // 2))  # two of one client would end each other
    relay.handshakes(keys, WARM_S, at_once)
    row = measure(
        target, HANDSHAKES, keys, partial(relay.handshakes, keys, options.seconds, at_once)
    )
    relay.close()
    return row


def frames(
    target: Target,
    address: tuple[str, int],
    clients: Clients,
    load: FrameLoad,
    options: Options,
    brake: Brake,
) -> Measured:
    """Measures frames between pairs of connections."""
    relay = RelayLoad(clients, address, options.sources, brake)
    try:
        linked = relay.connect_pairs(load.connections)
        note = "" if linked == load.connections else f"{linked} of {load.connections} linked"
        relay.frames(load.size, load.in_flight, WARM_S)
        row = measure(
            target, load.name, None,
            partial(relay.frames, load.size, load.in_flight, options.seconds), note,
        )  # fmt: skip
        row.figures.update(
            figures_of_frames(row.result, load.size, linked * load.in_flight, row.cpu_us)
        )
        return row
    finally:
        relay.close()


def relay_listens(address: tuple[str, int], patience: float = 1.0) -> bool:
    """Tells whether something accepts TCP connections there."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        return sock.connect_ex(address) == 0


Say = Callable[[str], None]


class Progress:
    """Tells a person now and then how far something is."""

    def __init__(self, say: Say, what: str, total: int, every: float = 1.0) -> None:
        self._say, self._what, self._total, self._every = say, what, total, every
        self._next = time.monotonic() + every

    def __call__(self, done: int) -> None:
        """Takes note of how many are done."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            self._say(f"{self._what}: {100 * done // self._total} %")


__all__ = [
    "ALL", "FRAMES", "HANDSHAKES", "RATE_LOAD", "RELAY", "FrameLoad", "Options", "Progress", "Say",
    "chosen", "clients_needed", "frames", "handshakes", "relay_jobs", "relay_listens", "run",
    "udp_jobs",
]  # fmt: skip
