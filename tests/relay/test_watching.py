"""An operator looks on at frames: what each is and whose, and nothing of what it carries."""

import pytest

from core.capturing import Seen
from core.crypto import KeyPair
from core.entropy import SeededEntropy
from core.link.taps import Framed
from core.relay.frames import RELAY_INPUT
from tests.relay.client import RelayClient
from tests.relay.joined import End, Joined
from tests.relay.test_worker import PRIVATE, an_input, worker

SECRET = b"what one tells the other"
PING = b"\x04" + bytes(7) + b"\x01"


def watched(relay: Joined) -> list[Seen]:
    """Has all frames of all shards noted from now on."""
    seen: list[Seen] = []
    for shard in relay.workers.values():
        shard.see(seen)
    return seen


def kinds(seen: list[Seen], end: End) -> list[tuple[str, int]]:
    """Returns directions and first bytes of the frames of one client."""
    return [(row.direction, row.head[0]) for row in seen if row.key == end.key]


@pytest.mark.parametrize("shards", [1, 2])
def test_each_frame_is_seen_at_both_ends_and_what_it_carries_at_none(shards: int) -> None:
    relay = Joined(shards)
    one, other = relay.confirmed(0), relay.confirmed(shards - 1)
    seen = watched(relay)
    first, second = relay.linked(one, other)
    one.send(PING, bytes((first,)) + SECRET)
    one.send(b"\x06" + other.key + SECRET)
    relay.run()
    other.send(bytes((3, second)))
    relay.run()
    assert other.take() == [bytes((second,)) + SECRET, b"\x07" + one.key + SECRET]
    assert [packet[0] for packet in one.take()] == [5, 3]
    assert kinds(seen, one) == [
        ("in", 0), ("out", 1), ("out", 2), ("in", 4), ("out", 5), ("in", first), ("in", 6),
        ("out", 3),
    ]  # fmt: skip
    assert kinds(seen, other) == [
        ("in", 0), ("out", 1), ("out", 2), ("out", second), ("out", 7), ("in", 3),
    ]  # fmt: skip
    by_kind = {(row.direction, row.head[0]): row for row in seen}
    assert by_kind["in", 6].head == b"\x06" + other.key
    assert by_kind["out", 7].head == b"\x07" + one.key
    assert by_kind["in", 4].head == PING
    data = by_kind["in", first]
    assert (data.head, data.size) == (bytes((first,)), 1 + len(SECRET))
    assert one.connection is not None
    assert data.source == one.connection.source
    assert not any(SECRET[:4] in row.head for row in seen)


def test_a_frame_that_has_to_wait_is_seen_once() -> None:
    relay = Joined(2)
    one, other = relay.confirmed(0), relay.confirmed(1)
    seen = watched(relay)
    one.send(b"\x00" + other.key, bytes((16,)) + SECRET)  # the answer has not come: data waits
    relay.run()
    assert kinds(seen, one) == [("in", 0), ("out", 1), ("in", 16)]


def test_when_nobody_looks_any_more_frames_take_the_short_way_again() -> None:
    relay = Joined()
    one, other = relay.confirmed(), relay.confirmed()
    first, second = relay.linked(one, other)
    seen = watched(relay)
    shard = relay.workers[0]
    shard.see(None)
    one.send(bytes((first,)) + SECRET)
    relay.run()
    assert other.take() == [bytes((second,)) + SECRET]
    assert seen == []
    assert shard._find_partner == shard._partner


class Looking:
    """Who looks on at a worker, with time for it or without."""

    def __init__(self, has_time: bool) -> None:
        self.has_time = has_time
        self.asked: list[int] = []
        self.told: list[tuple[list[Seen] | None, int]] = []

    def begin_frames(self, many: int) -> list[Seen] | None:
        self.asked.append(many)
        return [] if self.has_time else None

    def end_frames(self, seen: list[Seen] | None, passed: int) -> None:
        self.told.append((seen, passed))


@pytest.mark.parametrize("has_time", [True, False])
def test_a_worker_shows_its_frames_where_there_is_time_and_counts_them_else(has_time: bool) -> None:
    module, desk, _, keys = worker()
    assert isinstance(module, Framed)
    client = RelayClient(keys.public, KeyPair.generate(SeededEntropy("c")), SeededEntropy("d"))
    module.handle_frame(RELAY_INPUT, an_input(1, hellos=[77, client.hello(), PRIVATE]), 1.0)
    client.receive(desk.frames[-1][1][3])
    looking = Looking(has_time)
    module.frame_tap = looking
    module.handle_frame(RELAY_INPUT, an_input(2, chunks=client.frames(PING)), 1.0)
    assert looking.asked == [1]
    ((seen, passed),) = looking.told
    assert passed == 2  # the ping, and its answer
    if seen is None:
        assert not has_time
    else:
        assert [(row.direction, row.head[0]) for row in seen] == [("in", 4), ("out", 5)]
        assert {(row.key, row.source) for row in seen} == {(client.keys.public, PRIVATE)}
    module.frame_tap = None
    module.handle_frame(RELAY_INPUT, an_input(3, chunks=client.frames(PING)), 1.0)
    assert len(looking.told) == 1
