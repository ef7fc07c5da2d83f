"""What dht.0 tells the shards about its table, and when."""

from core.dht.lists import Client
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint
from core.messages import NodeRow, TableChange, TableFull
from core.module import Outbox

PUBLISH_S = 0.05  # a change reaches the shards within this time
ROLES = ("dht", "onion", "relay", "net_crypto")
"""Roles that keep a copy of the table."""


def row_of(clients: list[Client], now: float) -> NodeRow | None:
    """Returns the row of a node that stands in these lists, or None if it is good in none."""
    for client in clients:
        four, six = client.four, client.six
        fresh4 = four is not None and not four.is_bad(now)
        fresh6 = six is not None and not six.is_bad(now)
        if not fresh4 and not fresh6:
            continue
        return NodeRow(
            client.key,
            four.endpoint if four is not None and fresh4 else b"",
            six.endpoint if six is not None and fresh6 else b"",
            fresh6 and (not fresh4 or six.seen > four.seen),  # type: ignore[union-attr]  # fresh
            any(other.announces for other in clients),
        )
    return None


def preferred(row: NodeRow) -> Endpoint:
    """Returns the address at which a node is to be asked."""
    return Endpoint(row.endpoint6 if row.prefers6 or not row.endpoint4 else row.endpoint4)


class Publisher:
    """The published state of the table: a version and the rows, kept in dht.0's own snapshot."""

    def __init__(self, own_key: bytes, snapshot: NodeSnapshot, out: Outbox, version: int) -> None:
        self._own_key = own_key
        self._snapshot = snapshot
        self._out = out
        self._version = version
        self.dirty: set[bytes] = set()
        """Keys whose row may have changed; at most the nodes of all lists."""
        self.is_open = False
        """Whether the shards are told: not yet while a restarted dht.0 waits for its last copy."""
        snapshot.handle_full(TableFull(version, own_key, ()))

    def open(self) -> None:
        """Gives all shards the whole table and keeps them informed from now on."""
        if self.is_open:
            return
        self.is_open = True
        full = self.full()
        for role in ROLES:
            self._out.tell_all(role, full)

    def full(self) -> TableFull:
        """Returns the whole published table."""
        return TableFull(self._version, self._own_key, tuple(self._snapshot.rows.values()))

    def publish(self, rows: dict[bytes, NodeRow | None]) -> None:
        """Tells what differs between `rows` (None: no longer good) and what was told before."""
        self.dirty.clear()
        known = self._snapshot.rows
        changed = tuple(
            row for key, row in rows.items() if row is not None and known.get(key) != row
        )
        removed = tuple(key for key, row in rows.items() if row is None and key in known)
        if not changed and not removed:
            return
        self._version += 1
        change = TableChange(self._version, self._own_key, changed, removed)
        self._snapshot.handle_change(change)
        if self.is_open:
            for role in ROLES:
                self._out.tell_all(role, change)
