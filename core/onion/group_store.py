"""Announces of group peers, by chat id: how a group is found by those who know only its id."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from core.endpoint import Endpoint, prefix_of
from core.onion.lasting_rows import CONTENT, RowForm, Rows

LIFE_S = 30  # c-toxcore group_announce.c: GCA_ANNOUNCE_SAVE_TIMEOUT
MAX_PEERS = 16  # c-toxcore group_announce.h: GCA_MAX_SAVED_ANNOUNCES_PER_GC
MAX_SENT = 4  # c-toxcore group_announce.h: GCA_MAX_SENT_ANNOUNCES
MAX_ANNOUNCE = 104  # c-toxcore group_announce.h: GCA_ANNOUNCE_MAX_SIZE; key 32, flags 2, 19, 51
DEFAULT_CAPACITY = 10_000  # chats a shard; without a bound in the reference
DEFAULT_BUDGET = 256  # chats that may have been opened from one source prefix
MOST = 100_000  # chats that an operator may allow

FORM = RowForm(b"groups-1", f"8sB6x{MAX_ANNOUNCE}sB", range(34, MAX_ANNOUNCE + 1))
"""A row is one announce of a peer, by chat id and with the time when it came. What follows: prefix
that opened the chat; its size, 3 or 8; announce; its size."""
_PREFIX_SIZE_AT = CONTENT + 8
_ANNOUNCE_AT = CONTENT + 15
_SIZE_AT = FORM.size_at
_write_row = FORM.write

_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2: what an IPv4 address in IPv6 begins with


def read_announce(data: bytes) -> bytes | None:
    """Returns the group announce at the start of `data`, or None if there is no valid one.

    Layout: peer key 32, has address 1, relay count 1 (at most 1), packed UDP address if it has one,
    packed node if there is a relay. One that names neither leads nowhere and is refused (the
    reference stores it and then fails to send it to others), and so is one with an IPv4 address
    mapped into IPv6: it is declared in 7 bytes, and nobody may be sent what is no packet.
    """
    size = len(data)
    if size < 34 or data[32] > 1 or data[33] > 1 or not (data[32] or data[33]):
        return None
    end = 34
    if data[32]:
        family = data[end] if end < size else -1
        if family == 10 and data[end + 1 : end + 13] == _MAPPED:
            return None
        end += {2: 7, 10: 19}.get(family, size)
    if data[33]:
        family = data[end] if end < size else -1
        if family in (10, 138) and data[end + 1 : end + 13] == _MAPPED:
            return None
        end += {2: 39, 10: 51, 130: 39, 138: 51}.get(family, size)
    return bytes(data[:end]) if end <= size else None


class _Chat:
    """The peers of one chat, the oldest announce first."""

    __slots__ = ("opened_from", "peers", "since")

    def __init__(self, opened_from: bytes, since: float) -> None:
        self.opened_from = opened_from
        self.since = since
        self.peers: dict[bytes, int] = {}  # peer key to place of its announce


class GroupStore:
    """Group announces of the chats of one shard.

    Nobody proves anything here: stock clients never send a ping id with a group announce. So all is
    bounded instead: 16 peers a chat (a peer's new announce replaces its old one, then the oldest
    goes), a number of chats (the one announced longest ago goes), and chats per source prefix. A
    chat goes 30 s after its last announce.
    """

    __slots__ = (
        "_capacity",
        "_chats",
        "_number",
        "_opened",
        "_rows",
        "budget",
        "drops",
    )

    def __init__(
        self,
        drops: Counter[str],
        capacity: int = DEFAULT_CAPACITY,
        budget: int = DEFAULT_BUDGET,
        rows: Rows | None = None,
    ) -> None:
        """`rows`, 16 a chat, may have announces of a predecessor: `restore` takes them up, before
        anything is stored."""
        self.drops = drops
        self._capacity = capacity
        self.budget = budget
        self._rows = Rows(FORM, capacity * MAX_PEERS) if rows is None else rows
        self._number = 0  # of the last writing of a row
        self._chats: OrderedDict[bytes, _Chat] = OrderedDict()  # last announce, oldest first
        self._opened: Counter[bytes] = Counter()  # live chats by source prefix

    def restore(self, now: float) -> int:
        """Begins with what stands in the memory; returns how many rows of it were of no use.

        Announces come in the order in which they were made, so this ends as the predecessor did.
        """
        found, bad = self._rows.find(float("-inf"), now)
        for row in found:
            chat = self._chats.get(row.key)
            if chat is None:
                chat = self._open(row.key, self._prefix(row.place), row.time)
            start = row.place + _ANNOUNCE_AT
            peer = self._rows.memory[start : start + 32]
            place = self._make_room(chat, peer)
            if place is not None:
                self._rows.give_back(place)
            chat.peers[peer] = row.place
            chat.since = row.time
            self._chats.move_to_end(row.key)
            self._number = max(self._number, row.number)
        for chat_id in list(self._chats):
            if not self._is_over(chat_id, now):
                break
            self._forget(chat_id)
        return bad

    def put(self, chat_id: bytes, announce: bytes, source: Endpoint, now: float) -> bool:
        """Stores a valid announce; False (and counted) when the source's budget is spent."""
        self.expire(now)
        chat = self._chats.get(chat_id)
        if chat is not None and now - chat.since >= LIFE_S:
            self._forget(chat_id)
            chat = None
        if chat is None:
            prefix = prefix_of(source)
            if self._opened[prefix] >= self.budget:
                self.drops["group_budget"] += 1
                return False
            if len(self._chats) >= self._capacity:
                self._forget(next(iter(self._chats)))
                self.drops["group_chats_full"] += 1
            chat = self._open(chat_id, prefix, now)
        else:
            chat.since = now
            self._chats.move_to_end(chat_id)
        self._write(chat_id, chat, announce)
        return True

    def _open(self, chat_id: bytes, prefix: bytes, now: float) -> _Chat:
        chat = self._chats[chat_id] = _Chat(prefix, now)
        self._opened[prefix] += 1
        return chat

    @staticmethod
    def _make_room(chat: _Chat, peer: bytes) -> int | None:
        """Takes out the announce that one of this peer replaces; returns its place, if any."""
        place = chat.peers.pop(peer, None)
        if place is None and len(chat.peers) >= MAX_PEERS:
            place = chat.peers.pop(next(iter(chat.peers)))
        return place

    def _write(self, chat_id: bytes, chat: _Chat, announce: bytes) -> None:
        """Stores an announce as the newest of a chat."""
        peer = announce[:32]
        place = self._make_room(chat, peer)
        if place is None:
            place = self._rows.take()
        chat.peers[peer] = place
        self._number = number = self._number + 1
        prefix = chat.opened_from
        _write_row(
            self._rows.memory,
            place,
            number,
            chat_id,
            chat.since,
            prefix,
            len(prefix),
            announce,
            len(announce),
            number,
        )

    def _read(self, place: int) -> bytes:
        """Returns the announce that stands in a row."""
        start = place + _ANNOUNCE_AT
        return self._rows.memory[start : start + self._rows.memory[place + _SIZE_AT]]

    def _prefix(self, place: int) -> bytes:
        start = place + CONTENT
        return self._rows.memory[start : start + self._rows.memory[place + _PREFIX_SIZE_AT]]

    def _is_over(self, chat_id: bytes, now: float) -> bool:
        return now - self._chats[chat_id].since >= LIFE_S

    def newest(self, chat_id: bytes, asker: bytes, now: float) -> list[bytes]:
        """Returns the up to 4 newest announces of a chat, never those of the peer who asks.

        The reference sends the first four of its ring; the newest are likelier to be alive.
        """
        chat = self._chats.get(chat_id)
        if chat is None or now - chat.since >= LIFE_S:
            return []
        found: list[bytes] = []
        memory = self._rows.memory
        for peer, place in reversed(chat.peers.items()):
            if peer != asker:
                start = place + _ANNOUNCE_AT
                found.append(memory[start : start + memory[place + _SIZE_AT]])
                if len(found) == MAX_SENT:
                    break
        return found

    def fullest(self) -> int:
        """Returns how many chats the source prefix has opened that has opened the most."""
        return max(self._opened.values(), default=0)

    def latest(self, most: int) -> list[tuple[bytes, float, int, bytes]]:
        """Returns chats, the one announced last first: id, when, peers, prefix that opened it."""
        return [
            (chat_id, chat.since, len(chat.peers), chat.opened_from)
            for chat_id, chat in islice(reversed(self._chats.items()), most)
        ]

    def peers(self, chat_id: bytes, now: float) -> list[bytes] | None:
        """Returns the announces of a chat, the newest first; None: there is no such chat."""
        chat = self._chats.get(chat_id)
        if chat is None or now - chat.since >= LIFE_S:
            return None
        return [self._read(place) for place in reversed(chat.peers.values())]

    def take_out(self, stays: Callable[[bytes], bool]) -> list[list[Any]]:
        """Forgets all chats that do not stay, and returns id, prefix that opened it, time of the
        last announce and announces of each, the one announced longest ago first. Until `wipe` a
        successor finds them as if they had stayed."""
        rows: list[list[Any]] = []
        for chat_id, chat in list(self._chats.items()):
            if not stays(chat_id):
                announces = [self._read(place) for place in chat.peers.values()]
                rows.append([chat_id, chat.opened_from, chat.since, announces])
                for place in self._drop(chat_id):
                    self._rows.leave(place)
        return rows

    def wipe(self) -> None:
        """Lets no successor find what was taken out."""
        self._rows.wipe()

    def put_in(self, rows: Iterable[Sequence[Any]]) -> None:
        """Keeps what `take_out` returned elsewhere, as far as there is room."""
        for chat_id, opened_from, since, announces in rows:
            if chat_id not in self._chats and len(self._chats) < self._capacity:
                chat = self._open(chat_id, opened_from, since)
                for announce in announces:
                    self._write(chat_id, chat, announce)
        self._chats = OrderedDict(sorted(self._chats.items(), key=lambda row: row[1].since))

    @property
    def capacity(self) -> int:
        """How many chats there may be."""
        return self._capacity

    @capacity.setter
    def capacity(self, value: int) -> None:
        """Sets it, to at most what there is memory for; what is too many goes by its time."""
        self._capacity = min(value, self._rows.capacity // MAX_PEERS)

    def expire(self, now: float) -> None:
        """Forgets chats without an announce for 30 s; at most 64 a call, so that none is long."""
        for _ in range(64):
            chat_id = next(iter(self._chats), None)
            if chat_id is None or not self._is_over(chat_id, now):
                return
            self._forget(chat_id)

    def _forget(self, chat_id: bytes) -> None:
        for place in self._drop(chat_id):
            self._rows.give_back(place)

    def _drop(self, chat_id: bytes) -> Iterable[int]:
        """Takes a chat out of the index; returns the places of its announces."""
        chat = self._chats.pop(chat_id)
        prefix = chat.opened_from
        self._opened[prefix] -= 1
        if not self._opened[prefix]:
            del self._opened[prefix]
        return chat.peers.values()

    def __len__(self) -> int:
        return len(self._chats)
