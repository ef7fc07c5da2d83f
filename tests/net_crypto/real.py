"""Sessions over a real UDP socket: with a client of libtoxcore, without DHT or onion."""

import hashlib
import mmap
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence

from core.crypto import KeyPair, PublicKey, SharedKeys
from core.endpoint import Endpoint, from_text, ip_of, port_of
from core.entropy import SystemEntropy
from core.net_crypto import LastingSessions, NetCrypto, SessionMemory, Tag
from core.net_crypto.bandwidth import Bandwidth
from core.net_crypto.rates import RateRule

HOST = "127.0.0.1"
ALIVE = b"\x10"
ONLINE = b"\x18"
ALIVE_S = 8.0
CHUNK = 1371


class RealPerson:
    """An identity on a socket that has one friend, whom it knows where to find."""

    def __init__(self, rates: Callable[[float, int], RateRule] = Bandwidth) -> None:
        entropy = SystemEntropy()
        self.real, self.dht = KeyPair.generate(entropy), KeyPair.generate(entropy)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option, 2 << 20)
        self.socket.bind((HOST, 0))
        self.socket.setblocking(False)
        self.drops: Counter[str] = Counter()
        self.friend: PublicKey | None = None
        self.is_up = False
        self.taken: list[bytes] = []
        self.lossy_taken: list[bytes] = []
        self.acknowledged_to = -1
        self.directs: list[bool] = []
        self.on_lossless: Callable[[bytes, float], None] | None = None
        self.on_room: Callable[[float], None] | None = None
        self.lose: Callable[[], bool] = lambda: False
        """Whether the next datagram, either way, is lost."""
        self._alive_at = 0.0
        self._entropy, self._rates = entropy, rates
        self.crypto = self._begin()

    def _begin(self, kept: SessionMemory | None = None) -> NetCrypto:
        crypto = NetCrypto(
            self.real,
            self.dht,
            SharedKeys(self.dht.secret),
            self._entropy,
            self,
            self.drops,
            time.monotonic(),
            rates=self._rates,
            kept=kept,
        )
        crypto.listener = self
        return crypto

    def meet(self, real_key: bytes, dht_key: bytes, port: int) -> None:
        """Begins a session with a friend on loopback."""
        now = time.monotonic()
        self.friend = PublicKey(real_key)
        self.crypto.open(self.friend, PublicKey(dht_key), now)
        self.crypto.set_endpoint(self.friend, from_text(HOST, port), now)

    def send(self, data: bytes) -> int | None:
        assert self.friend is not None
        return self.crypto.send(self.friend, data, time.monotonic())

    def pump(self, done: Callable[[], object], timeout_s: float) -> bool:
        """Serves the socket and the timers until `done`; False when the time is over."""
        end = time.monotonic() + timeout_s
        while not done():
            now = time.monotonic()
            if now >= end:
                return False
            self._keep_alive(now)
            timer = self.crypto.next_timer()
            if timer is not None and timer <= now:
                self.crypto.handle_timer(now)
                timer = self.crypto.next_timer()
            wait = min(0.1 if timer is None else max(0.0, timer - now), 0.1)
            if select.select([self.socket], [], [], wait)[0]:
                self._receive()
        return True

    def _receive(self) -> None:
        for _ in range(64):
            try:
                packet, source = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            if 0x18 <= packet[0] <= 0x1B and not self.lose():
                self.crypto.handle_udp(packet, from_text(*source), time.monotonic())

    def _keep_alive(self, now: float) -> None:
        if self.is_up and self.friend is not None and self._alive_at <= now:
            self._alive_at = now + ALIVE_S
            self.crypto.send(self.friend, ALIVE, now)

    # Ways

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        if self.lose():
            return
        address = socket.inet_ntoa(ip_of(endpoint)), port_of(endpoint)
        try:
            self.socket.sendto(packet, address)
        except BlockingIOError:
            self.drops["send_full"] += 1

    def send_relay(self, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        return False

    def send_oob(self, relay_key: PublicKey, dht_key: PublicKey, packet: bytes, now: float) -> bool:
        return False

    # Listener

    def accepts(
        self, real_key: PublicKey, dht_key: PublicKey, source: Endpoint | None, now: float
    ) -> bool:
        return real_key == self.friend

    def session_up(self, real_key: PublicKey, now: float) -> None:
        self.is_up = True

    def session_down(self, real_key: PublicKey, now: float) -> None:
        self.is_up = False

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        for data in packets:
            if self.on_lossless is not None:
                self.on_lossless(data, now)
            else:
                self.taken.append(data)

    def lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        self.lossy_taken.append(data)

    def acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        self.acknowledged_to = number
        if self.on_room is not None:
            self.on_room(now)

    def new_dht_key(self, real_key: PublicKey, dht_key: PublicKey, now: float) -> None:
        pass

    def direct_changed(self, real_key: PublicKey, direct: bool, now: float) -> None:
        self.directs.append(direct)


class MortalPerson(RealPerson):
    """One whose process is killed without a word; memory and socket outlive it.

    What is above goes on, and gives again what was not taken over: each text once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._memory: mmap.mmap | None = None
        self.given: list[bytes] = []
        self._upto = -1  # of the peer's packets: the last that is stored
        self.crypto = self._begin(SessionMemory(self._map))

    def _map(self, size: int) -> mmap.mmap:
        if self._memory is None:
            self._memory = mmap.mmap(-1, size)
        return self._memory

    def _lasting(self) -> LastingSessions:
        assert self.crypto.lasting is not None
        return self.crypto.lasting

    def give(self, data: bytes) -> None:
        """Is to be sent once."""
        self.given.append(data)

    def hand_down(self) -> None:
        """Sends what was not taken over, and says what is stored."""
        assert self.friend is not None
        progress = self._lasting().progress(self.friend)
        assert progress is not None, "the session is lost"
        now = time.monotonic()
        for seq in range(progress.taken.seq + 1, len(self.given) + 1):
            if self.crypto.send(self.friend, self.given[seq - 1], now, Tag(seq, seq)) is None:
                break
        self._lasting().stored(self.friend, self._upto, now)

    def die(self) -> None:
        """Is killed, and goes on in the next process."""
        assert self.friend is not None
        now = time.monotonic()
        self.crypto = self._begin(SessionMemory(self._map))
        assert self.crypto.resume(now) == [self.friend]
        self._lasting().stored(self.friend, self._upto, now)
        self._lasting().hand_again(self.friend, now)

    def delivered(self) -> int:
        """Returns how many of those that were given the peer has."""
        assert self.friend is not None
        progress = self._lasting().progress(self.friend)
        return 0 if progress is None else progress.acked.seq

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        upto = self._lasting().handed(real_key)
        assert upto - len(packets) == self._upto, "packets are missing, or came twice"
        self._upto = upto
        super().lossless(real_key, packets, now)


class FileOut:
    """Sends one file: offers it, waits for the receiver, then fills the room there is."""

    def __init__(self, person: RealPerson, data: bytes) -> None:
        self._person, self._data = person, data
        self._position = 0
        self._accepted = False
        self.digest = hashlib.sha256(data).hexdigest()
        person.on_lossless, person.on_room = self._take, self._fill
        head = b"\x50\x00" + bytes(4) + len(data).to_bytes(8, "big") + bytes(32)
        person.send(head + b"a.bin")

    def _take(self, data: bytes, now: float) -> None:
        if data == b"\x51\x01\x00\x00":
            self._accepted = True
            self._fill(now)

    def _fill(self, now: float) -> None:
        if not self._accepted or self._position >= len(self._data):
            return
        person = self._person
        assert person.friend is not None
        for _ in range(person.crypto.room(person.friend)):
            chunk = self._data[self._position : self._position + CHUNK]
            if not chunk or person.crypto.send(person.friend, b"\x52\x00" + chunk, now) is None:
                return
            self._position += len(chunk)


class FileIn:
    """Takes one file."""

    def __init__(self, person: RealPerson) -> None:
        self._person = person
        self._digest = hashlib.sha256()
        self.size = -1
        self.received = 0
        person.on_lossless = self._take

    def _take(self, data: bytes, now: float) -> None:
        if data[0] == 0x50:
            self.size = int.from_bytes(data[6:14], "big")
            self._person.send(b"\x51\x01" + data[1:2] + b"\x00")
        elif data[0] == 0x52:
            self._digest.update(data[2:])
            self.received += len(data) - 2

    def is_whole(self) -> bool:
        return self.received == self.size

    def digest(self) -> str:
        return self._digest.hexdigest()
