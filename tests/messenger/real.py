"""A messenger on a real UDP socket with a client of libtoxcore as its friend.

DHT and onion are left out: the friend's DHT key and address are told as if these had found them.
"""

import hashlib
import select
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from core.crypto import PublicKey
from core.endpoint import Endpoint, from_text
from core.entropy import SystemEntropy
from core.friend.connections import FriendConnections
from core.messenger.events import Control, Event, FileChunk, FileChunkWanted, FileOffer
from core.messenger.module import Messenger
from core.packets.nodes import NodeInfo
from core.savedata.profile import Profile
from tests.net_crypto.real import HOST, RealPerson

E = TypeVar("E", bound=Event)


class Nothing:
    """An onion, a DHT and relays that find nothing; there may be relays of our own."""

    def __init__(self, own_relays: Sequence[NodeInfo] = ()) -> None:
        self._own_relays = list(own_relays)

    def add_friend(self, real_key: PublicKey, now: float) -> None: ...
    def remove_friend(self, real_key: PublicKey, now: float) -> None: ...
    def set_online(self, real_key: PublicKey, online: bool, now: float) -> None: ...
    def set_dht_key(self, real_key: PublicKey, dht_key: PublicKey | None, now: float) -> None: ...
    def send(self, real_key: PublicKey, data: bytes, now: float) -> int:
        return 0

    def search(self, dht_key: bytes, now: float) -> bool:
        return True

    def stop_search(self, dht_key: bytes) -> None: ...
    def ask(self, endpoint: Endpoint, key: bytes, target: bytes, now: float) -> None: ...
    def add_peer(self, dht_key: PublicKey, now: float) -> None: ...
    def remove_peer(self, dht_key: PublicKey, now: float) -> None: ...
    def add_relay_of(
        self, dht_key: PublicKey, endpoint: Endpoint, relay_key: PublicKey, now: float
    ) -> None: ...
    def set_sleeping(self, dht_key: PublicKey, asleep: bool, now: float) -> None: ...
    def relay_works(self, dht_key: PublicKey, now: float) -> None: ...
    def relays(self, most: int) -> list[NodeInfo]:
        return self._own_relays[:most]


class RealMessenger(RealPerson):
    """Sessions, friend connections and a messenger, on one socket."""

    def __init__(self, name: str = "ours") -> None:
        super().__init__()
        self.events: list[Event] = []
        self.accepts_files = True
        self.outgoing: dict[int, bytes] = {}
        """Files that are given as they are asked for, by number."""
        self.received: dict[int, bytearray] = {}
        nothing = Nothing()
        now = time.monotonic()
        self.connections = FriendConnections(
            self.crypto, nothing, nothing, nothing, SystemEntropy(), self.drops
        )
        profile = Profile(self.real, b"spam", name.encode())
        self.messenger = Messenger(
            profile,
            self.connections,
            nothing,
            self,
            SystemEntropy(),
            self.drops,
            now,
            time.time() - now,
        )
        self.connections.listener = self.messenger
        self.crypto.listener = self.connections

    def find(self, real_key: bytes, dht_key: bytes, port: int) -> PublicKey:
        """Adds a friend, and is told its DHT key and its address."""
        now, key = time.monotonic(), PublicKey(real_key)
        if key not in self.messenger.friends():
            self.messenger.add_friend_by_key(key, now)
        self.connections.friend_found(key, PublicKey(dht_key), (), now)
        self.connections.address_found(dht_key, from_text(HOST, port), now)
        return key

    def told(self, kind: type[E]) -> list[E]:
        """Returns the events of a class."""
        return [event for event in self.events if isinstance(event, kind)]

    def pump(self, done: Callable[[], object], timeout_s: float) -> bool:
        """Serves the socket and all timers until `done`; False when the time is over."""
        end = time.monotonic() + timeout_s
        parts = (self.crypto, self.connections, self.messenger)
        while not done():
            now = time.monotonic()
            if now >= end:
                return False
            due = end
            for part in parts:
                timer = part.next_timer()
                if timer is not None and timer <= now:
                    part.handle_timer(now)
                    timer = part.next_timer()
                due = min(due, timer) if timer is not None else due
            wait = min(max(0.0, due - now), 0.1)
            if select.select([self.socket], [], [], wait)[0]:
                self._receive()
        return True

    # The listener of the messenger

    def event(self, event: Event, now: float) -> None:
        """Notes it; gives and takes files."""
        if isinstance(event, FileChunk):
            assert event.position == len(self.received[event.number])
            self.received[event.number] += event.data
            return
        self.events.append(event)
        if isinstance(event, FileChunkWanted):
            data = self.outgoing[event.number][event.position : event.position + event.size]
            self.messenger.file_chunk(event.friend, event.number, event.position, data, now)
        elif isinstance(event, FileOffer):
            self.received[event.number] = bytearray()
            if self.accepts_files:
                self.messenger.file_control(event.friend, event.number, Control.RESUME, now)

    def offer(self, friend: PublicKey, data: bytes, size: int | None) -> int:
        """Offers a file that is given as it is asked for."""
        now = time.monotonic()
        number = self.messenger.send_file(friend, 0, size, None, "ours.bin", now)
        self.outgoing[number] = data
        return number


def digests(files: Sequence[bytes | bytearray]) -> list[str]:
    """Returns the SHA-256 of each."""
    return [hashlib.sha256(data).hexdigest() for data in files]
