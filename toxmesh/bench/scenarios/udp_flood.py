"""Twice as many pings as a node can answer: do its relay clients and its own timers get time?"""

import time
from functools import partial

from toxmesh.bench.scenarios.beside import POLITE, Beside
from toxmesh.bench.scenarios.floods import overload
from toxmesh.bench.scenarios.outcome import Outcome, Place, quantile
from toxmesh.bench.scenarios.prompt import prompt
from toxmesh.bench.scenarios.rhythm import CHECK_S, LATE, ROUND_S, watch
from toxmesh.bench.scenarios.steady import SteadyPairs, newcomers

TIMES = 2.0  # how many times what it can answer
FLOOD_AT_LEAST = 1.25  # times: below that it is no flood, and the scenario says nothing
PAIRS, FRAME_RATE = 10, 100.0  # relay pairs, and frames a second from each end of them
PAUSE_S = 0.1  # between two new relay connections
MADE_S, FRAME_P99_MS = 0.5, 50.0  # bars
AT_LEAST_CHECKED = 12  # of the made-up nodes must be in its lists; some 30 find room there
_FIRST_PAIR, _FIRST_NEWCOMER = 2000, 2100  # clients apart from those of the flood


def udp_flood(place: Place) -> Outcome:
    """Floods a node with pings, and looks at everything else that it has to do."""
    # long: each node of the table has to be asked once before the flood and once within it
    quiet, loud = (4.0, 24.0) if place.short else (CHECK_S + 8, CHECK_S + 8)
    with place.start(None, True) as node, prompt():
        outcome = Outcome("udp-flood", node.name)
        if node.relay is None:
            outcome.notes.append("it has no relay")
            return outcome
        pairs = SteadyPairs(place.clients, node.relay, place.sources, PAIRS, _FIRST_PAIR)
        flooding = partial(
            overload, target=node.target, clients=place.clients, sources=place.sources,
            times=TIMES, seconds=loud + 1.0,
        )  # fmt: skip
        watching = partial(watch, node=place.clients.node, target=node.target)
        coming = partial(
            newcomers, address=node.relay, clients=place.clients, first=_FIRST_NEWCOMER,
            sources=place.sources, pause=PAUSE_S,
        )  # fmt: skip
        with (
            Beside(watching) as watchers,
            Beside(flooding, POLITE) as flood,
            Beside(coming) as connecting,
        ):
            for part in (flood, connecting, watchers):
                part.ready()
            watchers.go()
            before = pairs.stream(FRAME_RATE, quiet)
            drops = place.drops(node)
            flood.go()
            begin = time.monotonic()
            connecting.go()
            weight = node.weigh()
            streamed = pairs.stream(FRAME_RATE, loud)
            connecting.end()
            end = time.monotonic()
            used = node.weigh().cpu_s - weight.cpu_s
            made = connecting.result()
            watchers.end()
            asks = watchers.result()
            flooded = flood.result()
        outcome.at_least("pings sent, times what it answers", flooded.times, FLOOD_AT_LEAST)
        if flooded.times < 0.9 * TIMES:
            outcome.notes.append(f"no more than {flooded.times:.2f} times as many could be sent")
        outcome.at_most("relay connection, slowest, s", max(made.took, default=9.0), MADE_S)
        outcome.at_most("relay connections that failed", float(made.failed), 0.0)
        share = 100 * len(streamed.latencies) / max(streamed.sent, 1)
        outcome.at_least("relayed frames arrived, %", share, 99.9)
        outcome.at_most(
            "relayed frame p99, ms", 1000 * quantile(streamed.latencies, 0.99), FRAME_P99_MS
        )
        outcome.at_least("lists that it keeps", float(asks.lists(begin)), 1.0)
        outcome.at_most("DHT: longest silence, s", asks.silence(begin, end), ROUND_S * LATE)
        if loud > CHECK_S:
            checks = asks.checks(begin, end)
            outcome.at_least("DHT: nodes in its rhythm", float(len(checks)), AT_LEAST_CHECKED)
            outcome.at_most("DHT: check of a node, 95 %, s", quantile(checks, 0.95), CHECK_S * LATE)
        outcome.figures |= {
            "answers alone, 1/s": flooded.capacity,
            "pings sent, 1/s": flooded.rate,
            "answers in the flood, 1/s": flooded.answers / max(flooded.seconds, 1e-9),
            "relay connection p50, s": quantile(made.took, 0.5),
            "relay connections made": float(len(made.took)),
            "relay pairs": float(streamed.pairs),
            "relayed frame p50, ms": 1000 * quantile(streamed.latencies, 0.5),
            "without flood: relayed frame p99, ms": 1000 * quantile(before.latencies, 0.99),
            "node's CPU, cores": used / (end - begin),
        }
        outcome.notes.append(place.dropped(node, drops))
        outcome.rss = node.weigh().rss
        pairs.close()
    return outcome
