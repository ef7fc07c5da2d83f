"""What the identities of one process have together: nodes of the DHT, those of onion paths, and the
memory for what they keep for others."""

from core.dht.host_table import HostTable
from core.entropy import Entropy
from core.onion.announce_store import FORM
from core.onion.lasting_rows import Rows
from core.onion_client.path_nodes import PathNodes

MOST_PATH_NODES = 128
"""Nodes for the paths of all: some hundred spread what thousands of identities send."""

MOST_ANNOUNCES = 1 << 18
"""Announcements that all of them keep for others. On average there are a dozen an identity, and
three times as many after thousands have joined together. 82 MB, of which only what is used takes
memory."""


class Neighbours:
    """Handed to each carrier of a process that reaches others by UDP over the same families."""

    __slots__ = ("announce_rows", "path_nodes", "table")

    def __init__(self, entropy: Entropy) -> None:
        self.table = HostTable(entropy)
        self.path_nodes = PathNodes(
            entropy, MOST_PATH_NODES, self.table.members, self.table.node
        )
        self.announce_rows = Rows(FORM, MOST_ANNOUNCES)
