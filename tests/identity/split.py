"""Identities of the made-up network whose halves live in two processes, which may die.

A process here is what it holds in memory. It dies at an outward act of its own (when it tells the
other one something, sends a datagram, or stores something), or at any line of core. What stands on
disk and in the memory that the supervisor has made is there for its successor.
"""

import mmap
import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from core import batch
from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.entropy import SeededEntropy
from core.identity import Carrier, EngineOptions
from core.identity.far import FarEngine
from core.identity.near import NearDesk, PlaceOrder, PlaceRefused
from core.messages import Message
from core.messenger import events
from core.messenger.errors import MessengerError
from core.messenger.events import (
    ConnectionChanged,
    Event,
    FileEnded,
    IdentityConnected,
    MessageKind,
    Receipt,
)
from core.net_crypto.lasting import SessionMemory
from core.packets.nodes import NodeInfo
from core.relay_client import Target
from core.savedata.profile import Profile
from tests.simulation import Node, World
from tests.simulation.dweller import Dweller

TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]

_CORE = str(Path(batch.__file__).parent)
DELAY_S = 0.002  # from one process to the other
IN_FLIGHT = 8  # letters handed over without a receipt


class Killed(Exception):
    """The process is dead from here on."""


class Fuse:
    """How many outward acts, or lines of core, a process has left; None: it lives."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.lines: int | None = None

    def act(self) -> None:
        """Counts an act, before it happens."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    @contextmanager
    def burning(self) -> Iterator[None]:
        """Counts the lines that are run within, if that is wanted."""
        if self.lines is None:
            yield
            return
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> TraceFunction | None:
        return self._run if frame.f_code.co_filename.startswith(_CORE) else None

    def _run(self, frame: FrameType, event: str, argument: Any) -> TraceFunction:
        if event == "line" and self.lines is not None:
            self.lines -= 1
            if self.lines < 0:
                self.lines = None
                raise Killed
        return self._run


class Disk:
    """What is on disk of one identity: letters to send, texts that came, and how far."""

    def __init__(self) -> None:
        self.letters: dict[int, tuple[PublicKey, str]] = {}
        self.texts: list[str] = []
        self.heard: dict[bytes, tuple[bytes, int]] = {}
        self.next_letter = 1

    def put(self, friend: PublicKey, text: str) -> None:
        """Keeps a letter until its receipt."""
        self.letters[self.next_letter] = friend, text
        self.next_letter += 1

    def waiting(self, friend: PublicKey, after: int, most: int) -> list[tuple[int, str]]:
        """Returns the next letters to a friend."""
        rows = [(n, text) for n, (to, text) in self.letters.items() if to == friend and n > after]
        return rows[:most]


class NearProcess:
    """A net_crypto process with the carrier of one identity."""

    def __init__(self, split: "Split") -> None:
        self.split, self.world, self.host = split, split.world, split.host
        self.fuse = Fuse()
        self.inbox: deque[Message] = deque()
        self.carrier: Carrier
        self.drops: Counter[str] = Counter()
        self.settle: Callable[[float], None]
        self.has_place = False
        self.dialled: list[Target] = []
        self.desk = NearDesk(
            self.tell,
            self.make_place,
            split.entropy("near"),
            self.drops,
            SessionMemory(split.lasting, identities=4, sessions=16, packets=4096),
            self.world.now,
        )

    def make_place(self, order: PlaceOrder, now: float) -> "NearProcess":
        """Makes the carrier; this process is its place."""
        if self.split.port_is_taken:
            raise PlaceRefused("port 33445 is taken")
        self.carrier = order.carrier(self, self.split.entropy("carrier"), now, 1_700_000_000.0)
        self.settle = order.settle
        self.has_place = True
        self.host.move_in(self)
        return self

    # core.identity.near.Place

    @property
    def port(self) -> int:
        return 33445

    def plan(self) -> None:
        self.settle(self.world.now)
        self.host.plan()

    def close(self) -> None:
        self.has_place = False
        self.host.lodger = None

    # tests.simulation.dweller.Lodger

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        with self.split.dying(self):
            self.carrier.handle_packets((packet,), (source,), now)
            self.settle(now)

    def handle_timer(self, now: float) -> None:
        with self.split.dying(self):
            self.carrier.handle_timer(now)
            self.settle(now)

    def next_timer(self) -> float | None:
        return self.carrier.next_timer()

    # core.identity.carrier.CarrierHost

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        self.fuse.act()
        self.host.send_udp(endpoint, packet)

    def dial(self, line: int, target: Target) -> None:
        self.dialled.append(target)  # which nobody answers

    def write(self, line: int, data: bytes) -> int:
        raise AssertionError("there are no relays here")

    def hang_up(self, line: int) -> None:
        pass

    # Messages

    def tell(self, identity: PublicKey, message: Message) -> None:
        self.fuse.act()
        self.split.carry(self, message)

    def handle_message(self, message: Message, now: float) -> None:
        self.desk.handle_message(message, now)


class FarProcess:
    """A messenger process with one identity."""

    def __init__(self, split: "Split") -> None:
        self.split, self.world, self.disk = split, split.world, split.disk
        self.fuse = Fuse()
        self.events: list[Event | IdentityConnected] = []
        self.numbers: dict[int, int] = {}  # letters by the number of their receipts
        self.last: dict[PublicKey, int] = {}  # the last letter handed over, by friend online
        self.kept: list[str] | None = None  # texts of the transaction
        self.heard_now: dict[bytes, tuple[bytes, int]] = {}
        self.wake_at: float | None = None
        self.engine = FarEngine(
            split.profile,
            split.entropy("far"),
            self,
            self.world.now,
            1_700_000_000.0,
            EngineOptions(has_ipv6=False, bootstrap=split.bootstrap),
            (33445, 33445),
            split.hosts,
        )
        self.plan()

    # core.identity.far.FarHost

    def tell(self, message: Message) -> None:
        self.fuse.act()
        self.split.carry(self, message)

    def event(self, event: Event | IdentityConnected, now: float) -> None:
        self.events.append(event)
        match event:
            case events.Message(_, _, _):
                assert self.kept is not None, "a message came outside of a transaction"
                self.kept.append(event.text)
            case ConnectionChanged(friend):
                if not event.online:
                    self.last.pop(friend, None)
                    self.numbers.clear()
                else:
                    self.last.setdefault(friend, 0)
            case Receipt(_, number):
                letter = self.numbers.pop(number, None)
                if letter is not None:
                    self.fuse.act()
                    del self.disk.letters[letter]

    @contextmanager
    def together(self) -> Iterator[None]:
        self.kept, self.heard_now = [], {}
        yield
        self.fuse.act()
        if self.kept:
            self.disk.texts += self.kept
            self.disk.heard.update(self.heard_now)
        self.kept = None

    def heard(self) -> Mapping[bytes, tuple[bytes, int]]:
        return dict(self.disk.heard)

    def hear(self, friend: PublicKey, serial: bytes, upto: int) -> None:
        self.heard_now[friend] = serial, upto

    def resumed(
        self,
        friend: PublicKey,
        taken: int,
        acked: int,
        flying: tuple[tuple[int, int], ...],
        now: float,
    ) -> None:
        self.last[friend] = taken
        for letter in [n for n, row in self.disk.letters.items() if row[0] == friend]:
            if letter <= acked:
                del self.disk.letters[letter]
        self.numbers = dict(flying)

    # What it does by itself

    def pump(self) -> None:
        """Hands letters over to friends that are online."""
        for friend, last in list(self.last.items()):
            room = IN_FLIGHT - len(self.numbers)
            for letter, text in self.disk.waiting(friend, last, max(0, room)):
                try:
                    number = self.engine.messenger.send_message(
                        friend, MessageKind.NORMAL, text, self.world.now, letter
                    )
                except MessengerError:
                    break
                self.numbers[number] = letter
                self.last[friend] = letter
        self.engine.settle(self.world.now)

    def handle_message(self, message: Message, now: float) -> None:
        self.engine.handle_message(message, now)
        self.pump()
        self.plan()

    def plan(self) -> None:
        when = self.engine.next_timer()
        if when is not None and (self.wake_at is None or when < self.wake_at):
            self.wake_at = max(when, self.world.now)
            self.world.at(self.wake_at, self._wake, self.wake_at)

    def _wake(self, when: float) -> None:
        if self.split.far is not self or self.wake_at != when:
            return
        self.wake_at = None
        with self.split.dying(self):
            self.engine.handle_timer(self.world.now)
            self.pump()
            self.plan()


class Split:
    """An identity in two processes, which are begun again when they have died."""

    def __init__(
        self, world: World, name: str, nodes: list[Node], profile: Profile | None = None
    ) -> None:
        self.world, self.name = world, name
        self.host = Dweller(world, name)
        self.profile = profile or Profile.generate(SeededEntropy(name), name.encode())
        self.key = self.profile.keys.public
        self.bootstrap = tuple(NodeInfo(node.keys.public, node.endpoint) for node in nodes)
        self.chance = random.Random(f"{world.seed}/{name}")
        self.disk = Disk()
        self.begun = 0
        self.deaths: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        """Of near processes that died."""
        self.far_is_away = False
        """Whether the messenger process has died and was not begun again yet."""
        self.lose: Callable[[Message], bool] | None = None
        """If set, sees each message that arrives; True loses it."""
        self.port_is_taken = False
        self.hosts: tuple[str, ...] = ("0.0.0.0",)
        self._memory: mmap.mmap | None = None
        self.near = NearProcess(self)
        self.far = FarProcess(self)

    def entropy(self, what: str) -> SeededEntropy:
        self.begun += 1
        return SeededEntropy(f"{self.world.seed}/{self.name}/{what}/{self.begun}")

    def lasting(self, size: int) -> mmap.mmap:
        if self._memory is None:
            self._memory = mmap.mmap(-1, size)
        return self._memory

    # The way between both

    def carry(self, sender: NearProcess | FarProcess, message: Message) -> None:
        """Carries a message to the other process as it is by then, if it is not lost."""
        items = batch.rows([message])
        frame = batch.decode(batch.encode(batch.MESSAGES, 1, 1, 0, items))
        (copy,) = batch.messages(frame.items)
        to_near = isinstance(sender, FarProcess)
        self.world.at(self.world.now + DELAY_S, self._arrive, to_near, copy)

    def _arrive(self, to_near: bool, message: Message) -> None:
        process: NearProcess | FarProcess = self.near if to_near else self.far
        if not to_near and self.far_is_away:
            return
        if self.lose is not None and self.lose(message):
            return
        with self.dying(process):
            process.handle_message(message, self.world.now)

    @contextmanager
    def dying(self, process: NearProcess | FarProcess) -> Iterator[None]:
        """Begins a process again that dies within."""
        try:
            with process.fuse.burning():
                yield
        except Killed:
            self.replace(process)

    # Deaths

    def kill(self, near: bool, acts: int = 0) -> None:
        """Has a process die behind so many acts of its own."""
        (self.near if near else self.far).fuse.left = acts

    def kill_in_lines(self, near: bool, lines: int) -> None:
        """Has a process die behind so many lines of core that it runs from now on."""
        (self.near if near else self.far).fuse.lines = lines

    def replace(self, process: NearProcess | FarProcess) -> None:
        """Begins a process again, which has died."""
        if process is self.near:
            self.deaths["near"] += 1
            self.drops.update(self.near.drops)
            self.host.lodger = None
            self.near = NearProcess(self)
            self.world.at(self.world.now + 0.2, self._near_is_new)
        elif process is self.far:
            self.deaths["far"] += 1
            self.profile = self.far.engine.profile(self.world.now)
            self.far = FarProcess(self)
            self.world.at(self.world.now + 0.01, self._far_is_new)

    def stop_far(self) -> None:
        """The messenger process dies, and stays away for now."""
        self.far_is_away = True
        self.far.wake_at = None

    def begin_far(self) -> None:
        """It is begun again."""
        self.far_is_away = False
        self.replace(self.far)

    def _near_is_new(self) -> None:
        if self.far_is_away:
            return
        with self.dying(self.far):
            self.far.engine.carrier_gone(self.world.now)
            self.far.plan()

    def _far_is_new(self) -> None:
        with self.dying(self.near):
            self.near.desk.messenger_gone(self.world.now)

    # What tests do and ask

    def write(self, friend: PublicKey, text: str) -> None:
        """Puts a letter on disk, to be sent when that is possible."""
        self.disk.put(friend, text)
        with self.dying(self.far):
            self.far.pump()
            self.far.plan()

    def befriend(self, key: PublicKey) -> None:
        """Adds a friend by key."""
        with self.dying(self.far):
            self.far.engine.messenger.add_friend_by_key(key, self.world.now)
            self.far.engine.settle(self.world.now)
            self.far.plan()

    def is_with(self, key: PublicKey) -> bool:
        """Tells whether a friend is online."""
        return key in self.far.engine.messenger.friends() and (
            self.far.engine.messenger.friend(key).connection is not events.Connection.NONE
        )

    def ended(self) -> list[FileEnded]:
        """Returns which file transfers have ended."""
        return [event for event in self.far.events if isinstance(event, FileEnded)]
