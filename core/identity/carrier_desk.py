"""The near half of one identity: its carrier, as the far half in another process sees it.

What friends send is kept until the far half has stored it, and what the far half hands over is told
to be taken when it cannot be lost any more: so either process may end at any moment.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from core.crypto import KeyPair, PublicKey
from core.entropy import Entropy
from core.identity import messages
from core.identity.carrier import Carrier
from core.identity.far_carrier import LOSSY_TAKEN, LOSSY_WINDOW
from core.identity.far_session import BATCH
from core.identity.link import Link
from core.identity.messages import FriendRow
from core.identity.near_session import NearSession
from core.identity.passing import Passed
from core.identity.place import MakePlace, PlaceOrder
from core.identity.rows import known_row, nodes_of, nodes_row, options_of
from core.module import LocalError
from core.net_crypto.lasting import SessionMemory
from core.net_crypto.tags import Progress
from core.packets.messenger import Alive, ShareRelays

STUCK_S = 0.05  # ours: until packets are tried again that nothing has made room for
FIRST_NODES_S, NODES_S = 10.0, 120.0  # ours: how often nodes are told that are to be saved
_OWN_KINDS = frozenset((Alive.kind, ShareRelays.kind))  # what friend connections keep to themselves
_U32 = 0xFFFFFFFF


class CarrierDesk:
    """One identity's near half. It listens to the carrier's sessions, friends and onion."""

    def __init__(
        self,
        attach: messages.Attach,
        friends: Sequence[FriendRow],
        make_place: MakePlace,
        kept: SessionMemory,
        entropy: Entropy,
        drops: Counter[str],
        now: float,
    ) -> None:
        """Takes up what an earlier process left in `kept`. Raises what `make_place` raises."""
        self.attach_fields = attach[3:7]
        """How it was ordered: another order needs another carrier."""
        self._drops = drops
        self._link: Link | None = None
        self._queues: dict[PublicKey, deque[NearSession]] = {}
        """By friend: sessions that the far half does not know all of, and the one that is up."""
        self._resuming = True
        self._collected: list[bytes] = []
        self._ready: dict[PublicKey, None] = {}  # friends of whom something is to be told
        self._moved: dict[PublicKey, None] = {}  # whose sessions have taken or delivered something
        self._stuck: dict[PublicKey, None] = {}  # for whom packets wait
        self._stuck_at: float | None = None
        self._nodes_at = now + FIRST_NODES_S
        self._nodes_told: messages.Row = ()
        self._relays_told: dict[PublicKey, messages.Row] = {}
        self._lossy_out = self._lossy_in = 0
        keys = KeyPair.from_secret(attach.secret)
        saved = kept.identity(keys.public)
        dht_keys = (
            KeyPair.generate(entropy)
            if saved is None
            else KeyPair.from_secret(saved.dht_secret.reveal())
        )
        order = PlaceOrder(
            keys,
            dht_keys,
            options_of(attach.options),
            nodes_of(attach.dht_nodes),
            attach.ports,
            attach.hosts,
            0 if saved is None else saved.port,
            kept,
            drops,
            self.settle,
        )
        self.place = make_place(order, now)
        self.carrier = self.place.carrier
        lasting = self.carrier.crypto.lasting
        if lasting is None:
            raise LocalError("a carrier was made without memory that lasts")
        self._lasting = lasting
        self.carrier.friends.listener = self
        self.carrier.friends.relay_noted = self._tell_relays
        self.carrier.listener = self
        self.carrier.crypto.listener = _InParts(self.carrier, self)
        self.carrier.keep_time_for(self, self)
        if not kept.keep_identity(keys.public, dht_keys.secret, self.place.port):
            drops["identity_not_kept"] += 1
        self._resume(friends, now)
        self.carrier.bootstrap(nodes_of(attach.bootstrap), now)
        self.carrier.bootstrap(nodes_of(attach.path_nodes), now, saved=True)
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            messages.AddFriend: self._add_friend,
            messages.RemoveFriend: self._remove_friend,
            messages.Handed: self._take_packets,
            messages.LossyHanded: self._take_lossy,
            messages.LossyTaken: self._take_lossy_taken,
            messages.OnionSend: self._send_onion,
            messages.Stored: self._take_stored,
            messages.Settled: self._take_settled,
            messages.BootstrapIdentity: self._bootstrap,
        }

    # Beginning

    def _resume(self, friends: Sequence[FriendRow], now: float) -> None:
        """Takes up the sessions that an earlier process left."""
        carrier, lasting = self.carrier, self._lasting
        resumed = carrier.crypto.resume(now)
        for ended in lasting.ended():
            session = NearSession(ended.real_key, ended.serial, None)
            session.over = True
            session.progress = Progress(ended.acked, ended.acked)
            self._cut(session, ended.packets, ended.upto)
            self._queues.setdefault(ended.real_key, deque()).append(session)
        wanted = {PublicKey(row.key): row for row in friends}
        for friend, row in wanted.items():
            carrier.friends.add(friend, now, nodes_of(row.relays))
        for friend in resumed:
            known = wanted.get(friend)
            if known is None:
                carrier.crypto.close(friend, now)
                continue
            if known.serial == lasting.serial(friend):
                lasting.stored(friend, known.upto, now)
            carrier.friends.take_up(friend, now)
            lasting.hand_again(friend, now)
        for ended in lasting.ended():
            if ended.real_key not in wanted:
                self._queues.pop(ended.real_key, None)
                lasting.settled(ended.serial)
        self._resuming = False

    @staticmethod
    def _cut(session: NearSession, packets: Sequence[bytes], upto: int) -> None:
        """Keeps the packets of a session that is over, the last of which has the number `upto`."""
        for first in range(0, len(packets), BATCH):
            part = packets[first : first + BATCH]
            number = (upto - (len(packets) - first - len(part))) & _U32
            others = [packet for packet in part if packet[0] not in _OWN_KINDS]
            if others:
                session.came(others, number)

    def attach(self, link: Link, friends: Sequence[FriendRow], now: float) -> None:
        """Begins a link with a far half that has these friends: tells it how all sessions are."""
        self._link = link
        self._lossy_out = self._lossy_in = 0
        self._nodes_told = ()
        rows = {PublicKey(row.key): row for row in friends}
        for friend in self.carrier.friends.real_keys():
            if friend not in rows:
                self._forget(friend, now)
        known = set(self.carrier.friends.real_keys())
        for friend, row in rows.items():
            if friend not in known:
                self.carrier.friends.add(friend, now, nodes_of(row.relays))
        for friend, queue in self._queues.items():
            self._relink(queue, rows[friend], now)
        carrier = self.carrier
        link.say(messages.Attached, carrier.dht_key, self.place.port, carrier.connected)
        for friend in tuple(self._queues):
            self._tell(friend)
            self._moved[friend] = None
        link.say(messages.Complete)
        self._relays_told = {friend: row.relays for friend, row in rows.items()}
        for friend in rows:
            self._tell_relays(friend)

    def _relink(self, queue: deque[NearSession], row: FriendRow, now: float) -> None:
        """Forgets what the far half knows, and begins again behind that."""
        if any(session.serial == row.serial for session in queue):
            while queue[0].serial != row.serial:  # it was told of sessions in their order
                self._lasting.settled(queue.popleft().serial)
            known = queue[0]
            known.stored(row.upto)
            if not known.over:
                self._free(known, row.upto, now)
            if known.passed is None and row.passed is not None:
                known.passed = Passed(row.passed)
        for session in queue:
            if session.passed is None:
                session.passed = Passed.assumed()
            if not session.over:
                self._look(session)
            session.relink()

    def unlink(self) -> None:
        """The far half is gone: what friends send is kept."""
        self._link = None

    @property
    def link(self) -> Link | None:
        """The link with the far half, if there is one."""
        return self._link

    def _say(self, kind: Callable[..., messages.Row], *fields: Any) -> None:
        if self._link is not None:
            self._link.say(kind, *fields)

    # What the far half tells

    def handle_message(self, message: Any, now: float) -> None:
        """Takes the next message of the link."""
        self._handlers[type(message)](message, now)

    def _add_friend(self, message: messages.AddFriend, now: float) -> None:
        self.carrier.friends.add(PublicKey(message.friend), now)

    def _remove_friend(self, message: messages.RemoveFriend, now: float) -> None:
        self._forget(PublicKey(message.friend), now)

    def _forget(self, friend: PublicKey, now: float) -> None:
        self.carrier.friends.remove(friend, now)
        for session in self._queues.pop(friend, ()):
            self._lasting.settled(session.serial)
        self._stuck.pop(friend, None)
        self._relays_told.pop(friend, None)

    def _session_of(self, message: Any) -> NearSession | None:
        session = self._up(PublicKey(message.friend))
        if session is not None and session.serial == message.serial:
            return session
        self._drops["identity_session_over"] += 1
        return None

    def _take_packets(self, message: messages.Handed, now: float) -> None:
        session = self._session_of(message)
        if session is None:
            return
        if session.hand(message.first, message.packets):
            self._feed(session, now)
            return
        self._drops["identity_session_torn"] += 1
        self.carrier.crypto.close(session.friend, now)
        self.carrier.friends.session_down(session.friend, now)

    def _feed(self, session: NearSession, now: float) -> None:
        """Gives the session what waits for it, as long as it has room."""
        crypto, friend, pending = self.carrier.crypto, session.friend, session.pending
        while pending:
            tag, data = pending[0]
            if crypto.send(friend, data, now, tag) is None:
                self._stuck[friend] = None
                self._stuck_at = now + STUCK_S
                break
            pending.popleft()
            if session.passed is not None:
                session.passed.went(data)
        self._moved[friend] = None

    def _take_lossy(self, message: messages.LossyHanded, now: float) -> None:
        session = self._session_of(message)
        if session is not None:
            self.carrier.friends.send_lossy(session.friend, message.data, now)
        self._lossy_in += 1
        if self._lossy_in == LOSSY_TAKEN:
            self._say(messages.LossyTaken, LOSSY_TAKEN)
            self._lossy_in = 0

    def _take_lossy_taken(self, message: messages.LossyTaken, now: float) -> None:
        self._lossy_out = max(0, self._lossy_out - message.handled)

    def _send_onion(self, message: messages.OnionSend, now: float) -> None:
        friend = PublicKey(message.friend)
        left = self.carrier.onion.send(friend, message.data, now)
        self._say(messages.OnionSent, friend, left)

    def _take_stored(self, message: messages.Stored, now: float) -> None:
        friend = PublicKey(message.friend)
        for session in self._queues.get(friend, ()):
            if session.serial == message.serial:
                session.stored(message.upto)
                if not session.over:
                    self._free(session, message.upto, now)
                self._ready[friend] = None

    def _free(self, session: NearSession, upto: int, now: float) -> None:
        """Frees the memory of what is stored, and of what nobody above wants if that is all."""
        friend, lasting = session.friend, self._lasting
        lasting.stored(friend, lasting.handed(friend) if session.is_stored() else upto, now)

    def _take_settled(self, message: messages.Settled, now: float) -> None:
        friend = PublicKey(message.friend)
        queue = self._queues.get(friend)
        if queue and queue[0].over and queue[0].serial == message.serial:
            self._lasting.settled(queue.popleft().serial)
            if not queue:
                del self._queues[friend]
            self._ready[friend] = None

    def _bootstrap(self, message: messages.BootstrapIdentity, now: float) -> None:
        self.carrier.bootstrap(nodes_of(message.nodes), now)

    # What friend connections tell (core.friend.parts.Listener)

    def _up(self, friend: PublicKey) -> NearSession | None:
        queue = self._queues.get(friend)
        return queue[-1] if queue and not queue[-1].over else None

    def _look(self, session: NearSession) -> None:
        """Asks net_crypto how far a session is."""
        session.progress = self._lasting.progress(session.friend) or session.progress

    def friend_online(self, real_key: PublicKey, now: float) -> None:
        """A session is up, or was taken up again."""
        serial = self._lasting.serial(real_key)
        if serial is None:
            raise LocalError("a session is up and has no serial")
        session = NearSession(real_key, serial, None if self._resuming else Passed())
        self._look(session)
        session.have = session.progress.taken.seq
        self._queues.setdefault(real_key, deque()).append(session)
        self._ready[real_key] = self._moved[real_key] = None

    def friend_offline(self, real_key: PublicKey, now: float) -> None:
        """It is over: that is told when the far half has all that came in it."""
        session = self._up(real_key)
        if session is None:
            return
        self._look(session)
        for ended in self._lasting.ended():
            if ended.serial == session.serial:
                session.progress = session.progress._replace(acked=ended.acked)
        session.over = True
        session.pending.clear()
        self._stuck.pop(real_key, None)
        self._ready[real_key] = None

    def friend_direct(self, real_key: PublicKey, direct: bool, now: float) -> None:
        """UDP carries the session, or only relays do."""
        session = self._up(real_key)
        if session is not None and session.direct != direct:
            session.direct = direct
            if session.announced:
                self._say(messages.SessionDirect, real_key, session.serial, direct)

    def friend_packets(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        """Packets for the messenger, of the part that `part_came` ends."""
        self._collected += packets

    def part_came(self, real_key: PublicKey, upto: int, now: float) -> None:
        """Friend connections have seen some packets, of which this is the last one's number."""
        packets, self._collected = self._collected, []
        session = self._up(real_key)
        if session is None:
            return
        if packets:
            session.came(packets, upto)
            self._ready[real_key] = None
        elif session.is_stored():
            self._lasting.stored(real_key, upto, now)

    def friend_lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """A packet that may be lost; it is, where the far half does not keep up."""
        session = self._up(real_key)
        if session is None or not session.announced or self._lossy_out >= LOSSY_WINDOW:
            self._drops["identity_lossy_full"] += 1
            return
        self._lossy_out += 1
        self._say(messages.LossyCame, real_key, session.serial, data)

    def friend_acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        """The friend has more, or there is more room."""
        session = self._up(real_key)
        if session is not None:
            self._look(session)
            self._feed(session, now)

    def _tell_relays(self, friend: PublicKey) -> None:
        """Tells by which relays a friend can be reached, if that is new."""
        relays = nodes_row(self.carrier.friends.relays_to_save(friend))
        if self._link is not None and relays != self._relays_told.get(friend, ()):
            self._relays_told[friend] = relays
            self._say(messages.FriendRelays, friend, relays)

    # What the carrier tells (core.identity.carrier.CarrierListener)

    def friend_request(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """A friend request came; while nobody is attached it is lost, and sent again."""
        self._say(messages.OnionCame, real_key, data)

    def reachable(self, connected: bool, now: float) -> None:
        """Friends can find us now, or not any more."""
        self._say(messages.Reachable, connected)

    # Telling

    def settle(self, now: float) -> None:
        """Ends a turn: tells what has come, and how far sessions are."""
        if self._link is None:
            return
        ready, self._ready = self._ready, {}
        for friend in ready:
            self._tell(friend)
        moved, self._moved = self._moved, {}
        for friend in moved:
            session = self._up(friend)
            if session is not None and session.announced:
                self._look(session)
                room = self.carrier.crypto.room(friend) - len(session.pending)
                self._advance(session, session.have + max(0, room))

    def _tell(self, friend: PublicKey) -> None:
        """Tells of the oldest session that the far half does not know all of."""
        queue = self._queues.get(friend)
        if not queue:
            return
        session = queue[0]
        if not session.announced:
            session.announced = True
            self._announce(session)
        while (batch := session.to_tell()) is not None:
            packets = tuple(batch.packets)
            self._say(messages.Came, friend, session.serial, batch.upto, packets)
        if session.over and session.is_stored() and not session.end_told:
            session.end_told = True
            self._advance(session, session.have)
            self._say(messages.SessionDown, friend, session.serial)

    def _announce(self, session: NearSession) -> None:
        progress = session.progress
        flying: tuple[tuple[int, int], ...] = ()
        if not session.over and progress.taken.letter > progress.acked.letter:
            flying = tuple((seq, letter) for seq, letter in self._lasting.flying(session.friend))
        self._say(
            messages.SessionUp,
            session.friend,
            session.serial,
            session.direct,
            tuple(progress.taken),
            tuple(progress.acked),
            flying,
            session.over,
            () if session.passed is None else session.passed.row(),
        )

    def _advance(self, session: NearSession, bulk: int) -> None:
        progress = session.progress
        if session.advanced != (progress, bulk):
            session.advanced = progress, bulk
            taken, acked = tuple(progress.taken), tuple(progress.acked)
            self._say(messages.Advanced, session.friend, session.serial, taken, acked, bulk)

    # Time

    @property
    def first(self) -> float:
        """When `handle_timer` wants to be called."""
        return self._nodes_at if self._stuck_at is None else min(self._nodes_at, self._stuck_at)

    def handle_timer(self, now: float) -> None:
        """Tries again what found no room, and tells nodes to be saved."""
        if self._stuck_at is not None and self._stuck_at <= now:
            stuck, self._stuck, self._stuck_at = self._stuck, {}, None
            for friend in stuck:
                session = self._up(friend)
                if session is not None:
                    self._feed(session, now)
        if self._nodes_at <= now:
            self._nodes_at = now + NODES_S
            nodes = known_row(self.carrier.known_nodes())
            if nodes != self._nodes_told and self._link is not None:
                self._nodes_told = nodes
                self._say(messages.NodesKnown, nodes)

    # End

    def close(self, now: float, end_sessions: bool) -> None:
        """Gives the place back; sessions are ended, or left to a successor."""
        self._link = None
        if end_sessions:
            self.carrier.shut_down(now)
            self.place.plan()
        self.place.close()


class _InParts:
    """Gives friend connections what net_crypto tells, and many packets in parts, so that each part
    ends with a packet whose number is known (core.net_crypto.parts.Listener)."""

    def __init__(self, carrier: Carrier, desk: CarrierDesk) -> None:
        self._crypto, self._friends, self._desk = carrier.crypto, carrier.friends, desk
        self.accepts = carrier.friends.accepts
        self.session_up = carrier.friends.session_up
        self.session_down = carrier.friends.session_down
        self.lossy = carrier.friends.lossy
        self.acknowledged = carrier.friends.acknowledged
        self.new_dht_key = carrier.friends.new_dht_key
        self.direct_changed = carrier.friends.direct_changed

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        """Packets came; net_crypto knows the number of the last."""
        lasting = self._crypto.lasting
        last = -1 if lasting is None else lasting.handed(real_key)
        for first in range(0, len(packets), BATCH):
            part = packets[first : first + BATCH]
            self._friends.lossless(real_key, part, now)
            upto = (last - (len(packets) - first - len(part))) & _U32
            self._desk.part_came(real_key, upto, now)
