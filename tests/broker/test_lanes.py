"""The way to a worker: a lone datagram goes at once, a burst in batches, and no datagram twice."""

from collections import Counter
from pathlib import Path

import zmq

from broker.info import BootstrapInfo
from broker.lanes import Lane
from broker.routes import Target
from core import endpoint
from core.link.frames import Inlet, Outlet


class Worker:
    """A worker that takes frames when it is told to."""

    def __init__(self, folder: Path, drops: Counter[str], generation: int) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.inlet = Inlet(self.context, f"{folder}/w{generation}", drops)
        self.outlet = Outlet(self.context, f"{folder}/w{generation}", 1, generation)

    def take(self) -> tuple[int, int, int]:
        """Returns sequence, socket and number of datagrams of the next frame."""
        assert self.inlet.socket.poll(2000)
        frame = self.inlet.receive()
        assert frame is not None
        return frame.sequence, frame.socket, len(frame.items) // 2

    def close(self) -> None:
        self.inlet.close()
        self.context.destroy(linger=0)


def offer(lane: Lane, count: int, socket: int = 0) -> None:
    for i in range(count):
        lane.items.append(b"source")
        lane.items.append(bytes([0]) + i.to_bytes(4, "big"))
    lane.deliver(socket)


def test_a_lone_datagram_leaves_at_once_and_what_comes_meanwhile_leaves_together(
    tmp_path: Path,
) -> None:
    drops: Counter[str] = Counter()
    lane, worker = Lane(Target("dht", 0), drops), Worker(tmp_path, drops, 2)
    lane.connect(worker.outlet)
    offer(lane, 1)
    assert worker.take() == (1, 0, 1)
    offer(lane, 1)
    assert worker.take() == (2, 0, 1)
    for _ in range(10):
        offer(lane, 1, socket=1)
    assert len(lane.queue) == 10
    lane.acknowledged(1)
    assert worker.take() == (3, 1, 10)
    lane.acknowledged(3)
    assert lane.idle
    worker.close()


def test_a_flood_is_held_to_four_frames_a_bounded_queue_and_a_count(tmp_path: Path) -> None:
    drops: Counter[str] = Counter()
    lane, worker = Lane(Target("dht", 0), drops), Worker(tmp_path, drops, 2)
    lane.connect(worker.outlet)
    for _ in range(200):
        offer(lane, 64)
    assert worker.outlet.in_flight == 4
    assert len(lane.queue) == 8192
    taken = 0
    while not lane.idle:
        sequence, _, count = worker.take()
        taken += count
        lane.acknowledged(sequence)
    assert taken + drops["queue_full:query"] == 200 * 64
    worker.close()


def test_what_was_in_a_dead_worker_is_counted_and_the_queue_goes_to_its_successor(
    tmp_path: Path,
) -> None:
    drops: Counter[str] = Counter()
    lane, worker = Lane(Target("dht", 0), drops), Worker(tmp_path, drops, 2)
    lane.connect(worker.outlet)
    for _ in range(10):
        offer(lane, 64)
    lane.connect(None)
    assert drops["lost_in_worker:dht"] == 4 * 64
    offer(lane, 5)
    successor = Worker(tmp_path, drops, 3)
    lane.connect(successor.outlet)
    taken = 0
    while not lane.idle:
        sequence, _, count = successor.take()
        taken += count
        lane.acknowledged(sequence)
    assert taken == 6 * 64 + 5
    worker.close()
    successor.close()


def test_bootstrap_info_has_a_budget_for_each_prefix() -> None:
    drops: Counter[str] = Counter()
    info = BootstrapInfo(2_000_001_000, "a" * 300, drops)
    near = [endpoint.from_text(f"192.0.2.{i}", 5) for i in range(20)]
    answers = [info.answer(78, row, 10.0) for row in near]
    assert len([row for row in answers if row]) == 8
    assert info.answer(78, endpoint.from_text("198.51.100.1", 5), 10.0) is not None
    assert info.answer(78, near[0], 11.0) is not None
    assert info.answer(77, near[0], 11.0) is None
    assert answers[0] is not None
    assert len(answers[0]) == 5 + 256
    assert drops == {"budget:0xf0": 12, "bad_size:0xf0": 1}
