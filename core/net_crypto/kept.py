"""The place of one session in memory that outlives this process: its row, and slots of packets."""

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

from core.crypto import PublicKey
from core.net_crypto import layout
from core.net_crypto.layout import SessionKeys
from core.net_crypto.path import DirectPath
from core.net_crypto.sending import U32
from core.net_crypto.tags import NO_TAG, Ended, Tag

if TYPE_CHECKING:
    from core.net_crypto.lasting import SessionMemory

RESERVED = 256  # nonces at a time; a peer bears a jump of 43,690

_write_packet = layout.PACKET.pack_into
_read_head = layout.HEAD.unpack_from


class Kept:
    """Writes down what changes of a session, each thing before anything rests on it.

    Whoever is killed between two words leaves what is true or what makes the session repeat itself:
    of packets that the peer has first the tags, then the number, then the slots. A slot is free
    only when everything before it is, so that the numbers of those in use have no gap.
    """

    __slots__ = (
        "_last_letter",
        "_last_seq",
        "_memory",
        "_row",
        "_words",
        "identity",
        "incoming",
        "number",
        "outgoing",
        "real_key",
        "used",
    )

    def __init__(
        self, memory: "SessionMemory", identity: PublicKey, real_key: PublicKey, place: int
    ) -> None:
        """Takes a row; it is empty, or has been read."""
        self._memory, self._row = memory, place >> 3
        self._words = memory.sessions.words
        self.identity, self.real_key = identity, real_key
        self.number = 0  # its serial
        self.outgoing: deque[tuple[int, Tag]] = deque()  # places: all that the peer has not
        self.incoming: dict[int, int] = {}  # places by number: all that is not stored
        self.used = 0  # slots
        self._last_seq = self._last_letter = 0  # of what was queued

    # The row

    def clear(self, number: int) -> None:
        """Makes the row ready for a new session with this serial; no successor finds it yet."""
        self.number = number
        for word in range(layout.STATE, layout.WAYS + 1):
            self._words[self._row + word] = 0

    def agree(self, keys: SessionKeys) -> None:
        """Takes what stays the same."""
        layout.KEYS.pack_into(self._memory.memory, (self._row << 3) + layout.KEYS_AT, *keys)

    def begin(self, path: DirectPath, now: float) -> None:
        """The session is up: from now on it outlives us."""
        row, words = self._row, self._words
        words[row + layout.STATE] = layout.UP
        self.follow(path, now)
        words[row + (layout.SESSION.size >> 3) - 1] = self.number
        words[row] = self.number  # all else is there

    def follow(self, path: DirectPath, now: float) -> None:
        """Takes down where the peer is, and where it is reached now."""
        words, place = self._words, self._row + layout.WAYS
        v4, v6, alive = path.v4, path.v6, path.best(now)
        ways = ~words[place] & layout.SECOND
        for endpoint, there, best in ((v4, layout.V4, layout.BEST4), (v6, layout.V6, layout.BEST6)):
            if endpoint is not None:
                ways |= there | (best if endpoint == alive else 0)
        at = (self._row << 3) + layout.ENDPOINTS_AT
        at += layout.ENDPOINTS.size if ways & layout.SECOND else 0
        layout.ENDPOINTS.pack_into(self._memory.memory, at, v4 or b"", v6 or b"")
        words[place] = ways

    def word(self, which: int) -> int:
        """Returns one of the words of `core.net_crypto.layout`."""
        return self._words[self._row + which]

    def set_word(self, which: int, value: int) -> None:
        """Writes one of them."""
        self._words[self._row + which] = value

    def reserve(self) -> int:
        """Returns how many more nonces may be used."""
        self._words[self._row + layout.NONCES] += RESERVED
        return RESERVED

    # Slots

    def _keep(self, way: int, number: int, data: bytes, tag: Tag) -> int | None:
        memory = self._memory
        place = memory.packets.take()
        if place is None:
            return None
        memory.writings = writing = memory.writings + 1
        _write_packet(
            memory.memory, place, writing, self.number, tag[0], tag[1], number, len(data), way,
            data, writing,
        )  # fmt: skip
        self.used += 1
        return place

    def _release(self, places: Collection[int]) -> None:
        give_back = self._memory.packets.give_back
        for place in places:
            give_back(place)
        self.used -= len(places)

    def data(self, place: int) -> bytes:
        """Returns what is in a slot."""
        memory = self._memory.memory
        at = place + layout.DATA_AT
        return memory[at : at + _read_head(memory, place)[4]]

    def keep_outgoing(self, number: int, data: bytes, tag: Tag) -> bool:
        """Keeps a packet that the peer is to get; False: there is no room for it."""
        memory = self._memory
        if self.used >= memory.usual_share or memory.packets.left <= memory.reserve:
            return False
        place = self._keep(layout.OUT, number, data, tag)
        if place is None:
            return False
        self.note_outgoing(place, tag)
        return True

    def note_outgoing(self, place: int, tag: Tag) -> None:
        """The next packet for the peer stands there."""
        self.outgoing.append((place, tag))
        if tag[0]:
            self._last_seq = tag[0]
        if tag[1]:
            self._last_letter = tag[1]

    def acknowledged(self, start: int, count: int) -> None:
        """The peer has `count` packets more, all before `start`."""
        take = self.outgoing.popleft
        gone = [take() for _ in range(count)]
        seq = letter = 0
        for _, tag in gone:
            seq, letter = tag[0] or seq, tag[1] or letter
        words, row = self._words, self._row
        if letter:
            words[row + layout.LETTER] = letter
        if seq:
            words[row + layout.SEQ] = seq
        words[row + layout.START] = start
        self._release([place for place, _ in gone])

    def keep_incoming(self, number: int, data: bytes, is_next: bool) -> bool:
        """Keeps a packet of the peer, which is next in order or came too early; False: there is no
        room for it."""
        memory = self._memory
        used = self.used
        if used >= memory.share:
            return False
        if not is_next:
            left = memory.packets.left
            if used >= memory.usual_share or left <= memory.early_reserve:
                return False
        place = self._keep(layout.IN, number, data, NO_TAG)
        if place is None:
            return False
        self.incoming[number] = place
        return True

    def stored(self, number: int, start: int) -> bool:
        """All packets of the peer up to `number` are safe above; `start`: the first that is not
        here. False if that is nothing new, or cannot be."""
        first = self.word(layout.STORED)
        count = (number + 1 - first) & U32
        if not 0 < count <= (start - first) & U32:
            return False
        self.set_word(layout.STORED, (first + count) & U32)
        take = self.incoming.pop
        self._release([take(number & U32) for number in range(first, first + count)])
        return True

    def in_order(self) -> int:
        """Returns the number of the peer's first packet that is not here."""
        start = self.word(layout.STORED)
        while start in self.incoming:
            start = (start + 1) & U32
        return start

    def not_stored(self, start: int) -> list[bytes]:
        """Returns the packets of the peer before `start` that are not safe above."""
        first = self.word(layout.STORED)
        numbers = range(first, first + ((start - first) & U32))
        return [self.data(self.incoming[number & U32]) for number in numbers]

    # What the layer above wants to know

    @property
    def serial(self) -> bytes:
        """The 8 bytes of its number."""
        return self.number.to_bytes(8, "little")

    def taken(self) -> Tag:
        """Returns the greatest seq and letter of all that was queued."""
        acked = self.acked()
        return Tag(self._last_seq or acked.seq, self._last_letter or acked.letter)

    def acked(self) -> Tag:
        """Returns the greatest seq and letter of all that the peer has."""
        return Tag(self.word(layout.SEQ), self.word(layout.LETTER))

    # The end

    def close(self, was_up: bool, start: int) -> None:
        """Its session is over, or never began."""
        if was_up:
            self.end(start)
        else:
            self.forget()

    def end(self, start: int) -> None:
        """The session is over; `start`: the first packet of the peer that is not here. What the
        layer above does not know yet stays."""
        self.set_word(layout.STATE, layout.ENDED)
        first = self.word(layout.STORED)
        in_order = (start - first) & U32
        self._release([place for place, _ in self.outgoing])
        self.outgoing.clear()
        early = [number for number in self.incoming if (number - first) & U32 >= in_order]
        self._release([self.incoming.pop(number) for number in early])
        self._memory.ended[self.number] = self

    def what_ended(self) -> Ended:
        """Returns what is left of a session that is over."""
        first = self.word(layout.STORED)
        upto = first + len(self.incoming)
        return Ended(
            self.real_key, self.serial, (upto - 1) & U32, self.not_stored(upto), self.acked()
        )

    def forget(self) -> None:
        """Frees all that is left."""
        self._memory.sessions.give_back(self._row << 3)
        self._release([place for place, _ in self.outgoing])
        self._release(self.incoming.values())
        self.outgoing.clear()
        self.incoming.clear()
