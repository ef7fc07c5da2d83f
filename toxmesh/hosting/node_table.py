"""The copy of dht.0's table in a process of identities: the nodes that they begin with."""

from core.dht.snapshot import NodeSnapshot
from core.messages import Message, NodeRow, TableChange, TableFull, TableWanted
from core.module import Context

_PATIENCE_S = 1.0  # until the table is asked for again


class NodeTable:
    """Keeps the copy, and asks for the whole table when something was missed."""

    def __init__(self, context: Context, role: str) -> None:
        self._out, self._role, self._shard = context.out, role, context.shard
        self.nodes = NodeSnapshot(context.keys.public)
        self._asked = float("-inf")

    def closest(self, key: bytes, most: int) -> list[NodeRow]:
        """Returns the nodes of the table that are nearest to a key."""
        return self.nodes.closest(key, most, to_lan=True)

    def handle_message(self, message: Message, now: float) -> bool:
        """Takes what dht.0 tells of its table; returns whether the message was of that kind."""
        if isinstance(message, TableFull):
            self.nodes.handle_full(message)
        elif isinstance(message, TableChange):
            if not self.nodes.handle_change(message):
                self.ask(now)
        elif isinstance(message, TableWanted):
            # A restarted dht.0 asks for the last copy of its own table.
            full = self.nodes.full()
            if full is not None:
                self._out.tell_shard(message.role, message.shard, full)
        else:
            return False
        return True

    def ask(self, now: float) -> None:
        """Asks dht.0 for the whole table, unless it was asked a moment ago."""
        if now - self._asked >= _PATIENCE_S:
            self._asked = now
            self._out.tell_shard("dht", 0, TableWanted(self._role, self._shard))
