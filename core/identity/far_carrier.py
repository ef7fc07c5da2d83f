"""The far half's end of the link: a carrier in another process, as if it were friend connections.

The process of the carrier may be replaced at any moment, and so may this one. Sessions live on: the
one that begins anew is told by the other how far each session is.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from core.crypto import PublicKey
from core.entropy import Entropy
from core.friend.parts import Listener
from core.identity import messages
from core.identity.carrier import KnownNodes
from core.identity.far_session import FarSession
from core.identity.link import LINK_SIZE, Link
from core.identity.messages import FriendRow
from core.identity.options import EngineOptions
from core.identity.passing import Passed
from core.identity.rows import known_of, nodes_row, options_row
from core.messages import Message
from core.messenger.events import Event, IdentityConnected
from core.net_crypto.memory import HeldMemory
from core.packets.nodes import NodeInfo
from core.savedata.profile import Profile

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 16.0
"""How long an attachment is waited for, each time twice as long (ours)."""
REFUSED_PAUSE_S = 15.0  # ours: until somebody has given a port back
LEAST_PAUSE_S = 0.25  # between attachments, whatever happens to them (ours)
FRIENDS_AT_ONCE = 16  # in one message: up to 3 KB each
LOSSY_WINDOW = 64  # packets that may be lost, told and not handled; others are dropped (ours)
LOSSY_TAKEN = 16  # after so many the other half is told
MOST_BYTES = 64 << 20
"""Of packets that wait in all far halves of a process (ours)."""
_U32 = 0xFFFFFFFF
_NEVER = float("inf")


class FarHost(Protocol):
    """Who runs a far half: the way to its carrier, what is kept on disk, and who is told."""

    def tell(self, message: Message) -> None:
        """Tells the process that has the carriers of this identity."""
        ...

    def event(self, event: Event | IdentityConnected, now: float) -> None:
        """Something happened that a person or program wants to know."""
        ...

    def together(self) -> AbstractContextManager[object]:
        """Returns what makes one transaction of all that is stored within it."""
        ...

    def heard(self) -> Mapping[bytes, tuple[bytes, int]]:
        """Returns what `hear` was told of each friend, as far as it was stored."""
        ...

    def hear(self, friend: PublicKey, serial: bytes, upto: int) -> None:
        """All packets of this session up to this one were handled: to be stored in the same
        transaction as what they brought; where they brought nothing to store, not at all."""
        ...

    def resumed(
        self,
        friend: PublicKey,
        taken: int,
        acked: int,
        flying: tuple[tuple[int, int], ...],
        now: float,
    ) -> None:
        """A session is up in which letters were sent before this process began.

        The friend has those up to `acked`; those up to `taken` are on their way, and `flying` names
        them: the number that a Receipt will have, and the letter. Others were not sent.
        """
        ...


class Upward(Listener, Protocol):
    """The messenger, as it is told of friends."""

    def sent_before(self, key: PublicKey, packet: int) -> int:
        """Takes up a message that was sent as that packet; returns its number."""
        ...

    def onion_data(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Takes a friend request."""
        ...


class _Last(NamedTuple):
    """The last session with a friend of which was heard."""

    serial: bytes = b""
    upto: int = -1
    over: bool = False
    """Whether its end was seen here."""


class FarCarrier:
    """The carrier of one identity, in another process (core.messenger.parts.Connections)."""

    listener: Upward
    """The messenger; to be set before the first message. It needs this first."""

    def __init__(
        self,
        profile: Profile,
        entropy: Entropy,
        host: FarHost,
        options: EngineOptions,
        ports: tuple[int, int],
        hosts: tuple[str, ...],
        drops: Counter[str],
        memory: HeldMemory,
    ) -> None:
        self._keys = profile.keys
        self._entropy, self._host = entropy, host
        self._options, self._ports, self._hosts = options, ports, hosts
        self._drops, self._memory = drops, memory
        self._nodes: dict[NodeInfo, None] = dict.fromkeys((*options.bootstrap, *profile.relays))
        self._relays: dict[PublicKey, messages.Row] = {}
        """By friend, all of them: relays by which it can be reached."""
        self._sessions: dict[PublicKey, FarSession] = {}
        self._last = {
            PublicKey(friend): _Last(serial, upto)
            for friend, (serial, upto) in host.heard().items()
        }
        self._waiting: dict[PublicKey, None] = {}  # friends for whom something is to be told
        self._left: dict[PublicKey, int] = {}  # nodes through which the onion took our last word
        self._link: Link | None = None
        self._attach_at = _NEVER
        self._attached_at = -_NEVER
        self._pause_s = FIRST_PAUSE_S
        self._lossy_out = self._lossy_in = 0
        self.port = 0
        """The UDP port; 0 without, or before it is known."""
        self.dht_key: PublicKey | None = None
        self.connected = False
        """Whether friends can find us."""
        self.known = KnownNodes(profile.dht_nodes, profile.relays, profile.path_nodes)
        """Nodes to come back by: those of the profile, or as the carrier told them last."""
        self.refused = ""
        """Why the identity cannot be carried, for people."""
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            messages.Attached: self._take_attached,
            messages.SessionUp: self._take_up,
            messages.Complete: self._take_complete,
            messages.SessionDown: self._take_down,
            messages.SessionDirect: self._take_direct,
            messages.Came: self._take_packets,
            messages.LossyCame: self._take_lossy,
            messages.LossyTaken: self._take_lossy_taken,
            messages.Advanced: self._take_advanced,
            messages.OnionCame: self._take_onion,
            messages.OnionSent: self._take_onion_sent,
            messages.Reachable: self._take_reachable,
            messages.NodesKnown: self._take_nodes,
            messages.FriendRelays: self._take_relays,
        }

    # Attaching

    def attach(self, now: float) -> None:
        """Begins a new link: tells the carrier's process everything, whatever it knows."""
        for session in self._sessions.values():
            session.confirmed = False
        self._lossy_out = self._lossy_in = 0
        self._attached_at = now
        self._attach_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        link = self._link = Link(
            self._keys.public, self._entropy.bytes(LINK_SIZE), self._host.tell
        )
        link.say(
            messages.Attach,
            self._keys.secret.reveal(),
            options_row(self._options),
            self._ports,
            self._hosts,
            nodes_row({**self._nodes, **dict.fromkeys(self.known.relays)}),
            nodes_row(self.known.path_nodes),
            nodes_row(self.known.dht_nodes),
        )
        rows = [self._friend_row(friend) for friend in self._relays]
        for first in range(0, len(rows), FRIENDS_AT_ONCE) or (0,):
            last = first + FRIENDS_AT_ONCE >= len(rows)
            link.say(messages.FriendsTold, tuple(rows[first : first + FRIENDS_AT_ONCE]), last)

    def _friend_row(self, friend: PublicKey) -> FriendRow:
        session = self._sessions.get(friend)
        if session is not None:
            passed = session.passed.row()
            return FriendRow(friend, session.serial, session.upto, passed, self._relays[friend])
        last = self._last.get(friend, _Last())
        return FriendRow(friend, last.serial, last.upto, None, self._relays[friend])

    def lost(self, now: float) -> None:
        """The link is over: another one is begun at once, unless the last one is too young."""
        self._link = None
        for session in self._sessions.values():
            session.confirmed = False
        self._attach_at = max(now, self._attached_at + LEAST_PAUSE_S)

    def detach(self) -> None:
        """Has all sessions ended: the identity goes offline."""
        self.settle()
        self._say(messages.Detach)
        self._link = None
        self._attach_at = _NEVER

    def bootstrap(self, nodes: Sequence[NodeInfo]) -> None:
        """Takes nodes to begin with, for successors of the carrier too."""
        self._nodes.update(dict.fromkeys(nodes))
        self._say(messages.BootstrapIdentity, nodes_row(nodes))

    def _say(self, kind: Callable[..., Message], *fields: Any) -> None:
        if self._link is not None:
            self._link.say(kind, *fields)

    # Commands (core.messenger.parts.Connections)

    def add(self, real_key: PublicKey, now: float, relays: Sequence[NodeInfo] = ()) -> None:
        """Wants a session with a friend; its relays the carrier learns from the friend itself."""
        if real_key not in self._relays:
            self._relays[real_key] = ()
            self._say(messages.AddFriend, real_key)

    def remove(self, real_key: PublicKey, now: float) -> None:
        """Wants it no more."""
        self.settle()
        self._relays.pop(real_key, None)
        self._last.pop(real_key, None)
        self._left.pop(real_key, None)
        session = self._sessions.pop(real_key, None)
        if session is not None:
            session.close()
        self._say(messages.RemoveFriend, real_key)

    def send(self, real_key: PublicKey, data: bytes, now: float, letter: int = 0) -> int | None:
        """Hands over lossless data; its sequence number, or None: too much waits already."""
        session = self._sessions.get(real_key)
        number = None if session is None else session.give(data, letter)
        if number is None:
            return None
        self._waiting[real_key] = None
        return number & _U32

    def send_lossy(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        """Hands over data that may be lost; False: it is, for too much is on its way."""
        session = self._sessions.get(real_key)
        if session is None or not session.confirmed or self._lossy_out >= LOSSY_WINDOW:
            return False
        self._lossy_out += 1
        self._say(messages.LossyHanded, real_key, session.serial, data)
        return True

    def room(self, real_key: PublicKey) -> int:
        """How many packets of bulk data would be taken now."""
        session = self._sessions.get(real_key)
        return 0 if session is None else session.room()

    def is_online(self, real_key: PublicKey) -> bool:
        """Whether a session is up."""
        return real_key in self._sessions

    def send_onion(self, real_key: PublicKey, data: bytes) -> int:
        """Has data sent through the onion; tells through how many nodes the last went that was sent
        to this key, for what becomes of this one is heard later: so the first is sent twice."""
        self._say(messages.OnionSend, real_key, data)
        return self._left.pop(real_key, 0)

    def settle(self) -> None:
        """Tells what was handed over since the last time, in batches."""
        waiting, self._waiting = self._waiting, {}
        for friend in waiting:
            session = self._sessions.get(friend)
            while session is not None:
                first, packets = session.to_tell()
                if not packets:
                    break
                self._say(messages.Handed, friend, session.serial, first, packets)

    # Time

    def next_timer(self) -> float | None:
        """Returns when an attachment has not been answered for too long."""
        return None if self._attach_at == _NEVER else self._attach_at

    def handle_timer(self, now: float) -> None:
        """Attaches anew, if that is due."""
        if self._attach_at <= now:
            self.attach(now)

    # What the near half tells

    def handle_message(self, message: Any, now: float) -> None:
        """Takes a message for this identity; what is not of this link is counted."""
        link = self._link
        if link is None or message.link != link.name:
            self._drops["identity_old_link"] += 1
        elif isinstance(message, messages.LinkLost):
            self.lost(now)
        elif isinstance(message, messages.AttachRefused):
            self.refused = message.reason
            self._attach_at = now + REFUSED_PAUSE_S
        elif not link.follows(message.number):
            self._drops["identity_link_gap"] += 1
            self.lost(now)
        else:
            self._handlers[type(message)](message, now)

    def _take_attached(self, message: messages.Attached, now: float) -> None:
        self.dht_key, self.port = PublicKey(message.dht_key), message.port
        self.refused = ""
        self._set_connected(message.connected, now)

    def _take_complete(self, message: messages.Complete, now: float) -> None:
        self._attach_at = _NEVER
        self._pause_s = FIRST_PAUSE_S
        for session in tuple(self._sessions.values()):
            if not session.confirmed:
                self._go_down(session, now)

    def _take_up(self, message: messages.SessionUp, now: float) -> None:
        friend = PublicKey(message.friend)
        last = self._last.get(friend, _Last())
        if friend not in self._relays or (last.serial == message.serial and last.over):
            return  # removed meanwhile; or told once more, since our word on its end was lost
        session = self._sessions.get(friend)
        if session is not None and session.serial == message.serial:
            self._go_on(session, message, now)
            return
        if session is not None:
            self._go_down(session, now)
        upto = last.upto if last.serial == message.serial else -1
        taken, passed = message.taken, Passed(message.passed)
        session = FarSession(friend, message.serial, taken[0], upto, passed, self._memory)
        self._sessions[friend] = session
        self._last[friend] = _Last(message.serial, upto)
        session.acked = message.acked[0]
        if message.over:
            session.abandon()
        self._waiting[friend] = None
        if taken[1]:
            flying = tuple(
                (self.listener.sent_before(friend, number & _U32), letter)
                for number, letter in message.flying
            )
            self._host.resumed(friend, taken[1], message.acked[1], flying, now)
        packets = passed.packets()
        for packet in passed.cancels():  # of files of which only our predecessor knew
            session.give(packet, 0)
        self.listener.friend_online(friend, now)
        self.listener.friend_direct(friend, message.direct, now)
        if packets:
            self.listener.friend_packets(friend, packets, now)

    def _go_on(self, session: FarSession, message: messages.SessionUp, now: float) -> None:
        """A session that is up here too goes on over this link."""
        if message.over:
            session.abandon()
        elif not session.taken(message.taken[0]):
            self._mend(session, now)
            return
        else:
            session.attached()
            self._waiting[session.friend] = None
        self.listener.friend_direct(session.friend, message.direct, now)
        self._acknowledged(session, message.acked[0], now)

    def _mend(self, session: FarSession, now: float) -> None:
        """Has a session ended in which both halves do not agree on what was handed over."""
        self._drops["identity_session_torn"] += 1
        self._go_down(session, now)
        self._say(messages.RemoveFriend, session.friend)
        self._say(messages.AddFriend, session.friend)

    def _go_down(self, session: FarSession, now: float) -> None:
        del self._sessions[session.friend]
        session.close()
        self._last[session.friend] = _Last(session.serial, session.upto, True)
        self.listener.friend_offline(session.friend, now)

    def _session_of(self, message: Any) -> FarSession | None:
        session = self._sessions.get(PublicKey(message.friend))
        if session is not None and session.serial == message.serial:
            return session
        self._drops["identity_session_over"] += 1
        return None

    def _take_down(self, message: messages.SessionDown, now: float) -> None:
        session = self._sessions.get(PublicKey(message.friend))
        if session is not None and session.serial == message.serial:
            self._go_down(session, now)
        self._say(messages.Settled, message.friend, message.serial)

    def _take_direct(self, message: messages.SessionDirect, now: float) -> None:
        session = self._session_of(message)
        if session is not None:
            self.listener.friend_direct(session.friend, message.direct, now)

    def _take_packets(self, message: messages.Came, now: float) -> None:
        session = self._session_of(message)
        if session is None:
            return
        with self._host.together():
            self.listener.friend_packets(session.friend, message.packets, now)
            self._host.hear(session.friend, message.serial, message.upto)
        session.upto = message.upto
        session.passed.came(message.packets)
        self._say(messages.Stored, message.friend, message.serial, message.upto)

    def _take_lossy(self, message: messages.LossyCame, now: float) -> None:
        session = self._session_of(message)
        if session is not None:
            self.listener.friend_lossy(session.friend, message.data, now)
        self._lossy_in += 1
        if self._lossy_in == LOSSY_TAKEN:
            self._say(messages.LossyTaken, LOSSY_TAKEN)
            self._lossy_in = 0

    def _take_lossy_taken(self, message: messages.LossyTaken, now: float) -> None:
        self._lossy_out = max(0, self._lossy_out - message.handled)

    def _take_advanced(self, message: messages.Advanced, now: float) -> None:
        session = self._session_of(message)
        if session is None:
            return
        if not session.taken(message.taken[0]):
            self._mend(session, now)
            return
        session.bulk = message.bulk
        self._waiting[session.friend] = None
        self._acknowledged(session, message.acked[0], now)

    def _acknowledged(self, session: FarSession, number: int, now: float) -> None:
        session.acked = number
        self.listener.friend_acknowledged(session.friend, number & _U32, now)

    def _take_onion(self, message: messages.OnionCame, now: float) -> None:
        self.listener.onion_data(PublicKey(message.friend), message.data, now)

    def _take_onion_sent(self, message: messages.OnionSent, now: float) -> None:
        friend = PublicKey(message.friend)
        if message.left and friend in self._relays:
            self._left[friend] = message.left

    def _take_reachable(self, message: messages.Reachable, now: float) -> None:
        self._set_connected(message.connected, now)

    def _set_connected(self, connected: bool, now: float) -> None:
        if connected != self.connected:
            self.connected = connected
            self._host.event(IdentityConnected(connected), now)

    def _take_nodes(self, message: messages.NodesKnown, now: float) -> None:
        told = known_of(message.nodes)
        self.known = KnownNodes(*(new or old for new, old in zip(told, self.known, strict=True)))

    def _take_relays(self, message: messages.FriendRelays, now: float) -> None:
        friend = PublicKey(message.friend)
        if friend in self._relays:
            self._relays[friend] = message.relays
