"""What the identities of one process have together: nodes of the DHT, and those of onion paths."""

from core.dht.host_table import HostTable
from core.entropy import Entropy
from core.onion_client.path_nodes import PathNodes

MOST_PATH_NODES = 128
"""Nodes for the paths of all: some hundred spread what thousands of identities send."""


class Neighbours:
    """Handed to each carrier of a process that reaches others by UDP over the same families."""

    __slots__ = ("path_nodes", "table")

    def __init__(self, entropy: Entropy) -> None:
        self.table = HostTable(entropy)
        self.path_nodes = PathNodes(entropy, MOST_PATH_NODES, self.table.members)
