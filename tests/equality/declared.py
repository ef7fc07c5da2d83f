"""The dht and onion modules once more, in the words of the declared packets: clear and slow.

Nothing here knows an offset. A handler decodes the packet, opens the box into its declared body,
asks the plain rules of `rules.py`, and encodes what it sends. Wherever a declared class says
WireError, `REASONS` says under which name the module counts it.

Three things differ from the declarations on purpose, as in the reference: hops read the address of
a layer leniently (`rules.padded_address`) and go on with it written the strict way; an 87 may come
without a group announce; and bytes behind a group announce go no further.
"""

from collections.abc import Callable
from typing import TypeVar

from core import crypto
from core.crypto import MAC_SIZE, Nonce, PublicKey, SharedKey
from core.endpoint import FAMILY_TCP_CLIENT, Endpoint, pack_ip_port
from core.messages import (
    AnnounceAsked,
    Candidate,
    Message,
    NodeRow,
    RelayDeliver,
    TableChange,
    TableFull,
)
from core.module import Collected, Context
from core.packets.announce import (
    NOT_STORED,
    STORED_BY_OTHER,
    STORED_BY_SENDER,
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
    DataToRouteRequest,
    DataToRouteResponse,
    GroupAnnounce,
    GroupAnnounceResponse,
    GroupAnnounceResponseBody,
)
from core.packets.dht import (
    NodesRequest,
    NodesRequestBody,
    NodesResponse,
    NodesResponseBody,
    PingRequest,
    PingRequestBody,
    PingResponse,
    PingResponseBody,
)
from core.packets.onion import (
    RETURN3_SIZE,
    OnionRequest0,
    OnionRequest0Body,
    OnionRequest1,
    OnionRequest1Body,
    OnionRequest2,
    OnionRequest2Body,
    OnionResponse1,
    OnionResponse2,
    OnionResponse3,
)
from core.packets.relay import RelayOnionResponse
from core.wire import Body, Packet, Record, WireError
from tests.equality.rules import (
    PING_ID_WINDOW_S,
    Entries,
    Entry,
    Groups,
    Proposed,
    ReturnBoxes,
    Table,
    Tags,
    lan,
    padded_address,
    private,
    refused_target,
)

__all__ = ["REASONS", "DeclaredDht", "DeclaredOnion", "PutOff", "Refused"]

LAYOUT = "layout"  # the datagram is none of its class
WEAK_KEY = "weak key"  # nothing can be agreed on with the sender's key
OWN_KEY = "own key"  # the sender says that it is us
BOX = "box"  # it was not sealed with the sender's key
BODY = "body"  # what was sealed is none of its class
PAYLOAD = "payload"  # what is to be passed on is of a kind that may not be
RETURN = "return"  # the way back was not sealed by us, or too long ago, or leads nowhere

REASONS: dict[tuple[type[Record], str], str] = {
    (PingRequest, LAYOUT): "dht_ping_size",
    (PingRequest, OWN_KEY): "dht_own_key",
    (PingRequest, WEAK_KEY): "dht_weak_key",
    (PingRequestBody, BOX): "dht_box",
    (PingRequestBody, BODY): "dht_ping_type",
    (NodesRequest, LAYOUT): "dht_nodes_size",
    (NodesRequest, OWN_KEY): "dht_own_key",
    (NodesRequest, WEAK_KEY): "dht_weak_key",
    (NodesRequestBody, BOX): "dht_box",
    (OnionRequest0, LAYOUT): "onion_size",
    (OnionRequest0, WEAK_KEY): "weak_key",
    (OnionRequest0Body, BOX): "onion_not_opened",
    (OnionRequest1, LAYOUT): "onion_size",
    (OnionRequest1, WEAK_KEY): "weak_key",
    (OnionRequest1Body, BOX): "onion_not_opened",
    (OnionRequest2, LAYOUT): "onion_size",
    (OnionRequest2, WEAK_KEY): "weak_key",
    (OnionRequest2Body, BOX): "onion_not_opened",
    (OnionRequest2Body, PAYLOAD): "onion_payload",
    (OnionResponse3, LAYOUT): "onion_size",
    (OnionResponse3, PAYLOAD): "onion_payload",
    (OnionResponse3, RETURN): "onion_return",
    (OnionResponse2, LAYOUT): "onion_size",
    (OnionResponse2, PAYLOAD): "onion_payload",
    (OnionResponse2, RETURN): "onion_return",
    (OnionResponse1, LAYOUT): "onion_size",
    (OnionResponse1, PAYLOAD): "onion_payload",
    (OnionResponse1, RETURN): "onion_return",
    (AnnounceRequest, LAYOUT): "announce_size",
    (AnnounceRequest, WEAK_KEY): "weak_key",
    (AnnounceRequestBody, BOX): "announce_not_opened",
    (GroupAnnounce, BODY): "group_announce",
    (DataToRouteRequest, LAYOUT): "data_request_size",
}
"""Under which name a module counts what is wrong with a declared packet. Besides these, the names
of `rules.refused_target`, and `target_family` for an address of no UDP family; `ping_id`,
`announce_store_full`, `not_announced`, `group_budget` and `group_chats_full` for what a store says.
A body that cannot be wrong once its box was opened (its size is that of the datagram) has no name:
a KeyError here is a finding."""

WRONG_SHARD = "dht_wrong_shard"  # a kind that only the keeper of the table takes
WRONG_KIND = "onion_kind"  # no kind of the onion module
NO_BYTES = "wire:onion"  # an empty datagram

REQUEST_PAYLOADS = (0x83, 0x85, 0x87)  # what may leave an onion path (CVE-2018-25022)
RESPONSE_PAYLOADS = (0x84, 0x86, 0x88)
MAX_GROUP_REQUEST = 490  # c-toxcore onion_announce.h: ONION_MAX_EXTRA_DATA_SIZE, 136 more bytes

Spared = Callable[[int, bytes, float], bool]
"""spared(shard, key, now): whether a search for a key of another shard may be answered at once,
because that shard surely has no announce of it. Which of these searches are is nothing that can be
seen from outside; the worker decides, and the world checks that it was right."""

B = TypeVar("B", bound=Body)
P = TypeVar("P", bound=Packet)


class PutOff(Exception):
    """The sender's key has to be computed first, and that has to wait."""


class Refused(Exception):
    """A packet that leads to nothing, and the reason that is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decoded(cls: type[P], packet: bytes) -> P:
    """Decodes a datagram."""
    try:
        return cls.decode(packet)
    except WireError:
        raise Refused(REASONS[cls, LAYOUT]) from None


class Declared:
    """What both modules do: combine keys, open boxes, count refusals."""

    def __init__(self, context: Context, out: Collected) -> None:
        self.context = context
        self.out = out
        self.table = Table(context.keys.public)
        self.deferring = False
        """Whether packets of senders who were not heard before have to wait."""
        self._known: set[bytes] = set()
        self._combined: dict[bytes, SharedKey | None] = {}

    def combined(self, cls: type[Packet], key: PublicKey) -> SharedKey:
        """Returns the combined key with the sender of a packet of class `cls`. Raises PutOff."""
        if key not in self._combined:
            self._combined[key] = crypto.precompute(self.context.keys.secret, key)
        shared = self._combined[key]
        if shared is None:
            raise Refused(REASONS[cls, WEAK_KEY])
        if self.deferring and key not in self._known:
            raise PutOff
        self._known.add(key)
        return shared

    @staticmethod
    def opened(cls: type[B], shared: SharedKey, nonce: Nonce, sealed: bytes) -> B:
        """Opens a box into its declared body."""
        try:
            return cls.open(shared, nonce, sealed)
        except WireError:
            unsealed = crypto.open_sealed(shared, nonce, sealed) is not None
            raise Refused(REASONS[cls, BODY if unsealed else BOX]) from None

    def nonce(self) -> Nonce:
        """Draws a fresh nonce."""
        return Nonce(self.context.entropy.bytes(24))

    def count(self, reason: str) -> None:
        """Counts something under its reason."""
        self.out.drops[reason] += 1

    def handle_table(self, message: Message) -> None:
        """Takes the table of dht.0, or a change of it."""
        if isinstance(message, TableFull):
            self.table.change((), tuple(self.table.rows))
            self.table.change(tuple(NodeRow(*row) for row in message.rows))
        elif isinstance(message, TableChange):
            self.table.change(tuple(NodeRow(*row) for row in message.changed), message.removed)


class DeclaredDht(Declared):
    """Answers of every dht shard: 00 and 02."""

    def __init__(self, context: Context, out: Collected) -> None:
        super().__init__(context, out)
        self._proposed = Proposed()

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes a datagram, and counts one that is refused. Raises PutOff."""
        try:
            match packet[:1]:
                case b"\x00":
                    self._ping(decoded(PingRequest, packet), source, now)
                case b"\x02":
                    self._nodes(decoded(NodesRequest, packet), source, now)
                case _:
                    raise Refused(WRONG_SHARD)
        except Refused as refused:
            self.count(refused.reason)

    def _sender(self, request: PingRequest | NodesRequest) -> SharedKey:
        if request.sender == self.context.keys.public:
            raise Refused(REASONS[type(request), OWN_KEY])
        return self.combined(type(request), request.sender)

    def _ping(self, request: PingRequest, source: Endpoint, now: float) -> None:
        shared = self._sender(request)
        body = self.opened(PingRequestBody, shared, request.nonce, request.sealed)
        nonce = self.nonce()
        sealed = PingResponseBody(ping_id=body.ping_id).seal(shared, nonce)
        answer = PingResponse(sender=self.context.keys.public, nonce=nonce, sealed=sealed)
        self.out.send(source, answer.encode())
        self._propose(request.sender, source, now)

    def _nodes(self, request: NodesRequest, source: Endpoint, now: float) -> None:
        shared = self._sender(request)
        body = self.opened(NodesRequestBody, shared, request.nonce, request.sealed)
        nodes = self.table.closest(body.searched, lan(source))
        nonce = self.nonce()
        sealed = NodesResponseBody(nodes=nodes, request_id=body.request_id).seal(shared, nonce)
        answer = NodesResponse(sender=self.context.keys.public, nonce=nonce, sealed=sealed)
        self.out.send(source, answer.encode())
        self._propose(request.sender, source, now)

    def _propose(self, key: bytes, source: Endpoint, now: float) -> None:
        """Proposes a sender that the table could use: one with another address than it has there,
        or one that is not there and whose bucket has room."""
        row = self.table.rows.get(key)
        if row is None:
            useful = self.table.has_room(key)
        else:
            useful = source not in (row.endpoint4, row.endpoint6)
        if useful and self._proposed.admit(key, now):
            self.out.tell_shard("dht", 0, Candidate(key, source))


class DeclaredOnion(Declared):
    """Hops, ways back and the announce store: 80 81 82, 8c 8d 8e, 83 85 87."""

    def __init__(
        self,
        context: Context,
        out: Collected,
        capacity: int,
        chats: int,
        budget: int,
        spared: Spared,
    ) -> None:
        super().__init__(context, out)
        self._spared = spared
        self.returns = ReturnBoxes(context.master)
        self.ping_ids = Tags(context.master, "announce ping id", PING_ID_WINDOW_S)
        self.entries = Entries(context.keys.public, capacity)
        self.groups = Groups(out.drops, chats, budget)

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes a datagram, and counts one that is refused. Raises PutOff."""
        try:
            match packet[:1]:
                case b"\x80":
                    self._hop_0(decoded(OnionRequest0, packet), source, now)
                case b"\x81":
                    self._hop_1(decoded(OnionRequest1, packet), source, now)
                case b"\x82":
                    self._hop_2(decoded(OnionRequest2, packet), source, now)
                case b"\x8c":
                    self._back_3(decoded(OnionResponse3, packet), now)
                case b"\x8d":
                    self._back_2(decoded(OnionResponse2, packet), now)
                case b"\x8e":
                    self._back_1(decoded(OnionResponse1, packet), now)
                case b"\x83":
                    self._announce(decoded(AnnounceRequest, packet), source, now)
                case b"\x87":
                    self._group_announce(packet, source, now)
                case b"\x85":
                    self._data(decoded(DataToRouteRequest, packet), now)
                case b"":
                    raise Refused(NO_BYTES)
                case _:
                    raise Refused(WRONG_KIND)
        except Refused as refused:
            self.count(refused.reason)

    # Hops

    def _layer(
        self,
        request: OnionRequest0 | OnionRequest1 | OnionRequest2,
        cls: type[B],
    ) -> tuple[B, bytes]:
        """Opens a layer: what it says, and the 19 bytes of its address as they came. Where these
        name no UDP address, some other one stands in the body."""
        shared = self.combined(type(request), request.sender)
        plain = crypto.open_sealed(shared, request.nonce, request.sealed)
        if plain is None:
            raise Refused(REASONS[cls, BOX])
        packed = plain[:19]
        address = padded_address(packed)
        strict = pack_ip_port(address) if address is not None else b"\x02" + bytes(18)
        return cls.decode(strict + plain[19:]), packed

    def _target(self, packed: bytes, source: Endpoint) -> Endpoint:
        target = padded_address(packed)
        if target is None:
            raise Refused("target_family")
        refused = refused_target(target, self.context.options, private(source))
        if refused is not None:
            raise Refused(refused)
        return target

    def _way_back(self, source: Endpoint, before: bytes, now: float) -> bytes:
        return self.returns.seal(self.nonce(), pack_ip_port(source) + before, now)

    def _hop_0(self, request: OnionRequest0, source: Endpoint, now: float) -> None:
        body, packed = self._layer(request, OnionRequest0Body)
        target = self._target(packed, source)
        way_back = self._way_back(source, b"", now)
        onward = OnionRequest1(request.nonce, body.sender, body.sealed, way_back)
        self.out.send(target, onward.encode())

    def _hop_1(self, request: OnionRequest1, source: Endpoint, now: float) -> None:
        body, packed = self._layer(request, OnionRequest1Body)
        target = self._target(packed, source)
        way_back = self._way_back(source, request.onion_return, now)
        onward = OnionRequest2(request.nonce, body.sender, body.sealed, way_back)
        self.out.send(target, onward.encode())

    def _hop_2(self, request: OnionRequest2, source: Endpoint, now: float) -> None:
        body, packed = self._layer(request, OnionRequest2Body)
        if body.payload[0] not in REQUEST_PAYLOADS:
            raise Refused(REASONS[OnionRequest2Body, PAYLOAD])
        target = self._target(packed, source)
        way_back = self._way_back(source, request.onion_return, now)
        self.out.send(target, body.payload + way_back)

    # Ways back

    def _peeled(
        self, response: OnionResponse3 | OnionResponse2 | OnionResponse1, now: float
    ) -> tuple[bytes, bytes]:
        """Opens our part of the return: the 19 bytes of where it leads, and the rest of it."""
        if response.payload[0] not in RESPONSE_PAYLOADS:
            raise Refused(REASONS[type(response), PAYLOAD])
        plain = self.returns.open(response.onion_return, now)
        if plain is None:
            raise Refused(REASONS[type(response), RETURN])
        return plain[:19], plain[19:]

    def _back_3(self, response: OnionResponse3, now: float) -> None:
        packed, rest = self._peeled(response, now)
        target = padded_address(packed)
        if target is None:
            raise Refused(REASONS[OnionResponse3, RETURN])
        self.out.send(target, OnionResponse2(rest, response.payload).encode())

    def _back_2(self, response: OnionResponse2, now: float) -> None:
        packed, rest = self._peeled(response, now)
        target = padded_address(packed)
        if target is None:
            raise Refused(REASONS[OnionResponse2, RETURN])
        self.out.send(target, OnionResponse1(rest, response.payload).encode())

    def _back_1(self, response: OnionResponse1, now: float) -> None:
        packed, _ = self._peeled(response, now)
        target = padded_address(packed)
        if target is not None:
            self.out.send(target, response.payload)
        elif packed[0] == FAMILY_TCP_CLIENT:
            serial = int.from_bytes(packed[1:9], "big")
            frame = RelayOnionResponse(response.payload).encode()
            self.out.tell_shard("broker", 0, RelayDeliver(serial, frame))
        else:
            raise Refused(REASONS[OnionResponse1, RETURN])

    # The announce store

    def _owner(self, key: bytes) -> int:
        table = self.context.slots.get("onion")
        return self.context.shard if table is None else table.shard_of(key)

    def _announce(self, request: AnnounceRequest, source: Endpoint, now: float) -> None:
        shared = self.combined(AnnounceRequest, request.requester)
        body = self.opened(AnnounceRequestBody, shared, request.nonce, request.sealed)
        asked = self._asked(0x83, request, body, shared, source, now)
        self._search_or_store(asked, now)

    def _asked(
        self,
        kind: int,
        request: AnnounceRequest,
        body: AnnounceRequestBody,
        shared: SharedKey,
        source: Endpoint,
        now: float,
    ) -> AnnounceAsked:
        """What an opened request asks; a wrong ping id is counted, and makes it a search."""
        proven = False
        if body.ping_id != bytes(32):
            proof = request.requester + pack_ip_port(source)
            proven = self.ping_ids.good(body.ping_id, proof, now)
            if not proven:
                self.count("ping_id")
        return AnnounceAsked(
            kind,
            source,
            request.onion_return,
            shared,
            request.requester,
            body.searched,
            body.data_key,
            body.sendback,
            proven,
            b"",
            b"",
        )

    def _search_or_store(self, asked: AnnounceAsked, now: float) -> None:
        """Answers what is this shard's to answer, and searches that need no store."""
        subject = asked.requester if asked.proven else asked.searched
        owner = self._owner(subject)
        if owner == self.context.shard:
            self._answer(asked, now)
        elif not asked.proven and self._spared(owner, subject, now):
            self._answer(asked, now, there=False)
        else:
            self.out.tell("onion", subject, asked)

    def _group_announce(self, packet: bytes, source: Endpoint, now: float) -> None:
        """An 87 is an 83 with a chat id and an announce at the end of its box, or without both."""
        extra = len(packet) - AnnounceRequest.MAX_SIZE
        if not AnnounceRequest.MAX_SIZE <= len(packet) <= MAX_GROUP_REQUEST:
            raise Refused(REASONS[AnnounceRequest, LAYOUT])
        boxed = packet[57 : -RETURN3_SIZE]
        plain_like = b"\x83" + packet[1:57] + boxed[: AnnounceRequestBody.MAX_SIZE + MAC_SIZE]
        request = decoded(AnnounceRequest, plain_like + packet[-RETURN3_SIZE:])
        shared = self.combined(AnnounceRequest, request.requester)
        plain = crypto.open_sealed(shared, request.nonce, boxed)
        if plain is None:
            raise Refused(REASONS[AnnounceRequestBody, BOX])
        head = len(plain) - extra
        body = AnnounceRequestBody.decode(plain[:head])
        asked = self._asked(0x87, request, body, shared, source, now)
        if extra:
            chat_id, announce = plain[head : head + 32], plain[head + 32 :]
            try:
                found, end = GroupAnnounce.read(announce, 0, len(announce))
            except WireError:
                found, end = None, 0
            if found is None or (found.endpoint is None and not found.relays):
                raise Refused(REASONS[GroupAnnounce, BODY])
            asked = asked._replace(chat_id=chat_id, groups=announce[:end])
            if self._owner(chat_id) == self.context.shard:
                self.handle_message(asked, now)
            else:
                self.out.tell("onion", chat_id, asked)
            return
        self._search_or_store(asked, now)

    def handle_message(self, message: AnnounceAsked, now: float) -> None:
        """Does the part of a request that this shard owns."""
        asked = message
        if asked.chat_id:
            source = Endpoint(asked.source)
            self.groups.put(asked.chat_id, asked.groups, source, now)
            others = self.groups.newest(asked.chat_id, asked.groups[:32], now)
            self._search_or_store(asked._replace(chat_id=b"", groups=b"".join(others)), now)
        else:
            self._answer(asked, now)

    def _answer(self, asked: AnnounceAsked, now: float, there: bool = True) -> None:
        """Stores an announce that is proven, and says what is known of the searched key: nothing
        if it is another shard's to know (not `there`)."""
        source = Endpoint(asked.source)
        state = NOT_STORED
        key = self.ping_ids.make(asked.requester + pack_ip_port(source), now)
        if asked.proven:
            entry = Entry(source, asked.onion_return, asked.data_key, now)
            if self.entries.put(asked.requester, entry):
                state = STORED_BY_SENDER
            else:
                self.count("announce_store_full")
        else:
            stored = self.entries.get(asked.searched, now) if there else None
            if stored is not None and asked.searched != asked.requester:
                state, key = STORED_BY_OTHER, stored.data_key
            elif stored is not None and stored.data_key == asked.data_key:
                state = STORED_BY_SENDER
        nodes = self.table.closest(asked.searched, lan(source))
        nonce = self.nonce()
        shared = SharedKey(asked.shared)
        answer: AnnounceResponse | GroupAnnounceResponse
        if asked.kind == 0x83:
            sealed = AnnounceResponseBody(state, key, nodes).seal(shared, nonce)
            answer = AnnounceResponse(asked.sendback, nonce, sealed)
        else:
            groups = []
            at = 0
            while at < len(asked.groups):
                one, at = GroupAnnounce.read(asked.groups, at, len(asked.groups))
                groups.append(one)
            group_body = GroupAnnounceResponseBody(state, key, nodes, tuple(groups))
            answer = GroupAnnounceResponse(
                asked.sendback, nonce, group_body.seal(shared, nonce)
            )
        self.out.send(source, OnionResponse3(asked.onion_return, answer.encode()).encode())

    def _data(self, request: DataToRouteRequest, now: float) -> None:
        entry = self.entries.get(request.destination, now)
        if entry is None:
            raise Refused("not_announced")
        data = DataToRouteResponse(request.nonce, request.temporary_key, request.sealed)
        self.out.send(
            entry.source, OnionResponse3(entry.onion_return, data.encode()).encode()
        )

    def handle_timer(self, now: float) -> None:
        """Forgets what is too old."""
        self.entries.expire(now)
        self.groups.expire(now)
