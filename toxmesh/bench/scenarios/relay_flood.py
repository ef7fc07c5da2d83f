"""A relay at full speed: do the datagrams of everybody else still get their time?"""

import time
from functools import partial

from toxmesh.bench.clients import Clients
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.scenarios.asking import ASKERS, Askers
from toxmesh.bench.scenarios.beside import POLITE, Beside, Gate
from toxmesh.bench.scenarios.outcome import Outcome, Place
from toxmesh.bench.scenarios.prompt import prompt
from toxmesh.bench.traffic import Result

PAIRS = 1000
TEXT = 1400  # bytes of a frame's text, link id included
IN_FLIGHT = 4  # frames each way; with so many pairs more only wait in the kernel
RATE = 1000  # pings a second beside it
P99_MS = 10.0  # bar


def full_speed(
    gate: Gate, clients: Clients, address: tuple[str, int], sources: int, pairs: int
) -> tuple[int, Result]:
    """Keeps frames of pairs under way until told to end; returns how many pairs, and the frames."""
    load = RelayLoad(clients, address, sources)
    linked = load.connect_pairs(2 * pairs, ASKERS, 60.0)
    gate.wait()
    result = Result(sent=IN_FLIGHT * linked)
    begin = time.monotonic()
    load.start_frames(TEXT, IN_FLIGHT)
    while not gate.over():
        load.pump(result, 0.01)
    result.seconds = time.monotonic() - begin
    load.close()
    return linked // 2, result


def relay_flood(place: Place) -> Outcome:
    """Asks pings at a steady rate while the relay has all it can do."""
    pairs, seconds = (100, 3.0) if place.short else (PAIRS, 10.0)
    pairs = min(pairs, (len(place.clients) - ASKERS) // 2)
    with place.start(None, True) as node, prompt():
        outcome = Outcome("relay-flood", node.name)
        if node.relay is None:
            outcome.notes.append("it has no relay")
            return outcome
        askers = Askers(node.target, place.clients, place.sources)
        work = partial(
            full_speed, clients=place.clients, address=node.relay, sources=place.sources,
            pairs=pairs,
        )  # fmt: skip
        with Beside(work, POLITE) as load:
            load.ready()
            askers.greet()
            alone = askers.ask(RATE, seconds / 3)
            drops = place.drops(node)
            load.go()
            askers.ask(RATE, 1.0)
            before, begin = node.weigh(), time.monotonic()
            asked = askers.ask(RATE, seconds)
            after, wall = node.weigh(), time.monotonic() - begin
            load.end()
            linked, frames = load.result()
        askers.close()
        outcome.at_most("ping p99, ms", asked.ms(0.99), P99_MS)
        outcome.at_least("pings answered, %", asked.share, 99.0)
        outcome.at_least("relay pairs", float(linked), float(pairs))
        outcome.at_most("frames that were wrong, or ends that were closed", float(frames.wrong), 0)
        outcome.at_least("frames, 1/s", frames.per_second, 1.0)
        outcome.figures |= {
            "Mbit/s": frames.per_second * TEXT * 8 / 1e6,
            "frame p50, ms": 1000 * frames.quantile(0.5),
            "frame p99, ms": 1000 * frames.quantile(0.99),
            "ping p50, ms": asked.ms(0.5),
            "ping worst, ms": asked.ms(1.0),
            "alone: ping p99, ms": alone.ms(0.99),
            "node's CPU, cores": (after.cpu_s - before.cpu_s) / wall,
        }
        outcome.notes.append(place.dropped(node, drops))
        outcome.rss = after.rss
    return outcome
