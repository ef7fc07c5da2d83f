"""Which nodes dht.0 knows at this moment, from all its lists, as operators see them."""

from collections.abc import Iterator
from typing import Any

from core.dht.keeper import TableKeeper
from core.dht.lists import BAD_NODE_S, KILL_NODE_S, NEVER, Association, Client
from core.dht.lookups import shared_bits
from core.endpoint import Endpoint, is_ipv4, to_text

STATES = ("good", "bad", "given_up")
"""Heard of within 122 s; silent, but still asked; silent for 182 s and not asked any more."""

LISTS = ("close", "random", "search")
"""The close list; searches for random keys, which keep the table lively; searches for friends."""


class Sighting:
    """One address of one node, in whatever lists it stands."""

    __slots__ = ("announces", "asked", "endpoint", "key", "lists", "number", "rtt", "seen")

    def __init__(self, client: Client, endpoint: Endpoint) -> None:
        self.key = client.key
        self.number = client.number
        self.endpoint = endpoint
        self.announces = False
        self.lists: list[str] = []
        self.seen = NEVER
        self.asked = NEVER
        self.rtt: float | None = None  # seconds

    def add(self, name: str, client: Client, association: Association) -> None:
        """Takes what a list knows of this address: the latest counts."""
        if name not in self.lists:
            self.lists.append(name)
        self.announces = self.announces or client.announces
        self.asked = max(self.asked, association.asked)
        if association.seen > self.seen:
            self.seen = association.seen
            self.rtt = association.rtt if association.rtt is not None else self.rtt
        elif self.rtt is None:
            self.rtt = association.rtt

    def state(self, now: float) -> str:
        """Returns one of STATES."""
        silent = now - self.seen
        return STATES[(silent >= BAD_NODE_S) + (silent >= KILL_NODE_S)]

    @property
    def family(self) -> str:
        """`ipv4` or `ipv6`."""
        return "ipv4" if is_ipv4(self.endpoint) else "ipv6"

    def row(self, target: int, now: float) -> dict[str, Any]:
        """Returns what an operator reads; `target` is the key whose shared bits are counted."""
        return {
            "key": self.key.hex().upper(),
            "address": to_text(self.endpoint),
            "family": self.family,
            "lists": self.lists,
            "state": self.state(now),
            "shared_bits": shared_bits(self.number, target),
            "heard_s": round(now - self.seen, 1),
            "rtt_ms": None if self.rtt is None else round(self.rtt * 1000, 1),
            "announces": self.announces,
        }


def _lists(keeper: TableKeeper) -> Iterator[tuple[str, Client]]:
    for client in keeper.close:
        yield "close", client
    for key, search in keeper.searches.items():
        name = "random" if keeper.is_random(key) else "search"
        for client in search.clients:
            yield name, client


def sightings(keeper: TableKeeper) -> list[Sighting]:
    """Returns all known addresses of nodes, each once: at most 2 x 1024, and 16 a search."""
    found: dict[tuple[bytes, Endpoint], Sighting] = {}
    for name, client in _lists(keeper):
        for association in client.associations():
            place = client.key, association.endpoint
            row = found.get(place)
            if row is None:
                row = found[place] = Sighting(client, association.endpoint)
            row.add(name, client, association)
    return list(found.values())
