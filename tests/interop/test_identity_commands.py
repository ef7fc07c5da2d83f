"""`toxmesh identity serve`, `chat` and `send-file`, as processes, with clients of libtoxcore."""

import hashlib
import json
import os
import pty
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from tests.interop.commands import Command, identity, online
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import Client, wait_until
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_MEET_S = 120.0


class Start(Protocol):
    """Starts a command that ends with the test."""

    def __call__(self, *words: str, stderr: int | None = None) -> Command: ...


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def start(state: Path) -> Iterator[Start]:
    made: list[Command] = []

    def run(*words: str, stderr: int | None = None) -> Command:
        made.append(Command(state, *words, stderr=stderr))
        return made[-1]

    yield run
    for command in made:
        command.end()


@pytest.fixture
def node(make_node: MakeNode) -> Node:
    return make_node("ours")


def bob_at(node: Node, make_client: MakeClient, version: str = NEW) -> Client:
    """A client with a name that is connected."""
    bob = make_client(version, name="Bob")
    bob.call("set_name", name="Bob")
    bob.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=True)
    wait_until(lambda: bool(bob.connection), "Bob is connected", _MEET_S)
    return bob


def befriend(bob: Client, tox_id: str) -> int:
    """Bob asks somebody who accepts; returns the friend's number at him."""
    number = int(bob.call("friend_add", address=tox_id, text="it is Bob"))
    wait_until(lambda: bool(bob.friends.get(number)), "they are friends", _MEET_S)
    return number


def echoes(bob: Client, number: int, *texts: str) -> None:
    """Bob hears what he says, once and in order."""
    before = len(bob.texts[number])
    bob.call("send", friend=number, texts=list(texts))
    wait_until(lambda: len(bob.texts[number]) >= before + len(texts), "the echoes come", 60)
    assert bob.texts[number][before:] == list(texts)


def test_the_echo_bot_answers_and_ends_in_order(
    start: Start, state: Path, node: Node, make_client: MakeClient
) -> None:
    tox_id = identity(state, "create", "bot", "--nick", "Echo")
    bot = start("identity", "serve", "bot", "--echo", *online(node))
    assert bot.says(r"tox id (\w+)")[1] == tox_id
    bot.says("connected", _MEET_S)
    bob = bob_at(node, make_client)
    key = bob.public_key.hex().upper()
    number = befriend(bob, tox_id)
    bot.says(f"request {key} it is Bob")
    echoes(bob, number, *(f"hello {count}" for count in range(50)))
    bot.says(f"message {key} hello 49")
    assert [row["text"] for row in bob.told("name", friend=number)][-1] == "Echo"

    now = json.loads(identity(state, "status", "bot", "--json"))
    assert (now["connected"], now["messages"]) == (True, {"unsent": 0, "untaken": 0})
    friend = now["friends"][0]
    assert (friend["key"], friend["path"], friend["nick"]) == (key, "direct", "Bob")
    assert friend["session"]["received_bytes"] > 50 * len("hello 00")
    assert [row["key"] for row in now["relays"]] == [node.key.hex().upper()]

    second = start("identity", "serve", "bot", *online(node))
    assert second.wait() == 2
    second.says("toxmesh: another process uses .*; stop it first")

    assert bot.stop() == 0
    friend = json.loads(identity(state, "show", "bot", "--json"))["friends"][0]
    assert not list(state.glob("identities/.*.sock"))
    assert (friend["key"], friend["nick"]) == (key, "Bob")
    assert friend["last_seen"]


@pytest.mark.parametrize("version", [NEW, OLD])
def test_no_message_that_had_a_receipt_is_lost_when_the_bot_is_killed(
    version: str, start: Start, state: Path, node: Node, make_client: MakeClient
) -> None:
    tox_id = identity(state, "create", "bot")
    serve = ("identity", "serve", "bot", "--echo", *online(node))
    bot = start(*serve)
    bob = bob_at(node, make_client, version)
    number = befriend(bob, tox_id)
    texts = [f"flood {count}" for count in range(2_000)]
    bob.call("send", friend=number, texts=texts)
    wait_until(lambda: bob.receipts[number] >= 300, "receipts come", 60, poll_s=0.01)
    assert bot.stop(signal.SIGKILL) == -signal.SIGKILL

    bot = start(*serve)
    wait_until(lambda: bool(bob.losses[number] and bob.friends[number]), "it is back", _MEET_S)
    bob.call("send", friend=number, texts=["the end"])
    wait_until(lambda: "the end" in bob.texts[number], "the last echo", 120)
    # The library numbers the messages to a friend from 1 on.  c-toxcore Messenger.c: message_id
    numbers = [row["number"] for row in bob.told("receipt", friend=number)]
    had_receipts = {texts[at - 1] for at in numbers if at <= len(texts)}
    assert len(had_receipts) >= 300
    heard = list(dict.fromkeys(bob.texts[number]))
    assert had_receipts <= set(heard)
    assert heard == [text for text in texts if text in set(heard)] + ["the end"]
    assert max(map(bob.texts[number].count, heard)) <= 2
    assert bot.stop() == 0


def test_several_bots_run_in_one_process(
    start: Start, state: Path, node: Node, make_client: MakeClient
) -> None:
    ids = {name: identity(state, "create", name) for name in ("one", "two")}
    bots = start("identity", "serve", "one", "two", "--echo", *online(node))
    bob = bob_at(node, make_client)
    ports = set()
    for name, tox_id in ids.items():
        assert bots.says(rf"{name} tox id (\w+)")[1] == tox_id
        ports.add(bots.says(rf"{name} ready udp=(\d+)")[1])
        bots.says(f"{name} connected", _MEET_S)
        echoes(bob, befriend(bob, tox_id), f"are you {name}?")
        bots.says(rf"{name} message \w+ are you {name}\?")
    assert len(ports) == 2
    assert bots.stop(signal.SIGINT) == 0
    for name in ids:
        assert len(json.loads(identity(state, "show", name, "--json"))["friends"]) == 1


def test_a_chat_in_the_terminal(
    start: Start, state: Path, node: Node, make_client: MakeClient, tmp_path: Path
) -> None:
    tox_id = identity(state, "create", "alice", "--nick", "Alice")
    chat = start("chat", "alice", *online(node))
    chat.says(f"you are {tox_id}; /help helps")
    chat.says(r"..:.. friends can find you now", _MEET_S)
    bob = bob_at(node, make_client)
    number = int(bob.call("friend_add", address=tox_id, text="it is Bob"))
    short = chat.says(r"..:.. (\w{8}) wants to be your friend: it is Bob", _MEET_S)[1]
    chat.types(f"/accept {short}")
    wait_until(lambda: bool(bob.friends.get(number)), "they are friends", _MEET_S)
    bob.call("send", friend=number, texts=["hello \x1b[2J"])
    chat.says(r"..:.. <Bob> hello  \[2J")
    chat.types("hello yourself")
    wait_until(lambda: bob.texts[number] == ["hello yourself"], "her answer", 60)

    data = random.Random(1).randbytes(300_000)
    (tmp_path / "ours").write_bytes(data)
    chat.types(f"/file {tmp_path / 'ours'}")
    wait_until(lambda: bool(bob.files), "her file", 60)
    assert bob.files == [(len(data), hashlib.sha256(data).hexdigest())]
    digest = bob.call("send_file", friend=number, size=200_000, seed=2)
    chat.says(r"..:.. Bob offers interop.bin, 200,000 bytes: /get 1")
    chat.types(f"/get 1 {tmp_path / 'theirs'}")
    chat.says(r"..:.. .*theirs is here")
    assert hashlib.sha256((tmp_path / "theirs").read_bytes()).hexdigest() == digest
    chat.ends_input()
    assert chat.wait() == 0


def _gather(screen: int, raw: bytearray) -> None:
    """Keeps what a terminal shows until nobody holds its other end any more."""
    with suppress(OSError):  # that is how Linux says so
        while data := os.read(screen, 1 << 16):
            raw += data


def test_a_file_is_sent_with_progress(
    start: Start, state: Path, node: Node, make_client: MakeClient, tmp_path: Path
) -> None:
    identity(state, "create", "alice")
    data = random.Random(3).randbytes(3_000_000)
    (tmp_path / "file.bin").write_bytes(data)
    bob = bob_at(node, make_client)
    screen, terminal = pty.openpty()
    words = ("send-file", "alice", bob.address, str(tmp_path / "file.bin"), *online(node))
    sending = start(*words, stderr=terminal)
    os.close(terminal)
    raw = bytearray()
    reader = threading.Thread(target=_gather, args=(screen, raw))
    reader.start()
    wait_until(lambda: bool(bob.requests), "she asks", _MEET_S)
    assert bob.requests[0][1] == "file.bin is for you"
    bob.call("friend_accept", key=bob.requests[0][0])
    sending.says("3000000 bytes have arrived", _MEET_S)
    assert sending.wait() == 0
    reader.join(10)
    os.close(screen)
    shown = raw.decode()
    assert "waiting for the friend" in shown
    assert "file.bin" in shown
    assert "100%" in shown
    assert bob.files == [(len(data), hashlib.sha256(data).hexdigest())]


def test_what_cannot_be_done_is_one_sentence(
    start: Start, state: Path, node: Node, tmp_path: Path
) -> None:
    (tmp_path / "right").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")
    identity(state, "create", "alice", "--passphrase-file", str(tmp_path / "right"))
    file = str(tmp_path / "right")
    nobody = "5A" * 32
    by = ("--passphrase-file", str(tmp_path / "right"))
    cases = (
        (("identity", "serve", "nobody"), 1, "there is no identity 'nobody'"),
        (("identity", "serve", "alice"), 3, "alice is encrypted; give --passphrase-file FILE"),
        (
            ("identity", "serve", "alice", "--passphrase-file", str(tmp_path / "wrong")),
            3,
            "cannot be opened",
        ),
        (("send-file", "alice", nobody, file, *by, *online(node)), 3, "no friend of yours"),
        (("chat", "alice", "--bootstrap", "nonsense", *by), 3, "nonsense"),
    )
    for words, code, text in cases:
        command = start(*words)
        assert command.wait() == code, command.said
        assert len([line for line in command.said if text in line]) == 1, command.said
        assert not any("Traceback" in line for line in command.said)
