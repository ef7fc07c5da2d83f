"""The distributed hash table: who is where, which nodes are nearest to a key."""

from core.dht.module import DhtModule
from core.dht.snapshot import KeyIndex, NodeSnapshot

__all__ = ["DhtModule", "KeyIndex", "NodeSnapshot"]
