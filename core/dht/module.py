"""The DHT module: answers on every shard, and the table on shard 0."""

from collections.abc import Callable
from typing import Any

from core import services
from core.asking import NOT_FOUND, CannotAnswer
from core.dht.answers import KIND_NODES_REQUEST, KIND_PING_REQUEST, Answers
from core.dht.asked import DhtView
from core.dht.host_table import HostTable
from core.dht.keeper import KINDS, TableKeeper
from core.dht.searches import SearchListener
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint
from core.messages import Candidate, Message, TableChange, TableFull, TableWanted
from core.module import Context

WANTED_S = 1.0  # a shard without a table asks for one this often

Handler = Callable[[bytes, Endpoint, float], None]


class DhtModule:
    """One dht shard. Shard 0 keeps the table besides and tells it to all others."""

    def __init__(
        self,
        context: Context,
        listener: SearchListener | None = None,
        host: HostTable | None = None,
    ) -> None:
        """`listener` and `host`: for the node of an identity."""
        self._context = context
        self.out = context.out
        self._shard = context.shard
        own = bytes(context.keys.public)
        self.snapshot_of_table = NodeSnapshot(own) if host is None else host.join(own)
        keys = context.key_cache()
        self._keys = keys
        self.answers = Answers(context, self.snapshot_of_table, keys)
        self.keeper: TableKeeper | None = None
        if context.shard == 0:
            self.keeper = TableKeeper(context, self.snapshot_of_table, keys, listener, host)
        self._wanted_at = 0.0  # when a table is asked for, on the other shards
        self._switch()

    @property
    def handlers(self) -> list[Handler | None]:
        """By the first byte: what takes the datagram. None: no kind of this shard."""
        return [self._handler_of(kind) for kind in range(256)]

    def _switch(self) -> None:
        """Follows which services are off, and is silent while the node is drained: who does not
        answer is named to nobody."""
        options = self._context.options
        normal: dict[int, Handler] = {}
        if options.draining:
            normal = dict.fromkeys((KIND_PING_REQUEST, KIND_NODES_REQUEST), self._stay_silent)
        kinds = () if self.keeper is None else KINDS  # no service has those of the other shards
        self._instead = normal | services.refusals(options.services_off, kinds, self.out.drops)

    def _usual(self, kind: int) -> Handler | None:
        """Returns what takes a kind while all is on. (No dict of bound methods: an identity has one
        of these modules, and a process thousands.)"""
        if self.keeper is not None and kind in KINDS:
            return self.keeper.handle_packet
        if kind == KIND_PING_REQUEST:
            return self.answers.handle_ping
        return self.answers.handle_nodes if kind == KIND_NODES_REQUEST else None

    def _handler_of(self, kind: int) -> Handler | None:
        return self._instead.get(kind) or self._usual(kind)

    def _stay_silent(self, packet: bytes, source: Endpoint, now: float) -> None:
        self.out.drops["draining:dht"] += 1

    def handle_options(self, now: float) -> None:
        """Follows settings that were changed while this shard runs: `context.options`."""
        self._switch()
        if self.keeper is not None:
            self.keeper.follow_options(now)

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes one datagram of kind 00 or 02, or on shard 0 any of the DHT's kinds."""
        handler = self._handler_of(packet[0]) if packet else None
        if handler is not None:
            handler(packet, source, now)
        elif self.keeper is not None:
            self.out.drops["dht_unknown_kind"] += 1
        else:
            self.out.drops["dht_wrong_shard"] += 1

    def handle_message(self, message: Message, now: float) -> None:
        """Takes tables on the other shards; candidates and wishes for the table on shard 0."""
        if self.keeper is not None:
            self.keeper.handle_message(message, now)
        elif isinstance(message, TableChange):
            if not self.snapshot_of_table.handle_change(message) and now >= self._wanted_at:
                self._ask_for_table(now)
        elif isinstance(message, TableFull):
            self.snapshot_of_table.handle_full(message)
        elif isinstance(message, TableWanted):
            # A restarted dht.0 asks for the last copy of its own table.
            full = self.snapshot_of_table.full()
            if full is not None:
                self.out.tell_shard(message.role, message.shard, full)
        elif isinstance(message, Candidate):
            self.out.drops["dht_wrong_shard"] += 1

    def _ask_for_table(self, now: float) -> None:
        self._wanted_at = now + WANTED_S
        self.snapshot_of_table.version = None
        self.out.tell_shard("dht", 0, TableWanted("dht", self._shard))

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        if self.keeper is not None:
            self.keeper.handle_timer(now)
        elif self.snapshot_of_table.version is None and now >= self._wanted_at:
            self._ask_for_table(now)

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called."""
        if self.keeper is not None:
            return self.keeper.next_timer()
        return self._wanted_at if self.snapshot_of_table.version is None else None

    def ask(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers an operator's question about the table. Raises CannotAnswer."""
        if self.keeper is None:
            raise CannotAnswer(NOT_FOUND, f"dht.{self._shard} has no table; ask dht.0")
        return DhtView(self.keeper, self.snapshot_of_table).ask(what, args, now)

    def nodes_to_save(self) -> tuple[tuple[bytes, bytes], ...]:
        """Returns nodes (endpoint, key) to come back with after a stop; none on other shards."""
        return self.keeper.nodes_to_save() if self.keeper is not None else ()

    def snapshot(self) -> dict[str, Any]:
        """Returns counts for the operator: plain numbers, strings and dicts of them."""
        state: dict[str, Any] = {
            "shard": self._shard,
            "nodes_known": len(self.snapshot_of_table.rows),
            "table_version": self.snapshot_of_table.version,
            "pings_answered": self.answers.pings,
            "nodes_answered": self.answers.nodes,
            "shared_keys": len(self._keys),
        }
        if self.keeper is not None:
            state["table"] = DhtView(self.keeper, self.snapshot_of_table).summary()
        return state
