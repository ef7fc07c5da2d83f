"""A network of nodes in one process, on made-up time: see `tests.simulation.world.World`."""

from tests.simulation.nat import NatBox, NatKind
from tests.simulation.node import Node, Peer
from tests.simulation.world import World

__all__ = ["NatBox", "NatKind", "Node", "Peer", "World"]
