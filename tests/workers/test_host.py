"""The worker's loop, turn by turn, with a broker that the test plays."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq

from core import batch, endpoint
from core.endpoint import Endpoint
from core.link.child import Peer, Start, Topology
from core.link.descriptors import Channel, Note
from core.link.frames import ACK, Inlet, Outlet
from core.messages import Candidate, Message
from core.module import Context, NodeOptions
from core.slots import SlotTable
from core.wire import WireError
from workers.desk import Desk
from workers.host import Host

OWN, BROKER, OTHER = 5, 6, 7  # generations


class Echo:
    """Echoes datagrams and tells the other shard and itself of messages."""

    def __init__(self, context: Context, desk: Desk) -> None:
        self.out = context.out
        self.desk = desk
        self.heard: list[Message] = []
        self.frames: list[tuple[int, Sequence[Any]]] = []
        self.timers: list[float] = []
        self.next: float | None = 0.0

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        if packet == b"\x00odd":
            raise WireError("Echo", "odd")
        if packet == b"\x00ask":
            self.out.tell_shard("dht", 1, Candidate(b"far", source))
            self.out.tell_shard("dht", 0, Candidate(b"near", source))
            return
        if packet == b"\x00tell":
            self.out.tell_all("dht", Candidate(b"all", b""))
            self.out.tell("dht", bytes(32), Candidate(b"own", b""))  # slot 0 is shard 0: this one
            self.out.tell("messenger", bytes(32), Candidate(b"nobody", b""))
        self.out.send(source, packet)

    def handle_message(self, message: Message, now: float) -> None:
        self.heard.append(message)
        if isinstance(message, Candidate) and len(message.endpoint) == 16:
            self.out.send(Endpoint(message.endpoint), b"\x00told")

    def handle_frame(self, kind: int, items: Sequence[Any], now: float) -> None:
        self.frames.append((kind, items))
        self.desk.send_frame(kind + 1, items)

    def handle_timer(self, now: float) -> None:
        self.timers.append(now)
        self.next = None

    def next_timer(self) -> float | None:
        return self.next


class Stage:
    """A host, and everybody around it."""

    def __init__(self, folder: Path) -> None:
        self.zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.lane = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.lane.bind(("127.0.0.1", 0))
        self.second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.second.bind(("127.0.0.1", 0))
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.bind(("127.0.0.1", 0))
        self.client.settimeout(1)
        self.source = endpoint.from_text("127.0.0.1", self.client.getsockname()[1])
        self.channel, theirs = Channel.pair()
        start = Start(
            name="dht.0",
            role="dht",
            shard=0,
            generation=OWN,
            path=f"{folder}/own",
            started=0.0,
            secret=bytes(range(32)),
            master=bytes(32),
            options=NodeOptions(),
            families=(socket.AF_INET, socket.AF_INET),
            dispatch="kernel",
            lanes=((1, "query"),),
            udp=(self.udp.fileno(), self.second.fileno()),
            inputs=(self.lane.fileno(),),
        )
        self.host = Host(Channel(theirs), start, Echo)
        module = self.host.module
        assert isinstance(module, Echo)
        self.module = module
        drops = self.host.out.drops
        self.broker = Inlet(self.zmq, f"{folder}/broker", drops)
        self.other = Inlet(self.zmq, f"{folder}/other", drops)
        self.from_broker = Outlet(self.zmq, f"{folder}/own", BROKER, OWN)
        self.from_other = Outlet(self.zmq, f"{folder}/own", OTHER, OWN)
        self.folder = folder

    def connect(self) -> None:
        """Announces everybody."""
        peers = [
            Peer("broker", "broker", 0, BROKER, f"{self.folder}/broker"),
            Peer("dht.1", "dht", 1, OTHER, f"{self.folder}/other"),
        ]
        topology = Topology(
            {"dht": SlotTable.even(2)}, {(row.role, row.shard): row for row in peers}
        )
        self.host._note(Note("topology", topology.to_body(), ()))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Lets the host work until something is true."""
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self.host._turn()
            value = condition()
            if value:
                return value
        raise AssertionError("nothing came of it")

    def frame_at(self, inlet: Inlet, kind: int) -> batch.Frame:
        """Lets the host work until a frame of a kind arrives."""

        def arrived() -> batch.Frame | None:
            frame = inlet.receive()
            return frame if frame is not None and frame.kind == kind else None

        frame: batch.Frame = self.until(arrived)
        return frame

    def close(self) -> None:
        self.zmq.destroy(linger=0)
        for box in self.host.out.mailboxes.values():
            box.connect(None)
        self.host._inlet.close()
        self.host._zmq.destroy(linger=0)
        self.udp.close()
        self.second.close()
        self.lane.close()
        self.client.close()
        self.channel.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def test_answers_leave_on_the_udp_socket_and_two_frames_have_one_acknowledgement(
    stage: Stage,
) -> None:
    stage.connect()
    stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00one"])
    stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00odd", stage.source, b"\x00two"])
    assert stage.frame_at(stage.broker, ACK).items == (2,)
    assert [stage.client.recv(100) for _ in range(2)] == [b"\x00one", b"\x00two"]
    assert stage.host.out.drops == {"wire:Echo": 1}
    began = time.monotonic()
    stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00three"])
    assert stage.frame_at(stage.broker, ACK).items == (3,)  # a lone one a moment later
    assert time.monotonic() - began < 0.5


def test_a_frame_of_somebody_who_is_still_unknown_is_acknowledged_when_it_is(
    stage: Stage,
) -> None:
    stage.from_other.send(batch.MESSAGES, batch.rows([Candidate(b"early", b"")]))
    stage.until(lambda: stage.module.heard)
    assert stage.module.timers == []  # nobody can be told anything yet
    stage.connect()
    assert stage.frame_at(stage.other, ACK).items == (1,)
    assert stage.module.heard == [Candidate(b"early", b"")]
    assert len(stage.module.timers) == 1


def test_messages_go_to_others_and_to_itself_and_to_nobody_but_counted(stage: Stage) -> None:
    stage.connect()
    stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00tell"])
    frame = stage.frame_at(stage.other, batch.MESSAGES)
    assert batch.messages(frame.items) == [Candidate(b"all", b"")]
    stage.until(lambda: stage.module.heard)
    assert stage.module.heard == [Candidate(b"own", b"")]
    assert stage.host.out.drops == {"told_nobody:messenger": 1}


def test_relay_frames_are_answered_to_the_broker(stage: Stage) -> None:
    stage.connect()
    stage.from_broker.send(10, [1, b"x"])
    assert stage.frame_at(stage.broker, 11).items == (1, b"x")
    stage.from_broker.send(9, [])
    stage.from_broker.send(batch.MESSAGES, [[60_000, []]])
    stage.until(lambda: sum(stage.host.out.drops.values()) == 2)
    assert stage.host.out.drops == {"bad_frame": 1, "bad_message:message": 1}


def test_a_frame_of_a_new_broker_is_answered_to_it_and_not_to_the_one_before(
    stage: Stage,
) -> None:
    stage.connect()
    new = Inlet(stage.zmq, f"{stage.folder}/new", stage.host.out.drops)
    tables = {"dht": SlotTable.even(2)}
    # While this worker was busy the broker died, and its successor has begun to work.
    stage.channel.send("topology", Topology(tables, {}).to_body())
    Outlet(stage.zmq, f"{stage.folder}/own", 9, OWN).send(10, [1, b"x"])
    stage.until(lambda: stage.module.frames)
    peer = Peer("broker", "broker", 0, 9, f"{stage.folder}/new")
    stage.host._note(Note("topology", Topology(tables, {("broker", 0): peer}).to_body(), ()))
    assert stage.frame_at(new, 11).items == (1, b"x")


def test_a_receiver_that_is_behind_makes_the_worker_take_less_but_not_for_long(
    stage: Stage,
) -> None:
    stage.connect()
    for i in range(5000):
        stage.host.out.tell_shard("dht", 1, Candidate(b"%d" % i, b""))
    stage.host._turn()
    assert stage.host.out.congested
    began = time.monotonic()
    for _ in range(2):
        stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00one"])
    stage.frame_at(stage.broker, ACK)
    assert 0.15 < time.monotonic() - began < 1.0
    stage.host._turn()  # nothing is left to acknowledge
    stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00one"])
    stage.until(lambda: stage.host._handled)
    assert stage.host.out.congested
    assert stage.host._patience() > 0.001  # until the acknowledgement is due it sleeps


def test_a_worker_that_stops_says_its_last_word_when_all_has_arrived(stage: Stage) -> None:
    stage.connect()
    stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00tell"])
    stage.until(lambda: stage.module.heard)
    stage.host._note(Note("stop", {}, ()))
    stage.host._turn()
    names = [note.name for note in stage.channel.receive()]
    assert "stopped" not in names  # the other shard has not acknowledged
    stage.frame_at(stage.other, batch.MESSAGES)
    stage.from_other.acknowledge(1)
    stage.until(lambda: "stopped" in [note.name for note in stage.channel.receive()])


def test_an_answer_leaves_through_the_socket_its_request_came_to_even_if_another_sends_it(
    stage: Stage,
) -> None:
    stage.connect()
    for index, own in enumerate((stage.udp, stage.second)):
        stage.from_broker.send(batch.DATAGRAMS, [stage.source, b"\x00ask"], index)
        frame = stage.frame_at(stage.other, batch.MESSAGES)  # what the other shard is told
        assert frame.socket == (0, 2)[index]  # the first of a family needs no word
        assert stage.client.recvfrom(100) == (b"\x00told", own.getsockname())
        stage.from_other.acknowledge(frame.sequence)
        rows = batch.rows([Candidate(b"told", stage.source)])
        stage.from_other.send(batch.MESSAGES, rows, frame.socket)
        stage.until(lambda: stage.module.heard[-1][0] == b"told")
        assert stage.client.recvfrom(100) == (b"\x00told", own.getsockname())
        stage.from_other.acknowledged(9)


def asks(stage: Stage, word: bytes) -> None:
    """Sends a datagram to the socket that the worker reads itself."""
    stage.client.sendto(word, stage.lane.getsockname())


def test_its_own_socket_is_read_once_others_are_known_and_the_answer_has_the_right_address(
    stage: Stage,
) -> None:
    asks(stage, b"\x00one")
    stage.host._turn(0.05)
    assert stage.host.datagrams.packets == 0  # nobody could be told anything yet
    stage.connect()
    stage.until(lambda: stage.host.datagrams.packets)
    data, place = stage.client.recvfrom(100)
    assert data == b"\x00one"
    assert place == stage.second.getsockname()  # the socket of the lane's listen address


def test_its_own_socket_rests_while_a_receiver_is_behind_but_not_for_long(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.connect()
    stage.until(lambda: stage.host._reading)
    for i in range(4000):
        stage.host.out.tell_shard("dht", 1, Candidate(b"%d" % i, b""))
    stage.host._turn()
    assert not stage.host._reading
    asks(stage, b"\x00one")
    stage.host._turn(0.02)
    assert stage.host.datagrams.packets == 0
    assert 0.1 < stage.host._patience() <= 0.25  # it is not asked again and again meanwhile
    begin = time.monotonic()
    monkeypatch.setattr("workers.host.time.monotonic", lambda: begin + 0.3)
    stage.host._turn()
    assert stage.host._reading
    stage.host._turn(0.05)
    assert stage.host.datagrams.packets == 1


def test_a_worker_that_stops_leaves_what_comes_to_its_successor(stage: Stage) -> None:
    stage.connect()
    stage.until(lambda: stage.host._reading)
    stage.host._note(Note("stop", {}, ()))
    stage.host._turn()
    asks(stage, b"\x00late")
    stage.host._turn(0.02)
    assert stage.host.datagrams.packets == 0
    assert stage.lane.recv(100, socket.MSG_DONTWAIT) == b"\x00late"


def test_a_worker_that_has_handed_over_touches_nothing_more_until_it_ends(stage: Stage) -> None:
    stage.connect()
    stage.until(lambda: stage.module.timers)
    stage.host._note(Note("stop", {"hand_over": True}, ()))
    stage.until(lambda: "stopped" in [note.name for note in stage.channel.receive()])
    stage.module.timers.clear()
    stage.module.next = 0.0  # a timer is due
    stage.from_other.send(batch.MESSAGES, batch.rows([Candidate(b"late", b"")]))
    asks(stage, b"\x00late")
    for _ in range(3):
        assert stage.host._turn() is False
    assert (stage.module.timers, stage.module.heard) == ([], [])
    assert stage.host.datagrams.packets == 0
    stage.channel.send("exit", {})
    stage.until(lambda: stage.host._exit == 0)
