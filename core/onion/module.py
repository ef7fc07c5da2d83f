"""The onion module of one shard: gives each packet and message to the part that knows it."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from core import services
from core.bounds import Bound, of_attribute
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint
from core.messages import (
    AnnounceAsked,
    DataAsked,
    FilterWanted,
    KeysStored,
    Message,
    StoredFilter,
    TableChange,
    TableFull,
    TableWanted,
)
from core.module import Context, ProtocolViolation
from core.onion import announce_store, data_store, group_store
from core.onion.announce import Announces
from core.onion.announce_store import DEFAULT_CAPACITY as ANNOUNCE_CAPACITY
from core.onion.announce_store import AnnounceStore
from core.onion.asked import OnionView
from core.onion.data_announce import DataAnnounces
from core.onion.data_store import DEFAULT_CAPACITY as DATA_CAPACITY
from core.onion.data_store import DataStore
from core.onion.forwarding import Forwarding
from core.onion.group_store import DEFAULT_CAPACITY as GROUP_CAPACITY
from core.onion.group_store import GroupStore
from core.onion.hops import OnionHops
from core.onion.lasting_rows import Rows, divide
from core.slots import SlotTable
from core.wire import WireError

SWEEP_INTERVAL_S = 1.0  # c-toxcore group_announce.c: GCA_DO_GCA_TIMEOUT
LIGHT_SWEEP_S = 150.0  # what is too old is given to nobody anyhow; half of an announce's life
_SWEEP_LIMIT = 1000  # entries forgotten at once: some 3 ms
_NOTHING_RESTORED = {"announces": 0, "group_chats": 0, "data_entries": 0}
_TABLE_PATIENCE_S = 1.0  # between two requests for the node table

Handler = Callable[[bytes, Endpoint, float], None]


class OnionModule:
    """Hops, announce store, group and data announcements and forwarding on one shard."""

    def __init__(
        self,
        context: Context,
        announce_capacity: int = ANNOUNCE_CAPACITY,
        group_capacity: int = GROUP_CAPACITY,
        data_capacity: int = DATA_CAPACITY,
        nodes: NodeSnapshot | None = None,
        announce_rows: Rows | None = None,
    ) -> None:
        """`nodes` is a table that somebody else keeps; None: it comes by messages of dht.0. So many
        `announce_rows` there are for all identities of a process."""
        self._sweep_s = LIGHT_SWEEP_S if context.light else SWEEP_INTERVAL_S
        self.context = context
        self.out = context.out
        own = context.keys.public
        lasting = context.lasting
        rows: tuple[Rows | None, ...] = (announce_rows, None, None)
        if lasting is not None:
            chats = max(group_capacity, group_store.MOST)
            rows = divide(
                lasting,
                (announce_store.FORM, announce_capacity),
                (group_store.FORM, chats * group_store.MAX_PEERS),
                (data_store.FORM, max(data_capacity, data_store.MOST)),
            )
        self.shared = context.key_cache()  # one cache for all kinds
        self.nodes = NodeSnapshot(own) if nodes is None else nodes
        self.hops = OnionHops(context)
        self.announces = Announces(
            context,
            self.shared,
            self.nodes,
            AnnounceStore(own, announce_capacity, rows[0]),
            GroupStore(context.out.drops, group_capacity, rows=rows[1]),
        )
        self.data = DataAnnounces(
            context, self.shared, self.nodes, DataStore(own, data_capacity, rows[2])
        )
        self.forwarding = Forwarding(context, self.nodes, self.data)
        self._began = lasting is None
        self._table: SlotTable | None = None  # as it was announced last
        self._restored = _NOTHING_RESTORED
        self._next_sweep: float | None = None
        self._table_asked = float("-inf")
        self._switch()

    @property
    def handlers(self) -> list[Handler | None]:
        """By the first byte: what takes the datagram. None: no kind of this module."""
        return [self._handler_of(kind) for kind in range(256)]

    def _switch(self) -> None:
        """Follows which services are off, and whether new keys are stored."""
        off = self.context.options.services_off
        self.announces.entries.closed = self.context.options.draining
        self.data.store.closed = self.context.options.draining
        self._refused = services.refusals(off, _SERVED, self.out.drops)
        self.forwarding.takes_data = services.DATA not in off

    def _handler_of(self, kind: int) -> Handler | None:
        refused = self._refused.get(kind)
        if refused is not None:
            return refused
        find = _SERVED.get(kind)
        return None if find is None else find(self)

    def handle_options(self, now: float) -> None:
        """Follows settings that were changed while this shard runs: `context.options`."""
        self._switch()

    def bounds(self) -> list[Bound]:
        """Returns what strangers can fill here."""
        entries, groups, data = self.announces.entries, self.announces.groups, self.data.store
        return [
            of_attribute("onion.announces", entries, "capacity", lambda: len(entries)),
            of_attribute("onion.group_chats", groups, "capacity", lambda: len(groups)),
            of_attribute("onion.group_chats_per_prefix", groups, "budget", groups.fullest),
            of_attribute("onion.data_entries", data, "capacity", lambda: len(data)),
        ]

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes one datagram of the onion kinds; refusals are counted in `out.drops`.

        Raises WireError for an empty datagram and ProtocolViolation for a kind of another module.
        """
        if not packet:
            raise WireError("onion", "no bytes")
        handler = self._handler_of(packet[0])
        if handler is None:
            raise ProtocolViolation("onion_kind")
        handler(packet, source, now)

    def handle_message(self, message: Message, now: float) -> None:
        """Takes requests that other shards opened, what they have, and the node table of dht.0."""
        if isinstance(message, AnnounceAsked):
            self.announces.handle_asked(message, now)
        elif isinstance(message, KeysStored):
            self.announces.others.handle_stored(message, now)
        elif isinstance(message, StoredFilter):
            self.announces.others.handle_filter(message)
        elif isinstance(message, FilterWanted):
            self.announces.own_filter.handle_wanted(message, now)
        elif isinstance(message, DataAsked):
            self.data.handle_asked(message, now)
        elif isinstance(message, TableFull):
            self.nodes.handle_full(message)
        elif isinstance(message, TableChange):
            if not self.nodes.handle_change(message):
                self._want_table(now)
        elif isinstance(message, TableWanted):
            # A restarted dht.0 asks for the last copy of its own table.
            full = self.nodes.full()
            if full is not None:
                self.out.tell_shard(message.role, message.shard, full)
        else:
            raise ProtocolViolation("onion_message")

    def _want_table(self, now: float) -> None:
        if now - self._table_asked >= _TABLE_PATIENCE_S:
            self._table_asked = now
            self.out.tell_shard("dht", 0, TableWanted("onion", self.context.shard))

    def handle_topology(self, now: float) -> None:
        """Takes up what stands in the memory of this shard's place.

        Before that moment the process before this one may still write there; nothing is asked of
        this one until then. Where keys have moved between shards, what is another's now is
        forgotten, and what their filters said counts no more.
        """
        table, self._table = self._table, self.context.slots.get("onion")
        if table is not None and self._table is not None and table != self._table:
            self.announces.others.forget()
            self.share_out(self._table)
            for store in (self.announces.entries, self.announces.groups, self.data.store):
                store.wipe()
        if not self._began:
            self._began = True
            self._restore(now)

    def _restore(self, now: float) -> None:
        """Begins with what the process before this one has kept, and counts what was torn."""
        drops = self.out.drops
        entries, groups, data = self.announces.entries, self.announces.groups, self.data.store
        for reason, bad in (
            ("announce_torn", entries.restore(now)),
            ("group_torn", groups.restore(now)),
            ("data_torn", data.restore(now)),
        ):
            if bad:
                drops[reason] += bad
        self._restored = {
            "announces": len(entries),
            "group_chats": len(groups),
            "data_entries": len(data),
        }

    def share_out(self, table: SlotTable) -> dict[str, Any]:
        """Leaves everything whose key is another shard's by a table, and forgets it."""
        shard = self.context.shard

        def stays(key: bytes) -> bool:
            return table.shard_of(key) == shard

        return {
            "announces": self.announces.entries.take_out(stays),
            "groups": self.announces.groups.take_out(stays),
            "data": self.data.store.take_out(stays),
        }

    def take_in(self, state: dict[str, Any], table: SlotTable, now: float) -> None:
        """Keeps what is this shard's by a table of what another has left with `share_out`."""
        shard = self.context.shard

        def own(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
            return [row for row in rows if table.shard_of(row[0]) == shard]

        for key in self.announces.entries.put_in(own(state["announces"])):
            self.announces.own_filter.add(key)
        self.announces.groups.put_in(own(state["groups"]))
        self.data.store.put_in(own(state["data"]), now)

    def handle_timer(self, now: float) -> None:
        """Tells the other shards what is new here, and forgets what is too old."""
        self.announces.own_filter.handle_timer(now)
        if self._next_sweep is None or now >= self._next_sweep:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Forgets a bounded number of old entries at a time, and asks for a missing table."""
        swept = self.announces.entries.expire(now, _SWEEP_LIMIT)
        swept += self.data.store.expire(now, _SWEEP_LIMIT)
        self.announces.groups.expire(now)
        self.announces.others.expire(now)
        if self.nodes.version is None:
            self._want_table(now)
        self._next_sweep = now + (self._sweep_s if swept < _SWEEP_LIMIT else 0.05)

    @property
    def first(self) -> float:
        """When there is something to tell or to sweep: at once before the first time."""
        if self._next_sweep is None:
            return 0.0
        return min(self._next_sweep, self.announces.own_filter.next_timer())

    def next_timer(self) -> float | None:
        """Returns when there is something to tell or to sweep."""
        return self.first

    def leave(self) -> None:
        """Forgets what it keeps in memory that is not its own."""
        self.announces.entries.clear()

    def ask(self, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Answers an operator's question about this shard. Raises CannotAnswer."""
        return OnionView(self, self.context).ask(what, args, now)

    def snapshot(self) -> dict[str, int]:
        """Returns the sizes of what this shard keeps, for `ops`."""
        return {
            "announce_entries": len(self.announces.entries),
            "group_chats": len(self.announces.groups),
            "data_entries": len(self.data.store),
            **{f"{name}_taken_over": count for name, count in self._restored.items()},
            "shared_keys": len(self.shared),
            "shared_key_misses": self.shared.misses,
            "nodes": len(self.nodes.rows),
            "searches_in_vain": self.announces.in_vain,
            **self.announces.own_filter.snapshot(),
            **self.announces.others.snapshot(),
        }


# Of the class, not of each module: an identity has one, and a process thousands of these.
_SERVED: dict[int, Callable[[OnionModule], Handler]] = {
    0x80: attrgetter("hops.handle_request_0"),
    0x81: attrgetter("hops.handle_request_1"),
    0x82: attrgetter("hops.handle_request_2"),
    0x83: attrgetter("announces.handle_announce_request"),
    0x85: attrgetter("announces.handle_data_request"),
    0x87: attrgetter("announces.handle_group_announce_request"),
    0x8C: attrgetter("hops.handle_response_3"),
    0x8D: attrgetter("hops.handle_response_2"),
    0x8E: attrgetter("hops.handle_response_1"),
    0x90: attrgetter("forwarding.handle_forward_request"),
    0x91: attrgetter("forwarding.handle_forwarding"),
    0x92: attrgetter("forwarding.handle_forward_reply"),
    0x93: attrgetter("data.handle_request"),
    0x95: attrgetter("data.handle_request"),
    0x97: attrgetter("data.handle_request"),
}
