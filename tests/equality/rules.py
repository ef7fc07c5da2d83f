"""What the hot modules look up, said plainly: scans instead of indexes, and nothing kept sorted.

Written from the specification and from docs/architecture.md, not from the code it is compared with.
"""

import ipaddress
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from core import crypto
from core.crypto import PublicKey, SecretKey, SharedKey
from core.endpoint import Endpoint, ip_of, is_ipv4, port_of, prefix_of, udp4, udp6
from core.messages import NodeRow
from core.module import NodeOptions
from core.packets import NodeInfo

ANNOUNCE_LIFE_S = 300.0  # c-toxcore onion_announce.h: ONION_ANNOUNCE_TIMEOUT
PING_ID_WINDOW_S = 300.0  # c-toxcore onion_announce.c: PING_ID_TIMEOUT
SENDBACK_WINDOW_S = 3600.0  # c-toxcore forwarding.c: SENDBACK_TIMEOUT
GROUP_LIFE_S = 30.0  # c-toxcore group_announce.c: GCA_ANNOUNCE_SAVE_TIMEOUT
RETURN_EPOCH_S = 7200.0  # c-toxcore onion.c: KEY_REFRESH_INTERVAL
RETURN_OVERLAP_S = 1200.0  # c-toxcore onion_client.h: ONION_PATH_MAX_LIFETIME
BUCKETS = 128  # c-toxcore DHT.h: LCLIENT_LENGTH
BUCKET_SIZE = 8  # c-toxcore DHT.h: LCLIENT_NODES
MAX_NODES = 4  # c-toxcore DHT.h: MAX_SENT_NODES
PROPOSALS = 32  # c-toxcore ping.c: MAX_TO_PING
PROPOSAL_PERIOD_S = 2.0  # c-toxcore ping.c: TIME_TO_PING
PROPOSAL_TURN_S = 5.0  # c-toxcore DHT.h: PING_TIMEOUT

_LAN4 = tuple(
    map(
        ipaddress.IPv4Network,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    )
)
_LINK_LOCAL4 = ipaddress.IPv4Network("169.254.0.0/16")
_LINK_LOCAL6 = ipaddress.IPv6Network("fe80::/10")
_UNIQUE_LOCAL6 = ipaddress.IPv6Network("fc00::/7")
_NEIGHBOURS6 = frozenset(map(ipaddress.IPv6Address, ("::1", "ff00::1", "ff01::1", "ff02::1")))
_THIS_NETWORK4 = ipaddress.IPv4Network("0.0.0.0/8")
_CLASSES_D_AND_E = (ipaddress.IPv4Network("224.0.0.0/4"), ipaddress.IPv4Network("240.0.0.0/4"))
_UNSPECIFIED6 = ipaddress.IPv6Address("::")
_MULTICAST6 = ipaddress.IPv6Network("ff00::/8")


@lru_cache(maxsize=4096)
def lan(endpoint: Endpoint) -> bool:
    """Tells whether c-toxcore calls the address one of a local network (LAN_discovery.c)."""
    address = ipaddress.ip_address(ip_of(endpoint))
    if isinstance(address, ipaddress.IPv4Address):
        if address in _LINK_LOCAL4:
            return address.packed[2] not in (0, 255)
        return any(address in network for network in _LAN4)
    return address in _LINK_LOCAL6 or address in _NEIGHBOURS6


@lru_cache(maxsize=4096)
def private(endpoint: Endpoint) -> bool:
    """Tells whether the address is this machine's or its site's."""
    if lan(endpoint):
        return True
    return not is_ipv4(endpoint) and ipaddress.IPv6Address(ip_of(endpoint)) in _UNIQUE_LOCAL6


@lru_cache(maxsize=4096)
def padded_address(packed: bytes) -> Endpoint | None:
    """Reads the 19 bytes of an onion layer as c-toxcore does: what stands behind the four bytes of
    an IPv4 address does not matter, and one mapped into IPv6 is IPv4. None: no UDP family."""
    port = int.from_bytes(packed[17:19], "big")
    if packed[0] == 2:
        return udp4(packed[1:5], port)
    if packed[0] == 10:
        mapped = ipaddress.IPv6Address(packed[1:17]).ipv4_mapped
        return udp6(packed[1:17], port) if mapped is None else udp4(mapped.packed, port)
    return None


def refused_target(target: Endpoint, options: NodeOptions, from_private: bool) -> str | None:
    """Says why a stranger may not make us send there: the reason that is counted, or None."""
    if port_of(target) == 0:
        return "target_port_zero"
    address = ipaddress.ip_address(ip_of(target))
    if isinstance(address, ipaddress.IPv4Address):
        if not (options.has_ipv4 and options.udp_port):
            return "target_family"
        if address in _THIS_NETWORK4 or any(address in network for network in _CLASSES_D_AND_E):
            return "target_forbidden"
        if any(ip_of(broadcast) == address.packed for broadcast in options.lan_targets):
            return "target_forbidden"
    else:
        if not (options.has_ipv6 and options.udp_port):
            return "target_family"
        if address in _MULTICAST6 or address == _UNSPECIFIED6:
            return "target_forbidden"
    if private(target) and not from_private:
        return "target_private"
    return None


def number(key: bytes) -> int:
    """Returns a key as the number that distances are made of."""
    return int.from_bytes(key, "big")


class Table:
    """The nodes that dht.0 told, without any order."""

    def __init__(self, own_key: bytes) -> None:
        self._own = number(own_key)
        self.rows: dict[bytes, NodeRow] = {}
        self._shown: dict[bool, list[tuple[int, NodeInfo]]] = {}

    def change(self, changed: tuple[NodeRow, ...], removed: tuple[bytes, ...] = ()) -> None:
        """Takes rows out, and puts others in."""
        for key in removed:
            self.rows.pop(key, None)
        for row in changed:
            self.rows[row.key] = row
        self._shown.clear()

    @staticmethod
    def _address(row: NodeRow, to_lan: bool) -> Endpoint | None:
        """The address that is given out: of the fresher family, local ones to local askers only."""
        pair = [row.endpoint4, row.endpoint6]
        if row.prefers6:
            pair.reverse()
        for raw in pair:
            if raw and (to_lan or not lan(Endpoint(raw))):
                return Endpoint(raw)
        return None

    def _askable(self, to_lan: bool) -> list[tuple[int, NodeInfo]]:
        shown = self._shown.get(to_lan)
        if shown is None:
            shown = self._shown[to_lan] = []
            for row in self.rows.values():
                address = self._address(row, to_lan)
                if address is not None:
                    shown.append((number(row.key), NodeInfo(PublicKey(row.key), address)))
        return shown

    def closest(self, searched: bytes, to_lan: bool) -> tuple[NodeInfo, ...]:
        """Returns the up to four nodes whose keys are closest, the closest first."""
        goal = number(searched)
        near = sorted(self._askable(to_lan), key=lambda row: row[0] ^ goal)
        return tuple(node for _, node in near[:MAX_NODES])

    def _bucket(self, key: int) -> int:
        """The number of the first bit in which a key differs from ours; deep ones share one."""
        return min(256 - (key ^ self._own).bit_length(), BUCKETS - 1)

    def has_room(self, key: bytes) -> bool:
        """Tells whether the bucket of a key shows a free place."""
        bucket = self._bucket(number(key))
        return sum(self._bucket(row) == bucket for row, _ in self._askable(True)) < BUCKET_SIZE


class Proposed:
    """When which key was proposed to dht.0: at most 32 in 2 s, a key once in 5 to 10 s.

    Turns of 5 s: the next begins with the first asker after the last one is over. Who was proposed
    in this turn or in the one before is not proposed again; but a turn that ended 5 s before is
    forgotten.
    """

    def __init__(self) -> None:
        self._turns: list[tuple[float, set[bytes]]] = []  # when it began, who was proposed
        self._period: tuple[float, int] | None = None  # when it began, how many were proposed

    def admit(self, key: bytes, now: float) -> bool:
        """Tells whether a key may be proposed now, and remembers that it was."""
        if not self._turns or now >= self._turns[-1][0] + PROPOSAL_TURN_S:
            self._turns.append((now, set()))
        began, keys = self._turns[-1]
        if key in keys:
            return False
        if len(self._turns) > 1:
            before, earlier = self._turns[-2]
            if key in earlier and began < before + 2 * PROPOSAL_TURN_S:
                return False
        if self._period is None or now >= self._period[0] + PROPOSAL_PERIOD_S:
            self._period = (now, 0)
        start, count = self._period
        if count == PROPOSALS:
            return False
        self._period = (start, count + 1)
        keys.add(key)
        return True


class ReturnBoxes:
    """The node's own key for onion returns: a new one every two hours; the last one still opens
    for the first twenty minutes."""

    def __init__(self, master: SecretKey) -> None:
        self._master = master.reveal()
        self._keys: dict[int, SharedKey] = {}

    def _key(self, epoch: int) -> SharedKey:
        if epoch not in self._keys:
            self._keys[epoch] = crypto.derive_key(self._master, "onion return", epoch)
        return self._keys[epoch]

    def seal(self, nonce: bytes, plain: bytes, now: float) -> bytes:
        """Returns nonce and box."""
        return nonce + crypto.seal(self._key(int(now // RETURN_EPOCH_S)), nonce, plain)

    def open(self, sealed: bytes, now: float) -> bytes | None:
        """Opens what `seal` made, if its key still counts."""
        epoch = int(now // RETURN_EPOCH_S)
        plain = crypto.open_sealed(self._key(epoch), sealed[:24], sealed[24:])
        if plain is None and epoch and now - epoch * RETURN_EPOCH_S < RETURN_OVERLAP_S:
            plain = crypto.open_sealed(self._key(epoch - 1), sealed[:24], sealed[24:])
        return plain


class Tags:
    """Tags over a time window and some data, which nobody else can make; good in the next window
    too."""

    def __init__(self, master: SecretKey, purpose: str, window_s: float) -> None:
        self._window_s = window_s
        self._tagger = crypto.Tagger(crypto.derive_key(master.reveal(), purpose))

    def _of(self, window: int, data: bytes) -> bytes:
        return self._tagger.make(window.to_bytes(8, "big") + data)

    def make(self, data: bytes, now: float) -> bytes:
        """Returns the tag of this window."""
        return self._of(int(now // self._window_s), data)

    def good(self, given: bytes, data: bytes, now: float) -> bool:
        """Tells whether a tag is of this window or of the one before."""
        window = int(now // self._window_s)
        if given == self._of(window, data):
            return True
        return window > 0 and given == self._of(window - 1, data)


class Entry(NamedTuple):
    """An announced client."""

    source: Endpoint
    onion_return: bytes
    data_key: bytes
    since: float


class Entries:
    """Who is announced, in the order of the announces; no more than `capacity`."""

    def __init__(self, own_key: bytes, capacity: int) -> None:
        self._own = number(own_key)
        self._capacity = capacity
        self.by_key: dict[bytes, Entry] = {}

    def get(self, key: bytes, now: float) -> Entry | None:
        """Returns an entry that is not too old."""
        entry = self.by_key.get(key)
        return entry if entry is not None and now - entry.since < ANNOUNCE_LIFE_S else None

    def put(self, key: bytes, entry: Entry) -> bool:
        """Stores an entry. When full, one that is too old goes, else the one farthest from us;
        False if that would be the new one."""
        if self.by_key.pop(key, None) is None and len(self.by_key) >= self._capacity:
            oldest = min(self.by_key, key=lambda row: self.by_key[row].since)
            if entry.since - self.by_key[oldest].since >= ANNOUNCE_LIFE_S:
                del self.by_key[oldest]
            else:
                farthest = max(self.by_key, key=lambda row: number(row) ^ self._own)
                if number(key) ^ self._own > number(farthest) ^ self._own:
                    return False
                del self.by_key[farthest]
        self.by_key[key] = entry
        return True

    def expire(self, now: float) -> None:
        """Forgets all that are too old."""
        for key in [key for key in self.by_key if self.get(key, now) is None]:
            del self.by_key[key]


class Chat(NamedTuple):
    """The announced peers of one group."""

    opened_from: bytes
    since: float
    peers: dict[bytes, bytes]  # peer key to announce, oldest first


class Groups:
    """Group announces by chat id: 16 peers a chat, bounds for chats in all and per source."""

    def __init__(self, drops: Counter[str], capacity: int, budget: int) -> None:
        self._drops = drops
        self._capacity = capacity
        self._budget = budget
        self.chats: dict[bytes, Chat] = {}

    def expire(self, now: float) -> None:
        """Forgets chats whose last announce was too long ago."""
        for chat_id, chat in list(self.chats.items()):
            if now - chat.since >= GROUP_LIFE_S:
                del self.chats[chat_id]

    def put(self, chat_id: bytes, announce: bytes, source: Endpoint, now: float) -> None:
        """Stores an announce, unless its source has opened too many chats."""
        self.expire(now)
        chat = self.chats.pop(chat_id, None)
        if chat is None:
            prefix = prefix_of(source)
            if sum(row.opened_from == prefix for row in self.chats.values()) >= self._budget:
                self._drops["group_budget"] += 1
                return
            if len(self.chats) >= self._capacity:
                del self.chats[min(self.chats, key=lambda row: self.chats[row].since)]
                self._drops["group_chats_full"] += 1
            chat = Chat(prefix, now, {})
        chat.peers.pop(announce[:32], None)
        if len(chat.peers) >= 16:  # c-toxcore group_announce.h: GCA_MAX_SAVED_ANNOUNCES_PER_GC
            del chat.peers[next(iter(chat.peers))]
        chat.peers[announce[:32]] = announce
        self.chats[chat_id] = chat._replace(since=now)

    def newest(self, chat_id: bytes, asker: bytes, now: float) -> list[bytes]:
        """Returns the four newest announces of others, the newest first."""
        chat = self.chats.get(chat_id)
        if chat is None or now - chat.since >= GROUP_LIFE_S:
            return []
        others = [announce for peer, announce in chat.peers.items() if peer != asker]
        return others[::-1][:4]
