"""The onion client of one identity: friends find each other's DHT keys, and nobody else does.

It announces the identity's real key at the nodes nearest to it, searches the real keys of friends,
and writes letters to them by way of the nodes that keep their announcements: our DHT key and nodes
near us, or a friend request. All of it goes through paths of three hops.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from core.crypto import KeyPair, Nonce, PublicKey, open_sealed
from core.endpoint import Endpoint
from core.entropy import Entropy
from core.module import ProtocolViolation
from core.onion_client.announcing import OwnAnnounce
from core.onion_client.asker import Asker
from core.onion_client.connection import Connection
from core.onion_client.interfaces import OnionListener, OnionStatus, OnionWays, SearchStatus
from core.onion_client.letters import MAX_LETTER_SIZE, Letters
from core.onion_client.lookup import NEVER, Lookup
from core.onion_client.path_nodes import PathNodes
from core.onion_client.pending import CAPACITY, PER_SEARCH
from core.onion_client.searching import (
    DHT_LETTER_S,
    ONION_LETTER_S,
    RETRY_S,
    FriendSearch,
)
from core.packets.announce import AnnounceResponse, AnnounceResponseBody
from core.packets.dht import DhtKeyPacket, DhtKeyRequestBody
from core.packets.nodes import MAX_NODES, NodeInfo
from core.timers import Timers
from core.wire import WireError

ANNOUNCE_RESPONSE = 0x84
DATA_RESPONSE = 0x86
SPREAD_S = 0.02  # between the searches of two friends when all begin
_CONNECTION = b"connection"  # a timer's name; the others are real keys


class OnionClient:
    """See the module. Names every friend by its real key; `now` is monotonic, in seconds.

    `dht` is the identity's DHT key pair, `unix_offset` what makes unix time of `now`: friends take
    our DHT key only from a packet with a greater number than the last, also after a restart.
    Whatever is refused is counted in `drops`; nothing is raised for what others send.
    """

    __slots__ = (
        "_announce",
        "_asker",
        "_connection",
        "_dht_key",
        "_drops",
        "_entropy",
        "_letters",
        "_listener",
        "_real",
        "_searches",
        "_unix_offset",
        "_ways",
        "timers",
    )

    def __init__(
        self,
        real: KeyPair,
        dht: KeyPair,
        entropy: Entropy,
        ways: OnionWays,
        listener: OnionListener,
        drops: Counter[str],
        now: float,
        unix_offset: float,
        path_nodes: PathNodes | None = None,
    ) -> None:
        """`path_nodes`: those of the process, if it has several identities."""
        data = KeyPair.generate(entropy)
        self._real = real
        self._dht_key = dht.public
        self._entropy = entropy
        self._ways = ways
        self._listener = listener
        self._drops = drops
        self._unix_offset = unix_offset
        self._asker = Asker(dht, entropy, ways, drops, path_nodes)
        self._letters = Letters(real, data, entropy)
        self._announce = OwnAnnounce(real, data.public, self._asker)
        self._searches: dict[PublicKey, FriendSearch] = {}
        self._connection = Connection()
        self.timers: Timers[bytes] = Timers()
        """When `handle_timer` wants to be called, for whom."""
        self.timers.set(real.public, now)

    # Commands

    def add_bootstrap(self, endpoint: Endpoint, key: PublicKey, saved: bool = False) -> None:
        """Takes a node for paths as long as the DHT has found none; `saved`: one that the paths of
        an earlier run were made of, and which may be gone."""
        nodes = self._asker.path_nodes
        keep = nodes.add_saved if saved else nodes.add_bootstrap
        keep(NodeInfo(key, endpoint))

    def network_changed(self, now: float) -> None:
        """The DHT or a relay has connected, or the machine's network came back: tries at once what
        waits for a path. Without it the next try is at most 15 s away."""
        self._asker.unblock()
        if not self._connection.connected:
            self._announce.hurry()
        self._plan_all(now)

    def add_friend(self, real_key: PublicKey, now: float) -> None:
        """Begins to search a friend; nothing happens if it is searched already."""
        if real_key == self._real.public:
            raise ValueError("this is our own key")
        if real_key in self._searches:
            return
        temporary = KeyPair.generate(self._entropy)
        self._searches[real_key] = FriendSearch(real_key, self._real, temporary, self._asker)
        self._asker.pending.capacity = CAPACITY + PER_SEARCH * len(self._searches)
        self._plan(self._searches[real_key], now)

    def remove_friend(self, real_key: PublicKey, now: float) -> None:
        """Forgets a friend; nothing happens if there is no such one."""
        if self._searches.pop(real_key, None) is not None:
            self._asker.pending.capacity = CAPACITY + PER_SEARCH * len(self._searches)
            self.timers.stop(real_key)

    def set_online(self, real_key: PublicKey, online: bool, now: float) -> None:
        """A session with the friend is up: it is not searched; or down: it is, as a new one."""
        search = self._searches.get(real_key)
        if search is None or search.online == online:
            return
        if online:
            search.went_online(now)
        else:
            search.went_offline()
        self._plan(search, now)

    def set_dht_key(self, real_key: PublicKey, dht_key: PublicKey | None, now: float) -> None:
        """Says the friend's DHT key as far as it is known: ours is told by DHT requests then."""
        search = self._searches.get(real_key)
        if search is None or search.dht_key == dht_key:
            return
        search.dht_key = dht_key
        search.request_at = now
        self._plan(search, now)

    def send(self, real_key: PublicKey, data: bytes, now: float) -> int:
        """Writes to a friend, id byte first, at most 1021 bytes; returns through how many nodes
        the letter left. 0: the friend was not found yet. Whether it arrives is not known."""
        if not 1 <= len(data) <= MAX_LETTER_SIZE:
            raise ValueError(f"a letter has 1 to {MAX_LETTER_SIZE} bytes, not {len(data)}")
        search = self._searches.get(real_key)
        return 0 if search is None else self._letters.send(search, data, self._asker, now)

    # Packets

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes 84 and 86 as they come over UDP."""
        self._handle(packet, source in self._asker.for_self.firsts, now)

    def handle_relay(self, relay_key: PublicKey, data: bytes, now: float) -> None:
        """Takes the same as they come through a relay (the data of its packet 09)."""
        self._handle(data, True, now)

    def _handle(self, packet: bytes, known_way: bool, now: float) -> None:
        kind = packet[0] if packet else -1
        with self._counting():
            if kind == ANNOUNCE_RESPONSE:
                self._handle_answer(packet, now)
            elif kind == DATA_RESPONSE:
                self._handle_letter(packet, known_way, now)
            else:
                raise ProtocolViolation("onion_client_kind")

    def _handle_answer(self, packet: bytes, now: float) -> None:
        answer = AnnounceResponse.decode(packet)
        asked = self._asker.pending.find(answer.sendback, now)
        if asked is None:
            raise ProtocolViolation("onion_client_unasked")
        body = AnnounceResponseBody.open(asked.shared, answer.nonce, answer.sealed)
        self._asker.pending.take(answer.sendback)
        lookup = asked.lookup
        lookup.pool.answered(asked.path, now)
        if lookup is not self._announce and self._searches.get(lookup.key) is not lookup:
            raise ProtocolViolation("onion_client_unasked")  # no friend any more
        node = self._asker.path_nodes.same(asked.node)
        lookup.take_answer(node, asked.shared, body.is_stored, body.key, asked.path, now)
        if lookup.nodes.find(node.key) is not None:
            self._asker.path_nodes.add(node)
        self._connection.heard = now
        self._asker.offer(lookup, body.nodes, asked.node.endpoint, now)
        self._plan(lookup, now)
        self._judge(now)

    def _handle_letter(self, packet: bytes, known_way: bool, now: float) -> None:
        sender, data = self._letters.open(packet, known_way, self._searches, now)
        if data[0] == DhtKeyPacket.type:
            self._handle_dht_key(sender, data, None, now)
        else:
            self._listener.onion_data(sender, data, now)

    def dht_key_heard(self, sender_dht_key: PublicKey, plain: bytes, now: float) -> None:
        """Takes the inside of a DHT request (9c first) that the DHT opened."""
        with self._counting():
            request = DhtKeyRequestBody.decode(plain)
            search = self._searches.get(request.real_key)
            shared = None if search is None else search.letter_key()
            if shared is None:
                raise ProtocolViolation("onion_client_stranger")
            data = open_sealed(shared, request.nonce, request.sealed)
            if data is None:
                raise ProtocolViolation("onion_client_forged")
            self._handle_dht_key(request.real_key, data, sender_dht_key, now)

    def _handle_dht_key(
        self, sender: PublicKey, data: bytes, sender_dht_key: PublicKey | None, now: float
    ) -> None:
        """A DHT key packet; by a DHT request it has to be of the key it names."""
        search = self._searches.get(sender)
        if search is None:
            raise ProtocolViolation("onion_client_stranger")
        packet = DhtKeyPacket.decode(data)
        if packet.dht_key == self._dht_key or sender_dht_key not in (None, packet.dht_key):
            # Ours: our own letter sent back to us, for boxes between two open both ways.
            raise ProtocolViolation("onion_client_other_key")
        search.check_replay(packet.no_replay)
        if search.dht_key != packet.dht_key:
            search.dht_key = packet.dht_key
            search.request_at = now
            search.restart()
            self._plan(search, now)
        self._listener.friend_found(sender, packet.dht_key, packet.nodes, now)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Counts what was refused in between, as workers do it for their modules."""
        try:
            yield
        except WireError as error:
            self._drops[f"wire:{error.packet}"] += 1
        except ProtocolViolation as refused:
            self._drops[refused.reason] += 1

    # Time

    def next_timer(self) -> float | None:
        """Returns when `handle_timer` has something to do."""
        return self.timers.next()

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        self.timers.take_due(_CONNECTION, now)
        self._judge(now)  # first: with it searches begin
        for name in self.timers.expired(now):
            if name == self._real.public:
                self._announce.run(self._connection.connected, self._asker, now)
                self._plan(self._announce, now)
                continue
            search = self._searches.get(PublicKey(name))
            if search is None:
                continue
            if not search.online:
                self._tell_dht_key(search, now)
                search.run(self._asker, now)
            else:
                search.rest()
                if all(one.online for one in self._searches.values()):
                    self._asker.for_friends.clear()
            self._plan(search, now)

    def _tell_dht_key(self, search: FriendSearch, now: float) -> None:
        """Tells a friend our DHT key by the onion and by a DHT request, each if it is time."""
        if search.onion_letter_due(now) <= now:
            packet = self._dht_key_packet(search, now)
            sent = self._letters.send(search, packet.encode(), self._asker, now)
            search.letter_at = now + (ONION_LETTER_S if sent else RETRY_S)
        dht_key = search.dht_key
        if dht_key is None or search.request_at > now:
            return
        sent = 0
        shared = search.letter_key()
        if shared is not None:
            packet = self._dht_key_packet(search, now)
            nonce = Nonce(self._entropy.bytes(24))
            request = DhtKeyRequestBody(self._real.public, nonce, packet.seal(shared, nonce))
            sent = self._ways.send_dht_request(dht_key, request.encode(), now)
        search.request_at = now + (DHT_LETTER_S if sent else RETRY_S)

    def _dht_key_packet(self, search: FriendSearch, now: float) -> DhtKeyPacket:
        number = search.next_number(int(now + self._unix_offset))
        nodes = tuple(self._ways.own_nodes(MAX_NODES)[:MAX_NODES])
        return DhtKeyPacket(number, self._dht_key, nodes)

    def _plan(self, lookup: Lookup, now: float, later: float = 0.0) -> None:
        """Sets the timer of our announce or of one search; searches rest while we cannot be found
        ourselves (c-toxcore onion_client.c: do_onion_client)."""
        if isinstance(lookup, FriendSearch):
            due = lookup.due(now) if self._connection.connected else NEVER
        else:
            due = self._announce.due(self._connection.connected, now)
        if due == NEVER:
            self.timers.stop(lookup.key)
        else:
            self.timers.set(lookup.key, max(due, now + later, self._asker.blocked_until))

    def _plan_all(self, now: float) -> None:
        self._plan(self._announce, now)
        for number, search in enumerate(self._searches.values()):
            self._plan(search, now, number * SPREAD_S)

    def _judge(self, now: float) -> None:
        """Looks whether we are connected, and tells the listener if that has turned."""
        connection = self._connection
        turned = connection.judge(self._announce, self._asker.path_nodes, now)
        due = connection.due()
        if due < NEVER:
            self.timers.bring_forward(_CONNECTION, due)
        if not turned:
            return
        if not connection.connected:
            self._announce.hurry()
        elif connection.was_away(now):
            for search in self._searches.values():
                search.restart()
        self._plan_all(now)
        self._listener.onion_connected(connection.connected, now)

    # State

    def is_announced(self, now: float) -> bool:
        """Tells whether we are connected to the onion: friends can find us."""
        return self._connection.connected

    def path_nodes_to_save(self) -> list[NodeInfo]:
        """Returns at most eight nodes for the profile."""
        return self._asker.path_nodes.to_save()

    def status(self, now: float) -> OnionStatus:
        """Returns the whole as operators see it."""
        asker = self._asker
        live, announced = self._announce.standing(now)
        return OnionStatus(
            self._connection.connected,
            live,
            announced,
            len(asker.path_nodes),
            len(asker.for_self) + len(asker.for_friends),
            len(asker.pending),
            len(self._searches),
            sum(not search.online for search in self._searches.values()),
        )

    def search_status(self, real_key: PublicKey, now: float) -> SearchStatus | None:
        """Returns the search for one friend as operators see it."""
        search = self._searches.get(real_key)
        return None if search is None else search.status(now)
