"""What each onion shard knows of the announces that the others have stored.

Nearly all searches are for keys that nobody announced here. A search is opened where it arrives and
answered by the shard that owns the searched key, which costs both together some 9 us more than a
search that stays. So each shard tells the others which keys it has, in a filter (`key_filter`), and
a search for a key that surely is not stored is answered where it arrived. Only possible hits cross,
and of the others usually less than one in 200.

`OwnFilter` tells: new keys at the end of the turn that stored them, at least something once a
second, and the whole filter to whoever asks. `OtherFilters` listens: a filter counts for 3 s after
the time up to which its owner has told all (`as_of`; the clock is the same in all processes of a
host), whatever became of later messages. So a key that is stored is called "not stored" by another
shard for as long as the message takes (1 ms where it keeps up with its work), never for more than
3 s. A shard without such a filter passes all searches on; so does one that missed a message, or
whose neighbour began anew, until the filter that it asks for has come. Which shard a search is for
is looked up in the slot table at that moment, and a filter has what its shard has stored, whoever
owns it; so changed tables need nothing here.

Searches in 0x87 are treated alike; a group announce in it still goes to the owner of the chat id.
"""

from core.messages import FilterWanted, KeysStored, StoredFilter
from core.module import Context, ProtocolViolation
from core.onion.announce_store import AnnounceStore
from core.onion.key_filter import MAX_SIZE, KeyFilter, fingerprint, multiplier, pack, unpack

TELL_INTERVAL_S = 1.0
LIFE_S = 3.0  # how long a filter counts after all was told: three times that others are told
REBUILD_S = 60.0  # how long keys that are gone may stay in a filter that is not full
_STEP_S = 0.01  # between two steps of making a filter anew: a block of at most 1023 keys, 0.6 ms
_KEYS_A_MESSAGE = 200  # so that it is no longer than others
_PATIENCE_S = 1.0  # between two requests for the same shard's filter
_PURPOSE = "announce filter"


def _others(context: Context) -> set[int]:
    """Returns the numbers of the other onion shards."""
    table = context.slots.get("onion")
    return set() if table is None else set(table.shards) - {context.shard}


class OwnFilter:
    """The filter of what this shard has stored, and what was told of it.

    It has room for twice the keys that are stored when it is made, in 1 to 256 KiB. When it is
    full, or is 60 s old and has keys that are not stored any more, it is made anew from the store,
    a block of keys at a time (and there are two of them for up to a second). A shard without others
    has none.
    """

    __slots__ = (
        "_alone",
        "_built",
        "_built_at",
        "_context",
        "_entries",
        "_factor",
        "_filter",
        "_new",
        "_next_step",
        "_next_telling",
        "_opened",
        "_pending",
        "_place",
        "_sequence",
    )

    def __init__(self, context: Context, entries: AnnounceStore) -> None:
        self._context = context
        self._entries = entries
        self._factor = multiplier(context.master, _PURPOSE)
        self._filter: KeyFilter | None = None
        self._new: KeyFilter | None = None  # that is being made
        self._place = -1  # how far in the store it has come
        self._pending: list[int] = []  # fingerprints of keys that are to be told
        self._opened: float | None = None
        self._sequence = 0
        self._built = 0
        self._built_at = 0.0
        self._next_telling = 0.0
        self._next_step = 0.0
        self._alone = False  # when it last looked there were no other shards

    def add(self, key: bytes) -> None:
        """Takes a key that was stored and had not been before."""
        if self._filter is None and self._new is None:
            return
        mark = fingerprint(int.from_bytes(key, "big"), self._factor)
        if self._new is not None:
            self._new.add(mark)
        if self._filter is not None:
            self._filter.add(mark)
            self._pending.append(mark)

    def handle_wanted(self, message: FilterWanted, now: float) -> None:
        """Gives another shard the whole filter, if there is one yet."""
        if self._filter is None or self._opened is None:
            return
        whole = StoredFilter(
            self._context.shard,
            self._opened,
            self._sequence,
            now,
            self._built,
            bytes(self._filter.bits),
        )
        self._context.out.tell_shard("onion", message.shard, whole)

    def next_timer(self) -> float:
        """Returns when there is something to tell: at once if there are new keys, and never of
        itself where nobody else is (whether somebody has come is seen at the module's sweeps)."""
        if self._alone:
            return float("inf")
        if self._pending:
            return 0.0
        if self._new is not None and self._next_step < self._next_telling:
            return self._next_step
        return self._next_telling

    def handle_timer(self, now: float) -> None:
        """Tells what is new, and goes on with a filter that is being made."""
        due = now >= self._next_telling
        if due:
            self._next_telling = now + TELL_INTERVAL_S
            if self._opened is None:
                self._opened = now
            self._alone = not _others(self._context)
            if self._alone:
                self._filter = self._new = None
                self._pending.clear()
                return
            if self._new is None and self._is_stale(now):
                self._new = KeyFilter.for_keys(len(self._entries))
                self._place = -1
                self._next_step = now
        if self._new is not None and now >= self._next_step:
            self._go_on(self._new, now)
        if due or self._pending:
            self._tell(now)  # before there is a filter too: that of our predecessor counts no more

    def _is_stale(self, now: float) -> bool:
        """Tells whether a filter made now would be better."""
        old, count = self._filter, len(self._entries)
        if old is None:
            return True
        if old.added > old.room and (len(old.bits) < MAX_SIZE or old.added * 4 > count * 5):
            return True
        return old.added > count and now - self._built_at >= REBUILD_S

    def _go_on(self, new: KeyFilter, now: float) -> None:
        """Adds the next keys of the store to the new filter; after the last it takes its place."""
        self._next_step = now + _STEP_S
        self._place, numbers = self._entries.some_after(self._place)
        factor = self._factor
        for number in numbers:
            new.add(fingerprint(number, factor))
        if not numbers:
            self._filter, self._new = new, None
            self._built += 1
            self._built_at = now

    def _tell(self, now: float) -> None:
        """Tells all others the new keys, or that there are none."""
        pending = self._pending
        opened = self._opened or 0.0
        while True:
            part = pending[:_KEYS_A_MESSAGE]
            del pending[:_KEYS_A_MESSAGE]
            self._sequence += 1
            told = KeysStored(
                self._context.shard, opened, self._sequence, now, self._built, pack(part)
            )
            self._context.out.tell_all("onion", told)
            if not pending:
                return

    def snapshot(self) -> dict[str, int]:
        """Returns sizes, for `ops`."""
        mine = self._filter
        return {
            "announce_filter_bytes": 0 if mine is None else len(mine.bits),
            "announce_filter_keys": 0 if mine is None else mine.added,
            "announce_filter_built": self._built,
        }


class _Other:
    """What this shard knows of another's store."""

    __slots__ = ("built", "filter", "opened", "sequence", "until")

    def __init__(self, message: StoredFilter, field: KeyFilter) -> None:
        self.filter = field
        self.opened = message.opened
        self.sequence = message.sequence
        self.built = message.built
        self.until = message.as_of + LIFE_S


class OtherFilters:
    """The filters of the other shards: at most one for each that is in the slot table, 256 KiB."""

    __slots__ = ("_asked", "_context", "_factor", "_others", "blind", "crossed", "spared")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._factor = multiplier(context.master, _PURPOSE)
        self._others: dict[int, _Other] = {}
        self._asked: dict[int, float] = {}  # when which shard's filter was asked for
        self.spared = 0
        """Searches for keys that surely were not stored: answered where they arrived."""
        self.crossed = 0
        """Searches for keys that may have been stored: told to the owner."""
        self.blind = 0
        """Searches told to an owner whose filter was not known."""

    def may_have(self, shard: int, key: bytes, now: float) -> bool:
        """Tells whether another shard may have an announce of `key`, and counts the answer."""
        other = self._others.get(shard)
        if other is None or now >= other.until:
            self.blind += 1
            return True
        if other.filter.may_have(fingerprint(int.from_bytes(key, "big"), self._factor)):
            self.crossed += 1
            return True
        self.spared += 1
        return False

    def forget(self) -> None:
        """Knows nothing of others any more: searches are told to the owners until they tell."""
        self._others.clear()

    def __len__(self) -> int:
        return len(self._others)

    def says(self, shard: int, key: bytes, now: float) -> bool | None:
        """Returns `may_have` without counting; None: that shard's filter is not known now."""
        other = self._others.get(shard)
        if other is None or now >= other.until:
            return None
        return other.filter.may_have(fingerprint(int.from_bytes(key, "big"), self._factor))

    def handle_stored(self, message: KeysStored, now: float) -> None:
        """Adds the keys that another shard has stored. Raises ProtocolViolation."""
        shard = message.shard
        other = self._others.get(shard)
        if (
            other is None
            or other.opened != message.opened
            or message.sequence != other.sequence + 1
        ):
            self._others.pop(shard, None)
            return self._want(shard, now)
        try:
            marks = unpack(message.fingerprints)
        except ValueError:
            raise ProtocolViolation("onion_message") from None
        for mark in marks:
            other.filter.add(mark)
        other.sequence = message.sequence
        other.until = message.as_of + LIFE_S
        if message.built != other.built:
            self._want(shard, now)
        return None

    def handle_filter(self, message: StoredFilter) -> None:
        """Takes the whole filter of another shard, if it was asked for."""
        if message.shard not in self._asked:
            raise ProtocolViolation("onion_message")
        try:
            field = KeyFilter(bytearray(message.bits))
        except ValueError:
            raise ProtocolViolation("onion_message") from None
        self._others[message.shard] = _Other(message, field)

    def _want(self, shard: int, now: float) -> None:
        if shard not in _others(self._context):
            return  # of a topology that is gone
        if now - self._asked.get(shard, float("-inf")) >= _PATIENCE_S:
            self._asked[shard] = now
            wanted = FilterWanted(self._context.shard)
            self._context.out.tell_shard("onion", shard, wanted)

    def expire(self, now: float) -> None:
        """Forgets the filters of shards that are gone, or were not heard of for 3 s."""
        there = _others(self._context)
        for shard, other in list(self._others.items()):
            if now >= other.until or shard not in there:
                del self._others[shard]

    def snapshot(self) -> dict[str, int]:
        """Returns counts since the start and sizes, for `ops`."""
        return {
            "searches_spared": self.spared,
            "searches_crossed": self.crossed,
            "searches_blind": self.blind,
            "other_filters": len(self._others),
            "other_filters_bytes": sum(len(row.filter.bits) for row in self._others.values()),
        }
