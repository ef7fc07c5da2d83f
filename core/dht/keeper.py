"""dht.0's work: the table, its liveness checks, the requests it sends and the answers to them."""

from collections.abc import Callable, Container, Iterable
from enum import Enum, auto
from typing import Any

from core.crypto import SharedKeys
from core.dht.addresses import refusal
from core.dht.answers import KIND_NODES_RESPONSE, KIND_PING_RESPONSE
from core.dht.asking import KIND_DATA_SEARCH_RESPONSE, Asker
from core.dht.candidates import Candidates
from core.dht.changes import CloseChanges
from core.dht.distance import BUCKET_SIZE
from core.dht.host_table import HostTable
from core.dht.joining import Joining
from core.dht.lan import KIND_LAN_DISCOVERY, LAN_INTERVAL_S, LanBeacon
from core.dht.lists import (
    BAD_NODE_S,
    FAR_SIZE,
    PING_INTERVAL_S,
    Client,
    CloseList,
    note_report,
)
from core.dht.lookups import Lookups
from core.dht.pending import ID_SIZE
from core.dht.publish import PUBLISH_S, ROLES, Publisher, preferred, row_of
from core.dht.requests import KIND_DHT_REQUEST, DhtRequests
from core.dht.searches import (
    MAX_OWNERS,
    NODES_REQUEST_INTERVAL_S,
    STEP_S,
    Nearest,
    Rounds,
    SearchEntry,
    SearchListener,
)
from core.dht.snapshot import MAX_SENT_NODES, NodeSnapshot
from core.endpoint import Endpoint, is_lan
from core.messages import Bootstrap, Candidate, Message, TableFull, TableWanted
from core.module import Context
from core.timers import Timers

CLOSE_TO_ASK = 8  # c-toxcore DHT.h: MAX_CLOSE_TO_BOOTSTRAP_NODES
ASK_S = 0.25  # named nodes are asked after this time, all at once
FAKE_SEARCHES = 2  # c-toxcore DHT.h: DHT_FAKE_FRIEND_NUMBER
MAX_SEARCHES = 1024
MAX_CHECKS_A_STEP = 32  # so that a full table that came back does not fill the pending requests
CHECKS_AGAIN_S = 0.5
EARLY_S = 6.0  # so long before its time a light node checks a node if another one's has come
HOSTED_ROUND_S = 60.0  # between rounds of an identity, whose new neighbours come by themselves
MAX_SAVED = 2080  # c-toxcore DHT.c: MAX_SAVED_DHT_NODES

# A restarted dht.0 asks the shards for their copies of the table before it tells them a new one.
COPY_AFTER_S = 2.0  # a node younger than this has no copies
COPY_WAIT_S = 2.0
COPY_REPEAT_S = 0.25


class Timer(Enum):
    """What the keeper does by the clock."""

    START = auto()
    COPY = auto()
    JOIN = auto()
    LISTS = auto()
    ASK = auto()
    CANDIDATES = auto()
    PUBLISH = auto()
    LAN = auto()
    PUNCH = auto()
    LOOKUP = auto()


class TableKeeper:
    """The table of one identity, on shard 0."""

    def __init__(
        self,
        context: Context,
        snapshot: NodeSnapshot,
        keys: SharedKeys,
        listener: SearchListener | None = None,
        host: HostTable | None = None,
    ) -> None:
        """`host`: of the identities of a process, among which this is one."""
        self._context = context
        self._host = host
        self._ours: Container[bytes] = () if host is None else host.members
        self._early_s = EARLY_S if context.light else 0.0
        self._out = context.out
        self._entropy = context.entropy
        self._own_key = bytes(context.keys.public)
        self._keys = keys
        self._snapshot = snapshot
        version = context.entropy.below(1 << 31)
        self._publisher = Publisher(self._own_key, snapshot, context.out, version)
        self._dirty = self._publisher.dirty
        self.changes = CloseChanges(context.events)
        far_size = BUCKET_SIZE if host is None else 0
        self.close = CloseList(self._own_key, self._dirty, self.changes, far_size)
        self._round_s = NODES_REQUEST_INTERVAL_S if host is None else HOSTED_ROUND_S
        self._rounds = Rounds()
        self._to_ask = Nearest(self._own_key, CLOSE_TO_ASK)
        self.asker = Asker(context, keys)
        self.lookups = Lookups(context, self.asker, snapshot)
        self.searches: dict[bytes, SearchEntry] = {}
        self._fake: tuple[bytes, ...] = ()
        if host is None or host.is_wide(self._own_key):
            self.widen()
        self._candidates = Candidates(context, self.close, self.searches, self.asker.ping)
        self.listener = listener
        served = None if listener is None else listener.dht_request
        ping = self.asker.ping
        self.requests = DhtRequests(context, keys, self.close, self.searches, ping, served)
        self._joining = Joining(context.options)
        self._beacon = LanBeacon(context.options)
        self._copies_until: float | None = None
        self.now = 0.0
        """When the last packet came or the last timer ran."""
        self.timers: Timers[Timer] = Timers()
        """When what is to be done."""
        self.timers.set(Timer.START, 0.0)

    def widen(self) -> None:
        """Keeps nodes from everywhere, as a node must that cannot borrow them of its host."""
        if self._fake:
            return
        if self._host is not None:
            self.close.far_size = FAR_SIZE
        for _ in range(FAKE_SEARCHES):
            key = self._entropy.bytes(32)
            self.searches[key] = SearchEntry(key, MAX_SENT_NODES, self._dirty)
        self._fake = tuple(self.searches)[-FAKE_SEARCHES:]

    # What comes in

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes a datagram of one of KINDS: 01, 04, 20, 21 or 94."""
        _HANDLERS[packet[0]](self, packet, source, now)
        self.now = now
        self._plan_publishing(now)

    def handle_message(self, message: Message, now: float) -> None:
        """Takes candidates, wishes for the table, and after a restart the last copies of it."""
        if isinstance(message, Candidate):
            self._handle_candidate(message.key, Endpoint(message.endpoint), now)
        elif isinstance(message, TableWanted):
            if self._publisher.is_open and message.role in ROLES:
                self._out.tell_shard(message.role, message.shard, self._publisher.full())
        elif isinstance(message, TableFull):
            self._adopt(message, now)
        elif isinstance(message, Bootstrap):
            self._joining.add((Endpoint(endpoint), key) for endpoint, key in message.nodes)
            self.timers.bring_forward(Timer.JOIN, now)
        self._plan_publishing(now)

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        for timer in self.timers.expired(now):
            _STEPS[timer](self, now)
        self.now = now
        self._plan_publishing(now)

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called."""
        return self.timers.next()

    def _plan_publishing(self, now: float) -> None:
        if self._dirty:
            self.timers.bring_forward(Timer.PUBLISH, now + PUBLISH_S)

    # Start

    def _start(self, now: float) -> None:
        if now > self._context.started + COPY_AFTER_S:
            self._copies_until = now + COPY_WAIT_S
            self._ask_for_copies(now)
        else:
            self._publisher.open()
        if self._host is not None:
            for row in self._snapshot.closest(self._own_key, CLOSE_TO_ASK, True):
                self._to_ask.offer(row.key, preferred(row), now)
            self.timers.set(Timer.ASK, now)
        self.timers.set(Timer.JOIN, now)
        self.follow_options(now)

    def follow_options(self, now: float) -> None:
        """Begins or ends LAN discovery, as `context.options` says now."""
        self._beacon = LanBeacon(self._context.options)
        if not self._context.options.lan_discovery:
            self.timers.stop(Timer.LAN)
        elif Timer.LAN not in self.timers:
            self.timers.set(Timer.LAN, now)

    def _ask_for_copies(self, now: float) -> None:
        if self._copies_until is None or now >= self._copies_until:
            self._copies_until = None
            self._publisher.open()
            return
        for role in ROLES:
            self._out.tell_all(role, TableWanted("dht", 0))
        self.timers.set(Timer.COPY, now + COPY_REPEAT_S)

    def _adopt(self, message: TableFull, now: float) -> None:
        """Takes the last copy of our own table back: its nodes count as seen half a life ago.

        They are given away again at once, and are checked one after the other from now on.
        """
        if self._copies_until is None or message.own_key != self._own_key or not message.rows:
            return
        seen = now - (BAD_NODE_S - PING_INTERVAL_S)
        for key, endpoint4, endpoint6, _, announces in message.rows:
            for endpoint in filter(None, (endpoint4, endpoint6)):
                client = self.close.touch(key, endpoint, seen)
                client = client or self.close.add(key, endpoint, seen)
                if client is not None:
                    client.announces = announces
                for search in self.searches.values():
                    search.take(key, endpoint, seen)
                self._dirty.add(key)
        self._copies_until = None
        self.timers.stop(Timer.COPY)
        self._publish(now)
        self._publisher.open()
        self.timers.bring_forward(Timer.LISTS, now)

    def _join(self, now: float) -> None:
        good = self.close.has_good(now)
        for endpoint, key in self._joining.step(good, self.close.has_good_wan(now), now):
            self.asker.ask(endpoint, key, self._own_key, now)
        self.timers.set(Timer.JOIN, self._joining.next_step(now, self.close.bad_at()))

    # Answers to our requests

    def _handle_ping_response(self, packet: bytes, source: Endpoint, now: float) -> None:
        rtt = self.asker.open_ping_response(packet, source, now)
        if rtt is not None:
            self._answered(packet[1:33], source, now, rtt)

    def _handle_nodes_response(self, packet: bytes, source: Endpoint, now: float) -> None:
        answer = self.asker.open_nodes_response(packet, source, now)
        if answer is None:
            return
        # An answer without nodes is a sign of life like any other (the reference ignores it, and so
        # two nodes that know nobody else find each other only by the second one's ping).
        sender = packet[1:33]
        looked_up = self.lookups.take(answer, source, sender, now)
        self._answered(sender, source, now, answer.rtt, looked_up)
        from_lan = is_lan(source)
        for key, endpoint in answer.nodes:
            self._handle_named(key, endpoint, sender, from_lan, now)

    def _handle_search_response(self, packet: bytes, source: Endpoint, now: float) -> None:
        if self.asker.open_search_response(packet, source, now):
            key = packet[1:33]
            for client in self._clients_of(key):
                client.announces = True
                self._dirty.add(key)

    def _clients_of(self, key: bytes) -> list[Client]:
        """Returns the node in all lists it stands in, the close list first."""
        close = self.close.by_key.get(key)
        found = [] if close is None else [close]
        for search in self.searches.values():
            client = search.find(key)
            if client is not None:
                found.append(client)
        return found

    def _answered(
        self,
        key: bytes,
        source: Endpoint,
        now: float,
        rtt: float | None = None,
        looked_up: bool = False,
    ) -> None:
        """Takes a node into the lists that want it: it answered us from this address.

        `rtt`: seconds it took; `looked_up`: an operator's lookup wanted it, if nobody else does.
        """
        if self._host is not None:
            key, source = self._host.same(key, source)
        used = self.close.touch(key, source, now)
        if used is None:
            used = self.close.add(key, source, now)
            if used is not None:
                self.asker.probe(source, key, now)
        clients = [] if used is None else [used]
        for search in self.searches.values():
            client = search.take(key, source, now)
            if client is not None:
                clients.append(client)
        if self.listener is not None and key in self.searches:
            self.listener.address_found(key, source, now)
        if not clients:
            self._out.drops["dht_no_room"] += not looked_up
            return
        if any(client.announces for client in clients):
            clients[0].announces = True
        if row_of(clients, now) != self._snapshot.rows.get(key):
            self._dirty.add(key)
        for client in clients:
            association = client.association(source)
            if association is not None and association.endpoint == source:
                association.rtt = rtt
            if association is not None and association.asked + PING_INTERVAL_S <= now:
                self.timers.bring_forward(Timer.LISTS, now + ASK_S)

    def _handle_named(
        self, key: bytes, endpoint: Endpoint, by: bytes, from_lan: bool, now: float
    ) -> None:
        """Takes a node that another one named: somebody to ask, or a report of an address."""
        options = self._context.options
        reason = refusal(endpoint, from_lan, options.has_ipv4, options.has_ipv6)
        if reason is not None:
            self._out.drops[reason] += 1
            return
        if key == self._own_key:
            note_report(self.close.by_key.get(by), endpoint, True, now)
            return
        searched = self.searches.get(key)
        if searched is not None:
            note_report(searched.find(by), endpoint, False, now)
        kept = False
        close = self.close
        if not close.is_fresh(key, endpoint, now) and (
            key in close.by_key or close.has_room(key, endpoint, now)
        ):
            kept = self._to_ask.offer(key, endpoint, now)
        for search in self.searches.values():
            if not search.is_fresh(key, endpoint, now) and search.wants(key, endpoint, now):
                kept = search.to_ask.offer(key, endpoint, now) or kept
        if kept:
            self.timers.bring_forward(Timer.ASK, now + ASK_S)

    # Upkeep

    def _check_lists(self, now: float) -> None:
        """Checks nodes that are due, asks random ones for more, and notices those that went bad."""
        budget = MAX_CHECKS_A_STEP
        alive, budget, due = self._check(self.close, self._rounds, self._own_key, budget, now)
        if not alive and len(self.close):
            self.close.revive(now)
            due = now
        for search in self.searches.values():
            _, budget, other = self._check(search.clients, search.rounds, search.key, budget, now)
            due = min(due, other)
        if due != float("inf"):
            wait = STEP_S if budget else CHECKS_AGAIN_S
            self.timers.bring_forward(Timer.LISTS, max(due, now + wait))

    def _check(
        self, clients: Iterable[Client], rounds: Rounds, target: bytes, budget: int, now: float
    ) -> tuple[int, int, float]:
        """Does one step of a list; returns addresses alive, checks left, and when to come again."""
        alive = 0
        due = float("inf")
        good: list[tuple[Client, Endpoint]] = []
        rows, ours = self._snapshot.rows, self._ours
        for client in clients:
            for association in client.associations():
                if association.is_killed(now):
                    continue
                alive += 1
                if client.key in ours:  # it lives as long as we do
                    association.seen = association.asked = now
                if association.asked + PING_INTERVAL_S - self._early_s <= now and budget:
                    budget -= 1
                    association.asked = now
                    self.asker.ask(association.endpoint, client.key, target, now)
                due = min(due, association.asked + PING_INTERVAL_S)
                if not association.is_bad(now):
                    good.append((client, association.endpoint))
                    due = min(due, association.seen + BAD_NODE_S)
                    continue
                row = rows.get(client.key)
                if row is not None and association.endpoint in (row.endpoint4, row.endpoint6):
                    self._dirty.add(client.key)
        if good:
            if rounds.last + rounds.pause(self._early_s, self._round_s) <= now:
                # Drawn twice, the second time from those behind: nearer nodes are likelier.
                pick = self._entropy.below(len(good))
                if pick < len(good) - 1:
                    pick += self._entropy.below(len(good) - pick - 1)
                self.asker.ask(good[pick][1], good[pick][0].key, target, now)
                rounds.last = now
                rounds.times += 1
            due = min(due, rounds.last + rounds.pause(0.0, self._round_s))
        return alive, budget, due

    def _ask_named(self, now: float) -> None:
        """Asks the nodes that others named since the last step."""
        for key, endpoint in self._to_ask.take(now):
            self.asker.ask(endpoint, key, self._own_key, now)
        for search in self.searches.values():
            for key, endpoint in search.to_ask.take(now):
                self.asker.ask(endpoint, key, search.key, now)

    def _handle_candidate(self, key: bytes, endpoint: Endpoint, now: float) -> None:
        due = self._candidates.offer(key, endpoint, now)
        if due is not None:
            self.timers.bring_forward(Timer.CANDIDATES, due)

    def _publish(self, now: float) -> None:
        rows = {key: row_of(self._clients_of(key), now) for key in self._dirty}
        self.changes.published(rows, self._snapshot.rows, self.close.by_key)
        self._publisher.publish(rows)

    def _punch(self, now: float) -> None:
        if len(self.searches) > len(self._fake):
            self.timers.set(Timer.PUNCH, now + self.requests.punch(now))

    # Lookups that operators watch

    def begin_lookup(self, key: bytes, now: float) -> dict[str, Any]:
        """Begins a lookup of a key and says its number. Raises CannotAnswer."""
        answer = self.lookups.begin(key, now)
        self.timers.bring_forward(Timer.LOOKUP, now)
        return answer

    def _look_up(self, now: float) -> None:
        if self.lookups.step(now):
            self.timers.set(Timer.LOOKUP, now + ASK_S)

    # Local network

    def _send_beacon(self, now: float) -> None:
        for endpoint in self._beacon.targets():
            self._out.send(endpoint, bytes((KIND_LAN_DISCOVERY,)) + self._own_key)
        self.timers.set(Timer.LAN, now + LAN_INTERVAL_S)

    def _handle_lan_discovery(self, packet: bytes, source: Endpoint, now: float) -> None:
        asked = self.asker.requests.expects(packet[1:], source, now)
        reason = self._beacon.refusal(packet, source, self._own_key, asked)
        if reason is None:
            self.asker.ask(source, packet[1:], self._own_key, now)
        else:
            self._out.drops[reason] += 1

    # For others on this host

    def add_search(self, key: bytes, now: float) -> bool:
        """Starts to look for a key, or adds an owner to its search; False if there are too many."""
        search = self.searches.get(key)
        if search is not None:
            if search.owners >= MAX_OWNERS:
                return False
            search.owners += 1
            return True
        if len(self.searches) >= MAX_SEARCHES or key == self._own_key:
            return False
        search = SearchEntry(key, MAX_SENT_NODES, self._dirty)
        search.punching.nat_ping_id = self._entropy.bytes(ID_SIZE)
        self.searches[key] = search
        for row in self._snapshot.closest(key, MAX_SENT_NODES, True):
            search.to_ask.offer(row.key, preferred(row), now)
        self.timers.bring_forward(Timer.ASK, now)
        self.timers.bring_forward(Timer.PUNCH, now + STEP_S)
        return True

    def remove_search(self, key: bytes) -> None:
        """Takes an owner away; the search ends with its last owner. Fake searches never end."""
        search = self.searches.get(key)
        if search is None or key in self._fake:
            return
        search.owners -= 1
        if search.owners <= 0:
            self.searches.pop(key).clear()
            if not self.searches:
                self.searches.clear()  # gives its memory back
            self._plan_publishing(self.now)

    def is_random(self, key: bytes) -> bool:
        """Tells whether a search is one of ours for a random key, not for somebody."""
        return key in self._fake

    def address_of(self, key: bytes, now: float) -> Endpoint | None:
        """Returns where a searched node answers us, if it does."""
        search = self.searches.get(key)
        client = None if search is None else search.find(key)
        return None if client is None else client.best(now)

    def nodes_to_save(self) -> tuple[tuple[bytes, bytes], ...]:
        """Returns the addresses of the close list's and fake searches' nodes, at most 2080."""
        nodes: dict[tuple[Endpoint, bytes], None] = {}
        clients = list(self.close)
        for key in self._fake:
            clients += self.searches[key].clients
        for client in clients:
            for association in client.associations():
                nodes[association.endpoint, client.key] = None
        for node in self._joining.unused():
            nodes[node] = None
        return tuple(nodes)[:MAX_SAVED]


# Of the class, not of each table: an identity has one, and a process thousands of these.
_HANDLERS: dict[int, Callable[[TableKeeper, bytes, Endpoint, float], None]] = {
    KIND_PING_RESPONSE: TableKeeper._handle_ping_response,
    KIND_NODES_RESPONSE: TableKeeper._handle_nodes_response,
    KIND_DATA_SEARCH_RESPONSE: TableKeeper._handle_search_response,
    KIND_DHT_REQUEST: lambda own, packet, source, now: own.requests.handle(packet, source, now),
    KIND_LAN_DISCOVERY: TableKeeper._handle_lan_discovery,
}
KINDS = tuple(_HANDLERS)
"""The kinds of datagrams that TableKeeper.handle_packet takes."""
_STEPS: dict[Timer, Callable[[TableKeeper, float], None]] = {
    Timer.START: TableKeeper._start,
    Timer.COPY: TableKeeper._ask_for_copies,
    Timer.JOIN: TableKeeper._join,
    Timer.LISTS: TableKeeper._check_lists,
    Timer.ASK: TableKeeper._ask_named,
    Timer.CANDIDATES: lambda own, now: own._candidates.ping(now),
    Timer.PUBLISH: TableKeeper._publish,
    Timer.LAN: TableKeeper._send_beacon,
    Timer.PUNCH: TableKeeper._punch,
    Timer.LOOKUP: TableKeeper._look_up,
}
