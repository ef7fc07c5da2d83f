"""Does a packet cost the same with more workers? Then as many cores give as many times the answers.

Where there are only two cores, rates say nothing about sixteen. What can be measured is whether the
CPU time of a packet stays flat from one worker of each role to eight; the ceiling is computed.
"""

from collections.abc import Sequence

from toxmesh.bench.fakes import Fakes
from toxmesh.bench.measured import Measured, measure
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.scenarios.outcome import Outcome, Place
from toxmesh.bench.suite import Suite
from toxmesh.bench.target import Target

COUNTS = (1, 2, 4, 8)  # workers of each role
LOADS = ("ping", "nodes", "onion 0x80", "announce search")
FRAMES = "relay 1400 B"
FLAT = 1.1  # bar: CPU of a packet with more workers, as a part of that with one
KEYS = 1000
WINDOW = 1024  # unanswered requests: enough for full batches of eight workers
CONNECTIONS, IN_FLIGHT = 100, 8
CORES = (2, 8, 16, 64)  # machines whose ceiling is computed


def scale(place: Place) -> Outcome:
    """Measures the CPU of a packet with 1, 2, 4 and 8 workers of each role, on all cores."""
    seconds = 0.5 if place.short else 2.0
    counts = (1, 2) if place.short else COUNTS
    outcome = Outcome("scale", "")
    costs: dict[str, list[float]] = {name: [] for name in (*LOADS, FRAMES)}
    for count in counts:
        with place.start(f"dht={count},onion={count},relay={count}", False) as node:
            outcome.node = node.name
            for row in _rows(place, node, seconds):
                if row.cpu_us is not None:
                    costs[row.load].append(row.cpu_us)
                    outcome.figures[f"{row.load}, {count} workers: CPU us"] = row.cpu_us
                outcome.figures[f"{row.load}, {count} workers: 1/s"] = row.result.per_second
            outcome.rss = node.weigh().rss
    for name, values in costs.items():
        if values:
            outcome.at_most(f"{name}: most CPU / CPU with 1 worker", max(values) / values[0], FLAT)
    outcome.notes += table(costs, counts)
    return outcome


def _rows(place: Place, node: Target, seconds: float) -> list[Measured]:
    rows = []
    with (
        Fakes(place.clients.node, node.target),
        Suite(node, place.clients, place.sources, WINDOW).closing() as suite,
    ):
        rows += [suite.run(name, KEYS, seconds) for name in LOADS]
    if node.relay is not None:
        relay = RelayLoad(place.clients, node.relay, place.sources)
        relay.connect_pairs(CONNECTIONS)
        relay.frames(TEXT, IN_FLIGHT, seconds / 4)
        rows.append(
            measure(node, FRAMES, None, lambda: relay.frames(TEXT, IN_FLIGHT, seconds))
        )
        relay.close()
    return rows


TEXT = 1400  # bytes of a relayed frame


def table(costs: dict[str, list[float]], counts: Sequence[int]) -> list[str]:
    """Returns the table of all costs, and below it what follows from them for more cores."""
    head = ["CPU us of a packet", *(f"{count} w" for count in counts)]
    head += [f"1/s, {cores} cores" for cores in CORES]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, values in costs.items():
        if values:
            cells = [name, *(f"{value:.1f}" for value in values)]
            cells += [f"{cores * 1e6 / max(values):,.0f}" for cores in CORES]
            lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        "the rates are computed, not measured: cores / CPU of the dearest column, every core busy "
        "with the node alone"
    )
    return lines
