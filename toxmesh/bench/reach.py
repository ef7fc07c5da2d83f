"""Is a node there, and does it have the key that we were told? Asked before any load."""

import enum

from toxmesh.bench.clients import Clients
from toxmesh.bench.loads import Ping
from toxmesh.bench.traffic import Generator

_INFO = b"\xf0" + bytes(77)  # c-toxcore bootstrap_node_packets.c: INFO_REQUEST_PACKET_LENGTH
PING_ANSWER = 0x01


class Reached(enum.Enum):
    """What one client got from the node."""

    ANSWERS = "it answers pings"
    OTHER_KEY = "a node is there, with another key"
    SILENT = "nothing is heard"


def reach(generator: Generator, clients: Clients) -> Reached:
    """Pings the node; without an answer, asks for its bootstrap info, which takes no key."""
    client = clients[0]
    load = Ping(clients, "ping", PING_ANSWER)
    probe = next(iter(generator.probes.values()))
    packet, check = load.probe(0, client, generator.home)
    answer = generator.exchange(probe.sock, packet, PING_ANSWER)
    if answer is not None and check(answer):
        return Reached.ANSWERS
    if generator.exchange(probe.sock, _INFO, _INFO[0]) is not None:
        return Reached.OTHER_KEY
    return Reached.SILENT
