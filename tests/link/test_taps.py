"""Looking on at datagrams: nobody pays for it while nobody looks, and little when somebody does."""

import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from core.asking import CannotAnswer, Events
from core.capturing import LEASE_S, Seen
from core.endpoint import Endpoint, from_text
from core.link import mmsg, taps
from core.link.mmsg import Tap
from core.link.taps import FrameTap, Taps
from core.sampling import LIVES_S, WINDOW_S

ONE = from_text("192.0.2.1", 33445)
PING = b"\x00" + bytes(81)


class Reader:
    """What reads datagrams."""

    tap: Tap | None = None

    def read(self, packets: Sequence[bytes], sources: Sequence[Endpoint]) -> None:
        if self.tap is not None:
            self.tap(packets, sources)


class Sender:
    """What sends them."""

    tap: Tap | None = None

    def aim(self, fd: int, drops: Counter[str]) -> None:
        raise AssertionError("taps do not change sockets")

    def send(self, endpoint: bytes, packet: bytes) -> None:
        if self.tap is not None:
            self.tap([packet], [endpoint])

    def flush(self) -> int:
        return 0


class Opener:
    """What opens and seals frames."""

    frame_tap: FrameTap | None = None


class Place:
    """A process with one socket, on made-up time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.spent = 0.0  # what each look at the clock of costs adds
        self._spending = 0.0
        self.reader, self.sender, self.events = Reader(), Sender(), Events()
        self.framed = Opener()
        self.taps = Taps(
            self.reader, [self.sender], self.events, lambda: self.now, lambda: 5.0, self._spend,
            self.framed,
        )  # fmt: skip

    def _spend(self) -> float:
        self._spending += self.spent
        return self._spending

    def ask(self, what: str, **args: Any) -> Any:
        return self.taps.questions()[what](what, args, self.now)

    def told(self) -> list[dict[str, Any]]:
        return [data for name, data in self.events.take()[0] if name == "capture"]


def test_nobody_is_there_until_somebody_looks_and_when_all_have_gone() -> None:
    place = Place()
    assert place.reader.tap is place.sender.tap is None
    place.ask("capture", id=1)
    place.ask("capture", id=2)
    assert place.reader.tap is not None
    assert place.sender.tap is not None
    place.ask("capture end", id=1)
    assert place.reader.tap is not None
    place.ask("capture end", id=2)
    assert place.reader.tap is place.sender.tap is None
    place.ask("prefixes")
    assert place.reader.tap is not None
    assert place.sender.tap is None
    place.reader.read([PING], [ONE])
    place.now += WINDOW_S
    assert place.ask("prefixes")["rows"] == [(ONE[4:7], 0.5, 41.0)]
    place.now += LIVES_S
    place.reader.read([PING], [ONE])
    assert place.reader.tap is None


def test_a_capture_tells_what_came_and_what_left() -> None:
    place = Place()
    place.ask("capture", id=7, kinds=[0])
    place.reader.read([PING, b"\x02"], [ONE, ONE])
    place.sender.send(ONE, PING)
    rows = [row for data in place.told() for row in data["rows"]]
    assert [row["direction"] for row in rows] == ["in", "out"]
    assert rows[0] == {
        "at": 5.0, "transport": "udp", "direction": "in", "address": "192.0.2.1:33445",
        "data": PING.hex(), "size": len(PING),
    }  # fmt: skip


def test_a_capture_that_nobody_asks_for_again_ends_and_so_does_one_that_has_told_all() -> None:
    place = Place()
    place.ask("capture", id=1)
    place.now += LEASE_S - 1.0
    place.ask("capture", id=1)
    place.now += LEASE_S - 1.0
    place.reader.read([PING], [ONE])
    assert len(place.told()) == 1
    place.now += LEASE_S
    place.reader.read([PING], [ONE])
    assert place.told() == []
    assert place.reader.tap is None
    place.ask("capture", id=2, count=1)
    place.reader.read([PING, PING], [ONE, ONE])
    place.reader.read([PING], [ONE])
    assert [len(data["rows"]) for data in place.told()] == [1]
    assert place.reader.tap is None


def test_one_that_has_told_all_stays_ended_when_it_is_asked_to_go_on() -> None:
    place = Place()
    place.ask("capture", id=1, count=1)
    place.reader.read([PING], [ONE])
    place.reader.read([PING], [ONE])
    place.ask("capture", id=1, count=1)
    place.reader.read([PING], [ONE])
    assert [len(data["rows"]) for data in place.told()] == [1]


@pytest.mark.parametrize(("batch", "share"), [(32, taps.SHARE), (8, taps.SPARE_SHARE)])
def test_captures_get_a_part_of_the_time_and_what_passes_meanwhile_is_counted(
    batch: int, share: float
) -> None:
    place = Place()
    place.spent = 0.001  # a look at a batch costs a millisecond
    place.ask("capture", id=1, kinds=[2])
    looks = 0
    for _ in range(100_000):  # 0.1 ms between batches
        place.now += 0.0001
        before = place._spending
        place.reader.read([PING] * batch, [ONE] * batch)
        looks += place._spending > before
        if place.now > 1004.9:
            break
        if int(place.now * 10_000) % 50_000 == 0:
            place.ask("capture", id=1)
    assert looks * 0.001 <= 5.0 * share + taps.BURST_S + 0.002
    assert looks * 0.001 >= 4.5 * share
    place.reader.read([b"\x02"], [ONE])
    place.now += 1.0
    place.reader.read([b"\x02"], [ONE])
    (data,) = place.told()
    assert data["passed_over"] >= (48_000 - looks) * batch


def test_packets_that_are_told_are_charged_as_well() -> None:
    place = Place()
    place.ask("capture", id=1, count=10_000, rate=1_000)
    for _ in range(10_000):
        place.now += 0.0002
        place.reader.read([PING] * 64, [ONE] * 64)
    told = sum(len(data["rows"]) for data in place.told())
    assert told * taps.PACKET_S <= 2.0 * taps.SHARE + taps.BURST_S + 64 * taps.PACKET_S


FRAME = Seen("in", b"k" * 32, ONE, b"\x10", 1000)


def test_frames_are_looked_at_while_somebody_wants_them() -> None:
    place = Place()
    place.ask("capture", id=1, transport="udp")
    assert place.framed.frame_tap is None
    place.ask("capture", id=2, frames=[16])
    assert place.framed.frame_tap is place.taps
    assert place.taps.begin_frames(1) == []
    place.taps.end_frames([FRAME], 0)
    (data,) = place.told()
    assert (data["id"], data["passed_over"]) == (2, 0)
    assert data["rows"] == [{
        "at": 5.0, "transport": "tcp", "direction": "in", "address": "192.0.2.1:33445",
        "client": "6B" * 32, "data": "10", "size": 1000,
    }]  # fmt: skip
    place.ask("capture end", id=1)
    assert place.reader.tap is place.sender.tap is None
    place.ask("capture end", id=2)
    assert place.framed.frame_tap is None


def test_an_input_whose_frames_are_seen_is_charged_as_a_whole() -> None:
    place = Place()
    place.spent = 0.001  # an input takes a millisecond
    place.ask("capture", id=1, transport="tcp", frames=[0])
    looks = 0
    for _ in range(40_000):  # 0.1 ms between inputs
        place.now += 0.0001
        seen = place.taps.begin_frames(32)
        looks += seen is not None
        place.taps.end_frames(seen, 7)
    assert 4.0 * taps.SHARE * 0.9 <= looks * 0.001 <= 4.0 * taps.SHARE + taps.BURST_S + 0.002
    place.now += 1.0
    assert place.taps.begin_frames(1) is not None
    place.taps.end_frames([Seen("in", b"k" * 32, ONE, b"\x00" + bytes(32), 33)], 0)
    (data,) = place.told()
    assert data["passed_over"] == 7 * (40_000 - looks)


def test_there_is_room_for_eight() -> None:
    place = Place()
    for number in range(1, taps.MOST_CAPTURES + 1):
        place.ask("capture", id=number)
    with pytest.raises(CannotAnswer, match="8 captures") as caught:
        place.ask("capture", id=99)
    assert caught.value.code == "busy"
    place.ask("capture end", id=1)
    place.ask("capture", id=99)


@pytest.mark.parametrize("cls", [mmsg.BatchSender, mmsg.SingleSender])
def test_both_kinds_of_senders_show_what_they_send(cls: type[Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sender = cls(sending.detach(), socket.AF_INET, Counter())
        seen: list[tuple[list[bytes], list[bytes]]] = []
        place = from_text("127.0.0.1", end.getsockname()[1])
        sender.send(place, b"before")
        sender.flush()
        sender.tap = lambda packets, places: seen.append((list(packets), list(places)))
        sender.flush()
        sender.send(place, b"one")
        sender.send(place, b"two")
        sender.flush()
        assert seen == [([b"one", b"two"], [place, place])]
        end.settimeout(5)
        assert [end.recv(100) for _ in range(3)] == [b"before", b"one", b"two"]
