"""`python -m tests.bench`: the table; `python -m tests.bench soak`: memory under full load."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.bench import clients, scenarios, soak
from tests.bench.clients import KeptClients
from tests.bench.nodes import Bootstrapd, Node, NodeError, Toxmesh
from tests.interop import peers
from tests.interop.peers import PeerMissing
from toxmesh.bench import table
from toxmesh.bench.fakes import Fakes
from toxmesh.bench.measured import Measured, measure
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.suite import ALONE, FRESH, NAMES, Suite
from toxmesh.bench.traffic import PROBES

HANDSHAKES = "relay handshake"
FRAMES = {"relay 1400 B": 1400, "relay 100 B": 100}
ALL = (*NAMES, HANDSHAKES, *FRAMES)
NODE_CORE, LOAD_CORE = 0, 1


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=("table", "soak", "scenarios"), default="table")
    parser.add_argument("--only", help="loads whose names contain one of these, comma separated")
    parser.add_argument("--keys", default="1,1000,100000", help="numbers of client keys")
    parser.add_argument("--seconds", type=float, help="of each load (3), or of the soak (600)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="writes all figures there")
    parser.add_argument("--against", choices=("bootstrapd", "none"), default="bootstrapd")
    parser.add_argument("--without-ours", action="store_true", help="the reference alone")
    parser.add_argument("--quick", action="store_true", help="1 and 1,000 keys, a second each")
    parser.add_argument("--workers", default="dht=1,onion=1,relay=1", help="of our node")
    parser.add_argument("--sources", type=int, default=1000, help="source addresses, one in a /24")
    parser.add_argument("--window", type=int, default=256, help="unanswered requests at a time")
    parser.add_argument("--connections", type=int, default=100, help="of relayed frames")
    parser.add_argument("--in-flight", type=int, default=5, help="relayed frames each direction")
    parser.add_argument("--no-pin", action="store_true", help="leaves the cores to the kernel")
    parser.add_argument("--no-bars", action="store_true", help="exit code 0 whatever the figures")
    args = parser.parse_args(words)
    if args.quick:
        args.keys = "1,1000"
    if args.seconds is None:
        args.seconds = 600.0 if args.mode == "soak" else 1.0 if args.quick else 3.0
    return args


def chosen(only: str | None) -> list[str]:
    """Returns the loads that `only` names."""
    if only is None:
        return list(ALL)
    words = [word.strip() for word in only.split(",")]
    return [name for name in ALL if any(word in name for word in words)]


def jobs(names: Sequence[str], numbers: Sequence[int]) -> list[tuple[str, int]]:
    """Returns the UDP loads in the order in which they are run, with their numbers of keys.

    The reference keeps 160 announces for five minutes: so one key comes before many.
    """
    some = next((number for number in numbers if number >= 1000), numbers[-1])
    return [
        (name, number)
        for name in names
        if name in NAMES
        for number in ((some,) if name in ALONE else numbers)
    ]


def one_node(node: Node, args: argparse.Namespace, made: KeptClients) -> list[Measured]:
    """Runs all chosen loads against a node that is up."""
    rows: list[Measured] = []
    names = chosen(args.only)
    numbers = [int(word) for word in args.keys.split(",")]

    def done(row: Measured) -> None:
        rows.append(row)
        print("  " + "  ".join(table.cells(row, rows, "")), file=sys.stderr, flush=True)

    with Fakes(made.node, node.target), Suite(
        node, made, args.sources, args.window
    ).closing() as suite:
        for name, keys in jobs(names, numbers):
            done(suite.run(name, keys, args.seconds))
    relay = RelayLoad(made, ("127.0.0.1", node.tcp_port), args.sources)
    if HANDSHAKES in names:
        for keys in numbers:
            relay.handshakes(keys, 0.3)
            done(measure(node, HANDSHAKES, keys, partial(relay.handshakes, keys, args.seconds)))
    for name in (name for name in names if name in FRAMES):
        relay = RelayLoad(made, ("127.0.0.1", node.tcp_port), args.sources)
        linked = relay.connect_pairs(args.connections)
        relay.frames(FRAMES[name], args.in_flight, 0.5)
        note = "" if linked == args.connections else f"{linked} of {args.connections} linked"
        done(
            measure(
                node, name, None,
                partial(relay.frames, FRAMES[name], args.in_flight, args.seconds), note,
            )
        )  # fmt: skip
        relay.close()
    return rows


def run_table(args: argparse.Namespace) -> int:
    """Measures the nodes one after the other; returns 1 if a bar is missed."""
    made = clients.load(max(max(map(int, args.keys.split(","))), 5000) + FRESH + PROBES)
    core = None if args.no_pin else NODE_CORE
    nodes: list[Node] = []
    if args.against == "bootstrapd":
        nodes.append(Bootstrapd(peers.bootstrapd(), made, core))
    if not args.without_ours:
        nodes.append(Toxmesh(made, core, args.workers))
    versions = [node.peer.version for node in nodes if isinstance(node, Bootstrapd)]
    rows: list[Measured] = []
    for node in nodes:
        print(f"{node.name}:", file=sys.stderr, flush=True)
        with node:
            rows += one_node(node, args, made)
    place = "not pinned" if args.no_pin else f"nodes on core {NODE_CORE}, load on core {LOAD_CORE}"
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}; {place}; {args.sources} source addresses; "
        f"window {args.window}; {args.seconds:g} s each"
        + "".join(f"; tox-bootstrapd {version}" for version in versions)
        + ("" if args.without_ours else f"; toxmesh workers {args.workers}")
        + f"; relayed frames: {args.connections} connections, {args.in_flight} in flight each\n"
    )
    print(table.render(rows))
    for name in dict.fromkeys(row.node for row in rows):
        last = [row for row in rows if row.node == name and row.rss][-1]
        sizes = ", ".join(f"{part} {size / 2**20:.1f}" for part, size in sorted(last.rss.items()))
        print(f"\nRSS of {name} at the end, MiB: {sizes}")
    misses = table.missed(rows, "tox-bootstrapd")
    if misses:
        print("\nBars not met:\n" + "\n".join(f"- {line}" for line in misses))
    if args.json:
        args.json.write_text(
            json.dumps({"made": time.time(), "rows": [row.plain() for row in rows]}, indent=1)
        )
    return 1 if misses and not args.no_bars else 0


def main() -> int:
    """Runs what was asked for."""
    args = arguments()
    if not args.no_pin and (os.cpu_count() or 1) > LOAD_CORE:
        os.sched_setaffinity(0, {LOAD_CORE})
    else:
        args.no_pin = True
    try:
        if args.mode == "soak":
            return soak.main(args)
        if args.mode == "scenarios":
            return scenarios.main(args)
        return run_table(args)
    except (NodeError, PeerMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
