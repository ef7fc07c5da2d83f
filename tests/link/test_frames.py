"""Frames with credit: nothing is lost unseen, however slow the receiver."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq

from core import batch
from core.link.frames import ACK, WINDOW, Inlet, Mailbox, Outlet
from core.messages import MESSAGE_NUMBERS, Candidate, StoredFilter
from core.module import LocalError


class Line(NamedTuple):
    """Two processes in one: the inlets of both, and the outlets to the other."""

    ours: Inlet
    theirs: Inlet
    to_them: Outlet
    to_us: Outlet
    drops: Counter[str]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """Generation 1 is us, generation 2 is them."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    drops: Counter[str] = Counter()
    ours, theirs = Inlet(context, f"{tmp_path}/a", drops), Inlet(context, f"{tmp_path}/b", drops)
    to_them = Outlet(context, f"{tmp_path}/b", 1, 2)
    to_us = Outlet(context, f"{tmp_path}/a", 2, 1)
    yield Line(ours, theirs, to_them, to_us, drops)
    for row in (ours, theirs, to_them, to_us):
        row.close()
    context.term()


def next_frame(inlet: Inlet) -> batch.Frame:
    """Waits for a frame."""
    assert inlet.socket.poll(2000)
    frame = inlet.receive()
    assert frame is not None
    return frame


def test_credit_ends_until_the_receiver_acknowledges(line: Line) -> None:
    for sequence in range(1, WINDOW + 1):
        assert line.to_them.send(batch.DATAGRAMS, [b"a", b"b"], 3) == sequence
    assert line.to_them.credit == 0
    with pytest.raises(LocalError):
        line.to_them.send(batch.DATAGRAMS, [])
    frames = [next_frame(line.theirs) for _ in range(WINDOW)]
    assert frames[0] == batch.Frame(batch.DATAGRAMS, 1, 1, 3, (b"a", b"b"))
    line.to_us.acknowledge(frames[2].sequence)
    answer = next_frame(line.ours)
    assert answer.kind == ACK
    line.to_them.acknowledged(answer.items[0])
    assert line.to_them.credit == 3
    line.to_them.acknowledged(99)  # of frames that were never sent: not believed
    assert line.to_them.in_flight == 1


def test_ten_thousand_messages_to_a_busy_receiver_arrive_in_order_or_are_counted(
    line: Line,
) -> None:
    box = Mailbox("dht", line.drops, limit=4096)
    box.connect(line.to_them)
    for i in range(10_000):
        box.put(4, Candidate(i.to_bytes(4, "big"), b""))
        box.pump(0.0)
    assert line.to_them.in_flight == WINDOW
    assert box.congested
    found = []
    while not box.idle:
        frame = next_frame(line.theirs)
        found += [int.from_bytes(row[0], "big") for row in batch.messages(frame.items)]
        line.to_us.acknowledge(frame.sequence)
        box.acknowledged(next_frame(line.ours).items[0])
        box.pump(1.0)
    assert found == sorted(found)
    assert len(found) + line.drops["told_full:dht"] == 10_000
    assert line.drops["told_full:dht"] > 0
    assert found[-1] == 9_999  # the oldest goes, the newest stays


def test_what_was_on_its_way_to_a_dead_receiver_is_counted_and_the_rest_goes_to_its_successor(
    line: Line, tmp_path: Path
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    successor = Inlet(context, f"{tmp_path}/c", line.drops)
    box = Mailbox("onion", line.drops)
    box.connect(Outlet(context, f"{tmp_path}/b", 1, 2))
    for i in range(2000):
        box.put(4, Candidate(i.to_bytes(4, "big"), b""))
        box.pump(0.0)
    waiting = len(box)
    box.connect(None)
    assert line.drops["told_lost:onion"] == 2000 - waiting > 0
    box.connect(Outlet(context, f"{tmp_path}/c", 1, 3))
    box.pump(0.0)
    count = 0
    for _ in range(WINDOW):
        frame = next_frame(successor)
        count += len(frame.items)
    assert count == waiting - len(box) > 0
    successor.close()
    box.connect(None)
    context.term()


def test_a_lone_message_leaves_at_once_and_others_gather_behind_it(line: Line) -> None:
    box = Mailbox("onion", line.drops)
    box.connect(line.to_them)

    def tell(count: int, now: float) -> int:
        """Puts messages and returns how many frames there are then."""
        for _ in range(count):
            box.put(4, Candidate(b"", b""))
        box.pump(now)
        return line.to_them.in_flight

    assert tell(1, 5.0) == 1
    assert tell(10, 5.0002) == 1
    assert box.due == pytest.approx(5.001)
    assert tell(0, 5.0011) == 2  # a millisecond after the one before
    assert box.due is None
    assert tell(63, 5.0012) == 2
    assert tell(1, 5.0012) == 3  # 64 need not wait
    assert tell(1, 5.0013) == 3
    line.to_them.acknowledged(3)
    assert tell(0, 5.0013) == 1  # nothing was on its way
    assert [len(next_frame(line.theirs).items) for _ in range(4)] == [1, 10, 64, 1]


def test_whole_frames_go_before_messages_and_wait_for_credit(line: Line) -> None:
    box = Mailbox("broker", line.drops)
    box.connect(line.to_them)
    for i in range(WINDOW + 2):
        box.put_frame(10, [i])
    assert [next_frame(line.theirs).items for _ in range(WINDOW)] == [(0,), (1,), (2,), (3,)]
    assert not box.idle
    box.acknowledged(WINDOW)
    assert [next_frame(line.theirs).items for _ in range(2)] == [(4,), (5,)]


def test_bytes_that_are_no_frame_are_counted(line: Line, tmp_path: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.PUSH)
    stranger.setsockopt(zmq.LINGER, 0)
    stranger.connect(f"ipc://{tmp_path}/a")
    for data in (b"", b"\xc1", batch.encode(1, 0, 0, 0, [])[:-1], b"\x96\x09\x01\x01\x01\x01\x90"):
        stranger.send(data)
    stranger.send(batch.encode(7, 5, 1, 0, []))
    assert next_frame(line.ours).generation == 5
    assert line.drops["bad_frame"] == 4
    stranger.close()
    context.term()


def test_large_filters_share_a_frame_up_to_a_mebibyte(line: Line) -> None:
    box = Mailbox("onion", line.drops)
    box.connect(line.to_them)
    whole = StoredFilter(1, 0.0, 1, 0.0, 1, bytes(1 << 18))
    for _ in range(10):
        box.put(MESSAGE_NUMBERS[StoredFilter], whole)
    box.pump(0.0)
    found = []
    while not box.idle:
        frame = next_frame(line.theirs)
        rows = batch.messages(frame.items)
        found.append(len(rows))
        assert rows[0] == whole
        line.to_us.acknowledge(frame.sequence)
        answer = next_frame(line.ours)
        box.acknowledged(answer.items[0])
        box.pump(1.0)
    assert found == [3, 3, 3, 1]
