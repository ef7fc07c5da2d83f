"""Relay workers die at every point of a story, and no client notices."""

from collections import defaultdict

import pytest

import core.relay.outgoing
from core import batch, crypto
from core.crypto import BoxArena
from core.relay.frames import RELAY_COMMIT
from tests.relay.joined import End, Joined

Story = dict[str, list[bytes]]


class SealWatch:
    """Remembers with which key and nonce each box was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: dict[bytes, tuple[bytes, bytes]] = {}
        monkeypatch.setattr(core.relay.outgoing, "box_arena", self.arena)

    def arena(self, capacity: int) -> BoxArena:
        made = crypto.box_arena(capacity)

        def seal(at: int, size: int, nonce: bytes, key: bytes) -> None:
            made.seal(at, size, nonce, key)
            self.made[made.memory[at : at + size + crypto.MAC_SIZE]] = (bytes(key), nonce)

        return made._replace(seal=seal)

    def used_twice(self) -> int:
        """How often two different texts were sealed with one key and nonce."""
        boxes = defaultdict(set)
        for box, row in self.made.items():
            boxes[row].add(box)
        return sum(len(row) - 1 for row in boxes.values())

    def assert_unique_on_the_wire(self, ends: list[End]) -> None:
        seen: set[tuple[bytes, bytes]] = set()
        for end in ends:
            for box in end.client.boxes:
                row = self.made[box]
                assert row not in seen, "a nonce reached the wire twice"
                seen.add(row)


class Death:
    """Kills the worker that is about to do (or has just done) the n-th input."""

    def __init__(self, at: int, when: str) -> None:
        self.at = at
        self.when = when
        self.count = 0

    def __call__(self, shard: int, when: str) -> bool:
        if when == self.when:
            self.count += 1
            return self.count == self.at
        return False


def by_sender(packets: list[bytes]) -> dict[str, list[bytes]]:
    """Sorts what may come in any order, since different clients caused it, and keeps the rest."""
    rows: dict[str, list[bytes]] = defaultdict(list)
    for packet in packets:
        rows[f"{packet[0]:02x}"].append(packet)
    for kind in ("01", "02", "03", "05", "07"):
        rows[kind].sort()
    return rows


def assert_data_comes_on_links_that_are_up(packets: list[bytes]) -> None:
    up: set[int] = set()
    for packet in packets:
        if packet[0] == 2:
            up.add(packet[1])
        elif packet[0] == 3:
            up.remove(packet[1])
        elif packet[0] >= 16:
            assert packet[0] in up


def tell(shards: int, places: tuple[int, int, int], death: Death | None) -> tuple[Joined, Story]:
    """Three clients meet, talk, part and come again; returns what each of them saw."""
    relay = Joined(shards, seed="story")
    relay.killer = death
    alice, bob, carol = (relay.confirmed(place) for place in places)
    names = {"alice": alice, "bob": bob, "carol": carol}
    story: Story = defaultdict(list)

    def collect() -> None:
        relay.run()
        for name, end in names.items():
            story[name] += end.take()

    alice.send(b"\x00" + bob.key, b"\x00" + carol.key)
    collect()
    bob.send(b"\x00" + alice.key)
    carol.send(b"\x00" + alice.key, b"\x10from carol", b"\x06" + bob.key + b"oob")
    collect()
    for number in range(6):
        alice.send(*(bytes((16 + number % 2, number)) + bytes(900) for _ in range(3)))
        bob.send(bytes((16, number)), b"\x04" + bytes(7) + b"\x05")
        collect()
    part = alice.client.frame(b"\x10in two parts")
    alice.socket.sendall(part[:9])
    collect()
    alice.socket.sendall(part[9:])
    bob.send(b"\x03\x10", b"\x00" + alice.key, b"\x10again")
    collect()
    newer = relay.confirmed(keys=alice.client.keys)
    assert alice.closed
    names["newer"] = newer
    newer.send(b"\x00" + carol.key, b"\x10I am back")
    collect()
    relay.wait(30.5)
    for end in (newer, bob, carol):
        ping = end.client.packets[-1]
        assert ping[0] == 4
        end.client.packets[-1] = b"\x04the id differs"
        end.send(b"\x05" + ping[1:])
    collect()
    relay.wait(10.5)
    collect()
    assert not any(end.closed for end in (newer, bob, carol))
    assert len(relay.tcp.connections) == 3
    return relay, story


PLACES = [(1, (0, 0, 0)), (2, (0, 1, 0)), (2, (1, 0, 0))]


@pytest.mark.parametrize(("shards", "places"), PLACES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_dies_at_each_point_and_nobody_notices(
    shards: int, places: tuple[int, int, int], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = Death(-1, when)
    _, expected = tell(shards, places, untouched)
    assert untouched.count > 20
    again = 0
    for at in range(1, untouched.count + 1):
        watch = SealWatch(monkeypatch)
        relay, story = tell(shards, places, Death(at, when))
        assert story.keys() == expected.keys()
        for name, packets in story.items():
            assert by_sender(packets) == by_sender(expected[name]), f"{name}, killed at {at}"
            assert_data_comes_on_links_that_are_up(packets)
        watch.assert_unique_on_the_wire(relay.ends)
        again += watch.used_twice()
    if places == (0, 1, 0) and when == "after":
        assert again > 0  # else the watch saw nothing


def test_death_with_many_connections_in_hand_closes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = SealWatch(monkeypatch)
    relay = Joined()
    pairs = [(relay.confirmed(), relay.confirmed()) for _ in range(10)]
    ids = [relay.linked(*row) for row in pairs]
    for (one, other), (a, b) in zip(pairs, ids, strict=True):
        one.send(bytes((a,)) + b"x", bytes((a,)) + b"y")
        other.send(bytes((b,)) + b"z")
    relay.killer = Death(1, "after")
    relay.run()
    for (one, other), (a, b) in zip(pairs, ids, strict=True):
        assert other.take() == [bytes((b,)) + b"x", bytes((b,)) + b"y"]
        assert one.take() == [bytes((a,)) + b"z"]
    watch.assert_unique_on_the_wire(relay.ends)


def poison(relay: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on an OOB packet kills the worker that handles it."""
    from core.relay import packets

    def break_(*_: object) -> int | None:
        raise ZeroDivisionError

    monkeypatch.setitem(packets._HANDLERS, packets.OOB_SEND, break_)


def test_input_that_breaks_a_shard_twice_closes_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = Joined(2)
    others = [relay.confirmed(0) for _ in range(5)]
    bad, far = relay.confirmed(0), relay.confirmed(1)
    relay.linked(others[0], others[1])
    a, b = relay.linked(others[2], far)
    poison(relay, monkeypatch)
    bad.send(b"\x06" + far.key + b"poison")
    others[0].send(b"\x10to one")
    others[2].send(bytes((a,)) + b"to far")
    relay.run()
    assert bad.closed
    assert relay.hooks.drops["relay_poison"] == 1
    assert relay.hooks.drops["bug"] == 2 == relay.hooks.drops["relay_reset"]
    assert not any(end.closed for end in others)
    assert others[1].take() == [b"\x10to one"]
    assert far.take() == [bytes((b,)) + b"to far"]


def test_a_late_commit_of_a_dead_worker_changes_nothing() -> None:
    relay = Joined()
    alice, bob = relay.confirmed(), relay.confirmed()
    a, b = relay.linked(alice, bob)
    alice.send(bytes((a,)) + b"once")
    relay.sockets()
    frame = relay.hooks.sent[0][0]
    worker = relay.workers[0]
    commit = worker.handle(batch.decode(frame).items, relay.now)
    assert commit is not None
    relay.kill(0)
    relay.give(0, RELAY_COMMIT, commit)
    relay.start(0)
    relay.give(0, RELAY_COMMIT, commit)
    relay.run()
    assert bob.take() == [bytes((b,)) + b"once"]
    assert relay.hooks.drops["relay_late_commit"] == 2


def test_clients_wait_while_no_worker_is_there() -> None:
    relay = Joined()
    alice, bob = relay.confirmed(), relay.confirmed()
    a, b = relay.linked(alice, bob)
    relay.kill(0)
    new = relay.connect()
    new.socket.sendall(new.client.hello())
    alice.send(bytes((a,)) + b"later")
    relay.run()
    assert bob.take() == []
    relay.start(0)
    relay.run()
    assert bob.take() == [bytes((b,)) + b"later"]
    assert new.client.ready


def test_a_commit_that_never_comes_begins_a_new_epoch() -> None:
    relay = Joined()
    alice, bob = relay.confirmed(), relay.confirmed()
    a, b = relay.linked(alice, bob)
    alice.send(bytes((a,)) + b"twice given")
    relay.sockets()
    worker = relay.workers[0]
    assert worker.handle(batch.decode(relay.hooks.sent[0].popleft()).items, relay.now)
    relay.run()
    assert bob.take() == []
    relay.wait(16.0)
    assert bob.take() == [bytes((b,)) + b"twice given"]
    assert relay.hooks.drops["relay_commit_late"] == 1
