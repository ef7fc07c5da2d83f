"""The door of a served identity: who asks there is told how it is."""

import asyncio
import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from core.crypto import KeyPair
from core.entropy import SeededEntropy
from core.messenger.events import Message, MessageKind
from toxmesh.cli import commands
from toxmesh.identity.door import door_of
from toxmesh.identity.identity import Identity
from toxmesh.identity.profiles import ProfileError, Profiles

BOB = KeyPair.generate(SeededEntropy("bob")).public


def ask(state: Path, *words: str) -> Result:
    """Runs `toxmesh identity status bot`."""
    wanted = ["identity", "status", "bot", *words, "--state-dir", str(state)]
    return CliRunner().invoke(commands(), wanted, standalone_mode=False)


def make(state: Path) -> Path:
    profiles = Profiles(state)
    profiles.make()
    return profiles.path("bot")


def test_it_tells_friends_and_what_waits(tmp_path: Path) -> None:
    path = make(tmp_path)
    options: dict[str, Any] = {"bootstrap": [], "ports": (0, 0), "hosts": ("127.0.0.1",)}

    async def story() -> None:
        async with Identity.create("Bot", path, **options) as own:
            own.accept(BOB)
            own.send(BOB, "later")
            own._on_event(Message(BOB, MessageKind.NORMAL, b"hello"), 0.0)
            own._engine.drops["crypto_nonsense"] += 3
            own.open_door()
            own.open_door()  # the same
            assert stat.S_IMODE(door_of(path).stat().st_mode) == 0o600
            told = await asyncio.to_thread(ask, tmp_path, "--json")
            assert told.return_value == 0, told.output
            answer = json.loads(told.output)
            assert (answer["tox_id"], answer["udp_port"]) == (str(own.tox_id), own.port)
            assert not answer["connected"]
            assert answer["messages"] == {"unsent": 1, "untaken": 1}
            assert answer["drops"]["crypto_nonsense"] == 3
            friend = answer["friends"][0]
            assert (friend["key"], friend["path"]) == (BOB.hex().upper(), "none")
            assert (friend["unsent"], friend["session"], friend["transfers"]) == (1, None, [])
            shown = (await asyncio.to_thread(ask, tmp_path)).output.splitlines()
            assert shown[0] == f"tox id      {own.tox_id}"
            assert "messages    1 without receipt, 1 not taken" in shown
            assert f"  {BOB.hex().upper()[:16]}  none    no session  " in shown
            assert "         3  crypto_nonsense" in shown

    asyncio.run(story())
    assert not door_of(path).exists()


def test_nobody_serves_it(tmp_path: Path) -> None:
    assert ask(tmp_path).return_value == 1
    path = make(tmp_path)
    Identity.create("Bot", path)
    for stale in (False, True):
        if stale:  # what a process left that was killed
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(door_of(path)))
        told = ask(tmp_path)
        assert told.return_value == 4
        assert "start one with: toxmesh identity serve bot" in told.output


def test_a_door_that_was_left_behind_is_replaced_and_one_that_cannot_be_made_is_said(
    tmp_path: Path,
) -> None:
    path = make(tmp_path)

    async def story() -> None:
        async with Identity.load(path, bootstrap=[], udp=False) as own:
            own.open_door()
            told = await asyncio.to_thread(ask, tmp_path, "--json")
            assert json.loads(told.output)["udp_port"] == 0
        door_of(path).mkdir()
        async with Identity.load(path, bootstrap=[], udp=False) as own:
            with pytest.raises(ProfileError, match="cannot be made"):
                own.open_door()

    Identity.create("Bot", path)
    door_of(path).write_bytes(b"")
    asyncio.run(story())


def test_what_is_asked_else_is_refused_in_the_usual_envelope(tmp_path: Path) -> None:
    path = make(tmp_path)

    async def story() -> list[bytes]:
        async with Identity.create("Bot", path, bootstrap=[], udp=False) as own:
            own.open_door()
            reader, writer = await asyncio.open_unix_connection(str(door_of(path)))
            writer.write(b'{"version": 1, "request": "stop"}\nnonsense\n')
            lines = [await reader.readline() for _ in range(2)]
            writer.close()
            return lines

    for line, code in zip(asyncio.run(story()), ("not_found", "usage"), strict=True):
        answer = json.loads(line)
        assert (answer["version"], answer["ok"], answer["code"]) == (1, False, code)


def test_what_lies_beside_a_profile_goes_with_it(tmp_path: Path) -> None:
    path = make(tmp_path)

    async def story() -> None:
        async with Identity.create("Bot", path, bootstrap=[], udp=False) as own:
            own.accept(BOB)
            own.send(BOB, "later")

    asyncio.run(story())
    door_of(path).write_bytes(b"")
    assert path.with_suffix(".messages").exists()
    Profiles(tmp_path).remove("bot")
    assert [row.name for row in path.parent.iterdir()] == []
