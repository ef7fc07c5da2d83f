"""No input and no commit is greater than a frame between processes may be, whatever clients do."""

from collections.abc import Sequence
from typing import Any

import pytest

from core import batch
from core.relay import RelayLimits
from tests.relay.joined import Joined

LIMITS = RelayLimits(per_address=0, per_prefix=0, unconfirmed_per_address=0, rest_s=0)


def test_an_inbox_of_tiny_frames_counts_what_they_become(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Joined(2, LIMITS)
    alice = relay.confirmed(0)
    bobs = [relay.confirmed(1) for _ in range(6)]
    links = [relay.linked(alice, bob)[1] for bob in bobs]
    inputs: list[int] = []
    send = relay.hooks.send_frame

    def record(shard: int, kind: int, items: Sequence[Any]) -> int:
        inputs.append(len(batch.encode(kind, 1, 1, 0, items)))
        return send(shard, kind, items)

    monkeypatch.setattr(relay.hooks, "send_frame", record)
    for bob, link in zip(bobs, links, strict=True):
        assert bob.connection is not None
        while not relay.hooks.drops["full"]:
            relay.tcp.post_data(bob.connection, bytes((link,)), "full", relay.now)
        relay.hooks.drops.clear()
        assert bob.connection.inbox is not None
        sealed = len(bob.connection.inbox) * 19
        assert sealed <= LIMITS.queue_limit + 19
    relay.run()
    assert max(inputs) < batch.MAX_FRAME // 4


def test_pauses_that_end_together_do_not_end_in_one_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = Joined(1, LIMITS)
    commits: list[int] = []
    give = relay.give

    def record(shard: int, kind: int, items: Sequence[Any]) -> None:
        commits.append(len(batch.encode(kind, 1, 1, 0, items)))
        give(shard, kind, items)

    monkeypatch.setattr(relay, "give", record)
    full = relay.confirmed()
    assert full.connection is not None
    pairs = []
    for _ in range(80):
        sender, receiver = relay.confirmed(), relay.confirmed()
        to_full, _ = relay.linked(sender, full)
        pairs.append((sender, receiver, to_full, relay.linked(sender, receiver)))
    full.connection.note = 1
    relay.workers[0].sessions[full.connection.serial].full = True
    data = bytes(1000)
    for sender, _, to_full, (there, _) in pairs:
        sender.send(bytes((to_full,)), *[bytes((there,)) + data] * 31)
    relay.run()
    assert not any(receiver.take() for _, receiver, _, _ in pairs)
    relay.wait(2.5, 0.05)
    assert max(commits) < batch.MAX_FRAME // 2
    for _, receiver, _, (_, back) in pairs:
        assert receiver.take() == [bytes((back,)) + data] * 31
    assert relay.hooks.drops["relay_receiver_full"] == 80
