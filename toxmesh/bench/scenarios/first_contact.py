"""First contact: a flood of new keys, each of which costs a scalar multiplication, beside friends.

Answers to keys that the node knows cost microseconds, those to new ones thirty: a node that takes
all as they come spends its time on strangers, and whoever was there before waits behind them.
"""

import time
from functools import partial

from toxmesh.bench.scenarios.asking import ASKERS, Askers
from toxmesh.bench.scenarios.beside import POLITE, Beside
from toxmesh.bench.scenarios.floods import strangers
from toxmesh.bench.scenarios.outcome import Outcome, Place
from toxmesh.bench.scenarios.prompt import prompt

NEW_RATE = 20_000  # new keys a second (the bar of docs/performance.md)
KNOWN_RATE = 5000  # pings a second of these: a load that is easy for either node alone
SHARE, P99_MS = 95.0, 5.0  # bars: percent of the known that are answered, and how soon


def first_contact(place: Place) -> Outcome:
    """Floods a fresh node with new keys while known ones ask."""
    seconds = 2 if place.short else 5
    numbers = range(ASKERS, min(len(place.clients), ASKERS + NEW_RATE * seconds))
    flood_seconds = len(numbers) / NEW_RATE
    with place.start(None, True) as node, prompt():
        outcome = Outcome("first-contact", node.name)
        clients = place.clients
        askers = Askers(node.target, clients, place.sources)
        work = partial(
            strangers, target=node.target, clients=clients, numbers=numbers,
            sources=place.sources, rate=NEW_RATE,
        )  # fmt: skip
        with Beside(work, POLITE) as flood:
            flood.ready()
            askers.greet()
            alone = askers.ask(KNOWN_RATE, flood_seconds / 2)
            drops = place.drops(node)
            before, begin = node.weigh(), time.monotonic()
            flood.go()
            asked = askers.ask(KNOWN_RATE, flood_seconds)
            after, wall = node.weigh(), time.monotonic() - begin
            new = flood.result()
        askers.close()
        outcome.at_least("known answered, %", asked.share, SHARE)
        outcome.at_most("known p99, ms", asked.ms(0.99), P99_MS)
        outcome.at_least("new keys sent, 1/s", new.rate, 0.95 * NEW_RATE)
        outcome.figures |= {
            "known p50, ms": asked.ms(0.5),
            "known worst, ms": asked.ms(1.0),
            "known alone: p99, ms": alone.ms(0.99),
            "known alone: answered, %": alone.share,
            "wrong answers": float(asked.result.wrong),
            "new keys answered, %": 100 * new.answers / max(new.sent, 1),
            "node's CPU, cores": (after.cpu_s - before.cpu_s) / wall,
        }
        outcome.notes.append(place.dropped(node, drops))
        outcome.rss = node.weigh().rss
    return outcome
