"""What of the sessions outlives this process, however it ends: keys, numbers, packets on their way.

Three regions of one piece of memory, for all identities of a worker: identities (DHT secret key and
port, so that their peers find them where they were), sessions, and packets. A packet to the peer
stands in its slot before it leaves, until the peer has it. One of the peer does so before the peer
can learn that it is here, until the layer above has stored it. Other numbers follow from the slots,
or have a word in the session's row.

No (key, nonce) pair is used twice: a row says which nonces may have been used, before they are,
256 at a time. Whoever takes up a session begins behind them; to the peer these are packets that
were lost.
"""

import mmap
from collections.abc import Callable
from typing import NamedTuple

from core.crypto import Nonce, PublicKey, SecretKey, increment
from core.endpoint import SOCKADDR4_SIZE, Endpoint
from core.entropy import Entropy
from core.net_crypto import layout
from core.net_crypto.kept import Kept
from core.net_crypto.layout import SessionKeys
from core.net_crypto.regions import Region, size_for
from core.net_crypto.sending import U32, WINDOW
from core.net_crypto.tags import Tag
from core.packets.net_crypto import MAX_DATA_SIZE

IDENTITIES = 4096
SESSIONS = 16384
PACKETS = 32768  # 47 MB. Of this and the rows above only what was ever used takes room.
SHARE = 4  # one session may have a fourth of the slots

_read_session = layout.SESSION.unpack_from
_read_head = layout.HEAD.unpack_from


class SavedIdentity(NamedTuple):
    """Where an identity was to be found."""

    dht_secret: SecretKey
    port: int


class SavedSession(NamedTuple):
    """A session of a process that has ended."""

    kept: Kept
    keys: SessionKeys
    endpoints: tuple[Endpoint, ...]
    alive: Endpoint | None
    """Of these the one through which the peer was reached."""
    first_nonce: Nonce
    """Ours that no process can have used."""
    is_whole: bool
    """Whether its packets are what its row says; else it cannot go on."""


class SessionMemory:
    """The memory of one worker: many identities, their sessions and packets.

    When the last place for a session is wanted, the oldest is forgotten of those that are over and
    of which the layer above has not said that it knows; if there is none, there is no session.
    """

    def __init__(
        self,
        lasting: Callable[[int], mmap.mmap] | None = None,
        identities: int = IDENTITIES,
        sessions: int = SESSIONS,
        packets: int = PACKETS,
    ) -> None:
        """`lasting` gives so many bytes that outlive the process; without it they die with us."""
        wanted = (
            (b"toxident", layout.IDENTITY, identities + 1),  # one is written anew behind the old
            (b"toxsess2", layout.SESSION, sessions),
            (b"toxpack1", layout.PACKET, packets),
        )
        size = sum(size_for(form, capacity) for _, form, capacity in wanted)
        self.memory = mmap.mmap(-1, size) if lasting is None else lasting(size)
        regions, begin = [], 0
        for name, form, capacity in wanted:
            regions.append(Region(name, form, capacity, self.memory, begin))
            begin += size_for(form, capacity)
        self._identities, self.sessions, self.packets = regions
        self.share = packets // SHARE
        """The slots that one session may have."""
        self.usual_share = self.share - self.share // 4
        """And those for packets that are not next in order."""
        self.reserve, self.early_reserve = packets // 4, packets // 2
        """Slots that are left free for packets that are next in order: those can leave when they
        are stored, others only with the peer's help. More is left by those that came too early: no
        friend who sends only such keeps others from sending."""
        self.ended: dict[int, Kept] = {}
        """By serial: those of which the layer above does not know all."""
        self._identity_at: dict[PublicKey, int] = {}
        self._found: dict[PublicKey, list[int]] = {}  # rows of sessions that nobody took up yet
        self._packets_of: dict[int, list[int]] = {}  # and places of their packets, by serial
        self._read()
        self.writings = max(self._identities.last_number, self.packets.last_number)

    def _read(self) -> None:
        memory = self.memory
        for place in sorted(self._identities.find(), key=self._identities.number):
            key = PublicKey(layout.IDENTITY.unpack_from(memory, place)[1])
            before = self._identity_at.get(key)
            if before is not None:
                self._identities.give_back(before)
            self._identity_at[key] = place
        for place in self.sessions.find():
            identity = PublicKey(_read_session(memory, place)[13])
            self._found.setdefault(identity, []).append(place)
            self._packets_of[self.sessions.number(place)] = []
        for place in self.packets.find():
            serial, _, _, _, size, way = _read_head(memory, place)
            places = self._packets_of.get(serial)
            if places is None or size > MAX_DATA_SIZE or way not in (layout.OUT, layout.IN):
                self.packets.give_back(place)
            else:
                places.append(place)

    # Identities

    def identities(self) -> list[PublicKey]:
        """Returns the real keys of all that are kept, or that sessions are kept of."""
        kept = {*self._identity_at, *self._found, *(one.identity for one in self.ended.values())}
        return sorted(kept)

    def identity(self, real_key: PublicKey) -> SavedIdentity | None:
        """Returns where an identity was, or None if that is not known."""
        place = self._identity_at.get(real_key)
        if place is None:
            return None
        _, _, secret, port, _ = layout.IDENTITY.unpack_from(self.memory, place)
        return SavedIdentity(SecretKey(secret), port)

    def keep_identity(self, real_key: PublicKey, dht_secret: SecretKey, port: int) -> bool:
        """Keeps where an identity is; False: there is no room for one more."""
        before = self._identity_at.get(real_key)
        if before is None and len(self._identity_at) == self._identities.capacity - 1:
            return False
        place = self._identities.take()
        assert place is not None  # there is one more than identities
        self.writings = number = self.writings + 1
        layout.IDENTITY.pack_into(
            self.memory, place, number, real_key, dht_secret.reveal(), port, number
        )
        self._identity_at[real_key] = place
        if before is not None:
            self._identities.give_back(before)
        return True

    def forget_identity(self, real_key: PublicKey) -> None:
        """Forgets an identity that has no sessions now, and all that was kept of earlier ones."""
        place = self._identity_at.pop(real_key, None)
        if place is not None:
            self._identities.give_back(place)
        for saved in self.take_up(real_key):
            saved.kept.forget()
        for kept in self.ended_of(real_key):
            self.settled(kept.number)

    # Sessions

    def new(self, identity: PublicKey, real_key: PublicKey, entropy: Entropy) -> Kept | None:
        """Returns a place for a new session, or None if there is none."""
        place = self.sessions.take()
        if place is None:
            if not self.ended:
                return None
            self.settled(next(iter(self.ended)))
            place = self.sessions.take()
            if place is None:
                return None
        kept = Kept(self, identity, real_key, place)
        kept.clear(int.from_bytes(entropy.bytes(8), "little") or 1)
        return kept

    def ended_of(self, identity: PublicKey) -> list[Kept]:
        """Returns the sessions that are over and not settled, in the order of their end."""
        return [kept for kept in self.ended.values() if kept.identity == identity]

    def settled(self, number: int) -> None:
        """The layer above knows all of a session that is over."""
        kept = self.ended.pop(number, None)
        if kept is not None:
            kept.forget()

    def take_up(self, identity: PublicKey) -> list[SavedSession]:
        """Returns the sessions that an earlier process left, once; those that are over are among
        the ended then."""
        found = [self._take_up(place) for place in self._found.pop(identity, ())]
        return [saved for saved in found if saved is not None]

    def _take_up(self, place: int) -> SavedSession | None:
        row = _read_session(self.memory, place)
        keys = SessionKeys(*row[13:-1])
        kept = Kept(self, keys.identity, keys.real_key, place)
        kept.number = row[0]
        is_whole = self._take_packets(kept)
        if kept.word(layout.STATE) == layout.ENDED:
            kept.end(kept.in_order())
            return None
        ways = kept.word(layout.WAYS)
        v4, v6 = layout.ENDPOINTS.unpack(row[12 if ways & layout.SECOND else 11])
        known = (
            (layout.V4, layout.BEST4, Endpoint(v4[:SOCKADDR4_SIZE])),
            (layout.V6, layout.BEST6, Endpoint(v6)),
        )
        return SavedSession(
            kept,
            keys,
            tuple(endpoint for there, _, endpoint in known if ways & there),
            next((endpoint for _, best, endpoint in known if ways & best), None),
            increment(Nonce(keys.base_nonce), kept.word(layout.NONCES)),
            is_whole,
        )

    def _take_packets(self, kept: Kept) -> bool:
        """Gives a session its slots; False: of what it sends there is not all."""
        start, first = kept.word(layout.START), kept.word(layout.STORED)
        outgoing: dict[int, tuple[int, Tag]] = {}
        for place in self._packets_of.pop(kept.number):
            _, seq, letter, number, _, way = _read_head(self.memory, place)
            behind = start if way == layout.OUT else first
            ahead = (number - behind) & U32
            if ahead >= WINDOW:  # the peer has it, or it is stored: the end of that was cut
                self.packets.give_back(place)
                continue
            kept.used += 1
            if way == layout.OUT:
                outgoing[ahead] = place, Tag(seq, letter)
            else:
                kept.incoming[number] = place
        for ahead in sorted(outgoing):
            kept.note_outgoing(*outgoing[ahead])
        sent = (kept.word(layout.NEXT) - start) & U32
        return all(ahead in outgoing for ahead in range(len(outgoing))) and sent <= len(outgoing)
