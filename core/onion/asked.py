"""What operators may ask an onion shard; docs/control.md says what the answers are made of.

Stores have up to 100,000 entries and no answer may hold the shard for long, so what is told of all
entries together comes from some of them, taken evenly from the whole store.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.asking import NOT_FOUND, CannotAnswer, key_of, whole_number
from core.crypto import sha256
from core.endpoint import Endpoint, is_ipv4, is_lan, prefix_of, prefix_text, to_text
from core.module import Context
from core.onion.announce import PING_ID_WINDOW_S
from core.onion.announce_store import DATA_KEY, LIFE_S, SOURCE, announced_at
from core.onion.data_announce import TOKEN_WINDOW_S
from core.onion.forwarding import SENDBACK_WINDOW_S
from core.onion.group_store import LIFE_S as CHAT_LIFE_S
from core.packets.announce import GroupAnnounce
from core.slots import slot_of

if TYPE_CHECKING:
    from core.onion.module import OnionModule

SAMPLE = 1000  # entries looked at for one answer: 2 ms
MOST_CHATS = 500  # of one answer: 5 ms
_AGE_STEP_S = 60
_PREFIXES = 100  # told to whoever adds up shards
_KEY_BITS = 256


def _hex(data: bytes) -> str:
    return data.hex().upper()


class OnionView:
    """Answers questions about one onion shard."""

    def __init__(self, module: "OnionModule", context: Context) -> None:
        self._module = module
        self._context = context
        self._own = int.from_bytes(context.keys.public, "big")
        self._answers: dict[str, Callable[[dict[str, Any], float], dict[str, Any]]] = {
            "announces find": self._find,
            "announces stats": self._stats,
            "announces groups": self._groups,
            "data": self._data,
            "onion": self._secrets,
        }

    def ask(self, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Answers one question. Raises CannotAnswer."""
        answer = self._answers.get(what)
        if answer is None:
            raise CannotAnswer(NOT_FOUND, f"{what[:60]} is nothing that an onion shard knows")
        return answer(args, now)

    def _owner(self, key: bytes) -> int:
        table = self._context.slots.get("onion")
        return self._context.shard if table is None else table.shard_of(key)

    def _find(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Tells what this shard has stored under a key, and what it believes of the key's owner."""
        key = key_of(args)
        owner = self._owner(key)
        announces = self._module.announces
        says: bool | None = None
        if owner != self._context.shard:
            says = announces.others.says(owner, key, now)
        return {
            "slot": slot_of(key),
            "owner": owner,
            "entry": self._entry(key, now),
            "data": self._data_entry(key, now),
            "chat": self._chat(key, now),
            "believes": "unknown" if says is None else "stored" if says else "not stored",
        }

    def _entry(self, key: bytes, now: float) -> dict[str, Any] | None:
        entry = self._module.announces.entries.get(key, now)
        if entry is None:
            return None
        age = now - announced_at(entry)
        distance = self._own ^ int.from_bytes(key, "big")
        return {
            "age_s": round(age, 1),
            "expires_s": round(LIFE_S - age, 1),
            "last_hop": to_text(Endpoint(entry[SOURCE])),
            "data_key": _hex(entry[DATA_KEY]),
            "shared_bits": _KEY_BITS - distance.bit_length(),
        }

    def _data_entry(self, key: bytes, now: float) -> dict[str, Any] | None:
        entry = self._module.data.store.get(key, now)
        if entry is None:
            return None
        return {
            "bytes": len(entry.data),
            "sha256": _hex(sha256(entry.data)),
            "expires_s": round(entry.until - now, 1),
        }

    def _chat(self, key: bytes, now: float) -> dict[str, Any] | None:
        peers = self._module.announces.groups.peers(key, now)
        return None if peers is None else {"peers": [_peer(row) for row in peers]}

    def _stats(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Tells how full the announce store is, how old its entries are, and from where."""
        announces = self._module.announces
        entries = announces.entries
        sample = entries.sample(SAMPLE)
        ages = [0] * (LIFE_S // _AGE_STEP_S)
        prefixes = Counter[bytes]()
        families = Counter[str]()
        local = 0
        for _, since, source in sample:
            ages[min(len(ages) - 1, int((now - since) // _AGE_STEP_S))] += 1
            families["ipv4" if is_ipv4(source) else "ipv6"] += 1
            local += is_lan(source)
            prefixes[prefix_of(source)] += 1
        oldest, newest = entries.ages(now)
        groups = announces.groups
        nearest = entries.nearest()
        return {
            "entries": len(entries),
            "capacity": entries.capacity,
            "oldest_s": round(oldest, 1),
            "newest_s": round(newest, 1),
            "nearest_bits": None if nearest is None else _KEY_BITS - nearest.bit_length(),
            "chats": len(groups),
            "chats_capacity": groups.capacity,
            "sampled": len(sample),
            "ages": ages,
            "ipv4": families["ipv4"],
            "ipv6": families["ipv6"],
            "local": local,
            "prefixes": len(prefixes),
            "top": {prefix_text(row): count for row, count in prefixes.most_common(_PREFIXES)},
            "filters": {
                "spared": announces.others.spared,
                "crossed": announces.others.crossed,
                "blind": announces.others.blind,
                "in_vain": announces.in_vain,
                "known": len(announces.others),
            },
        }

    def _groups(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Lists chats, the one announced last first, or the peers of one chat."""
        groups = self._module.announces.groups
        if "key" in args:
            peers = groups.peers(key_of(args), now)
            rows = [] if peers is None else [_peer(row) for row in peers]
            return {"rows": rows, "total": len(rows)}
        most = whole_number(args, "limit", 100, 1, MOST_CHATS)
        return {
            "rows": [
                {
                    "chat_id": _hex(chat_id),
                    "peers": peers,
                    "age_s": round(now - since, 1),
                    "expires_s": round(max(0.0, CHAT_LIFE_S - (now - since)), 1),
                    "opened_from": prefix_text(prefix),
                }
                for chat_id, since, peers, prefix in groups.latest(most)
            ],
            "total": len(groups),
        }

    def _data(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Tells how many clients can be reached, and how full the store of data is."""
        store = self._module.data.store
        end = store.next_end()
        return {
            "routes": len(self._module.announces.entries),
            "entries": len(store),
            "capacity": store.capacity,
            "next_end_s": None if end is None else round(max(0.0, end - now), 1),
        }

    def _secrets(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Tells how far the secrets of this shard (the same in all) have got, without them."""
        age, left, both = self._module.hops.returns.ages(now)
        return {
            "return_key": {"age_s": round(age, 1), "next_s": round(left, 1), "previous": both},
            "ping_id_next_s": round(PING_ID_WINDOW_S - now % PING_ID_WINDOW_S, 1),
            "token_next_s": round(TOKEN_WINDOW_S - now % TOKEN_WINDOW_S, 1),
            "sendback_next_s": round(SENDBACK_WINDOW_S - now % SENDBACK_WINDOW_S, 1),
        }


def _peer(announce: bytes) -> dict[str, Any]:
    """Returns what a group announce names."""
    row = GroupAnnounce.decode(announce)
    return {
        "key": _hex(row.key),
        "address": None if row.endpoint is None else to_text(row.endpoint),
        "relays": [
            {"key": _hex(relay.key), "address": to_text(relay.endpoint)} for relay in row.relays
        ],
    }
