"""How long a node needs from its command to its first answer."""

import time

from core import endpoint as endpoints
from toxmesh.bench.loads import Ping
from toxmesh.bench.scenarios.outcome import Outcome, Place, quantile
from toxmesh.bench.target import Target
from toxmesh.bench.traffic import Generator

START_S = 1.5  # bar


def start(place: Place) -> Outcome:
    """Starts a node several times: on all cores, and on one core alone."""
    times = 2 if place.short else 7
    outcome = Outcome("start", "")
    for pinned in (False, True):
        listening: list[float] = []
        answering: list[float] = []
        for _ in range(times):
            begin = time.monotonic()
            with place.start(None, pinned) as node:
                listening.append(time.monotonic() - begin)
                if _answers(place, node):
                    answering.append(time.monotonic() - begin)
                outcome.node = node.name
                outcome.rss = node.weigh().rss
        where = "one core" if pinned else "all cores"
        outcome.at_least(f"{where}: answered its first ping", float(len(answering)), float(times))
        outcome.at_most(f"{where}: first answer, worst, s", max(answering, default=99.0), START_S)
        outcome.figures |= {
            f"{where}: listening, median, s": quantile(listening, 0.5),
            f"{where}: listening, worst, s": max(listening),
            f"{where}: first answer, median, s": quantile(answering, 0.5),
        }
    return outcome


def _answers(place: Place, node: Target) -> bool:
    """Asks one ping; tells whether the right answer came."""
    generator = Generator(node.target, 1, probes=1)
    probe = next(iter(generator.probes.values()))
    home = endpoints.from_text(*probe.sock.getsockname()[:2])
    packet, right = Ping(place.clients).probe(0, place.clients[0], home)
    answer = generator.exchange(probe.sock, packet, 0x01)
    generator.close()
    return answer is not None and right(answer)
