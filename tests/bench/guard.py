"""`python -m tests.bench guard`: has the node become slower than it was?

Microseconds depend on the machine and on who else uses it, so the node is weighed against a plain
echo (`tests.bench.echo`) in the same minute: rounds of both take turns, what counts is CPU time,
and of each the least. `best.json` has the best ratios that were committed; a test fails when one
is more than 30 % above. `--write` notes those of this run; a rise of one needs its reason in the
commit.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench import clients
from tests.bench.echo import Echo
from tests.bench.nodes import NodeError, Toxmesh
from toxmesh.bench.fakes import Fakes
from toxmesh.bench.measured import Measured, measure
from toxmesh.bench.plan import FRAMES
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.suite import ROUTE_LOAD, Suite
from toxmesh.bench.table import markdown
from toxmesh.bench.traffic import ANY

BEST = Path(__file__).parent / "best.json"
TOLERANCE = 1.3  # the issue's: 30 % worse than the best is a failure
KEYS = 1000
WINDOW = 512  # of the echo and the node alike: both have a full batch waiting
ROUND_S = 0.5
ROUNDS, MORE_ROUNDS = 5, 10  # those that are always made; those that follow while one is too bad
ECHO = "echo"
UDP_LOADS = ("ping", "nodes", "onion 0x80", ROUTE_LOAD)
FRAME_LOAD = next(load for load in FRAMES.values() if load.size == 100)


@dataclass
class Guard:
    """The least CPU per packet of each load, in microseconds."""

    least: dict[str, float] = field(default_factory=dict)

    def take(self, row: Measured) -> None:
        """Takes a round in; one that gave nothing is none."""
        if row.cpu_us and row.result.answers:
            self.least[row.load] = min(self.least.get(row.load, row.cpu_us), row.cpu_us)

    def ratios(self) -> dict[str, float]:
        """Returns what an answer costs the node, in echoes."""
        echo = self.least[ECHO]
        return {name: cpu / echo for name, cpu in self.least.items() if name != ECHO}

    def worse(self, best: Mapping[str, float], tolerance: float = TOLERANCE) -> list[str]:
        """Names what is more than the tolerance above the best, or was not measured at all."""
        ratios = self.ratios()
        found = [f"{name} was not answered" for name in best if name not in ratios]
        return found + [
            f"{name} costs {ratios[name]:.2f} echoes, {ratios[name] / best[name]:.2f} times the "
            f"best {best[name]:.2f}"
            for name in best
            if name in ratios and ratios[name] > tolerance * best[name]
        ]


def stored() -> dict[str, float]:
    """Returns the best ratios that were committed."""
    content = json.loads(BEST.read_text())
    return {str(name): float(ratio) for name, ratio in content["ratios"].items()}


def run(
    core: int | None,
    best: Mapping[str, float],
    workers: str = "",
    say: Callable[[str], None] = lambda line: None,
    rounds: int = ROUNDS,
) -> Guard:
    """Measures the echo and the node in turn; more rounds while something is worse than `best`."""
    made = clients.load(5000)
    guard = Guard()
    with ExitStack() as stack:
        echo = stack.enter_context(Echo(core))
        node = stack.enter_context(Toxmesh(made, core, workers))
        stack.enter_context(Fakes(made.node, node.target))
        suite = stack.enter_context(Suite(node, made, 1000, WINDOW).closing())
        plain = stack.enter_context(Suite(echo, made, 1000, WINDOW).closing())
        prepared = [suite.prepare(name, KEYS) for name in UDP_LOADS]
        ring = plain.generator.packets([bytes((ANY & 0xFF,)) + bytes(81)] * 1024)
        relay = RelayLoad(made, node.relay, 1000)
        stack.callback(relay.close)
        if relay.connect_pairs(FRAME_LOAD.connections) < FRAME_LOAD.connections:
            raise NodeError("the relay did not link all pairs")
        for count in range(rounds + MORE_ROUNDS):
            if count >= rounds and not guard.worse(best):
                break
            guard.take(
                measure(
                    echo, ECHO, None,
                    partial(
                        plain.generator.drive, ring, ANY, seconds=ROUND_S, window=WINDOW,
                        probing=False,
                    ),
                )
            )  # fmt: skip
            for load in prepared:
                guard.take(suite.measure(load, ROUND_S))
            guard.take(
                measure(
                    node, FRAME_LOAD.name, None,
                    partial(relay.frames, FRAME_LOAD.size, FRAME_LOAD.in_flight, ROUND_S),
                )
            )  # fmt: skip
            say(", ".join(f"{name} {cpu:.2f}" for name, cpu in guard.least.items()))
    return guard


def main(args: argparse.Namespace) -> int:
    """Prints the ratios beside the best; 1 if one is too bad. `--write` makes them the best."""
    core = None if args.no_pin else 0
    best = stored() if BEST.exists() else {}
    guard = run(
        core, best, args.workers, lambda line: print(line, file=sys.stderr, flush=True),
        ROUNDS + MORE_ROUNDS if args.write else ROUNDS,
    )  # fmt: skip
    ratios = guard.ratios()
    print(f"an echo costs {guard.least[ECHO]:.2f} us\n")
    lines = [
        (
            name, f"{guard.least[name]:.2f}", f"{ratio:.2f}",
            f"{best[name]:.2f}" if name in best else "-",
        )
        for name, ratio in ratios.items()
    ]  # fmt: skip
    head = ("load", "CPU us", "echoes", "best")
    print(markdown(head, lines, frozenset(head[1:])))
    if args.write:
        for name, ratio in ratios.items():
            if ratio > best.get(name, ratio):
                print(f"- {name} rises from {best[name]:.2f}: say why in the commit")
        content = {
            "echo_us": round(guard.least[ECHO], 2),
            "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        }
        BEST.write_text(json.dumps(content, indent=1) + "\n")
        return 0
    worse = guard.worse(best)
    for line in worse:
        print(f"- {line}")
    return 1 if worse and not args.no_bars else 0
