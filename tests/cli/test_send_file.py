"""`toxmesh send-file`: what it says and returns where the file does not arrive."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.crypto import KeyPair
from core.entropy import SeededEntropy
from toxmesh.cli import commands
from toxmesh.commands import send_file
from toxmesh.identity.identity import Identity

BOB = KeyPair.generate(SeededEntropy("bob")).public


class Watched(Identity):
    """An identity whose user presses Ctrl-C while it waits for its friend."""

    async def wait_online(self, friend: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(10)


def test_who_stops_it_is_told_that_the_file_has_not_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(name: str, **options: object) -> Identity:
        made = Watched.create(name, bootstrap=[], ports=(0, 0), hosts=("127.0.0.1",))
        monkeypatch.setattr(made, "friend", lambda key: None)
        return made

    monkeypatch.setattr(send_file, "identity", own)
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    wanted = ["send-file", "alice", BOB.hex(), str(file)]
    done = CliRunner().invoke(commands(), wanted, standalone_mode=False)
    assert done.return_value == send_file.FAILED == 2
    assert "notes.txt has not arrived; the same command goes on with it" in done.output
    assert "have arrived" not in done.output
