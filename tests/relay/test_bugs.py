"""A bug in the broker's half ends the connection it met, and nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest

from core import batch
from core.relay.frames import RELAY_COMMIT
from tests.relay.joined import End, Joined

PING = b"\x04" + bytes(7) + b"\x07"
PONG = b"\x05" + bytes(7) + b"\x07"


def lives(relay: Joined, end: End) -> bool:
    end.send(PING)
    relay.run()
    return end.take() == [PONG] and not end.closed


def test_a_bug_over_an_event_of_one_stream_ends_that_stream() -> None:
    relay = Joined()
    alice, bob = relay.confirmed(), relay.confirmed()
    assert bob.connection is not None
    bob.connection.shard = 77  # nobody has that shard
    bob.send(PING)
    relay.run()
    assert bob.closed
    assert relay.hooks.drops["relay_bug"] == 1
    assert relay.hooks.drops["relay_bug_closed"] == 1
    assert lives(relay, alice)


def test_a_bug_over_a_row_or_an_effect_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = Joined()
    alice, bob, carol = relay.confirmed(), relay.confirmed(), relay.confirmed()
    give = relay.give

    def break_two(shard: int, kind: int, items: Sequence[Any]) -> None:
        assert bob.connection is not None
        assert carol.connection is not None
        rows, effects = items[2], items[4]
        for i in range(0, len(rows), 7):
            if rows[i] == bob.connection.serial:
                rows[i + 2] = "many"
        effects.append((99, carol.connection.serial))
        give(shard, kind, items)

    monkeypatch.setattr(relay, "give", break_two)  # a worker with a bug
    for end in (alice, bob, carol):
        end.send(PING)
    relay.run()
    monkeypatch.undo()
    assert (alice.closed, bob.closed, carol.closed) == (False, True, True)
    assert relay.hooks.drops["relay_bug"] == 2
    assert alice.take() == [PONG]
    assert lives(relay, alice)


def test_a_commit_that_is_none_begins_a_new_epoch() -> None:
    relay = Joined()
    alice = relay.confirmed()
    work = relay.tcp.works[0]
    epoch = work.epoch
    relay.give(0, RELAY_COMMIT, [epoch, "nonsense"])
    assert work.epoch == epoch + 1
    assert relay.hooks.drops["relay_bug"] == 1
    relay.run()
    assert lives(relay, alice)


def test_input_survives_a_commit_that_breaks_at_its_end() -> None:
    relay = Joined()
    bob, alice = relay.confirmed(), relay.confirmed()
    frame = alice.client.frame(PING)
    alice.socket.sendall(frame[:9])
    relay.sockets()
    relay.workers[0].handle(batch.decode(relay.hooks.sent[0].popleft()).items, relay.now)
    bob.send(PING)  # is read first, to where alice's bytes were read
    relay.sockets()
    work = relay.tcp.works[0]
    relay.give(0, RELAY_COMMIT, [work.epoch, work.flying[0].sequence, [], b"", [], "no drops"])
    assert relay.hooks.drops["relay_bug"] == 1
    relay.run()
    alice.socket.sendall(frame[9:])
    relay.run()
    assert (alice.take(), bob.take()) == ([PONG], [PONG])


def test_ten_bugs_in_ten_seconds_end_the_process() -> None:
    relay = Joined()
    for _ in range(9):
        relay.give(0, RELAY_COMMIT, [relay.tcp.works[0].epoch, "nonsense"])
    with pytest.raises(ValueError, match="unpack"):
        relay.give(0, RELAY_COMMIT, [relay.tcp.works[0].epoch, "nonsense"])
    assert relay.hooks.drops["relay_bug"] == 10
    relay.now += 11.0
    relay.give(0, RELAY_COMMIT, [relay.tcp.works[0].epoch, "nonsense"])
