"""Where the carrier of an identity runs: what is ordered of whoever has the sockets."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from core.crypto import KeyPair
from core.entropy import Entropy
from core.identity.carrier import Carrier, CarrierHost
from core.identity.neighbours import Neighbours
from core.identity.options import EngineOptions
from core.net_crypto.lasting import SessionMemory
from core.packets.nodes import NodeInfo


class PlaceRefused(Exception):
    """An identity cannot be carried now: there is no UDP port, say. The text is for people."""


class Place(Protocol):
    """What runs a carrier: sockets and a timer, as `EngineRunner` has them."""

    @property
    def carrier(self) -> Carrier:
        """The carrier."""
        ...

    @property
    def port(self) -> int:
        """Its UDP port; 0 without."""
        ...

    def plan(self) -> None:
        """Ends a turn: calls `PlaceOrder.settle`, sends what waits, and sets the timer."""
        ...

    def close(self) -> None:
        """Gives the sockets back."""
        ...


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """What a place is to be made of; its repr has no secrets."""

    keys: KeyPair
    dht_keys: KeyPair
    options: EngineOptions
    dht_nodes: tuple[NodeInfo, ...]
    ports: tuple[int, int]
    """The first and last UDP port to try."""
    hosts: tuple[str, ...]
    """Addresses to bind."""
    port: int
    """The port that the identity had, which its friends know: to be tried first. 0: it had none."""
    kept: SessionMemory = field(repr=False)
    drops: Counter[str] = field(repr=False)
    settle: Callable[[float], None] = field(repr=False)
    """To be called at the end of each turn, before datagrams leave."""

    def carrier(
        self,
        host: CarrierHost,
        entropy: Entropy,
        now: float,
        unix_offset: float,
        neighbours: Neighbours | None = None,
    ) -> Carrier:
        """Makes the carrier for this place; for the arguments see `Carrier`."""
        return Carrier(
            self.keys,
            entropy,
            host,
            now,
            unix_offset,
            self.options,
            self.dht_nodes,
            self.dht_keys,
            neighbours,
            self.drops,
            self.kept,
        )


MakePlace = Callable[[PlaceOrder, float], Place]
