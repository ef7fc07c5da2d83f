"""Idle relay connections: what a client costs that only waits to be found."""

import time

from toxmesh.bench.scenarios.crowd import Crowd
from toxmesh.bench.scenarios.outcome import Outcome, Place, quantile

CONNECTIONS = 19_500  # with a limit of 20,000 descriptors a process
PING_S = 30.0  # how often a relay pings each (c-toxcore TCP_server.h: TCP_PING_FREQUENCY)
HOLD_S = 32.0  # so that each is pinged once
BYTES_EACH = 16_000  # bar: RSS of all processes for one connection
CPU_PERCENT = 3.0  # bar: of one core, all connections and pings together


def idle(place: Place) -> Outcome:
    """Opens connections, proves each with a ping, and leaves them alone but for the pongs."""
    count, hold = (1000, 6.0) if place.short else (CONNECTIONS, HOLD_S)
    # as they come in life: whoever comes in one burst is pinged in one for ever
    spread = hold if place.short else PING_S
    count = min(count, len(place.clients))
    with place.start(None, True) as node:
        outcome = Outcome("idle", node.name)
        if node.relay is None:
            outcome.notes.append("it has no relay")
            return outcome
        crowd = Crowd(place.clients, node.relay, place.sources)
        crowd.keep(1.0)
        empty = node.weigh()
        drops = place.drops(node)
        took = crowd.open_all(range(count), 2 * PING_S, count / spread)
        made = node.weigh()
        crowd.keep(1.0)  # heartbeats and what was put off
        pings = crowd.pings
        before = node.weigh()
        begin = time.monotonic()
        crowd.keep(hold)
        after = node.weigh()
        held = time.monotonic() - begin
        open_ = len(took) - crowd.closed
        grown = max(sum(made.rss.values()), sum(after.rss.values())) - sum(empty.rss.values())
        outcome.at_least("connections open at the end", float(open_), float(count))
        outcome.at_most("RSS each, bytes", grown / max(open_, 1), BYTES_EACH)
        outcome.at_most("CPU, % of a core", 100 * (after.cpu_s - before.cpu_s) / held, CPU_PERCENT)
        if hold > PING_S:
            outcome.at_least("pings answered", float(crowd.pings - pings), 0.95 * count)
        outcome.figures |= {
            "CPU of a handshake, us": 1e6 * (made.cpu_s - empty.cpu_s) / max(len(took), 1),
            "handshake p50, ms": 1000 * quantile(took, 0.5),
            "handshake p99, ms": 1000 * quantile(took, 0.99),
        }
        for name in after.rss:
            cpu = after.cpu[name] - before.cpu.get(name, 0.0)
            grown_by = (after.rss[name] - empty.rss.get(name, 0)) / max(open_, 1)
            outcome.notes.append(
                f"{name}: {grown_by:,.0f} bytes each, {100 * cpu / held:.2f} % of a core"
            )
        outcome.notes.append(place.dropped(node, drops))
        outcome.rss = after.rss
        crowd.close()
    return outcome
