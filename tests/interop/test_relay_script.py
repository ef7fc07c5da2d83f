"""One relay script against tox-bootstrapd and against our relay: the same replies and ends.

Ours runs joined in one process here, with 1 and 2 shards; the stories of chat run real processes.
"""

import select
import socket
import time
from dataclasses import dataclass

import pytest

from core.crypto import KeyPair, PublicKey, SecretKey
from core.dht.snapshot import NodeSnapshot
from core.entropy import SeededEntropy
from core.module import Collected, Context
from core.onion.forwarding import Forwarding
from core.slots import SlotTable
from tests.interop.conftest import MakeNode
from tests.relay.client import RelayClient
from tests.relay.joined import End, Joined

pytestmark = pytest.mark.interop

_BARRIER = b"\x04barrier!"
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Step:
    """What one client does: packets in frames, or bytes as they are."""

    who: int
    packets: tuple[bytes, ...] = ()
    raw: bytes = b""


def key(scene: str, who: int) -> KeyPair:
    """Returns the keys of a client: two clients of a scene are on two shards."""
    entropy = SeededEntropy(f"{scene} {who}")
    table = SlotTable.even(2)
    while True:
        keys = KeyPair.generate(entropy)
        if table.shard_of(keys.public) == who % 2:
            return keys


def say(who: int, *packets: bytes) -> Step:
    return Step(who, packets)


def scenes() -> dict[str, list[Step]]:
    """Every refusal and every closing of the relay protocol, and how links come and go."""
    route = {(name, who): b"\x00" + key(name, who).public for name in NAMES for who in (0, 1)}

    def link(name: str) -> list[Step]:
        return [say(0, route[name, 1]), say(1, route[name, 0])]

    rows: dict[str, list[Step]] = {
        "link": [*link("link"), say(0, b"\x10to bob"), say(1, b"\x10to alice")],
        "part": [
            *link("part"),
            say(0, b"\x03\x10"),
            say(1, b"\x10to nobody"),
            say(0, route["part", 1]),
            say(1, b"\x10again"),
            say(1, b"\x03\x10"),
            say(1, b"\x10no link any more"),
        ],
        "twice": [*link("twice"), say(0, route["twice", 1], route["twice", 1])],
        "self": [say(0, route["self", 0]), say(0, b"\x10to nobody")],
        "at once": [say(1, route["at once", 0]), say(0, route["at once", 1], b"\x10at once")],
        "241": [say(0, *(b"\x00" + bytes((n, 3)) + bytes(30) for n in range(241)))],
        "oob": [
            say(0, b"\x06" + key("oob", 1).public + b"x"),
            say(0, b"\x06" + key("oob", 1).public + bytes(1024)),
            say(0, b"\x06" + bytes(32) + b"nobody"),
        ],
        "big": [*link("big"), say(0, b"\x10" + bytes(2031))],
        "notice": [say(0, b"\x02\x10", b"\x02\x00")],
        "pong": [say(0, b"\x05" + bytes(7) + b"\x01")],
        "ping 0": [say(0, b"\x04" + bytes(8))],
        "forward": [say(0, b"\x0a\x02\x7f\x00\x00\x01\x00\x09" + bytes(1792))],
        "onion": [say(0, b"\x08" + bytes(159)), say(0, b"\x08" + bytes(2000))],
        "close leaves": [*link("close leaves"), say(0, b"\x0c")],
        "empty frame": [Step(0, raw=b"\x00\x00"), say(0, b"\x04" + bytes(7) + b"\x09")],
    }
    closing = {
        "route size": b"\x00" + bytes(31),
        "route long": b"\x00" + bytes(33),
        "response": b"\x01" + bytes(33),
        "notice size": b"\x02",
        "disconnect none": b"\x03\x10",
        "disconnect low": b"\x03\x05",
        "disconnect size": b"\x03\x10\x00",
        "ping size": b"\x04" + bytes(7),
        "pong zero": b"\x05" + bytes(8),
        "pong size": b"\x05" + bytes(9),
        "oob none": b"\x06" + bytes(32),
        "oob long": b"\x06" + bytes(32 + 1025),
        "oob receive": b"\x07" + bytes(40),
        "onion size": b"\x08" + bytes(158),
        "onion response": b"\x09" + bytes(40),
        "forward family": b"\x0a\x03" + bytes(60),
        "forward long": b"\x0a\x02\x7f\x00\x00\x01\x00\x09" + bytes(1793),
        "forwarding": b"\x0b" + bytes(40),
        "kind 12": b"\x0c",
        "kind 15": b"\x0f",
        "no link": b"\x10x",
        "no link 255": b"\xffx",
    }
    for name, packet in closing.items():
        rows[name] = [say(0, packet, b"\x04" + bytes(7) + b"\x09")]
    for name, raw in {
        "frame 2049": b"\x08\x01",
        "frame 65535": b"\xff\xff",
        "frame 1": b"\x00\x01x" + bytes(40),
        "frame 15": b"\x00\x0f" + bytes(15),
        "frame 16": b"\x00\x10" + bytes(16),
        "bad box": b"\x00\x20" + bytes(32),
    }.items():
        rows[name] = [Step(0, raw=raw)]
    return rows


NAMES = ("link", "part", "twice", "self", "at once", "big", "close leaves")
Story = dict[str, list[list[tuple[list[bytes], bool]]]]
"""By scene, for each step: what each client got, and whether it was closed."""


class Far:
    """A client of a relay behind a real socket."""

    def __init__(self, host: str, port: int, relay: bytes, keys: KeyPair) -> None:
        self.client = RelayClient(PublicKey(relay), keys)
        self.socket = socket.create_connection((host, port), 5)
        self.socket.sendall(self.client.hello())
        self.closed = False

    def send(self, data: bytes) -> None:
        if not self.closed:
            try:
                self.socket.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                self.closed = True

    def read(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if data:
            self.client.receive(data)
        else:
            self.closed = True


def settle(ends: list[Far]) -> None:
    """Waits until each client has an answer to a ping behind all it sent, or is closed."""
    for _ in range(2):
        for end in ends:
            if end.client.ready:
                end.send(end.client.frame(_BARRIER))
        pong = b"\x05" + _BARRIER[1:]
        until = time.monotonic() + _PATIENCE_S
        waiting = [end for end in ends if not end.closed]
        while waiting:
            assert time.monotonic() < until, "the relay answers no ping"
            for stream in select.select(waiting_sockets(waiting), [], [], 0.1)[0]:
                next(row for row in waiting if row.socket is stream).read()
            for row in list(waiting):
                if row.closed or pong in row.client.packets:
                    waiting.remove(row)
                    row.client.packets = [item for item in row.client.packets if item != pong]


def waiting_sockets(ends: list[Far]) -> list[socket.socket]:
    return [end.socket for end in ends]


def tell_to(host: str, port: int, relay: bytes) -> Story:
    """Plays all scenes against a relay behind a socket, side by side."""
    script = scenes()
    story: Story = {name: [] for name in script}
    ends = {
        name: [Far(host, port, relay, key(name, who)) for who in (0, 1)] for name in script
    }
    every = [end for pair in ends.values() for end in pair]
    until = time.monotonic() + _PATIENCE_S
    while not all(end.client.ready for end in every):
        assert time.monotonic() < until, "the relay answers no hello"
        for stream in select.select(waiting_sockets(every), [], [], 0.1)[0]:
            next(end for end in every if end.socket is stream).read()
    settle(every)
    for number in range(max(len(steps) for steps in script.values())):
        live = []
        for name, steps in script.items():
            if number < len(steps):
                step = steps[number]
                end = ends[name][step.who]
                end.send(end.client.frames(*step.packets) + step.raw)
                live += ends[name]
        settle(live)
        for name, steps in script.items():
            if number < len(steps):
                story[name].append([(end.client.take(), end.closed) for end in ends[name]])
    for end in every:
        end.socket.close()
    return story


def tell_ours(shards: int) -> Story:
    """Plays all scenes against our relay."""
    relay = Joined(shards)
    context = Context(relay.keys, SecretKey(bytes(32)), relay.entropy, Collected())
    relay.forward = Forwarding(context, NodeSnapshot(relay.keys.public)).relay_forward_request
    story: Story = {}
    for name, steps in scenes().items():
        ends: list[End] = [relay.confirmed(keys=key(name, who)) for who in (0, 1)]
        rows = story[name] = []
        for step in steps:
            end = ends[step.who]
            end.send(*step.packets)
            if not end.closed:
                end.socket.sendall(step.raw)
            relay.run()
            rows.append([(row.take(), row.closed) for row in ends])
    return story


@pytest.mark.parametrize("shards", [1, 2])
def test_our_relay_and_tox_bootstrapd_say_the_same(shards: int, make_node: MakeNode) -> None:
    node = make_node("bootstrapd")
    theirs = tell_to("127.0.0.1", node.tcp_port, node.key)
    ours = tell_ours(shards)
    # The one difference that is meant: the reference passes over an empty frame, ours closes.
    assert ours.pop("empty frame")[0][0] == ([], True)
    assert theirs.pop("empty frame")[0][0] == ([], False)
    differ = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    assert differ == {}
