"""Searching a friend: eight nodes near its real key, asked for whether it is announced there."""

from core.crypto import LOW_ORDER, KeyPair, PublicKey, SharedKey, precompute
from core.module import ProtocolViolation
from core.onion_client.asker import Asker
from core.onion_client.interfaces import SearchStatus
from core.onion_client.lookup import NEVER, SETTLE_S, Lookup
from core.onion_client.nodes import MAX_PINGS, NODE_TIMEOUT_S, OnionNode
from core.onion_client.paths import Path
from core.packets.announce import NOT_STORED, STORED_BY_OTHER, STORED_BY_SENDER
from core.packets.nodes import NodeInfo

TARGETS = 8  # c-toxcore onion_client.h: MAX_ONION_CLIENTS
NEW_INTERVAL_S = 3.0  # c-toxcore onion_client.c: ANNOUNCE_FRIEND_NEW_INTERVAL
NEW_RUNS = 5  # c-toxcore onion_client.c: ANNOUNCE_FRIEND_RUN_COUNT_BEGINNING
MAX_INTERVAL_S = 3600.0  # c-toxcore onion_client.c: ANNOUNCE_FRIEND_MAX_INTERVAL
MAX_EXPONENT = 12  # c-toxcore onion_client.c: MAX_RUN_COUNT_EXPONENT
PINGS_OF_RUN = TARGETS // 2  # c-toxcore onion_client.c: do_friend
ROUND_SIZE = 8  # c-toxcore onion_client.c: do_friend, MAX_PATH_NODES / 4
LONGEST_ROUND_S = 120.0  # between rounds in a network of few nodes
ONION_LETTER_S = 30.0  # c-toxcore onion_client.h: ONION_DHTPK_SEND_INTERVAL
DHT_LETTER_S = 20.0  # c-toxcore onion_client.h: DHT_DHTPK_SEND_INTERVAL
REST_S = 5.0  # into a session what was kept to search the friend is let go; ours, for memory
RETRY_S = 3.0  # when neither left; the reference tries each second

_NO_DATA_KEY = bytes(32)


class FriendSearch(Lookup):
    """One friend: its list of nodes, the back-off, and when our DHT key is to be told again."""

    __slots__ = (
        "_heard",
        "_last",
        "_letters",
        "_pings",
        "_real",
        "_told",
        "dht_key",
        "letter_at",
        "online",
        "request_at",
        "rest_at",
        "runs",
    )

    def __init__(self, key: PublicKey, real: KeyPair, temporary: KeyPair, asker: Asker) -> None:
        super().__init__(key, temporary, _NO_DATA_KEY, TARGETS, asker.for_friends)
        self._real = real
        self._letters: SharedKey | None = None
        self._last = -NEVER  # when any node was asked
        self._pings = 0
        self.runs = 0
        """Rounds of requests so far: four each. What the back-off goes by."""
        self.online = False
        self.rest_at = NEVER
        """When the list is let go, with a session up."""
        self.dht_key: PublicKey | None = None
        self._heard = -1  # greatest no_replay of its DHT key packets
        self._told = -1  # that of ours
        self.letter_at = -NEVER
        """When our DHT key is to be told through the onion (again), if its nodes are known."""
        self.request_at = -NEVER
        """The same by a DHT request, if its DHT key is known."""

    def letter_key(self) -> SharedKey | None:
        """Returns the combined key of both real keys; None for a key of low order."""
        if self._letters is None:
            self._letters = precompute(self._real.secret, self.key)
        return self._letters

    def interval(self) -> float:
        """Returns how long a node is left in peace: 3 s for the first rounds, then ever longer."""
        if self.runs <= NEW_RUNS:
            return NEW_INTERVAL_S
        return min(MAX_INTERVAL_S, 2.0 ** min(MAX_EXPONENT, self.runs - 2))

    def restart(self) -> None:
        """Begins to search as for a new friend: it was seen, or we were away."""
        self.runs = 0
        self.hurry()

    def check_replay(self, no_replay: int) -> None:
        """Remembers the number of a DHT key packet; raises ProtocolViolation unless it is greater
        than all before."""
        if no_replay == self._heard:
            raise ProtocolViolation("onion_client_copy")  # each letter comes through several nodes
        if no_replay < self._heard:
            raise ProtocolViolation("onion_client_replay")
        self._heard = no_replay

    def next_number(self, unix_s: int) -> int:
        """Returns the no_replay of our next DHT key packet: the time, but always a greater one."""
        self._told = max(self._told + 1, unix_s)
        return self._told

    def went_online(self, now: float) -> None:
        """A session is up: nothing is to be done, and after a while nothing is to be kept."""
        self.online = True
        self.rest_at = now + REST_S

    def rest(self) -> None:
        """Lets go of the list."""
        self.nodes.nodes.clear()
        self.remembered.forget()
        self.rest_at = NEVER

    def went_offline(self) -> None:
        """What nodes said of the friend before has no worth now: each is asked again. Its clock may
        have been set back, so any number is taken (c-toxcore onion_client.c:
        onion_set_friend_online)."""
        self.online = False
        self.rest_at = NEVER
        self.restart()
        self._heard = -1
        for node in self.nodes.nodes:
            if node.is_stored != NOT_STORED:
                node.is_stored = NOT_STORED
                node.key = _NO_DATA_KEY

    def take_answer(
        self, node: NodeInfo, shared: SharedKey, stored: int, key: bytes, path: Path, now: float
    ) -> None:
        """Enters an answer. Refused are one that says we announced the friend, and a data key that
        nothing can be sealed to."""
        if stored == STORED_BY_SENDER:
            raise ProtocolViolation("onion_client_not_ours")
        if stored == STORED_BY_OTHER and key in LOW_ORDER:
            raise ProtocolViolation("onion_client_weak_key")
        if stored == STORED_BY_OTHER and not self.nodes.storing(now):
            # Where the friend was not known, it will be known at more nodes in a moment.
            self.letter_at = max(self.letter_at, now + SETTLE_S)
        entry = self.nodes.take(node, shared, stored, key, path, now)
        if entry is not None and entry.added == now:
            entry.pinged = now  # it has just been asked

    def due(self, now: float) -> float:
        """Returns when `run` has something to do, or a letter is to be sent, or a place in the
        list becomes free."""
        if self.online:
            return self.rest_at
        live = self.nodes.live(now)
        when = self.populate_due(len(live), False)
        interval = self.interval()
        for node in live:
            if node.unanswered >= MAX_PINGS:
                when = min(when, node.pinged + NODE_TIMEOUT_S)
            else:
                when = min(when, self._node_due(node, interval))
        return min(when, self.onion_letter_due(now), self.dht_letter_due())

    def _node_due(self, node: OnionNode, interval: float) -> float:
        return max(node.pinged + interval, self._last + interval // PINGS_OF_RUN)

    def onion_letter_due(self, now: float) -> float:
        """Returns when our DHT key may be told through the onion."""
        return self.letter_at if self.nodes.storing(now) else NEVER

    def dht_letter_due(self) -> float:
        """Returns when our DHT key may be told by a DHT request."""
        return self.request_at if self.dht_key is not None else NEVER

    def run(self, asker: Asker, now: float) -> None:
        """Asks the nodes whose time has come, and random ones where some are missing."""
        live = self.nodes.live(now)
        interval = self.interval()
        for node in live:
            if node.unanswered < MAX_PINGS and self._node_due(node, interval) <= now:
                self._ask(node, asker, now)
        if len(live) >= TARGETS:
            if self.runs > NEW_RUNS:
                self.filled = now
        elif self.populate_due(len(live), False) <= now:
            asker.populate(self, ROUND_SIZE, LONGEST_ROUND_S, now)

    def _ask(self, node: OnionNode, asker: Asker, now: float) -> None:
        if not asker.ask(self, node.node, now, node.shared):
            return
        node.pinged = self._last = now
        node.unanswered += 1
        self._pings += 1
        if self._pings % PINGS_OF_RUN == 0:
            self.runs += 1

    def status(self, now: float) -> SearchStatus:
        """Returns the search as operators see it."""
        live = self.nodes.live(now)
        storing = sum(node.is_stored == STORED_BY_OTHER for node in live)
        return SearchStatus(len(live), storing, self.dht_key, self.interval(), self.online)
