"""Who announced themselves to this node: the announce entries of one shard."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

from core.endpoint import Endpoint
from core.onion.lasting_rows import TIME, RowForm, Rows, time_at
from core.onion.ordered import OrderedRows

LIFE_S = 300  # c-toxcore onion_announce.h: ONION_ANNOUNCE_TIMEOUT
DEFAULT_CAPACITY = 100_000  # a shard; the reference has 160 a node

FORM = RowForm(b"announc1", "32sc177sc28sB", (235, 247))
"""What follows key and time: data key; 8c, onion return, 86 (what data for the client begins with);
source; size of the entry, which depends on the family of the source."""

# An entry is one value of 235 or 247 bytes: what stands in its row from the time on;
# `entry[SOURCE]` reads a part.
DATA_KEY = slice(8, 40)  # what data for the client is boxed to
HEAD = slice(40, 219)  # what data for the client begins with: 8c, onion return, 86
ONION_RETURN = slice(41, 218)  # the way back to the client, sealed by the last hop
SOURCE = slice(219, None)  # Endpoint of the last hop
_ONION_RESPONSE_3 = b"\x8c"
_DATA_RESPONSE = b"\x86"
_SOURCE_AT = 219
_SIZE_AT = FORM.size_at
_write_row = FORM.write


def announced_at(entry: bytes) -> float:
    """Returns when the client of an entry announced itself last (monotonic seconds)."""
    since: float = time_at(entry)[0]
    return since


class Kept(IntEnum):
    """What became of an announce; false if it was not stored."""

    REFUSED = 0  # all others are nearer
    REFRESHED = 1  # the key was stored already
    NEW = 2


class AnnounceStore:
    """Announce entries by public key, bounded: expired ones go first, then those farthest from us.

    Clients announce to the nodes nearest to their own key, so what is near our key is most likely
    to be searched here (c-toxcore onion_announce.c: add_to_entries).

    Kept by distance instead of key, which says the same, so that one number for each entry serves
    for finding it and for the order: some 520 bytes an entry (`tests.onion.test_memory`), of which
    296 are the row.
    """

    __slots__ = (
        "_by_distance",
        "_capacity",
        "_memory",
        "_number",
        "_own",
        "_places",
        "_rows",
        "closed",
    )

    def __init__(
        self, own_key: bytes, capacity: int = DEFAULT_CAPACITY, rows: Rows | None = None
    ) -> None:
        """`rows` may have entries of a predecessor: `restore` takes them up, before anything is
        stored. Or they are those of several stores, and may be too few for all of them."""
        self._own = int.from_bytes(own_key, "big")
        self._capacity = capacity
        self._rows = Rows(FORM, capacity) if rows is None else rows
        self._memory = self._rows.memory
        self._number = 0  # of the last writing of a row
        self._places: OrderedDict[int, int] = OrderedDict()  # by distance, oldest announce first
        self._by_distance: OrderedRows[int] = OrderedRows()
        self.closed = False
        """Whether new keys are refused, because the node is drained."""

    def restore(self, now: float) -> int:
        """Begins with what stands in the memory; returns how many rows of it were of no use."""
        found, bad = self._rows.find(now - LIFE_S, now)
        places = self._places
        places.clear()
        own = self._own
        for row in found:
            distance = own ^ int.from_bytes(row.key, "big")
            older = places.pop(distance, None)
            if older is not None:
                self._rows.give_back(older)
            places[distance] = row.place
            self._number = max(self._number, row.number)
        self._by_distance = OrderedRows(places)
        return bad

    def get(self, key: bytes, now: float) -> bytes | None:
        """Returns the entry of `key` if it was announced within the last 300 s."""
        place = self._places.get(self._own ^ int.from_bytes(key, "big"))
        if place is None:
            return None
        memory = self._memory
        start = place + TIME
        if now - time_at(memory, start)[0] >= LIFE_S:
            return None
        return memory[start : start + memory[place + _SIZE_AT]]

    def put(
        self, key: bytes, source: Endpoint, onion_return: bytes, data_key: bytes, now: float
    ) -> Kept:
        """Stores or refreshes the entry of a client that announces itself from `source`, unless all
        others are nearer. `onion_return` has 177 bytes, `data_key` 32."""
        places = self._places
        distance = self._own ^ int.from_bytes(key, "big")
        place = places.get(distance)
        if place is not None:
            places.move_to_end(distance)
            kept = Kept.REFRESHED
        elif self.closed:
            return Kept.REFUSED
        else:
            full = len(places) >= self._capacity or not self._rows.has_room()
            if full and not self.expire(now, 1):
                farthest = self._by_distance.greatest() if places else -1
                if distance > farthest:
                    return Kept.REFUSED
                self._forget(farthest)
            place = places[distance] = self._rows.take()
            self._by_distance.add(distance)
            kept = Kept.NEW
        self._number = number = self._number + 1
        _write_row(
            self._memory,
            place,
            number,
            key,
            now,
            data_key,
            _ONION_RESPONSE_3,
            onion_return,
            _DATA_RESPONSE,
            source,
            _SOURCE_AT + len(source),
            number,
        )
        return kept

    def clear(self) -> None:
        """Forgets all, and gives the rows back to those with whom they are shared."""
        for distance in list(self._places):
            self._forget(distance)

    def expire(self, now: float, limit: int) -> int:
        """Forgets up to `limit` entries whose life is over; returns how many these were."""
        count = 0
        places = self._places
        while count < limit and places:
            distance = next(iter(places))
            if now - time_at(self._memory, places[distance] + TIME)[0] < LIFE_S:
                break
            self._forget(distance)
            count += 1
        return count

    def some_after(self, distance: int) -> tuple[int, list[int]]:
        """Returns some keys (as numbers) that are stored, the nearest first of those farther than
        `distance` from our own, and the distance of the last; none only if there are no more."""
        found = self._by_distance.some_after(distance)
        own = self._own
        return (found[-1] if found else distance), [own ^ row for row in found]

    def take_out(self, stays: Callable[[bytes], bool]) -> list[list[bytes]]:
        """Forgets the entries of all keys that do not stay, and returns key and entry of each, the
        one announced longest ago first. Until `wipe` a successor finds them as if they had stayed.
        """
        own = self._own
        rows: list[list[bytes]] = []
        for distance, place in list(self._places.items()):
            key = (own ^ distance).to_bytes(32, "big")
            if not stays(key):
                rows.append([key, self._read(place)])
                del self._places[distance]
                self._by_distance.remove(distance)
                self._rows.leave(place)
        return rows

    def wipe(self) -> None:
        """Lets no successor find what was taken out."""
        self._rows.wipe()

    def put_in(self, rows: Iterable[Sequence[bytes]]) -> list[bytes]:
        """Stores what `take_out` returned elsewhere, unless what is here is newer; returns the keys
        that are new here."""
        new: list[bytes] = []
        closed, self.closed = self.closed, False  # they are not new to the node
        for key, entry in rows:
            since = announced_at(entry)
            known = self._places.get(self._own ^ int.from_bytes(key, "big"))
            if known is not None and time_at(self._memory, known + TIME)[0] >= since:
                continue
            source = Endpoint(entry[SOURCE])
            kept = self.put(key, source, entry[ONION_RETURN], entry[DATA_KEY], since)
            if kept is Kept.NEW:
                new.append(key)
        self.closed = closed
        in_order = sorted(self._places, key=self._since)
        self._places = OrderedDict((row, self._places[row]) for row in in_order)
        return new

    @property
    def capacity(self) -> int:
        """How many entries there may be."""
        return self._capacity

    @capacity.setter
    def capacity(self, value: int) -> None:
        """Sets it, to at most what there is memory for; what is too many goes by its time."""
        self._capacity = min(value, self._rows.capacity)

    def ages(self, now: float) -> tuple[float, float]:
        """Returns for how many seconds the oldest and the newest entry have been here; or zeros."""
        places = self._places
        if not places:
            return 0.0, 0.0
        oldest, newest = next(iter(places)), next(reversed(places))
        return now - self._since(oldest), now - self._since(newest)

    def nearest(self) -> int | None:
        """Returns the distance between our key and the nearest one that is stored."""
        return self._by_distance.least() if self._places else None

    def sample(self, most: int) -> list[tuple[int, float, Endpoint]]:
        """Returns distance, time of the announce and last hop of entries from all over the store.

        At most `most`, which is what this costs; all entries if there are not more.
        """
        return [
            (row, self._since(row), Endpoint(self._read(self._places[row])[SOURCE]))
            for row in self._by_distance.sample(most)
        ]

    def _since(self, distance: int) -> float:
        """Returns when an entry that is stored was announced."""
        return float(time_at(self._memory, self._places[distance] + TIME)[0])

    def _read(self, place: int) -> bytes:
        start = place + TIME
        return self._memory[start : start + self._memory[place + _SIZE_AT]]

    def _forget(self, distance: int) -> None:
        self._rows.give_back(self._places.pop(distance))
        self._by_distance.remove(distance)

    def __len__(self) -> int:
        return len(self._places)
