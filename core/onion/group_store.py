"""Announces of group peers, by chat id: how a group is found by those who know only its id."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from core.endpoint import Endpoint, prefix_of

LIFE_S = 30  # c-toxcore group_announce.c: GCA_ANNOUNCE_SAVE_TIMEOUT
MAX_PEERS = 16  # c-toxcore group_announce.h: GCA_MAX_SAVED_ANNOUNCES_PER_GC
MAX_SENT = 4  # c-toxcore group_announce.h: GCA_MAX_SENT_ANNOUNCES
MAX_ANNOUNCE = 104  # c-toxcore group_announce.h: GCA_ANNOUNCE_MAX_SIZE; key 32, flags 2, 19, 51
DEFAULT_CAPACITY = 10_000  # chats a shard; without a bound in the reference
DEFAULT_BUDGET = 256  # chats that may have been opened from one source prefix

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
        self.peers: dict[bytes, bytes] = {}  # peer key to whole announce


class GroupStore:
    """Group announces of the chats of one shard.

    Nobody proves anything here: stock clients never send a ping id with a group announce. So all is
    bounded instead: 16 peers a chat (a peer's new announce replaces its old one, then the oldest
    goes), a number of chats (the one announced longest ago goes), and chats per source prefix. A
    chat goes 30 s after its last announce.
    """

    __slots__ = ("_chats", "_opened", "budget", "capacity", "drops")

    def __init__(
        self,
        drops: Counter[str],
        capacity: int = DEFAULT_CAPACITY,
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        self.drops = drops
        self.capacity = capacity
        self.budget = budget
        self._chats: OrderedDict[bytes, _Chat] = OrderedDict()  # last announce, oldest first
        self._opened: Counter[bytes] = Counter()  # live chats by source prefix

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
            if len(self._chats) >= self.capacity:
                self._forget(next(iter(self._chats)))
                self.drops["group_chats_full"] += 1
            chat = self._chats[chat_id] = _Chat(prefix, now)
            self._opened[prefix] += 1
        else:
            chat.since = now
            self._chats.move_to_end(chat_id)
        peer = announce[:32]
        chat.peers.pop(peer, None)
        if len(chat.peers) >= MAX_PEERS:
            del chat.peers[next(iter(chat.peers))]
        chat.peers[peer] = announce
        return True

    def newest(self, chat_id: bytes, asker: bytes, now: float) -> list[bytes]:
        """Returns the up to 4 newest announces of a chat, never those of the peer who asks.

        The reference sends the first four of its ring; the newest are likelier to be alive.
        """
        chat = self._chats.get(chat_id)
        if chat is None or now - chat.since >= LIFE_S:
            return []
        found: list[bytes] = []
        for peer in reversed(chat.peers):
            if peer != asker:
                found.append(chat.peers[peer])
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
        return list(reversed(chat.peers.values()))

    def rows(self) -> list[list[Any]]:
        """Returns all chats as plain data for a successor, the one announced longest ago first."""
        return [
            [chat_id, chat.opened_from, chat.since, list(chat.peers.values())]
            for chat_id, chat in self._chats.items()
        ]

    def restore(self, rows: Iterable[Sequence[Any]]) -> None:
        """Begins with the chats of a predecessor, of which there are no more than fit."""
        for chat_id, opened_from, since, announces in rows:
            chat = self._chats[chat_id] = _Chat(opened_from, since)
            chat.peers = {announce[:32]: announce for announce in announces}
            self._opened[opened_from] += 1

    def take_out(self, stays: Callable[[bytes], bool]) -> list[list[Any]]:
        """Forgets all chats that do not stay, and returns them as `rows` does."""
        rows = [row for row in self.rows() if not stays(row[0])]
        for row in rows:
            self._forget(row[0])
        return rows

    def put_in(self, rows: Iterable[Sequence[Any]]) -> None:
        """Keeps what `take_out` returned elsewhere, as far as there is room."""
        missing = [row for row in rows if row[0] not in self._chats]
        self.restore(missing[: max(0, self.capacity - len(self._chats))])
        self._chats = OrderedDict(sorted(self._chats.items(), key=lambda row: row[1].since))

    def expire(self, now: float) -> None:
        """Forgets chats without an announce for 30 s; at most 64 a call, so that none is long."""
        for _ in range(64):
            chat_id = next(iter(self._chats), None)
            if chat_id is None or now - self._chats[chat_id].since < LIFE_S:
                return
            self._forget(chat_id)

    def _forget(self, chat_id: bytes) -> None:
        prefix = self._chats.pop(chat_id).opened_from
        self._opened[prefix] -= 1
        if not self._opened[prefix]:
            del self._opened[prefix]

    def __len__(self) -> int:
        return len(self._chats)
