"""The relay worker's half: turns one input of the broker into one commit, and keeps nothing else.

Whatever this shard does before its commit arrived at the broker has not happened: a successor that
is given the same records and the same input goes on from there. So it never talks to a client
itself, and only UDP datagrams of onion and forward requests leave it by another way.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from core.capturing import Seen
from core.crypto import MAC_SIZE, SharedKeys
from core.endpoint import Endpoint
from core.entropy import Entropy
from core.relay import packets
from core.relay.frames import (
    AHEAD,
    ANSWER,
    CHUNK_FIELDS,
    CLOSE,
    CONFIRM,
    FORGET,
    GO_ON,
    HELD,
    HELLO,
    HELLO_FIELDS,
    INBOX_FIELDS,
    NOTE_FIELDS,
    OWN,
    PAUSED,
    PUSH,
    RECORD_FIELDS,
    ROOM,
)
from core.relay.handshake import answer_hello
from core.relay.limits import BOX_EXTRA, FIRST_LINK, MAX_BOX, NONCE_MASK, RelayLimits
from core.relay.outgoing import Outgoing
from core.relay.session import Receiver, Session, has_room
from core.relay.watching import Take, Watch

Hop = Callable[[bytes, int, float, bool], bool]
"""hop(packet, serial, now, from_private): relay packet 08 or 0a; False closes the connection."""

_LINK_BYTES = [bytes((number,)) for number in range(256)]
_LOOK_INTERVAL_S = 0.05  # how often pauses are looked at without a reason
_LOOK_BYTES = 1 << 20  # of input whose pauses end together, for one commit: a frame has 4 MiB

Effect = tuple[Any, ...]


def _rows(flat: Sequence[Any], fields: int) -> Iterator[tuple[Any, ...]]:
    part = iter(flat)
    return zip(*([part] * fields), strict=False)


class RelayShard:
    """All connections of one relay shard, as far as their ciphers and packets go."""

    def __init__(
        self,
        keys: SharedKeys,
        entropy: Entropy,
        onion: Hop,
        forward: Hop,
        limits: RelayLimits | None = None,
    ) -> None:
        """`keys`: combined keys of the node's DHT identity; `onion`, `forward`: the two hops."""
        self._keys = keys
        self._entropy = entropy
        self.onion = onion
        self.forward = forward
        self._limits = limits or RelayLimits()
        self.frames: Counter[int] = Counter()
        """How many frames were handled, by kind."""
        self.outgoing = Outgoing()
        self.see(None)
        self._begin(-1)

    def _begin(self, epoch: int) -> None:
        """Forgets everything: the broker gives it again."""
        self.epoch = epoch
        self.sessions: dict[int, Session] = {}
        self.remotes: dict[int, Receiver] = {}  # receivers of other shards, while they matter
        self.broken = False
        self._reset_said = False
        self._unapplied: deque[tuple[int, list[tuple[Receiver, int]]]] = deque()
        self._waiting: dict[Session, None] = {}
        self._next_look = 0.0
        self.outgoing.forget()
        self._resumed = 0  # bytes of input that waited, taken since the last commit
        self._handed: list[tuple[Receiver, int]] = []
        self.effects: list[Effect] = []
        self.drops: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.sessions)

    def handle(self, items: Sequence[Any], now: float) -> list[Any] | None:
        """Takes an input and returns the items of its commit.

        None if the input belongs to an epoch that this shard has given up. An exception that comes
        out of here leaves the shard broken until the next epoch: the adapter says RESET.
        """
        epoch, sequence, applied, notes, records, inbox, hellos, chunks, stream = items
        if epoch != self.epoch:
            self._begin(epoch)
        elif self.broken:
            return None
        self.broken = True  # until the commit is made
        self._learn_applied(applied)
        look = bool(notes)
        for serial, note in _rows(notes, NOTE_FIELDS):
            self._note(serial, note)
        for record in _rows(records, RECORD_FIELDS):
            self._adopt(record)
        for serial, frame, peer in _rows(inbox, INBOX_FIELDS):
            session = self.sessions.get(serial)
            if session is not None:
                self._take_inbox(session, frame, peer, now)
        for serial, hello, source in _rows(hellos, HELLO_FIELDS):
            self._hello(serial, hello, source)
        self._take_chunks(chunks, stream, now)
        if self._waiting and (look or now >= self._next_look or self._is_ahead()):
            self._look(now)
        rows, out = self.outgoing.collect(self._handed)
        if self._handed:
            self._unapplied.append((sequence, self._handed))
            self._handed = []
        self._resumed = 0
        effects, self.effects = self.effects, []
        drops, self.drops = dict(self.drops), Counter()
        self.broken = False
        return [epoch, sequence, rows, out, effects, drops]

    def see(self, seen: list[Seen] | None) -> None:
        """From the next input on puts all frames into a list, as they have come and before they
        are sealed; None: no more. What a frame goes through is exchanged for that, so that nobody
        pays for it while nobody looks.
        """
        watch = None if seen is None else Watch(self, seen)
        self.seal: Callable[[Session, bytes], None] = (watch or self.outgoing).seal
        self._take_data: Take = self.data if watch is None else watch.data
        self._take_packet: Take = partial(packets.handle, self) if watch is None else watch.packet
        self._find_partner = self._partner if watch is None else watch.partner

    def newly_broken(self) -> bool:
        """Tells, once in an epoch, that an exception has ended it."""
        said, self._reset_said = self._reset_said, self.broken
        return self.broken and not said

    # What the broker tells

    def _learn_applied(self, applied: int) -> None:
        unapplied = self._unapplied
        while unapplied and unapplied[0][0] <= applied:
            for receiver, size in unapplied.popleft()[1]:
                receiver.ahead -= size
                if not receiver.ahead and not receiver.full:
                    self.remotes.pop(receiver.serial, None)

    def _note(self, serial: int, note: int) -> None:
        if note == FORGET:
            session = self.sessions.get(serial)
            if session is not None:
                self._drop(session)
            return
        receiver: Receiver | None = self.sessions.get(serial)
        if receiver is None:
            receiver = self.remotes.get(serial)
        if receiver is None:
            if note == ROOM:
                return
            receiver = self.remotes[serial] = Receiver(serial)
        receiver.full = note != ROOM
        if note == ROOM and type(receiver) is Session:
            receiver.past = 0
        receiver.held = note == HELD
        if not receiver.full and not receiver.ahead:
            self.remotes.pop(serial, None)

    def _adopt(self, record: tuple[Any, ...]) -> None:
        """Takes over a connection from the broker's record of it."""
        serial, key, shared, receive, send, confirmed, source, ping_id, links, note = record
        session = Session(
            serial, key, shared, int.from_bytes(receive, "big"), int.from_bytes(send, "big"), source
        )
        session.confirmed = confirmed
        session.ping_id = ping_id
        session.full, session.held = note != ROOM, note == HELD
        for link_id, peer_serial, peer_id in _rows(links, 3):
            session.links[link_id] = (peer_serial, peer_id) if peer_serial else None
        self.sessions[serial] = session
        remote = self.remotes.pop(serial, None)
        if remote is not None:  # it was another shard's: who waits for it waits here from now on
            for waiting in self._waiting:
                if waiting.waits_for is remote:
                    waiting.waits_for = session

    def _take_inbox(
        self, session: Session, frame: bytes, peer: list[int] | None, now: float
    ) -> None:
        """Seals a plain frame for its client, and learns from those that change its links."""
        self.outgoing.touch(session)
        session.done += 1
        self.seal(session, frame)
        kind = frame[0]
        if kind >= FIRST_LINK:
            return
        if kind == packets.PING:
            if peer is None:
                session.ping_id = frame[1:]
        elif kind == packets.ROUTING_RESPONSE:
            link_id = frame[1]
            if link_id:
                session.links.setdefault(link_id, None)
            if peer is not None:
                session.links[link_id] = (peer[0], peer[1])
                self.seal(session, bytes((packets.CONNECT_NOTICE, link_id)))
            if session.routes:  # a worker before this one may have asked
                session.routes -= 1
            if session.wait == ANSWER:
                self._resume(session, now)
        elif kind == packets.CONNECT_NOTICE:
            if peer is not None and frame[1] in session.links:
                session.links[frame[1]] = (peer[0], peer[1])
        elif kind == packets.DISCONNECT_NOTICE and frame[1] in session.links:
            session.links[frame[1]] = None

    def _hello(self, serial: int, hello: bytes, source: Endpoint) -> None:
        accepted = answer_hello(hello, self._keys, self._entropy)
        if accepted is None:
            self.effects.append((CLOSE, serial, "hello"))
            return
        receive, send = accepted.receive_nonce, accepted.send_nonce
        session = Session(
            serial,
            hello[:32],
            accepted.shared,
            int.from_bytes(receive, "big"),
            int.from_bytes(send, "big"),
            source,
        )
        self.sessions[serial] = session
        self.outgoing.touch(session)
        session.consumed = len(hello)
        self.outgoing.put(session, accepted.answer)
        self.effects.append((HELLO, serial, accepted.shared, receive, send))

    # Input of a connection

    def _take_chunks(self, chunks: list[int], stream: bytes, now: float) -> None:
        """Takes the parts of streams, which stand behind one another in `stream`."""
        source = self.outgoing.arena.source(stream)
        sessions = self.sessions
        end = 0
        for serial, size in _rows(chunks, CHUNK_FIELDS):
            begin = end
            end += size
            session = sessions.get(serial)
            if session is None:
                continue
            self.outgoing.touch(session)
            if session.rest or session.wait != GO_ON:
                session.rest += stream[begin:end]
                if session.wait == GO_ON:
                    self._run_rest(session, now)
                continue
            done = self._run(session, stream, source, begin, end, now)
            if done < end:
                session.rest = stream[done:end]

    def _run_rest(self, session: Session, now: float) -> None:
        """Goes on with the input that a session has of its own."""
        data = session.rest
        done = self._run(session, data, self.outgoing.arena.source(data), 0, len(data), now)
        session.rest = data[done:]

    def _run(
        self, session: Session, data: bytes, source: Any, position: int, end: int, now: float
    ) -> int:
        """Handles the whole frames in data[position:end], until one of them has to wait; returns
        where the rest begins.

        This is the relay's hot path: data for a client of this shard that has room is opened at
        the end of the arena, gets the other link id, and is sealed where it lies. All else goes
        through `data` and `packets.handle`.
        """
        outgoing = self.outgoing
        arena = outgoing.arena
        memory, open_box, seal_box = arena.memory, arena.open, arena.seal
        most = self._limits.ahead_local
        shared = session.shared
        receive = session.receive
        used = outgoing.used
        begin = position
        frames = 0
        link_id = -1  # whose other half is known
        other: Session | None = None
        peer_id = 0
        while end - position >= 2:
            high, low = data[position], data[position + 1]
            size = high << 8 | low
            # The reference passes over an empty frame; no client sends one, so here it closes.
            if size > MAX_BOX or size == 0:
                self.close(session, "frame_size")
                return end
            behind = position + 2 + size
            if behind > end:
                break
            at = used + BOX_EXTRA
            if size <= MAC_SIZE or not open_box(
                at, source, position + 2, size, receive.to_bytes(24, "big"), shared
            ):
                self.close(session, "frame_box")
                return end
            kind = memory[at]
            if not session.confirmed:
                session.confirmed = True
                self.effects.append((CONFIRM, session.serial))
            if kind < FIRST_LINK:
                other = None
            elif kind != link_id:
                link_id = kind
                other, peer_id = self._find_partner(session, kind)
            if other is None or other.full or other.ahead >= most or session.dropping is not None:
                plain = memory[at : used + 2 + size]
                if kind >= FIRST_LINK:
                    verdict = self._take_data(session, kind, plain, now)
                else:
                    verdict = self._take_packet(session, kind, plain, now)
                used = outgoing.used
                link_id = -1  # the links may have changed
                if verdict != GO_ON:
                    if verdict is None:
                        return end  # closed
                    session.wait = verdict
                    self._waiting[session] = None
                    break
            else:
                memory[at] = peer_id
                seal_box(used + 2, size - MAC_SIZE, other.send.to_bytes(24, "big"), other.shared)
                memory[used], memory[used + 1] = high, low
                other.send = (other.send + 1) & NONCE_MASK
                other.sent += 1
                other.ahead += size + 2
                if other.ends != used:
                    outgoing.begin_piece(other, used)
                other.ends = outgoing.used = used = used + 2 + size
            receive = (receive + 1) & NONCE_MASK
            frames += 1
            position = behind
        session.receive = receive
        session.received += frames
        session.consumed += position - begin
        return position

    def _partner(self, session: Session, link_id: int) -> tuple[Session | None, int]:
        """Returns the other half of a link where it is up and its client is of this shard."""
        peer = session.links.get(link_id)
        if peer is None:
            return None, 0
        other = self.sessions.get(peer[0])
        if other is None or other.links.get(peer[1]) != (session.serial, link_id):
            return None, 0
        return other, peer[1]

    def data(self, session: Session, link_id: int, plain: bytes, now: float) -> int | None:
        """Passes data on along a link, or says what becomes of it."""
        peer = session.links.get(link_id)
        if peer is None:
            if link_id in session.links:
                self.drops["relay_link_down"] += 1
                return GO_ON
            return self.no_link(session)
        peer_serial, peer_id = peer
        other = self.sessions.get(peer_serial)
        if other is None:
            receiver = self.remotes.get(peer_serial)
            if receiver is None:
                receiver = self.remotes[peer_serial] = Receiver(peer_serial)
            if not (has_room(receiver, self._limits) or self._may_pass(session, receiver, plain)):
                return self._wait_for(session, receiver, now)
            if session.dropping is not None:
                self._stop_dropping(session, receiver)
            size = len(plain) + BOX_EXTRA
            receiver.ahead += size
            self._handed.append((receiver, size))
            self.effects.append((PUSH, session.serial, link_id, plain[1:]))
            return GO_ON
        if other.links.get(peer_id) != (session.serial, link_id):
            self.drops["relay_link_down"] += 1  # the other side has just gone
            return GO_ON
        if not (has_room(other, self._limits) or self._may_pass(session, other, plain)):
            return self._wait_for(session, other, now)
        if session.dropping is not None:
            self._stop_dropping(session, other)
        self.seal(other, _LINK_BYTES[peer_id] + plain[1:])
        return GO_ON

    def _may_pass(self, session: Session, receiver: Receiver, plain: bytes) -> bool:
        """Tells whether a frame goes to a receiver that is full since its sender is so too: each
        of the two may wait for an answer of its client that is in its stream behind the frame."""
        if not (session.is_behind and receiver.full and not receiver.held):
            return False
        session.past += len(plain) + BOX_EXTRA
        return session.past <= self._limits.past_full

    def _wait_for(self, session: Session, receiver: Receiver, now: float) -> int:
        """Says what becomes of a frame whose receiver has no room: it waits (AHEAD or PAUSED), or
        it was dropped (GO_ON)."""
        if not receiver.full:
            session.waits_for = receiver
            return AHEAD  # lasts one turn of broker and worker, and costs the sender nothing
        dropping = session.dropping
        if dropping is None or receiver.serial not in dropping:
            since = session.paused_since
            if since is None or receiver.held:
                since = session.paused_since = now
            if session.may_hold(receiver.held, now, self._limits.hold_s) or (
                session.may_pause(now) and now - since < self._limits.pause_s
            ):
                session.waits_for = receiver
                return PAUSED
            if dropping is None:
                dropping = session.dropping = set()
            dropping.add(receiver.serial)
        session.paused_since = None
        self.drops["relay_receiver_full"] += 1
        return GO_ON

    @staticmethod
    def _stop_dropping(session: Session, receiver: Receiver) -> None:
        """A receiver has room again: next time its senders may wait for it again."""
        if session.dropping is not None:
            session.dropping.discard(receiver.serial)
            if not session.dropping:
                session.dropping = None

    def no_link(self, session: Session) -> int | None:
        """A link id that was not given out: not yet, if a routing response is on its way."""
        if session.routes:
            return ANSWER
        return self.close(session, "no_link")

    def wait_for_answer_room(self, session: Session) -> int:
        """GO_ON if a client's own queue has room for an answer; else its input waits, however
        long: a client that does not read need not be read either."""
        if has_room(session, self._limits):
            return GO_ON
        session.waits_for = session
        return OWN if session.full else AHEAD

    # Waiting input

    def _is_ahead(self) -> bool:
        return any(session.wait == AHEAD for session in self._waiting)

    def _look(self, now: float) -> None:
        """Goes on with the input whose reason to wait is over."""
        self._next_look = now + _LOOK_INTERVAL_S
        for session in list(self._waiting):
            if self._resumed >= _LOOK_BYTES:
                self._next_look = now  # the rest has its turn in the next commit
                return
            if session.wait == ANSWER:
                continue
            receiver = session.waits_for
            since = session.paused_since
            if since is not None and receiver is not None and receiver.held:
                since = session.paused_since = now  # no pause runs out while its worker is away
            if (
                receiver is None
                or has_room(receiver, self._limits)
                or (receiver.full and session.wait == AHEAD)  # from now on it is a pause
                or (since is not None and now - since >= self._limits.pause_s)
                or (since is not None and not session.may_pause(now))
            ):
                self._resume(session, now)

    def _resume(self, session: Session, now: float) -> None:
        del self._waiting[session]
        receiver = session.waits_for
        if receiver is not None and not receiver.full:
            session.paused_since = None
        session.wait = GO_ON
        session.waits_for = None
        self.outgoing.touch(session)
        before = session.consumed
        self._run_rest(session, now)
        self._resumed += session.consumed - before

    # The end of connections

    def close(self, session: Session, reason: str) -> int | None:
        """Ends a connection; what was sealed for it before still goes out first. Returns None,
        which is what a handler returns that has closed."""
        self.effects.append((CLOSE, session.serial, reason))
        self._drop(session)
        return None

    def _drop(self, session: Session) -> None:
        self.sessions.pop(session.serial, None)
        self._waiting.pop(session, None)
        session.full = session.held = False  # whoever waits for it waits no longer
        session.ahead = 0
