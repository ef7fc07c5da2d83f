"""One node twice: its workers as they run, and the declared modules. Each packet goes to both.

After each batch, datagrams (socket, endpoint and bytes, in order), messages told, and counted
reasons have to be the same, down to the random nonces; from time to time also what both keep. New
keys are put off on both sides by the same plain rule: whoever was heard before goes first.
"""

import random
import socket
from collections import Counter, deque
from typing import Any, NamedTuple

from core.crypto import KeyPair, SecretKey, SharedKeys
from core.dht import DhtModule
from core.endpoint import Endpoint, from_text, is_ipv4, prefix_of, to_text
from core.entropy import SeededEntropy
from core.messages import (
    FilterWanted,
    KeysStored,
    Message,
    NodeRow,
    StoredFilter,
    TableChange,
    TableFull,
)
from core.module import Collected, Context, Module, NodeOptions
from core.onion import OnionModule
from core.onion.announce_store import DATA_KEY, ONION_RETURN, SOURCE
from core.onion.group_store import GroupStore
from core.packets import ROUTES
from core.slots import SlotTable
from tests.equality.addresses import EDGES, GOOD, LOCAL, SOURCES
from tests.equality.declared import DeclaredDht, DeclaredOnion, PutOff
from tests.equality.loop import FAMILIES, Loop, Sent, Told
from tests.equality.makers import Case
from workers.outbox import WorkerOutbox

ENTRIES = 16  # announce entries of a shard here: few, so that the store is often full
CHATS = 12
CHATS_PER_PREFIX = 2
KEYS = 8  # that a shard keeps where each packet is a batch
WAITING = 1024  # datagrams of new senders
WAITING_PER_PREFIX = 64

LANES = {
    "query": (0x00, 0x02),
    "onion": (0x80, 0x81, 0x82, 0x8C, 0x8D, 0x8E),
    "announce": (0x83, 0x85, 0x87, 0x90, 0x91, 0x92, 0x93, 0x95, 0x97),
}
"""The kinds that a worker's socket of a class takes."""
OPTIONS = (
    NodeOptions(lan_discovery=False),
    NodeOptions(lan_discovery=False, lan_targets=(from_text("203.0.113.255", 33445),)),
    NodeOptions(lan_discovery=False, has_ipv6=False),
    NodeOptions(lan_discovery=False, has_ipv4=False),
)
SHARDS = (1, 3, 1, 2)

_HOMES = [row.endpoint for row in (*GOOD, *LOCAL, *EDGES) if row.endpoint is not None]
_HOMES4 = [home for home in _HOMES if is_ipv4(home)]
_HOMES6 = [home for home in _HOMES if not is_ipv4(home)]
_LANE_OF_KIND = {kind: lane for lane, kinds in LANES.items() for kind in kinds}


class Mismatch(AssertionError):
    """The hot path did something else than the declared packets and rules say."""


class Batch(NamedTuple):
    """Datagrams that one worker gets together."""

    shard: int
    socket: int
    lane: str | None  # None: in a frame of the broker
    cases: list[Case]


class _Reasons(Counter[str]):
    """Counted reasons, and the packet that each was counted for last."""

    def __init__(self, outbox: "DeclaredOutbox") -> None:
        super().__init__()
        self._outbox = outbox
        self.last: dict[str, Case] = {}

    def __setitem__(self, reason: str, count: int) -> None:
        super().__setitem__(reason, count)
        self.last[reason] = self._outbox.cause


class DeclaredOutbox(Collected):
    """Where the declared modules put their effects; remembers which packet caused each."""

    def __init__(self, slots: dict[str, SlotTable]) -> None:
        super().__init__()
        self.reasons = self.drops = _Reasons(self)
        self._slots = slots
        self.left: list[Sent] = []
        self.heard: list[Told] = []
        self.causes: list[Case] = []
        self.cause = Case(b"", SOURCES[0], "nothing")
        self._socket = -1

    def begin(self, cause: Case, socket_index: int) -> None:
        """Says on whose behalf what follows is sent, and through which socket that one came."""
        self.cause, self._socket = cause, socket_index

    def _first(self, family: int) -> int:
        return FAMILIES.index(socket.AddressFamily(family))

    def send(self, endpoint: Endpoint, packet: bytes) -> None:
        """An answer leaves through the socket of its request, if that has the right family, else
        through the first that has."""
        family = socket.AF_INET if is_ipv4(endpoint) else socket.AF_INET6
        way = self._socket
        if way < 0 or FAMILIES[way] != family:
            way = self._first(family)
        self.left.append((way, endpoint, packet))
        self.causes.append(self.cause)

    def _tell(self, role: str, shard: int, message: Message) -> None:
        way = self._socket
        first = way < 0 or self._first(FAMILIES[way]) == way
        self.heard.append(((role, shard), -1 if first else way, message))

    def tell(self, role: str, key: bytes, message: Message) -> None:
        """Tells the owner of a key."""
        self._tell(role, self._slots[role].shard_of(key), message)

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Tells a shard."""
        self._tell(role, shard, message)


class Waiting:
    """Datagrams of new senders, first come first served."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self.queue: deque[tuple[int, Case]] = deque()

    def put(self, socket_index: int, case: Case) -> None:
        """Keeps a datagram if there is room for it and for its source."""
        prefix = prefix_of(case.source)
        same = sum(prefix_of(other.source) == prefix for _, other in self.queue)
        if same >= WAITING_PER_PREFIX:
            self._drops["new_key:prefix"] += 1
        elif len(self.queue) >= WAITING:
            self._drops["new_key:all"] += 1
        else:
            self.queue.append((socket_index, case))


class World:
    """A node of one role with one to three shards; time is made up."""

    def __init__(self, seed: str, role: str, variant: int) -> None:
        self.seed = seed
        self.role = role
        self.chance = random.Random(f"world {seed}")
        entropy = SeededEntropy(f"keys {seed}")
        self.keys = KeyPair.generate(entropy)
        self.master = SecretKey(entropy.bytes(32))
        self.options = OPTIONS[variant % len(OPTIONS)]
        count = SHARDS[variant % len(SHARDS)]
        self.slots = SlotTable.even(count)
        self._tables = {"onion": self.slots, "dht": SlotTable.even(1)}
        self.now = self.chance.choice((3.0, 7190.0, 14_395.0, 100_000.0, 145_190.0))
        self.sources = [
            source
            for source in SOURCES
            if (self.options.has_ipv4 if is_ipv4(source) else self.options.has_ipv6)
        ]
        self.alone = variant % 5 == 4
        """Whether each packet is a batch, so that no order shows that keys are forgotten."""
        self.hot = [self._hot(shard) for shard in range(count)]
        self.out = [DeclaredOutbox(self._tables) for _ in range(count)]
        self.declared: list[Any] = [self._declared(shard) for shard in range(count)]
        self.waiting = [Waiting(out.drops) for out in self.out]
        self.turns = 0
        self.patience = self.chance.choice((0.9, 0.5, 0.1))
        """In which part of the turns there is time for new keys."""
        self._version = 0
        self.known: list[bytes] = []
        self._make_table()

    def _context(self, shard: int, out: Any) -> Context:
        entropy = SeededEntropy(f"{self.seed} {shard}")
        # dht.0 keeps the table, and takes other kinds as well: shards here begin with 1.
        number = shard + (self.role == "dht")
        tables = self._tables
        return Context(
            self.keys, self.master, entropy, out, number, tables, self.options, started=self.now
        )

    def _hot(self, shard: int) -> Loop:
        def context(out: WorkerOutbox) -> Context:
            made = self._context(shard, out)
            if self.alone:
                made.shared_keys = SharedKeys(self.keys.secret, KEYS)
            return made

        def make(made: Context) -> Module:
            if self.role == "dht":
                return DhtModule(made)
            module = OnionModule(made, announce_capacity=ENTRIES)
            module.announces.groups = GroupStore(made.out.drops, CHATS, CHATS_PER_PREFIX)
            return module

        return Loop(self.role, shard + (self.role == "dht"), self._tables, context, make)

    def _declared(self, shard: int) -> Any:
        out = self.out[shard]
        context = self._context(shard, out)
        if self.role == "dht":
            return DeclaredDht(context, out)


        def spared(owner: int, key: bytes, now: float) -> bool:
            return self._spared(shard, owner, key, now)

        return DeclaredOnion(context, out, ENTRIES, CHATS, CHATS_PER_PREFIX, spared)

    def _spared(self, shard: int, owner: int, key: bytes, now: float) -> bool:
        """Tells whether a worker answers a search for another's key at once, which is right only if
        the key's owner has nothing: all workers have heard what the others stored."""
        others = self.hot[shard].module.announces.others
        counts = others.spared, others.crossed, others.blind
        spared = not others.may_have(owner, key, now)
        others.spared, others.crossed, others.blind = counts
        if spared and self.declared[owner].entries.get(key, now) is not None:
            raise Mismatch(f"seed {self.seed!r}: a stored key counts as surely not stored")
        return spared

    # The table of nodes

    def _row(self) -> NodeRow:
        """Makes a row: its key anywhere, or beginning like ours, so that deep buckets fill up."""
        chance = self.chance
        key = chance.randbytes(32)
        if chance.random() < 0.6:
            shared = chance.choice((1, 2, 3, 5, 9, 17, 130, 200))
            mask = (1 << 256 - shared) - 1
            own = int.from_bytes(self.keys.public, "big")
            mixed = (own & ~mask) | (int.from_bytes(key, "big") & mask)
            key = mixed.to_bytes(32, "big")
        way = chance.random()
        endpoint4 = chance.choice(_HOMES4) if way < 0.7 else b""
        endpoint6 = chance.choice(_HOMES6) if 0.5 < way < 0.97 else b""
        return NodeRow(key, endpoint4, endpoint6, chance.random() < 0.4, chance.random() < 0.5)

    def _make_table(self) -> None:
        size = self.chance.choice((0, 2, 4, 20, 60, 150))
        rows = tuple(self._row() for _ in range(size))
        self.known = [row.key for row in rows]
        self._tell(TableFull(self._version, self.keys.public, rows))

    def _change_table(self) -> None:
        """Has dht.0 tell that some nodes are gone, some are new, and one has moved."""
        chance = self.chance
        changed = [self._row() for _ in range(chance.randrange(4))]
        removed = {chance.choice(self.known) for _ in range(chance.randrange(3)) if self.known}
        changed += [self._row()._replace(key=key) for key in self.known[:1] if key not in removed]
        self.known = [key for key in self.known if key not in removed]
        self.known += [row.key for row in changed if row.key not in self.known]
        self._version += 1
        gone = tuple(sorted(removed))
        self._tell(TableChange(self._version, self.keys.public, tuple(changed), gone))

    def _tell(self, message: Message) -> None:
        """Tells every shard on both sides about the table."""
        for hot, declared in zip(self.hot, self.declared, strict=True):
            hot.hear(message, -1, self.now)
            declared.handle_table(message)

    # Time

    def pass_time(self, packets: int) -> None:
        """Lets the time of some packets pass, now and then more; timers run, the table changes."""
        chance = self.chance
        self.now += packets * chance.choice((0.0, 0.001, 0.02))
        dice = chance.random() / packets
        if dice > 0.01:
            return
        self.now += chance.choice((0.5, 1.9, 2.0, 5.0, 9.9, 29.0, 31.0, 150.0, 299.0, 301.0))
        if dice < 0.001:
            self.now += chance.choice((1199.0, 1201.0, 7200.0))
        if dice < 0.004:
            self._change_table()
        elif dice < 0.008 and self.role == "onion":
            for hot, declared in zip(self.hot, self.declared, strict=True):
                if hot.run_timer(self.now):
                    declared.handle_timer(self.now)
            self._spread()

    def _spread(self) -> None:
        """Has the workers tell each other what they have stored, as at the end of their turns. The
        declared modules know nothing of that."""
        if self.role != "onion":
            return
        for hot in self.hot:
            hot.tell_stored(self.now)
        waiting = True
        while waiting:
            waiting = False
            for hot in self.hot:
                told, hot.out.told[:] = hot.out.told[:], []
                for row in told:
                    (_, shard), origin, message = row
                    if isinstance(message, KeysStored | StoredFilter | FilterWanted):
                        self.hot[shard].hear(message, origin, self.now)
                        waiting = True
                    else:
                        hot.out.told.append(row)

    # Packets

    def _shard_of(self, packet: bytes) -> int:
        """Routes by the packet table; what is too short or foreign goes to the first shard."""
        route = ROUTES.get(packet[0])
        place = route.slot_byte if route is not None and route.role == self.role else None
        return 0 if place is None or place >= len(packet) else self.slots.shards[packet[place]]

    def split(self, cases: list[Case]) -> list[Batch]:
        """Sorts datagrams by the worker and the socket that they reach, at random where a node has
        several; some come by way of the broker, and all that are for no worker's socket."""
        single: list[Batch] = []
        batches: dict[tuple[int, int, str | None], list[Case]] = {}
        framed = self.chance.random() < 0.2
        for case in cases:
            family = socket.AF_INET if is_ipv4(case.source) else socket.AF_INET6
            fitting = [index for index, other in enumerate(FAMILIES) if other == family]
            lane = None if framed else _LANE_OF_KIND.get(case.packet[0])
            if lane is not None and (lane == "query") != (self.role == "dht"):
                lane = None
            elif lane is not None and self.chance.random() < 0.003:
                lane = "other"  # a broadcast comes to all sockets
            place = (self._shard_of(case.packet), self.chance.choice(fitting), lane)
            if self.alone:
                single.append(Batch(*place, [case]))
            else:
                batches.setdefault(place, []).append(case)
        return single + [Batch(*place, cases) for place, cases in batches.items()]

    def give(self, cases: list[Case]) -> list[tuple[Endpoint, bytes]]:
        """Gives packets to both sides; returns what was sent. Raises Mismatch."""
        sent: list[tuple[Endpoint, bytes]] = []
        for case in cases:
            if not case.packet:  # no socket and no frame hands these on
                self.hot[0].handle(b"", case.source, -1, self.now)
                self.out[0].begin(case, -1)
                self.declared[0].handle_packet(b"", case.source, self.now)
        batches = self.split([case for case in cases if case.packet])
        serving = self.alone or self.chance.random() < self.patience
        for batch in batches:
            self._give_batch(batch)
            if serving:
                self._serve(batch.shard)
            self._compare(batch, sent)
        self.turns += 1
        if self.turns % 4 == 0 and self.role == "onion":
            self._compare_stores(cases)
        return sent

    def _give_batch(self, batch: Batch) -> None:
        shard = batch.shard
        hot, out, declared = self.hot[shard], self.out[shard], self.declared[shard]
        pairs = [(case.packet, case.source) for case in batch.cases]
        if batch.lane is None:
            hot.take(pairs, batch.socket, self.now)
        else:
            hot.read(pairs, batch.socket, batch.lane, self.now)
        declared.deferring = not self.alone
        for case in batch.cases:
            out.begin(case, batch.socket)
            if batch.lane == "other":
                out.drops["misplaced"] += 1
                continue
            try:
                declared.handle_packet(case.packet, case.source, self.now)
            except PutOff:
                self.waiting[shard].put(batch.socket, case)
        declared.deferring = False

    def _serve(self, shard: int) -> None:
        """Has those served whose keys were new."""
        self.hot[shard].serve_misses(self.now)
        queue = self.waiting[shard].queue
        while queue:
            socket_index, case = queue.popleft()
            self.out[shard].begin(case, socket_index)
            self.declared[shard].handle_packet(case.packet, case.source, self.now)

    def _compare(self, batch: Batch, sent: list[tuple[Endpoint, bytes]]) -> None:
        """Compares a worker's effects; what it told is heard by its shard, on both sides."""
        told = self._compare_shard(batch, batch.shard, sent)
        self._spread()
        while told:
            (role, shard), origin, message = told.pop(0)
            if role != "onion":
                continue
            self.hot[shard].hear(message, origin, self.now)
            self.out[shard].begin(self.out[batch.shard].cause, origin)
            self.declared[shard].handle_message(message, self.now)
            told += self._compare_shard(batch, shard, sent)
            self._spread()

    def _compare_shard(
        self, batch: Batch, shard: int, sent: list[tuple[Endpoint, bytes]]
    ) -> list[Told]:
        hot, out = self.hot[shard], self.out[shard]
        if hot.broken is not None:
            raise self._mismatch(batch.cases, f"it broke:\n{hot.broken}")
        if hot.sent != out.left or hot.drops != out.drops:
            said = []
            if hot.sent != out.left:
                said.append(_first_difference(hot.sent, out.left, out.causes))
            if hot.drops != out.drops:
                said.append(_uncounted(hot.drops, out.reasons))
            raise self._mismatch(batch.cases, "\n".join(said))
        if hot.out.told != out.heard:
            raise self._mismatch(batch.cases, f"told     {hot.out.told}\ndeclared {out.heard}")
        sent += [(Endpoint(target), packet) for _, target, packet in hot.sent]
        told = out.heard[:]
        for row in (hot.sent, hot.out.told, out.left, out.heard, out.causes):
            row.clear()
        return told

    def _compare_stores(self, cases: list[Case]) -> None:
        """Compares the announce entries of all shards, as whoever searches would find them."""
        for hot, declared in zip(self.hot, self.declared, strict=True):
            announces, plain = hot.module.announces, declared.entries
            if len(announces.entries) != len(plain.by_key):
                count = len(announces.entries)
                raise self._mismatch(cases, f"{count} entries, declared {len(plain.by_key)}")
            for key in plain.by_key:
                found, wanted = announces.entries.get(key, self.now), plain.get(key, self.now)
                shown = found and (found[SOURCE], found[ONION_RETURN], found[DATA_KEY])
                if shown != (wanted and wanted[:3]):
                    raise self._mismatch(cases, f"entry {shown}, declared {wanted}")
            if len(announces.groups) != len(declared.groups.chats):
                count = len(announces.groups)
                raise self._mismatch(cases, f"{count} chats, declared {len(declared.groups.chats)}")

    def _mismatch(self, cases: list[Case], what: str) -> Mismatch:
        said = [f"seed {self.seed!r}, turn {self.turns} of this world, time {self.now}", what]
        said.append("the batch:")
        said += map(_shown, cases)
        return Mismatch("\n".join(said))


def _shown(case: Case) -> str:
    return f"{case.name} · from {to_text(case.source)} · {case.packet.hex()}"


def _uncounted(hot: Counter[str], declared: _Reasons) -> str:
    """Says which reasons were counted more or less often, and for which packet they should be."""
    more, less = hot - declared, declared - hot
    said = [f"counted {dict(more)}, declared {dict(less)}"]
    said += [f"{reason} for {_shown(declared.last[reason])}" for reason in less]
    return "\n".join(said)


def _first_difference(hot: list[Sent], declared: list[Sent], causes: list[Case]) -> str:
    """Says where two lists of datagrams differ first, and over which packet."""
    at = 0
    while at < min(len(hot), len(declared)) and hot[at] == declared[at]:
        at += 1
    said = []
    if at < len(causes):
        said.append(f"before or at {_shown(causes[at])}")
    for name, rows in (("sent", hot), ("declared", declared)):
        if at < len(rows):
            way, target, packet = rows[at]
            shown = to_text(Endpoint(target))
            said.append(f"{name:8} by socket {way} to {shown}: {packet.hex()}")
        else:
            said.append(f"{name:8} nothing more")
    return "\n".join(said)
