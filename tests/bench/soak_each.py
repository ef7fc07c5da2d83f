"""`python -m tests.bench soak --load NAME`: one load after the other, each alone, for minutes.

Two questions: does any process keep growing, and is every datagram that was not answered a drop
that the node counted under its reason? Both sides of that balance are printed.
"""

import argparse
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty
from typing import TypeAlias

from tests.bench import clients
from tests.bench.clients import KeptClients
from tests.bench.memory import KEY_BYTES
from tests.bench.memory import KEYS as CACHED_KEYS
from tests.bench.nodes import NodeError, Toxmesh
from tests.bench.soak import ANNOUNCED_S, BASE_SHARE, KEYS, Verdict, troubles
from toxmesh.bench import plan
from toxmesh.bench.clients import Clients, make_rows
from toxmesh.bench.fakes import Fakes
from toxmesh.bench.loads import Ping
from toxmesh.bench.plan import FRAMES
from toxmesh.bench.reach import PING_ANSWER
from toxmesh.bench.relay import AT_ONCE, RelayLoad
from toxmesh.bench.suite import FRESH_LOAD, Suite
from toxmesh.bench.traffic import Result

SETTLED_S = 1.3  # the counters of a node are as old as its last heartbeat: a second
DRIVE_S = 5.0  # of one call, so that nothing piles up in the load
PREPARED_S = 60.0  # to wait at most until a load can begin
UNEXPLAINED = 0.0005  # share of what was sent that other traffic of the node may blur
UNEXPLAINED_LEAST = 20
REMARKS = frozenset({"dht_no_room", "dht_candidate_too_many", "relay_ended"})
"""Reasons that count no unanswered request: a sender that the table does not take, and streams
that came to their end."""
NEWCOMERS = 6000  # new keys in a burst: more than may wait for their key (core.misses.CAPACITY)
BURST_S = 1.0  # from one burst to the next
LOADS = plan.ALL


@dataclass
class Account:
    """What a load sent and what became of it."""

    sent: int = 0
    answers: int = 0
    own: int = 0  # answers that found the load's own socket full
    drops: Counter[str] = field(default_factory=Counter)  # by the node's reasons

    def add(self, result: Result) -> None:
        """Takes one piece of the load in."""
        self.sent += result.sent
        self.answers += result.answers

    @property
    def unexplained(self) -> int:
        """Datagrams that were neither answered nor counted as dropped by anybody."""
        dropped = sum(count for reason, count in self.drops.items() if reason not in REMARKS)
        return self.sent - self.answers - self.own - dropped

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing but what the node's other traffic may account for."""
        return abs(self.unexplained) <= max(UNEXPLAINED_LEAST, UNEXPLAINED * self.sent)

    def __str__(self) -> str:
        parts = [f"{self.answers:,} answered"]
        parts += [
            f"{count:,} {reason}"
            for reason, count in self.drops.most_common()
            if reason not in REMARKS
        ]
        if self.own:
            parts.append(f"{self.own:,} lost by the load itself")
        remarks = [f"{self.drops[reason]:,} {reason}" for reason in sorted(REMARKS & {*self.drops})]
        return (
            f"{self.sent:,} sent = {' + '.join(parts)} + {self.unexplained:,} unexplained"
            + (f" (besides: {', '.join(remarks)})" if remarks else "")
        )


def cache_growth(keys: int) -> int:
    """Returns by how many bytes the cache of a worker that met so many keys may grow in a soak.

    Until it is full it grows with each, and then it holds half as many to all, from the last that
    were forgotten to the next.
    """
    early = min(int(BASE_SHARE * keys), CACHED_KEYS // 2)
    return KEY_BYTES * (min(keys, CACHED_KEYS) - early)


Accounts: TypeAlias = "multiprocessing.Queue[Account | None]"  # None: the load is ready and begins


def _drops(node: Toxmesh) -> Counter[str]:
    time.sleep(SETTLED_S)  # a real node in real time: nothing says that a heartbeat is newer
    totals = node.status()["totals"]
    assert isinstance(totals, dict)
    return Counter(totals["drops"])


def _burst(suite: Suite) -> Result:
    """Sends one ping from each of many clients that were made for it, as fast as they leave.

    A node that cannot compute all their keys at once lets some wait and counts the others.
    """
    began = time.monotonic()
    key, home = suite.clients.node, suite.generator.endpoint
    made = Clients(key, make_rows(key, NEWCOMERS))
    load = Ping(made, FRESH_LOAD, PING_ANSWER)
    ring = suite.generator.packets([load.request(i, made[i], home(i)) for i in range(NEWCOMERS)])
    result = suite.generator.drive(
        ring, load.answer, once=True, probing=False, window=NEWCOMERS
    )
    time.sleep(max(0.0, began + BURST_S - time.monotonic()))  # a pace of real seconds
    return result


def _datagrams(
    node: Toxmesh, made: KeptClients, args: argparse.Namespace, name: str, queue: Accounts
) -> None:
    """Drives one load of the UDP socket; what it sends to prepare itself is not counted."""
    account = Account()
    left = float(args.seconds)
    with Suite(node, made, args.sources, args.window).closing() as suite:
        while left > 0:
            prepared = suite.prepare(name, KEYS)
            before, own = _drops(node), suite.dropped()
            if not account.sent:
                queue.put(None)
            part = min(left, ANNOUNCED_S)  # then the announces get fresh ping ids
            end = time.monotonic() + part
            while (rest := end - time.monotonic()) > 0:
                if name == FRESH_LOAD:
                    account.add(_burst(suite))
                else:
                    account.add(suite.measure(prepared, min(rest, DRIVE_S)).result)
            left -= part
            account.drops += _drops(node) - before
            account.own += suite.dropped() - own
    queue.put(account)


def _streams(
    node: Toxmesh, made: KeptClients, args: argparse.Namespace, name: str, queue: Accounts
) -> None:
    """Drives one load of the relay."""
    account = Account()
    relay = RelayLoad(made, node.relay, args.sources)
    if name in FRAMES:
        load = FRAMES[name]
        if relay.connect_pairs(load.connections) < load.connections:
            raise NodeError("the relay did not link all pairs")
    before = _drops(node)
    queue.put(None)
    end = time.monotonic() + args.seconds
    while (rest := end - time.monotonic()) > 0:
        part = min(rest, DRIVE_S)
        if name in FRAMES:
            account.add(relay.frames(load.size, load.in_flight, part))
        else:
            account.add(relay.handshakes(KEYS, part, min(AT_ONCE, KEYS // 2)))
    account.drops += _drops(node) - before
    relay.close()
    queue.put(account)


def soak_one(
    node: Toxmesh, made: KeptClients, args: argparse.Namespace, name: str
) -> tuple[Verdict, Account]:
    """Runs one load against a node that is up and watches its processes."""
    fork = multiprocessing.get_context("fork")
    queue: Accounts = fork.Queue()
    restarts, bugs = troubles(node)
    half = _streams if name in plan.RELAY else _datagrams
    child = fork.Process(target=half, args=(node, made, args, name, queue), daemon=True)
    child.start()
    verdict = Verdict()
    try:
        queue.get(timeout=PREPARED_S)
        begin = time.monotonic()
        account = None
        step = max(0.5, args.seconds / 30)
        while account is None:
            try:
                account = queue.get(timeout=step)
            except Empty:
                if not child.is_alive():
                    raise NodeError(f"the load {name!r} died") from None
            past = time.monotonic() - begin
            verdict.end = node.weigh().rss
            if past >= BASE_SHARE * args.seconds and not verdict.base:
                verdict.base = verdict.end
    except Empty:
        raise NodeError(f"the load {name!r} could not be prepared") from None
    finally:
        child.terminate()
        child.join()
    later_restarts, later_bugs = troubles(node)
    verdict.restarts, verdict.bugs = later_restarts - restarts, later_bugs - bugs
    verdict.sent, verdict.answers = account.sent, account.answers
    if name == FRESH_LOAD:
        workers = [worker for worker in verdict.end if worker.startswith("dht.")]
        each = account.answers // max(len(workers), 1)
        verdict.filling = dict.fromkeys(workers, cache_growth(each))
    return verdict, account


def growth(verdict: Verdict) -> str:
    """Returns the RSS of each process, early and at the end, in MiB."""
    return ", ".join(
        f"{name} {verdict.base.get(name, 0) / 2**20:.1f} -> {size / 2**20:.1f}"
        for name, size in sorted(verdict.end.items())
    )


def problems(name: str, verdict: Verdict, account: Account) -> list[str]:
    """Returns one sentence for each thing that is wrong with one load."""
    found = [f"{name}: {problem}" for problem in verdict.problems()]
    if not account.balanced:
        found.append(f"{name}: {account.unexplained:,} datagrams are neither answered nor counted")
    return found


def soak(
    args: argparse.Namespace, names: list[str], say: Callable[[str], None]
) -> dict[str, tuple[Verdict, Account]]:
    """Runs the loads one after the other against one node."""
    made = clients.load(5000)
    core = None if args.no_pin else 0
    found = {}
    with Toxmesh(made, core, args.workers) as node, Fakes(made.node, node.target):
        for name in names:
            verdict, account = found[name] = soak_one(node, made, args, name)
            say(f"{name}: {account}\n  RSS, MiB: {growth(verdict)}")
    return found


def main(args: argparse.Namespace) -> int:
    """Prints balance and growth of each load; 0 if nothing is wrong."""
    names = plan.chosen(None if args.load == "each" else args.load, LOADS)
    found = soak(args, names, lambda line: print(line, flush=True))
    wrong = [line for name, row in found.items() for line in problems(name, *row)]
    for line in wrong:
        print(f"- {line}")
    if args.json:
        rows = {
            name: {
                "sent": account.sent,
                "answers": account.answers,
                "drops": dict(account.drops),
                "lost_by_the_load": account.own,
                "unexplained": account.unexplained,
                "early": verdict.base,
                "end": verdict.end,
                "restarts": verdict.restarts,
                "bugs": verdict.bugs,
            }
            for name, (verdict, account) in found.items()
        }
        args.json.write_text(json.dumps({"seconds": args.seconds, "loads": rows}, indent=1))
    return 1 if wrong else 0

