"""The processes that host identities in a running node: there only where they are needed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.slots import IDENTITY_ROLES
from ops import client
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.hosted import SERVING, make_profile, settings
from tests.processes.node import Node, free_port, gone, running, until
from toxmesh import HostedIdentity, StoredMessage

MEET_S = 60.0
pytestmark = pytest.mark.process


def back(node: Node, name: str) -> bool:
    row = node.child(name)
    return bool(row["restarts"] == 1 and row["state"] == "good" and row["rss"] > 0)


def test_the_processes_of_identities_start_beat_come_back_and_are_replaced(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "identities"
    make_profile(folder, "bot")
    words = settings(tmp_path / "node.toml", folder)
    port = str(free_port(socket.SOCK_STREAM))
    with running(tmp_path, *words, "--tcp-port", port, workers=SERVING) as node:
        names = [f"{role}.0" for role in IDENTITY_ROLES]
        for name in names:
            row = node.child(name)
            assert row["state"] == "good"
            os.kill(row["pid"], signal.SIGKILL)
            until(partial(back, node, name), 10)
        before = {name: node.child(name)["pid"] for name in names}
        for name in names:
            client.ask(tmp_path, "worker restart", {"name": name}, timeout_s=60)
            assert node.child(name)["pid"] != before[name]
        with pytest.raises(client.AskError, match="an identity stays with its net_crypto process"):
            client.ask(tmp_path, "worker add", {"role": "net_crypto"})
        drops = node.status()["totals"]["drops"]
        assert not {name for name in drops if name.startswith("wrong_verb")}
        assert drops.get("bug", 0) == 0
        pids = node.children()
    assert all(gone(pid) for pid in pids)


def test_a_node_without_identities_has_no_process_for_them(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        assert [row["name"] for row in node.status()["workers"]] == ["dht.0"]


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        ((), 3, "there is no profile NAME.tox in "),
        (('profiles = ["nobody"]',), 3, "there is no "),
        (('profiles = ["locked"]',), 3, "locked.tox is encrypted; set identities.passphrase_file"),
        (('passphrase_file = "/nowhere"',), 3, "/nowhere cannot be read: no such file"),
        (("udp_ports = [7, 3]",), 3, "must be the first and the last port to try"),
        (("echo = 3",), 3, "identities.echo must be true or false"),
        (("ecko = true",), 3, 'unknown setting "identities.ecko"; did you mean "echo"?'),
        (('profiles = ["a/b"]',), 3, "'a/b' is no name of a profile"),
    ],
)
def test_identities_that_cannot_be_had_are_one_clear_error(
    tmp_path: Path, lines: tuple[str, ...], code: int, words: str
) -> None:
    folder = tmp_path / "identities"
    if lines:
        make_profile(folder, "locked", "secret")
        make_profile(folder, "open")
    else:
        folder.mkdir()
    arguments = settings(tmp_path / "node.toml", folder, *lines)
    line = [sys.executable, "-m", "toxmesh", "run", "--dev", *arguments]
    said = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert said.returncode == code
    assert words in said.stderr
    assert len(said.stderr.splitlines()) == 1


async def _talk(node: Node, folder: Path, state: Path) -> None:
    """Two programs use the two identities; one of the processes behind them is killed."""
    async with (
        HostedIdentity(folder / "one.tox") as one,
        HostedIdentity(folder / "two.tox") as two,
    ):
        await asyncio.wait_for(one.add_friend(two.tox_id), MEET_S)
        await asyncio.wait_for(one.wait_online(two.public_key), MEET_S)
        await asyncio.wait_for(two.wait_online(one.public_key), MEET_S)
        heard: dict[int, str] = {}  # what a program had in its hands comes again: by its number

        async def hear() -> None:
            async for event in two.events():
                match event:
                    case StoredMessage():
                        heard[event.number] = event.text

        hearing = asyncio.create_task(hear())
        sent = [f"message {number}" for number in range(60)]
        for number, text in enumerate(sent):
            await one.send(two.public_key, text)
            if number in (20, 40):
                name = "messenger.0" if number == 20 else "net_crypto.0"
                os.kill(node.child(name)["pid"], signal.SIGKILL)
                await asyncio.to_thread(until, partial(back, node, name), 10)
        end = asyncio.get_running_loop().time() + MEET_S
        while len(heard) < len(sent) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        assert list(heard.values()) == sent
        await asyncio.to_thread(_look, node, state, one.public_key, two.public_key)
        await asyncio.wait_for(one.send(two.public_key, "after the end of the session"), MEET_S)
        while len(heard) == len(sent) and asyncio.get_running_loop().time() < end + MEET_S:
            await asyncio.sleep(0.05)
        assert list(heard.values())[len(sent) :] == ["after the end of the session"]
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


def _look(node: Node, state: Path, one: bytes, two: bytes) -> None:
    """An operator asks what there is, follows a session, and ends it."""

    def ask(what: str, **args: object) -> dict[str, Any]:
        answer: dict[str, Any] = client.ask(state, what, args)
        assert differences(shapes.REQUESTS[what].answer, answer) == []
        return answer

    rows = until(lambda: [row for row in ask("identities")["rows"] if row["online"] == 1], 20)
    assert [row["name"] for row in rows] == ["one", "two"]
    first = rows[0]
    assert (first["key"], first["state"], first["problem"]) == (one.hex().upper(), "running", "")
    assert first["udp_port"] >= 33445
    (friend,) = ask("friends", identity="one")["rows"]
    assert (friend["key"], friend["nick"], friend["path"]) == (two.hex().upper(), "two", "direct")
    # Who ends a session before the receipts have come has messages sent twice.
    until(lambda: ask("friends", identity="one")["rows"][0]["unsent"] == 0, 10)
    (session,) = ask("sessions", identity="one", friend="two")["rows"]
    assert session["own_key"] == one.hex().upper()
    assert session["address"].startswith("127.0.0.1:")
    assert session["sent_bytes"] > 0
    closed: list[str] = []

    def close(_: object) -> None:
        closed.extend(ask("session close", key=two.hex())["closed"])

    trace = client.follow(state, "session trace", {"key": two.hex()}, begin=close)
    seen: list[str] = []
    with closing(trace) as steps:
        for name, _, data in steps:
            assert differences(shapes.EVENTS[name].answer, data) == []
            seen += [data["what"]] * (name == "session")
            if "up" in seen:
                break
    assert closed == [one.hex().upper()]
    assert "down" in seen
    assert seen[-1] == "up"  # a new one is made by itself
    said = subprocess.run(
        [sys.executable, "-m", "toxmesh", "ops", "sessions", "two", "--state-dir", str(state)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0
    assert two.hex().upper() in said.stdout
    with pytest.raises(client.AskError, match="no identity has a session with"):
        client.ask(state, "session close", {"key": "00" * 32})


def test_programs_use_hosted_identities_and_operators_look_at_them(tmp_path: Path) -> None:
    folder = tmp_path / "identities"
    for name in ("one", "two"):
        make_profile(folder, name)
    words = settings(tmp_path / "node.toml", folder, "accept = true")
    port = str(free_port(socket.SOCK_STREAM))
    with running(
        tmp_path, *words, "--tcp-port", port, "--http", "off", workers=SERVING
    ) as node:
        asyncio.run(_talk(node, folder, tmp_path))
        assert node.status()["totals"]["drops"].get("bug", 0) == 0
