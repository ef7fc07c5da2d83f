"""Announce requests and data for announced clients: 83, 87 and 85.

An 83 or 87 is opened where it arrives (slot of the requester's key); the shard that owns the entry
in question answers it, told by the opener if it is another. A search for a key that surely is not
stored (`announce_filters`) is answered by the opener, with what the owner would have answered: ping
ids and the copy of the node table are the same. A client announces itself in two steps:
the first answer carries a ping id, the second request proves with it that the client can receive at
its return path, and is stored (c-toxcore onion_announce.c).
"""

from core.crypto import SharedKey, SharedKeys, equal, open_sealed, seal
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint, is_lan, pack_ip_port
from core.messages import AnnounceAsked
from core.module import Context
from core.onion.announce_filters import OtherFilters, OwnFilter
from core.onion.announce_store import DATA_KEY, HEAD, SOURCE, AnnounceStore, Kept
from core.onion.group_store import GroupStore, read_announce
from core.onion.hops import MAX_PACKET, RETURN_3
from core.onion.timed_auth import TimedAuth

REQUEST_SIZE = 354  # 83 with its return; kind 1, nonce 24, key 32, box of 104, return 177
MAX_GROUP_REQUEST = REQUEST_SIZE + 136  # c-toxcore onion_announce.h: ONION_MAX_EXTRA_DATA_SIZE
MIN_DATA_REQUEST = 105 + RETURN_3 + 1  # greater than DATA_REQUEST_MIN_SIZE_RECV
PING_ID_WINDOW_S = 300  # c-toxcore onion_announce.c: PING_ID_TIMEOUT

ANNOUNCE_REQUEST = 0x83
GROUP_ANNOUNCE_REQUEST = 0x87
_ONION_RESPONSE_3 = b"\x8c"
_RESPONSES = {ANNOUNCE_REQUEST: b"\x84", GROUP_ANNOUNCE_REQUEST: b"\x88"}
_NO_PING_ID = bytes(32)
_NOT_STORED = b"\x00"
_STORED = b"\x01"
_OWN = b"\x02"

# What is to be done with the store before an answer.
_SEARCH = 0
_STORE = 1
_NOTHING = 2  # the searched key is another shard's, and surely not stored


class Announces:
    """Answers announce requests from one shard's store, and passes data on to the announced."""

    __slots__ = (
        "_context",
        "_nodes",
        "_out",
        "_ping_ids",
        "_shared",
        "entries",
        "groups",
        "in_vain",
        "others",
        "own_filter",
    )

    def __init__(
        self,
        context: Context,
        shared: SharedKeys,
        nodes: NodeSnapshot,
        entries: AnnounceStore,
        groups: GroupStore,
    ) -> None:
        self._context = context
        self._out = context.out
        self._shared = shared
        self._nodes = nodes
        self._ping_ids = TimedAuth(context.master, "announce ping id", PING_ID_WINDOW_S)
        self.entries = entries
        self.groups = groups
        self.own_filter = OwnFilter(context, entries)
        self.others = OtherFilters(context)
        self.in_vain = 0
        """Searches that other shards passed on, and whose key was not stored here."""

    def _refuse(self, reason: str) -> None:
        self._out.drops[reason] += 1

    def _owner(self, key: bytes) -> int:
        table = self._context.slots.get("onion")
        return self._context.shard if table is None else table.shards[key[8]]

    def handle_announce_request(self, packet: bytes, source: Endpoint, now: float) -> None:
        """83: a search or an announce by a client."""
        if len(packet) != REQUEST_SIZE:
            return self._refuse("announce_size")
        return self._open(packet, source, now)

    def handle_group_announce_request(self, packet: bytes, source: Endpoint, now: float) -> None:
        """87: the same with a node count in the answer, and usually with a group announce."""
        if not REQUEST_SIZE <= len(packet) <= MAX_GROUP_REQUEST:
            return self._refuse("announce_size")
        return self._open(packet, source, now)

    def _open(self, packet: bytes, source: Endpoint, now: float) -> None:
        end = len(packet) - RETURN_3
        requester = packet[25:57]
        shared = self._shared.sender(requester)
        if shared is None:
            return self._refuse("weak_key")
        plain = open_sealed(shared, packet[1:25], packet[57:end])
        if plain is None:
            return self._refuse("announce_not_opened")
        ping_id = plain[:32]
        proven = False
        fresh_id = None
        if ping_id != _NO_PING_ID:  # that of every first contact and search: spares a hash
            proof = requester + pack_ip_port(source)
            fresh_id = self._ping_ids.make(proof, now)
            proven = equal(ping_id, fresh_id) or self._ping_ids.made_before(ping_id, proof, now)
            if not proven:
                self._refuse("ping_id")  # it is answered all the same, as a search
        searched = plain[32:64]
        if len(plain) > 104:
            return self._pass_on(packet, source, shared, plain, proven, now)
        task = _STORE if proven else _SEARCH
        owner = self._owner(requester if proven else searched)
        if owner != self._context.shard:
            if proven or self.others.may_have(owner, searched, now):
                return self._pass_on(packet, source, shared, plain, proven, now)
            task = _NOTHING
        return self._answer(
            packet[0],
            source,
            packet[end:],
            shared,
            requester,
            searched,
            plain[64:96],
            plain[96:104],
            task,
            b"",
            fresh_id,
            now,
        )

    def _pass_on(
        self,
        packet: bytes,
        source: Endpoint,
        shared: bytes,
        plain: bytes,
        proven: bool,
        now: float,
    ) -> None:
        chat_id = announce = b""
        if len(plain) > 104:
            chat_id = plain[104:136]
            found = read_announce(plain[136:])
            if found is None:
                return self._refuse("group_announce")
            announce = found
        asked = AnnounceAsked(
            packet[0],
            source,
            packet[-RETURN_3:],
            shared,
            packet[25:57],
            plain[32:64],
            plain[64:96],
            plain[96:104],
            proven,
            chat_id,
            announce,
        )
        if not chat_id:
            return self._out.tell("onion", asked.requester if proven else asked.searched, asked)
        if self._owner(chat_id) != self._context.shard:
            return self._out.tell("onion", chat_id, asked)
        return self.handle_asked(asked, now)

    def handle_asked(self, asked: AnnounceAsked, now: float) -> None:
        """Does the step this shard was told to do, and tells the next owner if there is one more.

        A step is never told back, even where the slot tables of two shards differ for a moment.
        """
        task = _STORE if asked.proven else _SEARCH
        if asked.chat_id:
            asked = self._with_groups(asked, now)
            subject = asked.requester if asked.proven else asked.searched
            owner = self._owner(subject)
            if owner != self._context.shard:
                if asked.proven or self.others.may_have(owner, subject, now):
                    return self._out.tell("onion", subject, asked)
                task = _NOTHING
        elif not asked.proven and self.entries.get(asked.searched, now) is None:
            self.in_vain += 1
        return self._answer(
            asked.kind,
            Endpoint(asked.source),
            asked.onion_return,
            SharedKey(asked.shared),
            asked.requester,
            asked.searched,
            asked.data_key,
            asked.sendback,
            task,
            asked.groups,
            None,
            now,
        )

    def _with_groups(self, asked: AnnounceAsked, now: float) -> AnnounceAsked:
        """Stores the group announce of a request; returns it with those that its answer carries."""
        self.groups.put(asked.chat_id, asked.groups, Endpoint(asked.source), now)
        found = self.groups.newest(asked.chat_id, asked.groups[:32], now)
        return asked._replace(chat_id=b"", groups=b"".join(found))

    def _answer(
        self,
        kind: int,
        source: Endpoint,
        onion_return: bytes,
        shared: SharedKey,
        requester: bytes,
        searched: bytes,
        data_key: bytes,
        sendback: bytes,
        task: int,
        groups: bytes,
        fresh_id: bytes | None,
        now: float,
    ) -> None:
        payload = None
        state = _NOT_STORED
        if task == _SEARCH:
            stored = self.entries.get(searched, now)
            if stored is not None and searched != requester:
                state = _STORED
                payload = stored[DATA_KEY]
            elif stored is not None and stored[DATA_KEY] == data_key:
                state = _OWN
        elif task == _STORE:
            kept = self.entries.put(requester, source, onion_return, data_key, now)
            if kept:
                state = _OWN
                if kept is Kept.NEW:
                    self.own_filter.add(requester)
            else:
                closed = self.entries.closed
                self._refuse("draining:announce" if closed else "announce_store_full")
        if payload is None:
            payload = fresh_id or self._ping_ids.make(requester + pack_ip_port(source), now)
        count, nodes = self._nodes.closest_packed(searched, is_lan(source))
        if kind == GROUP_ANNOUNCE_REQUEST:
            body = b"%c%b%c%b%b" % (state, payload, count, nodes, groups)
        else:
            body = state + payload + nodes
        nonce = self._context.entropy.bytes(24)
        self._out.send(
            source,
            b"".join(
                (
                    _ONION_RESPONSE_3,
                    onion_return,
                    _RESPONSES[kind],
                    sendback,
                    nonce,
                    seal(shared, nonce, body),
                )
            ),
        )

    def handle_data_request(self, packet: bytes, source: Endpoint, now: float) -> None:
        """85: data for an announced client, sent along the return path it announced with."""
        size = len(packet)
        if not MIN_DATA_REQUEST <= size <= MAX_PACKET:
            return self._refuse("data_request_size")
        entry = self.entries.get(packet[1:33], now)
        if entry is None:
            return self._refuse("not_announced")
        return self._out.send(Endpoint(entry[SOURCE]), entry[HEAD] + packet[33:-RETURN_3])
