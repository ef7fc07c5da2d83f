"""The processes that host identities in a running node: there only where they are needed."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from core.slots import IDENTITY_ROLES
from ops import client
from tests.processes.hosted import SERVING, make_profile, settings
from tests.processes.node import Node, free_port, gone, running, until

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
