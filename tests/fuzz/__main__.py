"""`python -m tests.fuzz TARGET --count N --seed N`: 0 if nothing was found."""

import argparse
import sys
import time
from collections.abc import Callable

from tests.bench.nodes import NodeError
from tests.fuzz import codecs, identity, modules, node
from tests.fuzz.findings import Failure


def _codecs(args: argparse.Namespace) -> int:
    found = 0
    begin = told = time.monotonic()
    for done, valid, failures in codecs.run(args.count, args.seed, args.processes):
        for failure in failures:
            found += 1
            print(failure)
        if time.monotonic() - told > 5 or done >= args.count:
            told = time.monotonic()
            print(
                f"{done:,} packets, {valid:,} of them valid, {found} findings, "
                f"{told - begin:.0f} s",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    print(f"codecs: {args.count:,} packets, seed {args.seed}, {found} findings")
    return 1 if found else 0


def _rounds(
    args: argparse.Namespace, target: str, run: Callable[[int, str], list[Failure]]
) -> int:
    """Has a part of all packets tried under each seed, and tells what was found."""
    failures = []
    rounds = max(1, args.count // 20_000)
    for number in range(rounds):
        failures += run(args.count // rounds, f"{args.seed}:{number}")
        print(f"{number + 1} of {rounds}, {len(failures)} findings", file=sys.stderr, flush=True)
    for failure in failures:
        print(failure)
    print(f"{target}: {args.count:,} packets, seed {args.seed}, {len(failures)} findings")
    return 1 if failures else 0


def _modules(args: argparse.Namespace) -> int:
    def run(count: int, seed: str) -> list[Failure]:
        return modules.datagrams(count, seed) + modules.relay(count // 100, seed)

    return _rounds(args, "modules", run)


def _identity(args: argparse.Namespace) -> int:
    return _rounds(args, "identity", lambda count, seed: identity.run(count, seed)[1])


def _node(args: argparse.Namespace) -> int:
    verdict = node.run(
        args.count, args.seed, args.workers,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    for problem in verdict.problems():
        print(problem)
    print(
        f"node: {verdict.datagrams:,} datagrams and {verdict.streams:,} TCP streams, seed "
        f"{args.seed}, {len(verdict.problems())} findings"
    )
    return 1 if verdict.problems() else 0


def main() -> int:
    """Runs one of the four."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("codecs", "modules", "identity", "node"))
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, help="of codecs; as many as cores if not given")
    parser.add_argument("--workers", default="dht=2,onion=2,relay=2", help="of node")
    args = parser.parse_args()
    try:
        targets = {"codecs": _codecs, "modules": _modules, "identity": _identity, "node": _node}
        return targets[args.target](args)
    except NodeError as error:
        print(f"fuzz: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
