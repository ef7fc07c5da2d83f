"""Does a packet cost the same with more workers? Then as many cores give as many times the answers.

Where there are only two cores, rates say nothing about sixteen. What can be measured is whether the
CPU time of a packet stays flat from one worker of each role to eight. For that every worker must
always have something to do, so they all share one core and the load has the other.
"""

from collections.abc import Sequence

from toxmesh.bench.fakes import Fakes
from toxmesh.bench.measured import measure
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.scenarios.outcome import Outcome, Place
from toxmesh.bench.suite import Suite
from toxmesh.bench.target import Target

COUNTS = (1, 2, 4, 8)  # workers of each role
LOADS = ("ping", "nodes", "onion 0x80", "announce search")
FRAMES = "relay 1400 B"
FLAT = 1.1  # bar: CPU of a packet with more workers, as a part of that with one
KEYS = 1000
WINDOW = 2048  # unanswered requests: a full batch for each of eight workers, and more waiting
TEXT = 1400  # bytes of a relayed frame
CONNECTIONS, IN_FLIGHT = 400, 8
CORES = (2, 8, 16, 64)  # machines whose ceiling is computed

Cost = tuple[str, float, float]  # load, CPU microseconds of a packet, packets a second


def scale(place: Place) -> Outcome:
    """Measures the CPU of a packet with 1, 2, 4 and 8 workers of each role."""
    seconds = 0.5 if place.short else 2.0
    counts = (1, 2) if place.short else COUNTS
    outcome = Outcome("scale", "")
    costs: dict[str, list[float]] = {name: [] for name in (*LOADS, FRAMES)}
    for count in counts:
        with place.start(f"dht={count},onion={count},relay={count}", True) as node:
            outcome.node = node.name
            found = datagrams(place, node, seconds) + frames(place, node, seconds)
            for name, cost, rate in found:
                costs[name].append(cost)
                outcome.figures[f"{name}, {count} workers: CPU us"] = cost
                outcome.figures[f"{name}, {count} workers: 1/s"] = rate
            outcome.rss = node.weigh().rss
    for name, values in costs.items():
        if values:
            outcome.at_most(f"{name}: most CPU / CPU with 1 worker", max(values) / values[0], FLAT)
    outcome.notes += table(costs, counts)
    return outcome


def datagrams(place: Place, node: Target, seconds: float) -> list[Cost]:
    """Measures one load after the other."""
    found = []
    with (
        Fakes(place.clients.node, node.target),
        Suite(node, place.clients, place.sources, WINDOW).closing() as suite,
    ):
        for name in LOADS:
            row = suite.run(name, KEYS, seconds)
            if row.cpu_us is not None:
                found.append((name, row.cpu_us, row.result.per_second))
    return found


def frames(place: Place, node: Target, seconds: float) -> list[Cost]:
    """Relays frames between pairs; nothing if the node has no relay."""
    if node.relay is None:
        return []
    relay = RelayLoad(place.clients, node.relay, place.sources)
    relay.connect_pairs(CONNECTIONS)
    relay.frames(TEXT, IN_FLIGHT, seconds / 4)
    row = measure(node, FRAMES, None, lambda: relay.frames(TEXT, IN_FLIGHT, seconds))
    relay.close()
    return [] if row.cpu_us is None else [(FRAMES, row.cpu_us, row.result.per_second)]


def table(costs: dict[str, list[float]], counts: Sequence[int]) -> list[str]:
    """Returns the table of all costs, and below it what follows from them for more cores."""
    head = ["CPU us of a packet", *(f"{count} w" for count in counts)]
    head += [f"1/s, {cores} cores" for cores in CORES]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, values in costs.items():
        if values:
            cells = [name, *(f"{value:.1f}" for value in values)]
            ceilings = [f"{cores * 1e6 / max(values):,.0f}" for cores in CORES]
            cells += ceilings if name != FRAMES else ["one broker"] * len(CORES)
            lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        "the rates are computed, not measured: cores / CPU of the dearest column, every core busy "
        "with the node alone"
    )
    return lines
