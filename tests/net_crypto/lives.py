"""People whose process is killed, at any line of it, and who go on in the next one.

What is above them (`Above`) never dies here: it keeps what it handed over until that is taken over,
and stores what comes, as a messenger in another process does.
"""

import mmap
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from core.crypto import PublicKey, SharedKeys
from core.endpoint import Endpoint
from core.module import ProtocolViolation
from core.net_crypto import Ended, NetCrypto, SessionMemory, Tag
from core.wire import WireError
from tests.net_crypto.world import Person, World

CODE = "/core/net_crypto/"


class Killed(BaseException):
    """The process is no more."""


class Killer:
    """Ends whatever runs in `core.net_crypto` before the line that `left` counts down to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.lines = self.kills = 0
        self.left = -1

    def begin(self, lines: int) -> None:
        """From now on it kills within so many lines, again and again; 0: no more."""
        self.lines = lines
        self.draw()

    def draw(self) -> None:
        """Chooses the next line; without `lines` there is none."""
        self.left = self.chance.randrange(self.lines) + 1 if self.lines else -1

    def run(self, what: Callable[..., object], *arguments: Any) -> None:
        """Does it, unless it is killed: then Killed is raised."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            what(*arguments)
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if CODE in frame.f_code.co_filename else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.kills += 1
                raise Killed
        return self._line


class Above:
    """What one person's messenger has, of one friend."""

    def __init__(self) -> None:
        self.sessions: dict[bytes, int] = {}  # serial -> number of the last packet that is stored
        self.stored: list[bytes] = []
        self.given: deque[tuple[Tag, bytes]] = deque()  # and not taken over, as far as known
        self.seq = 0

    def take(self, serial: bytes, upto: int, packets: Sequence[bytes]) -> None:
        """Stores what came; no packet may come again, and none be left out."""
        before = self.sessions.get(serial, -1)
        assert upto - len(packets) == before, "packets are missing, or came twice"
        self.sessions[serial] = upto
        self.stored += packets

    def give(self, data: bytes) -> None:
        """A packet is to go down; two of three are letters."""
        self.seq += 1
        tag = Tag(self.seq, self.seq + 1000 if self.seq % 3 else 0)
        self.given.append((tag, data))

    def taken(self, tag: Tag) -> None:
        """Those up to it are safe below."""
        while self.given and self.given[0][0].seq <= tag.seq:
            self.given.popleft()


class Mortal(Person):
    """A person with one friend, whose process is killed now and then."""

    def __init__(
        self,
        world: World,
        name: str,
        number: int,
        *,
        packets: int = 512,
    ) -> None:
        super().__init__(world, name, number)
        self.chance = random.Random(f"{world.seed}/{name}/kills")
        self.killer = Killer(self.chance)
        self.packets = packets
        self.above = Above()
        self.friend: PublicKey | None = None
        self.memory: mmap.mmap | None = None
        self._outbox: list[tuple[bytes, int, list[bytes]]] = []
        self.resumed: list[list[PublicKey]] = []
        self.timed = self
        self._build()

    def _map(self, size: int) -> mmap.mmap:
        if self.memory is None:
            self.memory = mmap.mmap(-1, size)
        assert len(self.memory) == size
        return self.memory

    def _build(self) -> None:
        self.kept = SessionMemory(self._map, identities=4, sessions=8, packets=self.packets)
        self.crypto = NetCrypto(
            self.real,
            self.dht,
            SharedKeys(self.dht.secret),
            self.entropy,
            self,
            self.drops,
            self.world.now,
            kept=self.kept,
        )
        self.crypto.listener = self

    @property
    def lasting(self) -> Any:
        return self.crypto.lasting

    # Life and death

    def do(self, what: Callable[..., object], *arguments: Any) -> None:
        """Does one turn of the process, in which it may be killed."""
        try:
            self.killer.run(what, *arguments)
        except Killed:
            self.die()
        else:
            self._flush()

    def die(self) -> None:
        """Is killed, and goes on; what was said upward in this turn has come or has not."""
        if self.chance.random() < 0.5:
            self._flush()
        self._outbox.clear()
        tries = 0
        while True:
            tries += 1
            self.killer.draw()
            if tries > 3:
                self.killer.left = -1  # it lives long enough to begin
            try:
                self.killer.run(self._live_again)
            except Killed:
                self._outbox.clear()
                continue
            break
        self.killer.draw()
        self._flush()

    def _live_again(self) -> None:
        self._build()
        self.resumed.append(self.crypto.resume(self.world.now))
        now = self.world.now
        for real_key in self.resumed[-1]:
            serial = self.lasting.serial(real_key)
            if serial in self.above.sessions:
                self.lasting.stored(real_key, self.above.sessions[serial], now)
            self.lasting.hand_again(real_key, now)

    def pulse(self) -> None:
        """A turn of the messenger: it learns what is taken over, gives the rest, and says what it
        has stored, all sooner or later."""
        self.do(self._pulse)

    def _pulse(self) -> None:
        real_key, now = self.friend, self.world.now
        assert real_key is not None
        progress = self.lasting.progress(real_key)
        if progress is None:
            return
        self.above.taken(progress.taken)
        for tag, data in list(self.above.given):
            if self.crypto.send(real_key, data, now, tag) is None:
                break
        serial = self.lasting.serial(real_key)
        if self.chance.random() < 0.5 and serial in self.above.sessions:
            self.lasting.stored(real_key, self.above.sessions[serial], now)

    def _flush(self) -> None:
        for serial, upto, packets in self._outbox:
            self.above.take(serial, upto, packets)
        self._outbox.clear()

    # Turns

    def handle_timer(self, now: float) -> None:
        self.do(self.crypto.handle_timer, now)

    def next_timer(self) -> float | None:
        return self.crypto.next_timer()

    def take(self, packet: bytes, source: Endpoint) -> None:
        self.do(self._take, packet, source)

    def _take(self, packet: bytes, source: Endpoint) -> None:
        try:
            self.crypto.handle_udp(packet, source, self.world.now)
        except (WireError, ProtocolViolation):
            self.wire_errors += 1

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        serial = self.lasting.serial(real_key)
        assert serial is not None
        self._outbox.append((serial, self.lasting.handed(real_key), list(packets)))


class Messenger(Above):
    """One that has many sessions with its friend, one after the other, and letters to deliver.

    What the friend has is never given again; what it may have, only in another session.
    """

    def __init__(self) -> None:
        super().__init__()
        self.letters: list[bytes] = []
        self.delivered = 0  # the friend has so many
        self.twice = 0  # how many were given again, since nobody knows whether the friend has them
        self.witnessed = 0  # so many the friend had, by word of sessions that may have died of it
        self._given = 0  # to this session or one before
        self._serial = b""
        self._first = 0  # letter with seq 1

    def hear_end(self, ended: Ended) -> None:
        """A session is over."""
        heard = self.sessions.get(ended.serial, -1)
        new = ended.upto - heard
        if 0 < new <= len(ended.packets):
            self.take(ended.serial, ended.upto, ended.packets[len(ended.packets) - new :])
        self.learn(ended.acked)

    def learn(self, acked: Tag) -> None:
        """The friend has all letters up to this one."""
        self.delivered = max(self.delivered, acked.letter)

    def next(self, serial: bytes, taken: Tag) -> Iterator[tuple[Tag, bytes]]:
        """Yields what is to be given to the session next."""
        if serial != self._serial:
            assert self.delivered >= self.witnessed, "what the friend has is given again"
            self.twice += self._given - self.delivered
            self._serial, self._first, self._given = serial, self.delivered, self.delivered
        begin = self._first + taken.seq
        for position in range(begin, len(self.letters)):
            self._given = position + 1
            yield Tag(position - self._first + 1, position + 1), self.letters[position]


class Restless(Mortal):
    """One whose sessions end as well, and who begins another whenever there is none."""

    def __init__(self, world: World, name: str, number: int) -> None:
        super().__init__(world, name, number)
        self.above: Messenger = Messenger()

    def acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        acked = self.lasting.progress(real_key).acked
        self.above.witnessed = max(self.above.witnessed, acked.letter)

    def _pulse(self) -> None:
        real_key, now = self.friend, self.world.now
        assert real_key is not None
        for ended in self.lasting.ended():
            self.above.hear_end(ended)
            self.lasting.settled(ended.serial)
        serial, progress = self.lasting.serial(real_key), self.lasting.progress(real_key)
        if progress is None:
            return
        self.above.learn(progress.acked)
        for tag, data in self.above.next(serial, progress.taken):
            if self.crypto.send(real_key, data, now, tag) is None:
                break
        if self.chance.random() < 0.5 and serial in self.above.sessions:
            self.lasting.stored(real_key, self.above.sessions[serial], now)
