"""Data announcements: search (93), retrieve (95) and store (97), direct or forwarded.

A search gives out a token that is bound to data key, requester and address; retrieving and storing
need it back, so that nobody is sent more than a search answer under a forged address. A search also
serves as the question "do you store announcements?" (c-toxcore announce.c, DHT.c).
"""

from core.crypto import SharedKey, SharedKeys, equal, open_sealed, seal, sha256
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint, is_lan, pack_compact
from core.messages import DataAsked
from core.module import Context, ProtocolViolation
from core.onion.data_store import MAX_DATA, MAX_LIFE_S, DataStore
from core.onion.timed_auth import TimedAuth

SEARCH_REQUEST = 0x93
RETRIEVE_REQUEST = 0x95
STORE_REQUEST = 0x97
REQUESTS = frozenset((SEARCH_REQUEST, RETRIEVE_REQUEST, STORE_REQUEST))
MIN_REQUEST = 1 + 32 + 24 + 16 + 32 + 8  # with a data key and a ping id
MAX_REQUEST = 1792  # c-toxcore forwarding.h: MAX_FORWARD_DATA_SIZE, what may come forwarded
TOKEN_WINDOW_S = 60  # c-toxcore announce.c: DATA_SEARCH_TIMEOUT
MIN_LIFE_S = 10  # c-toxcore announce.h: MIN_MAX_ANNOUNCEMENT_TIMEOUT
UPTIME_RATIO = 4  # c-toxcore announce.h: MAX_ANNOUNCEMENT_TIMEOUT_UPTIME_RATIO
_STORE_HEAD = 32 + 4 + 1  # token, timeout, type
_FORWARD_REPLY = b"\x92"


class DataAnnounces:
    """Answers data announcement requests of one shard from its store."""

    __slots__ = ("_context", "_nodes", "_out", "_shared", "_tokens", "store")

    def __init__(
        self, context: Context, shared: SharedKeys, nodes: NodeSnapshot, store: DataStore
    ) -> None:
        self._context = context
        self._out = context.out
        self._shared = shared
        self._nodes = nodes
        self._tokens = TimedAuth(context.master, "data announcement token", TOKEN_WINDOW_S)
        self.store = store

    def handle_request(self, packet: bytes, source: Endpoint, now: float) -> None:
        """93, 95 or 97 straight from the requester; raises ProtocolViolation when refused."""
        self.handle_forwarded(packet, source, b"", now)

    def handle_forwarded(
        self, packet: bytes, source: Endpoint, sendback: bytes, now: float
    ) -> None:
        """A request that `source` forwarded with a sendback; an empty one: it came directly."""
        if not MIN_REQUEST <= len(packet) <= MAX_REQUEST:
            raise ProtocolViolation("data_announce_size")
        requester = packet[1:33]
        shared, plain = self._open(packet[1:], "data_announce_not_opened")
        body = plain[:-8]
        if packet[0] == STORE_REQUEST:
            body = self._open_store(body)
        asked = DataAsked(packet[0], source, sendback, shared, requester, body, plain[-8:])
        table = self._context.slots.get("onion")
        if table is not None and table.shards[plain[8]] != self._context.shard:
            return self._out.tell("onion", plain[:32], asked)
        return self.handle_asked(asked, now)

    def _open_store(self, body: bytes) -> bytes:
        """Opens the inner box of a store request: returns data key, token, timeout, type, content.

        Done where the request arrives, so that the data key too is a sender's key: a new one waits
        its turn, and the owner of the entry computes nothing.
        """
        key = body[:32]
        if len(body) < 32 + 24 + 16 + _STORE_HEAD:
            raise ProtocolViolation("data_store_size")
        return key + self._open(body, "data_store_not_opened")[1]

    def _open(self, data: bytes, reason: str) -> tuple[SharedKey, bytes]:
        """Opens key, nonce and box; returns the combined key with the sender, and the text."""
        shared = self._shared.sender(data[:32])
        if shared is None:
            raise ProtocolViolation("weak_key")
        plain = open_sealed(shared, data[32:56], data[56:])
        if plain is None:
            raise ProtocolViolation(reason)
        return shared, plain

    def handle_asked(self, asked: DataAsked, now: float) -> None:
        """Answers a request whose data key this shard owns."""
        if asked.kind == SEARCH_REQUEST:
            body = self._search(asked, now)
        elif asked.kind == RETRIEVE_REQUEST:
            body = self._retrieve(asked, now)
        else:
            body = self._store(asked, now)
        nonce = self._context.entropy.bytes(24)
        sealed = seal(SharedKey(asked.shared), nonce, body + asked.ping_id)
        reply = bytes((asked.kind + 1,)) + self._context.keys.public + nonce + sealed
        if asked.sendback:
            head = _FORWARD_REPLY + bytes((len(asked.sendback),)) + asked.sendback
            self._out.send(Endpoint(asked.source), head + reply)
        else:
            self._out.send(Endpoint(asked.source), reply)

    def _proof(self, asked: DataAsked) -> bytes:
        """What a token is made over; the sendback binds it to the way a request was forwarded."""
        address = pack_compact(Endpoint(asked.source))
        return asked.body[:32] + asked.requester + address + asked.sendback

    def _search(self, asked: DataAsked, now: float) -> bytes:
        """Body: data key, and the hash of the last answer's body if the requester had one."""
        if len(asked.body) not in (32, 64):
            raise ProtocolViolation("data_search_size")
        key = asked.body[:32]
        entry = self.store.get(key, now)
        exists = b"\x00" if entry is None else b"\x01" + sha256(entry.data)
        token = self._tokens.make(self._proof(asked), now)
        accept = self.store.would_accept(key, now)
        count, nodes = self._nodes.closest_packed(
            key, is_lan(Endpoint(asked.source)), only_announcers=True
        )
        body = key + exists + token + bytes((accept, count)) + nodes
        if len(asked.body) == 64 and asked.body[32:] == sha256(body):
            return key  # nothing new
        return body

    def _retrieve(self, asked: DataAsked, now: float) -> bytes:
        """Body: data key, 0, token."""
        body = asked.body
        if len(body) != 65 or body[32] != 0:
            raise ProtocolViolation("data_retrieve_size")
        if not self._tokens.check(body[33:], self._proof(asked), now):
            raise ProtocolViolation("data_token")
        entry = self.store.get(body[:32], now)
        if entry is None:
            raise ProtocolViolation("data_not_stored")
        return body[:32] + b"\x01" + entry.data

    def _store(self, asked: DataAsked, now: float) -> bytes:
        """Body: data key, and what the data key's box had in it: token, timeout, type, content.

        The box proves that the requester owns the data key. Type 0 stores the content, type 1 keeps
        alive what has this hash; another hash deletes what is stored (c-toxcore announce.c).
        """
        key, plain = asked.body[:32], asked.body[32:]
        if not self._tokens.check(plain[:32], self._proof(asked), now):
            raise ProtocolViolation("data_token")
        granted = min(int.from_bytes(plain[32:36], "big"), self._longest_life(now))
        kind, content = plain[36], plain[_STORE_HEAD:]
        if kind == 0:
            if len(content) > MAX_DATA:
                raise ProtocolViolation("data_store_size")
            if not self.store.put(key, content, now + granted, now):
                raise ProtocolViolation("draining:data" if self.store.closed else "data_store_full")
        elif kind == 1:
            if len(content) != 32:
                raise ProtocolViolation("data_store_size")
            entry = self.store.get(key, now)
            if entry is None:
                raise ProtocolViolation("data_not_stored")
            if not equal(content, sha256(entry.data)):
                self.store.delete(key)
                raise ProtocolViolation("data_other_hash")
            self.store.prolong(key, now + granted)
        else:
            raise ProtocolViolation("data_store_type")
        clock = max(0, int(now + self._context.unix_offset))
        return key + granted.to_bytes(4, "big") + clock.to_bytes(8, "big")

    def _longest_life(self, now: float) -> int:
        """Seconds that may be granted now: a quarter of the node's uptime, within 10..900."""
        uptime = now - self._context.started
        return max(MIN_LIFE_S, min(MAX_LIFE_S, int(uptime) // UPTIME_RATIO))
