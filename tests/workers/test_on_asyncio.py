"""The host on an asyncio loop, with a broker and a supervisor that the test plays."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import zmq

from core import batch
from core.endpoint import Endpoint
from core.link import child
from core.link.child import Peer, Start, Topology
from core.link.descriptors import Channel, Note
from core.link.frames import ACK, Inlet, Outlet
from core.messages import Candidate, Message
from core.module import Context, ProtocolViolation
from core.slots import SlotTable
from workers.desk import LoopDesk
from workers.on_asyncio import AsyncHost

OWN, BROKER, OTHER = 5, 6, 7  # generations
SECONDS = 5.0


class Clockwork:
    """Does things by callbacks of the loop, as sockets and timers of identities do."""

    def __init__(self, context: Context, desk: LoopDesk) -> None:
        self.out = context.out
        self.desk = desk
        self.loop = asyncio.get_running_loop()
        self.heard: list[Message] = []
        self.due: float | None = None
        self.timers = 0
        self.stopped: list[bool] = []
        self.done = False

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        raise ProtocolViolation("no_datagram")

    def handle_message(self, message: Message, now: float) -> None:
        self.heard.append(message)

    def tell(self) -> None:
        """Something came by a socket of its own."""
        self.out.tell_shard("dht", 0, Candidate(b"told", b""))
        self.desk.stir()

    def fail(self) -> None:
        """A callback with a bug."""
        raise KeyError("odd")

    def handle_timer(self, now: float) -> None:
        self.timers += 1
        self.due = None

    def next_timer(self) -> float | None:
        return self.due

    def handle_stop(self, hands_over: bool, now: float) -> None:
        self.stopped.append(hands_over)

    def finished(self) -> bool:
        return self.done


class Stage:
    """A host on the running loop, and everybody around it."""

    def __init__(self, folder: Path) -> None:
        self.zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.channel, theirs = Channel.pair()
        start = Start(
            name="messenger.0",
            role="messenger",
            shard=0,
            generation=OWN,
            path=f"{folder}/own",
            started=0.0,
            secret=bytes(range(32)),
            master=bytes(32),
        )
        self.host = AsyncHost(Channel(theirs), start, Clockwork)
        module = self.host.module
        assert isinstance(module, Clockwork)
        self.module = module
        self.other = Inlet(self.zmq, f"{folder}/other", self.host.out.drops)
        self.from_other = Outlet(self.zmq, f"{folder}/own", OTHER, OWN)
        self.folder = folder
        self.notes: list[Note] = []
        self.life = asyncio.get_running_loop().create_task(self.host.serve([]))

    def connect(self) -> None:
        """Announces dht.0."""
        rows = [Peer("dht.0", "dht", 0, OTHER, f"{self.folder}/other")]
        slots = {"dht": SlotTable.even(1), "messenger": SlotTable.even(1)}
        topology = Topology(slots, {(row.role, row.shard): row for row in rows})
        self.channel.send("topology", topology.to_body())

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Lets the loop work until something is true."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            await asyncio.sleep(0.005)
        raise AssertionError("nothing came of it")

    def said(self, name: str) -> Note | None:
        """Returns the last note of a name that the host has said."""
        self.notes += self.channel.receive()
        return next((note for note in reversed(self.notes) if note.name == name), None)

    def arrived(self, kind: int) -> batch.Frame | None:
        """Returns a frame of a kind that has come to the other worker."""
        frame = self.other.receive()
        return frame if frame is not None and frame.kind == kind else None

    def close(self) -> None:
        self.channel.close()
        self.other.close()
        self.from_other.close()
        self.zmq.destroy(linger=0)


def play(folder: Path, story: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Runs a story around a host."""

    async def run() -> None:
        stage = Stage(folder)
        try:
            await story(stage)
            if not stage.life.done():
                stage.channel.send("exit", {})
            await asyncio.wait_for(stage.life, SECONDS)
        finally:
            stage.close()

    asyncio.run(run())


def test_messages_come_and_are_acknowledged_and_it_beats(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.connect()
        await stage.until(lambda: stage.module.desk.generation("dht", 0) == OTHER)
        stage.from_other.send(batch.MESSAGES, batch.rows([Candidate(b"a", b"")]))
        frame = await stage.until(lambda: stage.arrived(ACK))
        assert frame.items == (1,)
        assert stage.module.heard == [Candidate(b"a", b"")]
        beats = [note.body["at"] for note in stage.notes if note.name == "beat"]
        await stage.until(lambda: stage.said("beat") and len(stage.notes) > len(beats) + 2)

    play(tmp_path, story)


def test_what_a_callback_of_the_loop_tells_leaves_at_once(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.connect()
        await stage.until(lambda: stage.module.desk.generation("dht", 0))
        await stage.until(lambda: stage.said("beat"))
        began = time.monotonic()
        stage.module.loop.call_soon(stage.module.tell)
        frame = await stage.until(lambda: stage.arrived(batch.MESSAGES))
        assert batch.messages(frame.items) == [Candidate(b"told", b"")]
        assert time.monotonic() - began < 0.5  # and not with the next heartbeat

    play(tmp_path, story)


def test_a_timer_that_a_callback_set_is_kept(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.connect()
        await stage.until(lambda: stage.said("beat"))
        stage.module.due = time.monotonic() + 0.05
        stage.module.desk.stir()
        await stage.until(lambda: stage.module.timers == 1)

    play(tmp_path, story)


def test_bugs_in_callbacks_count_and_ten_end_the_worker(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.module.loop.call_soon(stage.module.fail)
        await stage.until(lambda: stage.host.out.drops["bug"] == 1)
        assert not stage.life.done()
        for _ in range(9):
            stage.module.loop.call_soon(stage.module.fail)
        assert await asyncio.wait_for(stage.life, SECONDS) == child.EXIT_BUGS

    play(tmp_path, story)


def test_the_last_word_waits_for_what_the_module_has_to_finish(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.channel.send("stop", {"hand_over": True})
        await stage.until(lambda: stage.module.stopped == [True])
        await asyncio.sleep(0.05)
        assert stage.said("stopped") is None
        stage.module.done = True
        await stage.until(lambda: stage.said("stopped"))
        stage.channel.send("exit", {})
        assert await asyncio.wait_for(stage.life, SECONDS) == 0

    play(tmp_path, story)


def test_a_module_that_does_not_finish_is_not_waited_for_long(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.channel.send("stop", {})
        await stage.until(lambda: stage.said("stopped"))
        assert stage.module.stopped == [False]

    play(tmp_path, story)


def test_it_ends_in_order_when_the_supervisor_is_gone(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.until(lambda: stage.said("ready"))
        stage.module.loop.call_later(0.05, setattr, stage.module, "done", True)
        stage.channel.close()
        assert await asyncio.wait_for(stage.life, SECONDS) == 0
        assert stage.module.stopped == [False]

    play(tmp_path, story)
