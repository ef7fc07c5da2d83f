"""Identities in two processes, with their own mailboxes and sockets: either process is killed.

Both are in this process here, and dying is to be forgotten: what is on disk, or in the memory that
lasts, is there for the successor.
"""

import asyncio
import mmap
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core import batch
from core.entropy import SystemEntropy
from core.identity.messages import Complete
from core.identity.near import NearDesk, PlaceOrder, PlaceRefused
from core.messages import Message
from core.net_crypto.lasting import SessionMemory
from tests.identity.clock import run, until, within
from tests.identity.test_identity import LOCAL, Diary, Neighbours, befriend, node
from toxmesh.identity.bot import Bot
from toxmesh.identity.far import FarIdentities
from toxmesh.identity.files import TransferFailed
from toxmesh.identity.identity import Identity
from toxmesh.identity.mailbox import Mailbox, MailboxError
from toxmesh.identity.place import CarrierPlace


class Killed(Exception):
    """The process is dead from here on."""


def _pass_over_killed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)


class Place(CarrierPlace):
    """Where one carrier is at work."""

    def __init__(self, order: PlaceOrder) -> None:
        super().__init__()
        self._order = order
        now, unix_offset = self.clock()
        ports = (order.port, order.port) if order.port else order.ports
        self.begin(order.carrier(self, self.entropy(), now, unix_offset), ports, order.hosts)

    def settle(self, now: float) -> None:
        self._order.settle(now)


class Halves:
    """A profile whose identity is in two processes, with an echo bot."""

    def __init__(self, path: Path, known: list[str]) -> None:
        self.path, self._known = path, known
        self._loop = asyncio.get_running_loop()
        self._memory: mmap.mmap | None = None
        self._to_near: deque[Message] = deque()
        self._to_far: deque[Message] = deque()
        self._fuse: int | None = None
        self.deaths: Counter[str] = Counter()
        self.said: list[str] = []
        self.refuses = False
        self.own: Identity
        self._task: asyncio.Task[None] | None = None
        self._loop.set_exception_handler(_pass_over_killed)
        self._begin_near()

    def _lasting(self, size: int) -> mmap.mmap:
        self._memory = self._memory or mmap.mmap(-1, size)
        return self._memory

    # One process

    def _begin_near(self) -> None:
        self._places: list[Place] = []
        self._to_near.clear()

        def make_place(order: PlaceOrder, now: float) -> Place:
            if self.refuses:
                raise PlaceRefused("no UDP port can be had")
            self._places.append(Place(order))
            return self._places[-1]

        self._near = NearDesk(
            lambda identity, message: self._carry(self._to_far, self._arrive_far, message),
            make_place,
            SystemEntropy(),
            Counter(),
            SessionMemory(self._lasting, identities=4, sessions=16, packets=4096),
            self._loop.time(),
        )

    def kill_near(self) -> None:
        """The process with the sessions dies; the other one hears of its successor."""
        self.deaths["near"] += 1
        for place in self._places:
            place._closed = True
            place._wakes.close()
            if place._udp is not None:
                for door in place._udp._doors:
                    if door is not None:
                        door.waiting.clear()
                place._udp.close()
            place._dialer.close()
        self._begin_near()
        self._far.carrier_gone()

    # The other one

    async def start(self) -> None:
        """The process with the messages begins."""
        self._to_far.clear()
        self._far = FarIdentities(
            lambda message: self._carry(self._to_near, self._arrive_near, message)
        )
        self.own = Identity.load(
            self.path,
            bootstrap=self._known,
            ports=(0, 0),
            hosts=LOCAL,
            runner=self._far.runner,
        )
        await self.own.start()
        bot = Bot(self.own, self.said.append, echo=True, accept=True)
        self._task = self._loop.create_task(bot.serve())

    async def kill_far(self) -> None:
        """The process with the messages dies, and begins again."""
        self.deaths["far"] += 1
        self._fuse = None
        self._stop_far()
        dead = self.own
        assert dead._runner is not None
        assert dead._file is not None
        tasks = [one for one in (self._task, dead._saver, dead._seeker) if one is not None]
        for task in tasks:
            task.cancel()
        dead._runner.close()
        dead._file.unlock()
        if dead._post is not None:
            dead._post.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._near.messenger_gone(self._loop.time())
        await self.start()

    def _stop_far(self) -> None:
        self._far.tell = lambda message: None
        box = self.own._mailbox
        if box is not None and box._db is not None:
            box._db.close()  # what was not committed is gone

    async def replace_far(self) -> None:
        """The process with the messages ends in order, for another one that goes on."""
        assert self._task is not None
        await self.own.close(stays=True)
        await self._task
        self._near.messenger_gone(self._loop.time())
        await self.start()

    async def close(self) -> None:
        """Both end in order."""
        self._fuse = None
        await self.own.close()
        await asyncio.sleep(0.1)
        self._near.stop(self._loop.time(), True)

    # Between them

    def _carry(
        self, queue: deque[Message], arrive: Callable[[], None], message: Message
    ) -> None:
        if self._fuse is not None and queue is self._to_near:
            self._fuse -= 1
            if self._fuse < 0:
                self._fuse = None
                self._stop_far()
                self._loop.create_task(self.kill_far())
                raise Killed
        frame = batch.decode(batch.encode(batch.MESSAGES, 1, 1, 0, batch.rows([message])))
        queue += batch.messages(frame.items)
        self._loop.call_soon(arrive)

    def _arrive_near(self) -> None:
        if self._to_near:
            self._near.handle_message(self._to_near.popleft(), self._loop.time())

    def _arrive_far(self) -> None:
        if not self._to_far:
            return
        with suppress(Killed):
            self._far.handle_message(self._to_far.popleft())

    def kill_far_after(self, acts: int) -> None:
        """The process with the messages dies when it has told so much more."""
        self._fuse = acts


async def halves(town: Neighbours, path: Path) -> Halves:
    """Returns an identity in two halves that runs."""
    Identity.create("Halves", path)
    made = Halves(path, [node(one) for one in town._made[:2]])
    await made.start()
    return made


def test_an_identity_in_two_processes_is_one_like_others(tmp_path: Path) -> None:
    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            pair = await halves(town, tmp_path / "pair.tox")
            await befriend(alice, pair.own)
            sent = [alice.send(pair.own.public_key, f"{number}") for number in range(100)]
            await within(60, sent[-1].delivered())
            await until(lambda: len(hers.texts()) == 100, "the echoes come")
            assert hers.texts() == [f"{number}" for number in range(100)]
            await until(lambda: pair.own.status()["messages"]["unsent"] == 0, "all have receipts")
            status = pair.own.status()
            assert status["udp_port"] == pair.own.port == pair._places[0].port
            assert status["friends"][0]["session"] is None  # the other process knows
            await pair.close()
            await until(lambda: not alice.is_online(pair.own.public_key), "she sees it go", 5)

    run(talk())


@pytest.mark.parametrize("seed", range(6))
def test_whichever_process_is_killed_nothing_is_lost_or_doubled(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    count = 150
    deaths = set(chance.sample(range(count), 9))

    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            pair = await halves(town, tmp_path / "pair.tox")
            await befriend(alice, pair.own)
            key = pair.own.public_key
            for number in range(count):
                alice.send(key, f"{number}")
                if chance.random() < 0.5:  # many are on their way at most moments
                    await asyncio.sleep(chance.random() * 0.02)
                if number in deaths:
                    match chance.choice(("near", "far", "far after")):
                        case "near":
                            pair.kill_near()
                        case "far":
                            await pair.kill_far()
                        case _:
                            pair.kill_far_after(chance.randrange(6))
            await until(lambda: len(hers.texts()) >= count, "the echoes come", 60)
            await asyncio.sleep(15)
            assert hers.texts() == [f"{number}" for number in range(count)]
            assert pair.own.status()["messages"] == {"unsent": 0, "untaken": 0}
            gone = [event for event in hers.events if "NONE" in repr(event)]
            assert gone == []  # to her, the session was never down
            assert pair.deaths.total() >= 2  # a fuse may be put out by another death
            await pair.close()

    run(talk())


def test_a_process_that_is_replaced_in_order_ends_no_session(tmp_path: Path) -> None:
    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            pair = await halves(town, tmp_path / "pair.tox")
            await befriend(alice, pair.own)
            for number in range(60):
                alice.send(pair.own.public_key, f"{number}")
                if number % 20 == 10:
                    await asyncio.sleep(0.05)
                    await pair.replace_far()
            await until(lambda: len(hers.texts()) >= 60, "the echoes come", 30)
            await asyncio.sleep(15)
            assert hers.texts() == [f"{number}" for number in range(60)]
            assert not any("NONE" in repr(event) for event in hers.events)
            assert pair.own.friend(alice.public_key).saved.name == b"Alice"
            await pair.close()

    run(talk())


def test_a_file_on_its_way_ends_when_the_process_with_the_messages_dies(tmp_path: Path) -> None:
    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            pair = await halves(town, tmp_path / "pair.tox")
            await befriend(alice, pair.own)
            taken = asyncio.create_task(pair.own.send_file(alice.public_key, b"x" * 3_000_000))
            await until(hers.offers, "the file is offered")
            receiving = asyncio.create_task(alice.receive_bytes(hers.offers()[0], 1 << 22))
            await asyncio.sleep(0.02)
            await pair.kill_far()
            with pytest.raises(TransferFailed):
                await within(30, receiving)
            taken.cancel()
            await asyncio.gather(taken, return_exceptions=True)
            again = asyncio.create_task(pair.own.send_file(alice.public_key, b"y" * 30_000))
            await until(lambda: len(hers.offers()) == 2, "another one is offered")
            assert await within(30, alice.receive_bytes(hers.offers()[1])) == b"y" * 30_000
            await within(30, again)
            assert not any("NONE" in repr(event) for event in hers.events)
            await pair.close()

    run(talk())


def test_a_port_that_cannot_be_had_is_said_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk() -> None:
        async with Neighbours() as town:
            pair = await halves(town, tmp_path / "pair.tox")
            pair.refuses = True
            pair.kill_near()
            await asyncio.sleep(1)
            assert pair._far.refused() == {pair.own.public_key: "no UDP port can be had"}
            assert "cannot be carried: no UDP port can be had" in caplog.text
            pair.refuses = False
            await until(lambda: not pair._far.refused(), "it is carried again", 60)
            await within(60, pair.own.wait_connected())
            await pair.close()

    run(talk())


def test_what_the_disk_does_not_take_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Mailbox.receive
    full = True

    def fails(self: Mailbox, friend: bytes, kind: int, text: bytes, received: float) -> int:
        number = receive(self, friend, kind, text, received)
        if full and text == b"second":
            raise MailboxError("the disk is full")
        return number

    async def talk() -> None:
        nonlocal full
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            pair = await halves(town, tmp_path / "pair.tox")
            await befriend(alice, pair.own)
            monkeypatch.setattr(Mailbox, "receive", fails)
            for text in ("first", "second", "third"):
                alice.send(pair.own.public_key, text)
            await asyncio.sleep(10)
            assert "third" not in hers.texts()
            full = False
            await until(lambda: len(hers.texts()) == 3, "the echoes come", 30)
            await asyncio.sleep(5)
            assert hers.texts() == ["first", "second", "third"]
            await pair.close()

    run(talk())


def test_messages_for_nobody_here_are_counted() -> None:
    async def story() -> None:
        told: list[Message] = []
        far = FarIdentities(told.append)
        far.handle_message(Complete(bytes(32), bytes(8), 1))
        assert far.drops == {"identity_not_here": 1}
        assert told == []

    run(story())
