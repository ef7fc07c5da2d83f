"""Everything at once for minutes: does any process of the node keep growing, does any die?"""

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.bench import clients
from tests.bench.clients import KeptClients
from tests.bench.nodes import Node, Toxmesh
from toxmesh.bench import loads
from toxmesh.bench.fakes import Fakes
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.ring import Packets
from toxmesh.bench.suite import BACK_LOADS, DHT_LOADS, HOP_LOADS, Suite
from toxmesh.bench.traffic import Result

KEYS = 1000  # client keys of the mixed load
ANNOUNCED_S = 120.0  # how often the announces get fresh ping ids, as those of clients do
CONNECTIONS, IN_FLIGHT = 100, 5  # of relayed frames
FRAMES_S, HANDSHAKES_S = 10.0, 1.0  # what the relay's load does in turn
BASE_SHARE = 0.2  # of the whole time: two minutes of ten
GROWTH, GROWTH_BYTES = 0.05, 2 << 20  # the bound on RSS: 5 % + 2 MiB
ANY = 0x100

Results: TypeAlias = "multiprocessing.Queue[tuple[str, int, int]]"  # what, sent, answers


@dataclass
class Verdict:
    """What a soak found."""

    base: dict[str, int] = field(default_factory=dict)  # RSS after BASE_SHARE of the time
    end: dict[str, int] = field(default_factory=dict)
    filling: dict[str, int] = field(default_factory=dict)  # bytes by process that a table may take
    restarts: int = 0
    bugs: int = 0
    answers: int = 0
    sent: int = 0
    idle: list[str] = field(default_factory=list)  # halves of the load that did not last

    def grown(self) -> list[str]:
        """Names each process that is above the bound."""
        result = []
        for name, size in self.end.items():
            base = self.base.get(name)
            if base is None:
                result.append(f"{name} was not there at the beginning")
            elif size > base * (1 + GROWTH) + GROWTH_BYTES + self.filling.get(name, 0):
                result.append(f"{name} grew from {base / 2**20:.1f} to {size / 2**20:.1f} MiB")
        return result

    def problems(self) -> list[str]:
        """Returns one sentence for each thing that is wrong."""
        result = self.grown()
        if self.restarts:
            result.append(f"{self.restarts} worker restarts")
        if self.bugs:
            result.append(f"{self.bugs} datagrams or frames counted as bug")
        result += [f"the load of {what} did not last to the end" for what in self.idle]
        if not self.answers:
            result.append("nothing was answered")
        return result


def troubles(node: Toxmesh) -> tuple[int, int]:
    """Returns how many restarts and how many `bug` drops the node reports."""
    status = node.status()
    workers = status["workers"]
    totals = status["totals"]
    assert isinstance(workers, list)
    assert isinstance(totals, dict)
    restarts = sum(int(row["restarts"]) for row in workers)
    drops = totals.get("drops", {})
    return restarts, sum(int(n) for reason, n in drops.items() if reason.startswith("bug"))


def mixed(suite: Suite, keys: int) -> Packets:
    """Makes one ring of all UDP loads, shuffled."""
    home = suite.generator.endpoint
    rows: list[tuple[bytes, bytes]] = []

    def add(load: loads.Load, place: Callable[[int], int] = lambda i: i) -> None:
        for i in range(2 * keys):
            source = suite.generator.sources[place(i) % len(suite.generator.sources)]
            client = suite.clients[i % keys]
            rows.append((load.request(i, client, home(place(i))), source))

    for name in (*DHT_LOADS, *HOP_LOADS, "announce search"):
        add(suite.simple(name))
    for name in BACK_LOADS:
        load, _ = suite.back(name)
        add(load)
    store, kept = suite.announced(keys)
    add(store, lambda i: i % keys)
    route = loads.Route(suite.clients, "data to route", 0x8C)
    route.targets = tuple(suite.clients[i].public for i, stored in kept.items() if stored)
    if route.targets:
        add(route)
    random.Random(1).shuffle(rows)
    return Packets([row[0] for row in rows], [row[1] for row in rows], suite.generator.target)


def _datagrams(node: Node, made: KeptClients, args: argparse.Namespace, queue: Results) -> None:
    """The UDP half of the load, in a process of its own."""
    end = time.monotonic() + args.seconds
    answers = sent = 0
    with Suite(node, made, args.sources, args.window).closing() as suite:
        while time.monotonic() < end:
            ring = mixed(suite, KEYS)
            slice_end = min(end, time.monotonic() + ANNOUNCED_S)
            while (left := slice_end - time.monotonic()) > 0:
                result = suite.generator.drive(
                    ring, ANY, seconds=min(left, 5.0), window=args.window, probing=False
                )
                answers += result.answers
                sent += result.sent
    queue.put(("datagrams", sent, answers))


def _frames(node: Node, made: KeptClients, args: argparse.Namespace, queue: Results) -> None:
    """The TCP half of the load."""
    end = time.monotonic() + args.seconds
    address = ("127.0.0.1", node.tcp_port)
    total = Result()
    load = RelayLoad(made, address, args.sources)
    # other clients than those of the handshakes: a relay keeps a client's newest connection alone
    load.connect_pairs(CONNECTIONS, first=2 * KEYS)
    size = 1400
    while time.monotonic() < end:
        slice_end = min(end, time.monotonic() + FRAMES_S)
        load.start_frames(size, IN_FLIGHT)
        total.sent += CONNECTIONS * IN_FLIGHT
        while time.monotonic() < slice_end:
            load.pump(total, 0.01)
            total.latencies.clear()
        settle = time.monotonic() + 1.0
        while time.monotonic() < settle and total.answers < total.sent:
            load.pump(total, 0.01, more=False)
        other = RelayLoad(made, address, args.sources)
        other.handshakes(KEYS, min(HANDSHAKES_S, max(0.1, end - time.monotonic())))
        other.close()
        size = 1500 - size
    left = len(load.connections)
    load.close()
    queue.put(("frames", total.sent, total.answers if left == CONNECTIONS else 0))


def soak(args: argparse.Namespace, say: Callable[[str], None]) -> Verdict:
    """Runs the load against our node and watches it."""
    made = clients.load(5000)
    core = None if args.no_pin else 0
    verdict = Verdict()
    fork = multiprocessing.get_context("fork")
    with Toxmesh(made, core, args.workers) as node, Fakes(made.node, node.target):
        queue: Results = fork.Queue()
        children = [
            fork.Process(target=half, args=(node, made, args, queue), daemon=True)
            for half in (_datagrams, _frames)
        ]
        for child in children:
            child.start()
        begin = time.monotonic()
        step = max(0.5, args.seconds / 30)
        while (past := time.monotonic() - begin) < args.seconds:
            time.sleep(min(step, args.seconds - past))
            past = time.monotonic() - begin
            weight = node.weigh().rss
            if past >= BASE_SHARE * args.seconds and not verdict.base:
                verdict.base = weight
            verdict.end = weight
            say(
                f"{past:6.0f} s  "
                + "  ".join(f"{name} {size / 2**20:.1f}" for name, size in sorted(weight.items()))
            )
        for _ in children:
            what, sent, answers = queue.get(timeout=60)
            if not answers:
                verdict.idle.append(what)
            verdict.sent += sent
            verdict.answers += answers
            say(f"{what}: {answers:,} answers to {sent:,}")
        for child in children:
            child.join()
        verdict.restarts, verdict.bugs = troubles(node)
    return verdict


def main(args: argparse.Namespace) -> int:
    """Prints what the soak found; 0 if nothing is wrong."""
    verdict = soak(args, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{args.seconds:g} s of everything at once, workers {args.workers}; RSS in MiB")
    print("| process | early | end |\n|---|---:|---:|")
    for name, size in sorted(verdict.end.items()):
        print(f"| {name} | {verdict.base.get(name, 0) / 2**20:.1f} | {size / 2**20:.1f} |")
    print(f"{verdict.answers:,} answers to {verdict.sent:,}; {verdict.restarts} worker restarts")
    problems = verdict.problems()
    for problem in problems:
        print(f"- {problem}")
    if args.json:
        args.json.write_text(
            json.dumps(
                {
                    "early": verdict.base,
                    "end": verdict.end,
                    "restarts": verdict.restarts,
                    "bugs": verdict.bugs,
                    "sent": verdict.sent,
                    "answers": verdict.answers,
                },
                indent=1,
            )
        )
    return 1 if problems else 0
