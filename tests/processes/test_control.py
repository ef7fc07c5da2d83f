"""The control door: answers now and later, events, and guests of every bad kind."""

import os
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.asking import CannotAnswer
from toxmesh.asker import Asker, alone
from toxmesh.children import Child, State
from toxmesh.control import ControlDoor, Follow, Later, Refused, Request

HEAD = b'{"version": 1, "request": '


class House:
    """A door, its loop, and guests in the same process."""

    def __init__(self, path: Path, requests: dict[str, Request]) -> None:
        self.selector = selectors.DefaultSelector()
        self.path = path / "control.sock"
        self.door = ControlDoor(self.path, self.selector, requests)

    def turn(self) -> None:
        for _ in range(4):
            for key, _ in self.selector.select(0):
                key.data(time.monotonic())

    def guest(self) -> socket.socket:
        guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        guest.settimeout(2)
        guest.connect(str(self.path))
        self.turn()
        return guest

    def say(self, guest: socket.socket, line: bytes) -> list[dict[str, Any]]:
        guest.setblocking(False)
        while line:
            try:
                line = line[guest.send(line) :]
            except BlockingIOError:
                self.turn()
            except BrokenPipeError:
                break  # the door was shut
        self.turn()
        return self.hear(guest)

    def hear(self, guest: socket.socket) -> list[dict[str, Any]]:
        parts = []
        guest.setblocking(False)
        while True:
            self.turn()
            try:
                part = guest.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):
                break
            if not part:
                break
            parts.append(part)
        return [orjson.loads(line) for line in b"".join(parts).splitlines()]


@contextmanager
def house(path: Path, **requests: Any) -> Iterator[House]:
    made = House(path, {name: Request(handler) for name, handler in requests.items()})
    yield made
    made.door.close()
    made.selector.close()


def line(name: str, **args: Any) -> bytes:
    return orjson.dumps({"version": 1, "request": name, "args": args}) + b"\n"


def test_the_door_opens_in_a_directory_with_a_long_path_and_shows_out_who_says_nothing(
    tmp_path: Path,
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    (deep / "control.sock").touch()  # left by a node that was killed
    with house(deep, status=lambda args: {"good": True}) as here:
        guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(deep, os.O_DIRECTORY)
        guest.connect(f"/proc/self/fd/{directory}/control.sock")
        os.close(directory)
        here.turn()
        assert here.say(guest, HEAD + b'"status"}\n') == [
            {"version": 1, "ok": True, "answer": {"good": True}}
        ]
        assert (deep / "control.sock").stat().st_mode & 0o777 == 0o600
        here.door.expire(time.monotonic() + 61)
        assert guest.recv(100) == b""
        assert here.door.drops == {"control_idle": 1}
        guest.close()
    assert not (deep / "control.sock").exists()


def test_what_is_no_request_is_refused_with_a_code(tmp_path: Path) -> None:
    with house(tmp_path, status=lambda args: {}) as here, here.guest() as guest:
        for said, code, sentence in (
            (HEAD + b"[" * 1020 + b"]" * 1020 + b"}\n", "usage", "no text"),
            (HEAD + b"null}\n", "usage", "no text"),
            (b"{\n", "usage", "that is not JSON"),
            (b"[]\n", "usage", "version 1"),
            (HEAD + b'"status", "args": 7}\n', "usage", "args must be an object"),
            (HEAD + b'"rain"}\n', "not_found", "no such request: rain; known are status"),
        ):
            (reply,) = here.say(guest, said)
            assert (reply["ok"], reply["code"]) == (False, code)
            assert sentence in reply["error"]
        assert here.say(guest, b"x" * (300 << 10)) == []
        assert here.door.drops == {"control_too_long": 1}


def test_a_guest_who_does_not_read_is_not_answered_on_and_on(tmp_path: Path) -> None:
    calls = []

    def status(args: dict[str, Any]) -> str:
        calls.append(1)
        return "x" * (1 << 20)

    with house(tmp_path, status=status) as here, here.guest() as guest:
        guest.sendall(line("status") * 20)
        here.turn()
        assert len(calls) == 1  # the next is answered when this one was read
        rows = here.hear(guest)
        assert len(rows) == 20
        assert all(len(row["answer"]) == 1 << 20 for row in rows)


def test_an_answer_that_comes_later_goes_to_who_asked_and_keeps_the_order(tmp_path: Path) -> None:
    later: list[Later] = []

    def slow(args: dict[str, Any]) -> Later:
        later.append(Later())
        return later[-1]

    with house(tmp_path, slow=slow, fast=lambda args: args) as here, here.guest() as guest:
        assert here.say(guest, line("slow") + line("fast", n=1)) == []
        later[0].resolve({"done": True})
        assert [row["answer"] for row in here.hear(guest)] == [{"done": True}, {"n": 1}]
        assert here.say(guest, line("slow")) == []
        later[1].refuse(Refused("busy", "not now"))
        assert [row["error"] for row in here.hear(guest)] == ["not now"]
        assert here.say(guest, line("slow")) == []
        here.door.expire(time.monotonic() + 11)  # nobody ever answers
        assert [row["code"] for row in here.hear(guest)] == ["timeout"]
        assert here.door.drops == {"control_timeout": 1}
        guest.close()
        later[2].resolve({})  # too late, and nobody is there


def test_a_request_that_the_node_fails_over_is_refused_and_the_next_is_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(args: dict[str, Any]) -> Any:
        return 1 // 0

    def fails_later(args: dict[str, Any]) -> Later:
        later = Later()
        later.resolve(0)
        return later.map(lambda value: 1 // value)

    def unspeakable(args: dict[str, Any]) -> Any:
        return {"answer": object()}

    handlers = {"fails": fails, "later": fails_later, "odd": unspeakable}
    with house(tmp_path, **handlers, good=lambda args: 1) as here, here.guest() as guest:
        rows = here.say(guest, b"".join(map(line, [*handlers, "good"])))
        assert [row.get("code") for row in rows] == ["refused"] * 3 + [None]
        assert "failed over that (ZeroDivisionError)" in rows[0]["error"]
        assert here.door.drops == {"control_failed": 3}
    assert caplog.text.count("ZeroDivisionError") == 2


def test_a_later_answer_is_made_into_another_one() -> None:
    first, second = Later(), Later()
    told: list[Any] = []
    first.map(lambda value: second if value == 1 else value).then(
        lambda later: told.append(later.outcome)
    )
    first.resolve(1)
    first.resolve(2)  # an answer is given once
    assert told == []
    second.resolve("inner")
    assert told == [(True, "inner")]

    def refuse(value: Any) -> Any:
        raise Refused("not_found", "nobody")

    refused = Later()
    made = refused.map(refuse)
    refused.resolve(1)
    assert made.outcome is not None
    assert isinstance(made.outcome[1], CannotAnswer)


def test_followers_get_what_they_follow_and_a_count_of_what_they_did_not_read(
    tmp_path: Path,
) -> None:
    left: list[int] = []

    def watch(args: dict[str, Any]) -> Follow:
        return Follow(
            {"following": True},
            frozenset({"relay"}),
            lambda name, data: data.get("n") != 2,
            lambda: left.append(1),
        )

    wanted: list[frozenset[str]] = []
    with house(tmp_path, watch=watch) as here, here.guest() as guest:
        here.door.on_wanted = wanted.append
        assert [row["answer"] for row in here.say(guest, line("watch"))] == [{"following": True}]
        assert wanted == [{"relay"}]
        for n in (1, 2, 3):
            here.door.tell("relay", {"n": n})
        here.door.tell("dht", {"n": 1})
        rows = here.hear(guest)
        assert [(row["event"], row["data"]["n"]) for row in rows] == [("relay", 1), ("relay", 3)]
        for n in range(3, 1003):
            here.door.tell("relay", {"n": n, "text": "x" * 4096})
        assert here.door.drops["control_event"] > 0
        rows = here.hear(guest)
        here.door.tell("relay", {"n": 9999})
        told = here.hear(guest)
        assert [row["event"] for row in told] == ["lost", "relay"]
        assert told[0]["data"]["count"] == here.door.drops["control_event"]
        assert len(rows) + told[0]["data"]["count"] == 1000
        here.door.expire(time.monotonic() + 61)
        here.door.tell("relay", {"n": 5})
        assert len(here.hear(guest)) == 1  # who follows may be silent
    assert left == [1]
    assert wanted[-1] == frozenset()


def test_greedy_guests_wait_while_one_who_asks_seldom_is_answered(tmp_path: Path) -> None:
    def costly(args: dict[str, Any]) -> dict[str, Any]:
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            pass
        return {}

    with house(tmp_path, costly=costly, cheap=lambda args: {}) as here:
        greedy = [here.guest() for _ in range(4)]
        answers = 0
        for guest in greedy * 5:
            answers += len(here.say(guest, line("costly")))
        assert answers < 12  # 0.2 s of a core at once, and no more
        with here.guest() as modest:
            assert len(here.say(modest, line("cheap"))) == 1
        now = time.monotonic()
        for second in range(1, 60):  # a minute later all have been served
            here.door.expire(now + second)
            answers += sum(len(here.hear(guest)) for guest in greedy)
        assert answers == 20
        for guest in greedy:
            guest.close()


def test_a_full_house_says_so(tmp_path: Path) -> None:
    with house(tmp_path, status=lambda args: {}) as here:
        inside = [here.guest() for _ in range(128)]
        with here.guest() as guest:
            (reply,) = here.hear(guest)
            assert reply["code"] == "busy"
        assert here.door.drops == {"control_full": 1}
        for guest in inside:
            guest.close()


def child(name: str) -> Child:
    role, _, shard = name.partition(".")
    row = Child(role, int(shard or 0), None)
    row.state = State.UP
    return row


def test_children_are_asked_and_their_answers_put_together() -> None:
    rows = [child("broker"), child("dht.0"), child("dht.1"), child("onion.0")]
    rows[3].state = State.DOWN
    told: list[tuple[str, str, dict[str, Any]]] = []
    now = 0.0
    asker = Asker(rows, lambda row, name, body: told.append((row.name, name, body)), lambda: now)
    later = asker.ask("dht", "show", {"limit": 3})
    assert [(name, body["what"], body["args"]) for name, _, body in told] == [
        ("dht.0", "show", {"limit": 3}),
        ("dht.1", "show", {"limit": 3}),
    ]
    number = told[0][2]["id"]
    asker.answered(rows[1], {"id": number, "ok": True, "answer": [1]})
    asker.answered(rows[1], {"id": number, "ok": True, "answer": [2]})  # twice: counts once
    asker.answered(rows[0], {"id": number, "ok": True, "answer": [3]})  # was not asked
    assert later.outcome is None
    asker.expire(2.9)
    assert later.outcome is None
    asker.expire(3.1)  # dht.1 says nothing: what there is is the answer
    assert later.outcome == (True, {"dht.0": [1]})

    alone_ = asker.ask("dht.1", "show").map(alone("dht.1"))
    asker.gone(rows[2])
    assert alone_.outcome is not None
    assert alone_.outcome[1].code == "timeout"
    refused = asker.ask("broker", "kick")
    asker.answered(
        rows[0], {"id": told[-1][2]["id"], "ok": False, "code": "not_found", "error": "nobody"}
    )
    assert refused.outcome is not None
    assert refused.outcome[1].text == "nobody"
    with pytest.raises(CannotAnswer, match=r"no onion is up .* broker, dht\.0, dht\.1"):
        asker.ask("onion", "show")
    for _ in range(256):
        asker.ask("broker", "show")
    with pytest.raises(CannotAnswer, match="too many questions"):
        asker.ask("broker", "show")
    asker.expire(100.0)
    asker.ask("broker", "show")


def test_guests_who_come_again_and_again_wait_like_those_who_ask_again_and_again(
    tmp_path: Path,
) -> None:
    answered = 0
    with house(tmp_path, status=lambda args: {"good": True}) as here:
        here.door._used = 0.5  # others have used up what there is
        for _ in range(60):
            with here.guest() as guest:
                answered += len(here.say(guest, line("status")))
        assert answered == 40
        with here.guest() as guest:
            assert here.say(guest, line("status")) == []
            here.door.expire(time.monotonic() + 40)
            assert [row["ok"] for row in here.hear(guest)] == [True]
