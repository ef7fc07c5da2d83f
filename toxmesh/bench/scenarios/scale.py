"""Does a packet cost the same with more workers? Then as many cores give as many times the answers.

Where there are only two cores, rates say nothing about sixteen. What can be measured is whether the
CPU time of a packet stays flat from one worker of each role to eight, each having its own core. So
all workers are there, and the load goes to one of them after the other: the core is its own for
that long, as it would be on a machine with more of them. What a packet costs is what all processes
took in all turns. It is compared with what it costs a node of one worker within the same seconds,
before and after these turns: a machine is not as fast from one minute to the next.

Beside that stands the same load for all workers at once. There they share one core, and after every
switch between them its caches have to be filled anew. That has no bar: a node starts no more
workers than it has cores.
"""

from collections.abc import Mapping, Sequence
from math import isnan, nan
from statistics import median

from toxmesh.bench.fakes import Fakes
from toxmesh.bench.measured import Measured, measure
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.scenarios.outcome import Outcome, Place
from toxmesh.bench.scenarios.turns import WARM, Cost, Turns
from toxmesh.bench.suite import Suite
from toxmesh.bench.target import Target

COUNTS = (2, 4, 8)  # workers of each role, compared with one
LOADS = {
    "ping": "dht",
    "nodes": "dht",
    "onion 0x80": "onion",
    "announce search": "onion",
    "announce store": "onion",
}
"""Loads, and the role that has their datagrams."""
SHORT_LOADS = ("ping", "announce search")  # one that needs one worker alone, one that needs two
FRAMES = "relay 1400 B"
FLAT = 1.1  # bar: CPU of a packet with more workers, as a part of that with one
KEYS = 1000  # of each worker in its turn, and of all of them at once
WINDOW = 2048  # unanswered requests: a full batch for each of eight workers, and more waiting
TEXT = 1400  # bytes of a relayed frame
CONNECTIONS, IN_FLIGHT = 400, 8
CORES = (2, 8, 16, 64)  # machines whose ceiling is computed
SECONDS, LEAST_S = 2.0, 0.4  # of each load: over all turns, but so long for each turn at least
SHORT_SECONDS, SHORT_LEAST_S = 0.25, 0.2
TURNS, AT_ONCE = "in turn", "all at once, one core"

Costs = Mapping[str, Sequence[Cost]]  # by load, in the order of the numbers of workers


def scale(place: Place) -> Outcome:
    """Measures the CPU of a packet with 2, 4 and 8 workers of each role, and with one beside."""
    loads = SHORT_LOADS if place.short else tuple(LOADS)
    seconds = SHORT_SECONDS if place.short else SECONDS
    counts = COUNTS[:1] if place.short else COUNTS
    outcome = Outcome("scale", "")
    ones: dict[str, list[Cost]] = {}
    in_turns: dict[str, list[Cost]] = {}
    at_once: dict[str, list[Cost]] = {}
    with (
        place.start("dht=1,onion=1,relay=1", True) as single,
        Fakes(place.clients.node, single.target),
        Turns(single, place.clients, 1, KEYS, place.sources, WINDOW) as alone,
    ):
        outcome.node = single.name
        for count in counts:
            with (
                place.start(f"dht={count},onion={count},relay={count}", True) as node,
                Fakes(place.clients.node, node.target),
            ):
                with Turns(node, place.clients, count, KEYS, place.sources, WINDOW) as many:
                    for name in (*loads, FRAMES):
                        one, cost = beside(name, alone, many, seconds, place.short)
                        ones.setdefault(name, []).append(one)
                        in_turns.setdefault(name, []).append(cost)
                        outcome.in_tables |= _figures(f"{name}, 1 worker beside {count}", one)
                        outcome.in_tables |= _figures(f"{name}, {count} workers, {TURNS}", cost)
                for name, cost in together(place, node, loads, seconds).items():
                    at_once.setdefault(name, []).append(cost)
                    outcome.in_tables |= _figures(f"{name}, {count} workers, {AT_ONCE}", cost)
                outcome.rss = node.weigh().rss
    for name, parts in ratios(ones, in_turns).items():
        outcome.at_most(f"{name}: most CPU / CPU with 1 worker, {TURNS}", worst(parts), FLAT)
    outcome.notes += [
        *table(ones, in_turns, counts),
        *table_at_once(ones, at_once, counts),
        *switches(ones, in_turns, at_once, counts),
    ]
    return outcome


def _figures(what: str, cost: Cost) -> dict[str, float]:
    return {
        f"{what}: CPU us": cost.cpu_us,
        f"{what}: 1/s": cost.per_s,
        f"{what}: context switches/s": cost.switches_per_s,
        f"{what}: own worker's part": cost.own,
    }


def beside(
    name: str, alone: Turns, many: Turns, seconds: float, short: bool
) -> tuple[Cost, Cost]:
    """Returns what a packet of a load costs one worker, and many of them in turn.

    The one has half of its time before all turns of the others and half after them.
    """
    each = max(seconds / many.shards, SHORT_LEAST_S if short else LEAST_S)
    first = last = max(seconds / 2, SHORT_LEAST_S if short else LEAST_S)
    rows: list[list[Measured]] = []
    if name == FRAMES:
        role = "relay"
        for turns, span in ((alone, first), (many, each), (alone, last)):
            rows.append(turns.frames(CONNECTIONS, TEXT, IN_FLIGHT, span))
    else:
        role = LOADS[name]
        one, others = alone.prepare(name), many.prepare(name)
        for turns, load, span in ((alone, one, first), (many, others, each), (alone, one, last)):
            rows.append(turns.datagrams(load, span))
    before, theirs, after = rows
    return Cost.of(before + after, 2 * alone.workers(role)), Cost.of(theirs, many.workers(role))


def together(
    place: Place, node: Target, loads: Sequence[str], seconds: float
) -> dict[str, Cost]:
    """Measures each load at all workers at the same time."""
    found = {}
    with Suite(node, place.clients, place.sources, WINDOW).closing() as suite:
        for name in loads:
            found[name] = Cost.of([suite.run(name, KEYS, seconds)])
    if node.relay is not None:
        relay = RelayLoad(place.clients, node.relay, place.sources)
        relay.connect_pairs(CONNECTIONS)
        relay.frames(TEXT, IN_FLIGHT, WARM * seconds)
        row = measure(node, FRAMES, None, lambda: relay.frames(TEXT, IN_FLIGHT, seconds))
        found[FRAMES] = Cost.of([row])
        relay.close()
    return found


def ratios(ones: Costs, many: Costs) -> dict[str, list[float]]:
    """Returns by load what more workers cost, as parts of what one cost at the same time."""
    return {
        name: [cost.cpu_us / one.cpu_us for one, cost in zip(ones[name], costs, strict=True)]
        for name, costs in many.items()
    }


def worst(parts: Sequence[float]) -> float:
    """Returns the greatest; NaN, which `max` may pass over, if one is that."""
    return nan if any(map(isnan, parts)) else max(parts)


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "|---" + "|---:" * (len(head) - 1) + "|"
    return ["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]


def _one(costs: Sequence[Cost]) -> float:
    return median(cost.cpu_us for cost in costs)


def table(ones: Costs, in_turns: Costs, counts: Sequence[int]) -> list[str]:
    """Returns what packets cost in turn, and what follows from that for more cores."""
    head = [f"CPU us of a packet, {TURNS}", "1 w", *(f"{count} w (times 1 w)" for count in counts)]
    head += [f"1/s, {cores} cores" for cores in CORES]
    parts = ratios(ones, in_turns)
    rows = []
    for name, costs in in_turns.items():
        cells = [name, f"{_one(ones[name]):.1f}"]
        cells += [
            f"{cost.cpu_us:.1f} ({part:.2f})"
            for cost, part in zip(costs, parts[name], strict=True)
        ]
        dearest = _one(ones[name]) * worst((1.0, *parts[name]))
        cells += [
            f"{cores * 1e6 / dearest:,.0f}" if name != FRAMES else "one broker" for cores in CORES
        ]
        rows.append(cells)
    return [
        *_lines(head, rows),
        "the rates are computed, not measured: cores / (CPU with 1 worker * the greatest of the "
        "ratios), every core busy with the node alone",
    ]


def table_at_once(ones: Costs, at_once: Costs, counts: Sequence[int]) -> list[str]:
    """Returns what packets cost where all workers of a role share one core."""
    head = [f"CPU us of a packet, {AT_ONCE}", "1 w", *(f"{count} w" for count in counts)]
    rows = [
        [name, f"{_one(ones[name]):.1f}", *(f"{cost.cpu_us:.1f}" for cost in costs)]
        for name, costs in at_once.items()
    ]
    return _lines(head, rows)


def switches(ones: Costs, in_turns: Costs, at_once: Costs, counts: Sequence[int]) -> list[str]:
    """Returns how often a second the core changed to a process of the node."""
    head = ["context switches a second", "1 w", *(f"{count} w" for count in counts)]
    rows = []
    for form, many in ((TURNS, in_turns), (AT_ONCE, at_once)):
        for name, costs in many.items():
            one = median(cost.switches_per_s for cost in ones[name])
            cells = [f"{cost.switches_per_s:,.0f}" for cost in costs]
            rows.append([f"{name}, {form}", f"{one:,.0f}", *cells])
    return _lines(head, rows)
