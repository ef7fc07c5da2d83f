"""Our node beside tox-bootstrapd.

`python -m tests.bench` makes the table and plays the scenarios; `table`, `scenarios`, `soak`
(memory under load) and `guard` (the ratio to a plain echo) are one part alone.
"""

import argparse
import os
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import bars, clients, guard, scenarios, soak, soak_each
from tests.bench.clients import KeptClients
from tests.bench.nodes import Bootstrapd, Node, NodeError, Toxmesh
from tests.interop import peers
from tests.interop.peers import PeerMissing
from toxmesh.bench import plan, report, table
from toxmesh.bench.fakes import Fakes
from toxmesh.bench.rows import Row
from toxmesh.bench.traffic import Brake

NODE_CORE, LOAD_CORE = 0, 1
MODES = ("all", "table", "scenarios", "soak", "guard")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=MODES, default="all")
    parser.add_argument("--only", help="loads and scenarios with such names, comma separated")
    parser.add_argument("--keys", default="1,1000,100000", help="numbers of client keys")
    parser.add_argument(
        "--seconds", type=float, help="of each measurement (2), or of the soak (600)"
    )
    parser.add_argument(
        "--repeat", type=int, help="table: measurements of each load; their median counts (3)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="writes all figures there")
    parser.add_argument("--against", choices=("bootstrapd", "none"), default="bootstrapd")
    parser.add_argument("--without-ours", action="store_true", help="the reference alone")
    parser.add_argument("--quick", action="store_true", help="1 and 1,000 keys, a second, once")
    parser.add_argument("--workers", default="", help="of our node (its own default)")
    parser.add_argument(
        "--node-options", default="", help="of the table: more options of `toxmesh run`"
    )
    parser.add_argument("--sources", type=int, default=1000, help="source addresses, one in a /24")
    parser.add_argument("--window", type=int, default=256, help="unanswered requests at a time")
    parser.add_argument("--no-pin", action="store_true", help="leaves the cores to the kernel")
    parser.add_argument("--no-bars", action="store_true", help="exit code 0 whatever the figures")
    parser.add_argument("--load", help="soak: each of these loads alone; `each` for all of them")
    parser.add_argument("--write", action="store_true", help="guard: notes new best figures")
    args = parser.parse_args(words)
    if args.quick:
        args.keys = "1,1000"
    if args.seconds is None:
        args.seconds = 600.0 if args.mode == "soak" else 1.0 if args.quick else 2.0
    if args.repeat is None:
        args.repeat = 1 if args.quick else 3
    if args.repeat < 1:
        parser.error("--repeat must be 1 or more")
    return args


def measure(
    nodes: Sequence[Node], made: KeptClients, names: Sequence[str], options: plan.Options
) -> list[Row]:
    """Runs all chosen loads against nodes that are up, each at one node after the other."""
    total = len(nodes) * (
        len(plan.udp_jobs(names, options.keys)) + len(plan.relay_jobs(names, options.keys))
    )
    rows: list[Row] = []
    begin = time.monotonic()
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(Fakes(made.node, node.target))
        for row in plan.run(nodes, made, names, options, Brake()):
            rows.append(row)
            minutes, seconds = divmod(int(time.monotonic() - begin), 60)
            print(
                f"{len(rows):3} of {total}, {minutes}:{seconds:02}  "
                + "  ".join(table.cells(row, rows, bars.REFERENCE)),
                file=sys.stderr, flush=True,
            )  # fmt: skip
    return rows


def run_table(args: argparse.Namespace, names: Sequence[str]) -> int:
    """Measures the nodes in turn; returns 1 if a bar is missed."""
    options = plan.Options(
        tuple(int(word) for word in args.keys.split(",")), args.seconds, args.repeat, args.sources,
        args.window,
    )  # fmt: skip
    made = clients.load(plan.clients_needed(plan.ALL, options.keys, options.repeats))
    core = None if args.no_pin else NODE_CORE
    nodes: list[Node] = []
    if not args.without_ours:
        nodes.append(Toxmesh(made, core, args.workers, tuple(shlex.split(args.node_options))))
    if args.against == "bootstrapd":
        nodes.append(Bootstrapd(peers.bootstrapd(), made, core))
    versions = {}
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
            if isinstance(node, Toxmesh):
                versions[node.name] = f"workers {node.worker_counts()}"
            elif isinstance(node, Bootstrapd):
                versions[node.name] = node.peer.version
        rows = measure(nodes, made, names, options)
    judged = bars.judge(rows)
    about = {
        "nodes": versions,
        "cores": "not pinned"
        if args.no_pin
        else f"nodes on core {NODE_CORE}, load on core {LOAD_CORE}",
        "sources": options.sources,
        "window": options.window,
        "seconds": options.seconds,
        "repeats": options.repeats,
    }
    print("; ".join(f"{name}: {value}" for name, value in (report.machine() | about).items()))
    print(f"\n{table.render(rows)}")
    for name in dict.fromkeys(row.node for row in rows):
        last = [row for row in rows if row.node == name and row.rss][-1]
        sizes = ", ".join(f"{part} {size / 2**20:.1f}" for part, size in sorted(last.rss.items()))
        print(f"\nRSS of {name} at the end, MiB: {sizes}")
    missed = [bar for bar in judged if not bar.met]
    print(f"\nBars: {len(judged) - len(missed)} of {len(judged)} met")
    for bar in missed:
        print(f"- {bar}")
    if args.json:
        content = report.document(rows, about, cut_short=False)
        content["bars"] = [str(bar) for bar in judged]
        args.json.write_text(report.text(content))
    return 1 if missed and not args.no_bars else 0


def run_all(args: argparse.Namespace) -> int:
    """Makes the table and plays the scenarios that `--only` names; 1 if a bar of either is missed.

    With `--json` the scenarios go into a file of their own beside it.
    """
    names = _loads(args.only)
    played = scenarios.chosen(args.only)
    if not names and not played:
        raise NodeError(f"neither a load nor a scenario is called {args.only!r}")
    codes = [run_table(args, names)] if names else []
    if played:
        if args.json:
            args.json = args.json.with_suffix(f".scenarios{args.json.suffix}")
        codes.append(scenarios.main(args))
    return max(codes)


def _loads(only: str | None) -> list[str]:
    """Returns the loads among what `--only` names: its words may be scenarios as well."""
    if only is None:
        return list(plan.ALL)
    found: set[str] = set()
    for word in only.split(","):
        try:
            found |= set(plan.chosen(word))
        except ValueError:
            continue
    return [name for name in plan.ALL if name in found]


def main() -> int:
    """Runs what was asked for."""
    args = arguments()
    if not args.no_pin and (os.cpu_count() or 1) > LOAD_CORE:
        os.sched_setaffinity(0, {LOAD_CORE})
    else:
        args.no_pin = True
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soaked = soak_each.main if args.load else soak.main
    ways = {"soak": soaked, "scenarios": scenarios.main, "guard": guard.main, "all": run_all}
    try:
        if args.mode == "table":
            return run_table(args, _loads(args.only))
        return ways[args.mode](args)
    except (NodeError, PeerMissing, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
