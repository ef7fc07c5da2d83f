"""The door for remote operators: keys, roles, and clients of every bad kind, in one process."""

import selectors
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zmq

from core.crypto import KeyPair
from core.entropy import SystemEntropy
from core.link.descriptors import Channel
from toxmesh.control import ControlDoor, Follow, Request
from toxmesh.remote import gateway, operators
from toxmesh.remote.gateway import Gateway

KEYS = {name: KeyPair.generate(SystemEntropy()) for name in ("node", "read", "full", "stranger")}


class World:
    """A control door, its gateway, and clients; everything happens when `turn` is called."""

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.acts = 0
        requests = {
            "look": Request(lambda args: {"n": args.get("n", 0)}),
            "much": Request(lambda args: {"text": "x" * (1 << 20)}),
            "act": Request(self._act, full=True),
            "watch": Request(lambda args: Follow({"following": True}, frozenset({"relay"}))),
        }
        self.door = ControlDoor(path / "control.sock", self.selector, requests)
        self.ours, theirs = Channel.pair()
        self.gateway = Gateway(
            Channel(theirs),
            {
                "state_dir": str(path),
                "host": "127.0.0.1",
                "secret": KEYS["node"].secret.reveal(),
                "operators": [f"{role}:{KEYS[role].public.hex()}" for role in operators.ROLES],
            },
        )
        self.place = self.gateway.listen("127.0.0.1", 0)
        self.context = zmq.Context()

    def _act(self, args: dict[str, Any]) -> dict[str, Any]:
        self.acts += 1
        return {}

    def turn(self) -> None:
        self.gateway.turn(0.0)
        for _ in range(4):
            for key, _ in self.selector.select(0):
                key.data(time.monotonic())

    def client(self, name: str) -> "zmq.Socket[bytes]":
        client = self.context.socket(zmq.DEALER)
        client.curve_secretkey = KEYS[name].secret.reveal()
        client.curve_publickey = bytes(KEYS[name].public)
        client.curve_serverkey = bytes(KEYS["node"].public)
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.RCVHWM, 1)
        client.connect(f"tcp://{self.place}")
        return client

    def hear(self, client: "zmq.Socket[bytes]", lines: int = 1, seconds: float = 5.0) -> list[Any]:
        """Returns so many lines of what a client is told, or those until the end."""
        data, end = b"", time.monotonic() + seconds
        while data.count(b"\n") < lines and time.monotonic() < end:
            self.turn()
            while client.poll(1):
                kind, part = client.recv_multipart()
                if kind == b"end":
                    return [*map(orjson.loads, data.splitlines()), "end"]
                data += part
        return [orjson.loads(line) for line in data.splitlines()]

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.gateway.close()
        self.door.close()
        self.selector.close()
        self.ours.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def say(client: "zmq.Socket[bytes]", request: str, **args: Any) -> None:
    row = {"version": 1, "request": request, "args": args}
    client.send_multipart([b"data", orjson.dumps(row) + b"\n"])


def test_a_key_that_reads_sees_everything_and_cannot_act_whatever_it_says(world: World) -> None:
    client = world.client("read")
    say(client, "look", n=1)
    assert world.hear(client)[0]["answer"] == {"n": 1}
    for request, args in (("act", {}), ("role", {"role": "full"}), ("act", {})):
        say(client, request, **args)
        (row,) = world.hear(client)
        assert (row["ok"], row["code"]) == (False, "permission")
    say(client, "role")
    assert world.hear(client)[0]["answer"] == {"role": "read"}
    # all in one message, before the node has answered anything: the role comes first all the same
    other = world.client("read")
    lines = [orjson.dumps({"version": 1, "request": name}) for name in ("act", "look")]
    other.send_multipart([b"data", b"\n".join([*lines, b""])])
    assert [row["ok"] for row in world.hear(other, 2)] == [False, True]
    assert world.acts == 0


def test_a_key_of_the_full_role_acts_and_may_give_its_role_away(world: World) -> None:
    client = world.client("full")
    say(client, "act")
    assert world.hear(client)[0]["ok"]
    say(client, "role", role="read")
    assert world.hear(client)[0]["answer"] == {"role": "read"}
    say(client, "act")
    assert world.hear(client)[0]["code"] == "permission"
    assert world.acts == 1


def test_an_unknown_key_gets_nothing_and_is_counted(world: World) -> None:
    client = world.client("stranger")
    say(client, "look")
    end = time.monotonic() + 5
    while not world.gateway.drops["control_remote_key"] and time.monotonic() < end:
        world.turn()
    assert world.gateway.drops["control_remote_key"] >= 1
    assert world.hear(client, seconds=0.2) == []
    known = world.client("read")
    say(known, "look")
    assert world.hear(known)[0]["ok"]


def test_those_who_follow_are_told_and_who_leaves_is_forgotten(world: World) -> None:
    client = world.client("read")
    say(client, "watch")
    assert world.hear(client)[0]["answer"] == {"following": True}
    assert world.door.wanted == {"relay"}
    world.door.tell("relay", {"n": 1})
    assert world.hear(client)[0]["data"] == {"n": 1}
    client.send_multipart([b"end", b""])
    end = time.monotonic() + 5
    while world.door.wanted and time.monotonic() < end:
        world.turn()
    assert not world.door.wanted


def test_a_client_that_takes_nothing_blocks_nobody_and_is_closed_after_a_while(
    world: World,
) -> None:
    stuck, other = world.client("full"), world.client("read")
    say(stuck, "look")
    end = time.monotonic() + 20
    turns = 0  # in which it took nothing: the buffers of the kernel grow for a while
    while turns < 20:
        assert time.monotonic() < end
        say(stuck, "much")  # asks on and on, and reads nothing
        world.turn()
        any_stuck = any(row.stuck_since for row in world.gateway._sessions.values())
        turns = turns + 1 if any_stuck else 0
    say(other, "look", n=2)
    assert world.hear(other)[0]["answer"] == {"n": 2}
    (row,) = [row for row in world.gateway._sessions.values() if row.stuck_since]
    assert len(row.to_client) <= 64 << 10
    world.gateway.beat(time.monotonic() + 61)
    assert world.gateway.drops["control_remote_stuck"] == 1
    say(other, "look", n=3)
    assert world.hear(other)[0]["answer"] == {"n": 3}


def test_a_client_that_asks_on_and_on_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_MAX_UNSENT", 64 << 10)
    client = world.client("read")
    for _ in range(4):
        client.send_multipart([b"data", b"x" * (60 << 10)])
    end = time.monotonic() + 5
    while not world.gateway.drops["control_remote_too_much"] and time.monotonic() < end:
        world.gateway.turn(0.01)  # the door does not get its turn
    assert world.gateway.drops["control_remote_too_much"] >= 1
    assert world.hear(client)[-1] == "end"


def test_sessions_are_bounded_in_number_and_in_how_often_a_key_begins_one(world: World) -> None:
    clients = [world.client("read") for _ in range(gateway.MAX_SESSIONS)]
    for client in clients:
        say(client, "look")
        assert world.hear(client)[0]["ok"]
    late = world.client("full")
    say(late, "look")
    refused = world.hear(late, 2)
    assert (refused[0]["code"], refused[1]) == ("busy", "end")
    for client in clients[:-1]:
        client.send_multipart([b"end", b""])
    said = []
    for _ in range(12):
        again = world.client("read")
        say(again, "look")
        said.append(world.hear(again, 1)[0]["ok"])
    assert False in said  # 20 at once, then 5 a second
    assert world.gateway.drops["control_remote_full"] >= 2


def test_who_bears_the_name_of_another_client_does_not_get_its_session(world: World) -> None:
    one, two = world.client("full"), world.client("read")
    say(one, "look")
    assert world.hear(one)[0]["ok"]
    (identity,) = world.gateway._sessions
    say(two, "look")
    assert world.hear(two)[0]["ok"]
    other = next(name for name in world.gateway._sessions if name != identity)
    session = world.gateway._sessions.pop(identity)
    world.gateway._end(world.gateway._sessions[other], tell=False)
    session.identity = other
    world.gateway._sessions[other] = session  # as if `one` had gone and `two` had its name
    say(two, "act")
    assert world.hear(two)[0]["code"] == "permission"
    assert world.acts == 0


def test_settings_name_a_role_and_a_key() -> None:
    key = "ab" * 32
    assert operators.parse_all([f"read:{key}", f"full:{'cd' * 32}"])[0] == ("read", key.upper())
    for rows, why in (
        ([key], "is not ROLE:KEY"),
        ([f"root:{key}"], "is not ROLE:KEY"),
        (["read:12"], "must have 64 hex digits"),
        ([f"read:{key}", f"full:{key.upper()}"], "has a key twice"),
        ([f"read:{n:064x}" for n in range(65)], "at most 64"),
    ):
        with pytest.raises(ValueError, match=why):
            operators.parse_all(rows)


def test_the_role_of_a_guest_is_never_widened(world: World) -> None:
    client = world.client("read")
    say(client, "role", role="king")
    assert world.hear(client)[0]["code"] == "usage"
