"""`python -m tests.bench scenarios`: idle clients, floods, memory, start, workers; node by node."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.bench import clients, memory
from tests.bench.clients import KeptClients
from tests.bench.nodes import Bootstrapd, Node, Toxmesh
from tests.interop import peers
from toxmesh.bench.scenarios import SCENARIOS, Outcome, Place
from toxmesh.bench.target import Target

ALL: dict[str, Callable[[Place], Outcome]] = {**SCENARIOS, "memory": memory.memory}
OURS = ("scale", "memory")  # of tox-bootstrapd there is one process, and its tables are not ours
NODE_CORE = 0
_CLIENTS = 101_000  # 100,000 strangers and those who were there before; 64 bytes each


def chosen(only: str | None) -> list[str]:
    """Returns the scenarios that `only` names, all without it."""
    words = [word.strip() for word in (only or "").split(",")]
    return [name for name in ALL if any(word in name for word in words)]


def drops(node: Target) -> Mapping[str, int]:
    """Returns what our node has counted as dropped, by reason."""
    if not isinstance(node, Toxmesh):
        return {}
    totals = node.status()["totals"]
    assert isinstance(totals, dict)
    found: dict[str, int] = totals["drops"]
    return found


@contextmanager
def on_cores(pinned: bool, make: Callable[[int | None], Node]) -> Iterator[Node]:
    """Starts a node on its one core, or on all cores whatever the load is tied to."""
    if pinned:
        with make(NODE_CORE) as node:
            yield node
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    node = make(None)
    try:
        node.__enter__()
        os.sched_setaffinity(0, before)
        yield node
    finally:
        os.sched_setaffinity(0, before)
        node.stop()


def ours(made: KeptClients, workers: str, short: bool, sources: int, pin: bool = True) -> Place:
    """Returns a place with our own node, all settings but the workers being the usual ones."""
    return Place(
        made,
        lambda chosen, pinned: on_cores(
            pinned and pin, lambda core: Toxmesh(made, core, chosen or workers)
        ),
        short, sources, drops,
    )  # fmt: skip


def reference(made: KeptClients, short: bool, sources: int, pin: bool = True) -> Place:
    """Returns a place with Debian's tox-bootstrapd."""
    peer = peers.bootstrapd()
    return Place(
        made,
        lambda chosen, pinned: on_cores(pinned and pin, lambda core: Bootstrapd(peer, made, core)),
        short, sources,
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Plays the chosen scenarios; returns 1 if our node misses a bar."""
    made = clients.load(_CLIENTS)
    pin = not args.no_pin
    places = []
    if not args.without_ours:
        places.append(ours(made, args.workers, args.quick, args.sources, pin))
    if args.against == "bootstrapd":
        places.append(reference(made, args.quick, args.sources, pin))
    outcomes: list[Outcome] = []
    for name in chosen(args.only):
        for place in places:
            if name in OURS and place is not places[0]:
                continue
            begin = time.monotonic()
            outcome = ALL[name](place)
            outcomes.append(outcome)
            print("\n".join(outcome.lines()), flush=True)
            print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    missed = [
        f"{outcome.name}: {bar}"
        for outcome in outcomes
        for bar in outcome.missed
        if outcome.node == Toxmesh.name
    ]
    if missed:
        print("\nBars not met:\n" + "\n".join(f"- {line}" for line in missed))
    if args.json:
        args.json.write_text(
            json.dumps({"made": time.time(), "scenarios": [o.plain() for o in outcomes]}, indent=1)
        )
    return 1 if missed and not args.no_bars else 0
