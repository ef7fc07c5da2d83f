"""Operators without rights, who are members of the group that `control_group` names: what they can
do, and what a command says that they cannot."""

import grp
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.ops import script
from tests.ops.script import Done, Shell
from tests.ops.test_operations import names
from tests.processes.node import free_port, running
from toxmesh import cli

pytestmark = pytest.mark.process
NO_PERMISSION = 5
KEY = "00" * 32
_PING = "check ping $NODE --timeout 5"

DONE = {
    "ops status": "",
    "ops workers": "",
    "ops top": "kinds --batch -n 1",
    "ops stat": "-n 1",
    "ops drops": "",
    "ops queues": "",
    "ops routes": "",
    "ops keys-cache": "",
    "ops dht show": "",
    "ops dht near": KEY,
    "ops dht buckets": "",
    "ops dht diversity": "",
    "ops lookup": KEY,
    "ops announces find": KEY,
    "ops announces stats": "",
    "ops announces groups": "",
    "ops data": "",
    "ops onion": "",
    "ops capture": "--kind 0x00 --count 1 --pcap capture.pcap",
    "ops relay clients": "",
    "ops relay client": KEY,
    "ops relay links": "",
    "ops relay kick": KEY,
    "ops identities": "",
    "ops friends": "",
    "ops sessions": "",
    "ops session close": KEY,
    "ops session trace": KEY,
    "ops reload": "",
    "ops ban add": "192.0.2.0/24",
    "ops ban list": "",
    "ops ban remove": "--all",
    "ops limits show": "",
    "ops limits set": "relay.per_address 8 --for 1m",
    "ops worker restart": "dht",
    "ops worker add": "dht",
    "ops worker remove": "dht",
    "ops worker drain": "onion.1",
    "ops log level": "dht info",
    "ops log tail": "--lines 1",
    "ops report": "report.tar.gz",
    "ops services": "off relay",
    "ops motd show": "",
    "ops motd set": "hello",
    "ops keys server": "",
    "ops drain": "",
    "ops upgrade": "",
}
"""All that is asked at the door: a member of its group may do it. 1 is an answer too: no."""
OWN = {"ops metrics", "ops decode", "ops replay", "ops check", "ops keys new"}
"""These ask nothing at a door."""
ELSEWHERE = {"ops doctor", "ops watch"}
"""In tests of their own."""


class Place(NamedTuple):
    """A node whose directory and settings are its user's alone, but for the door; an operator."""

    shell: Shell
    state: Path
    settings: Path

    def toxmesh(self, line: str) -> Done:
        """Runs one command of the operator."""
        return self.shell.run(f"toxmesh {line}")

    def ask(self, line: str) -> Done:
        """The same, about the node."""
        return self.toxmesh(f"{line} --state-dir '{self.state}'")


@contextmanager
def operated(member: bool = True, closes: bool = True) -> Iterator[Place]:
    """Runs a node with its door open for a group, and the shell of an operator, who is a `member`.

    Where root runs the tests the operator is another user. Anybody else is the node's user too, so
    what only that one may open is closed to both, if the test can do with such a node (`closes`).
    """
    root = os.geteuid() == 0
    if root:
        group = next(row for row in grp.getgrall() if row.gr_gid and row.gr_gid < 1000)
    else:
        group = grp.getgrgid(os.getegid())
    with script.new_home() as folder:
        folder.chmod(0o755)
        home, state, settings = folder / "home", folder / "state", folder / "node.toml"
        home.mkdir()
        settings.write_text(f'control_group = "{group.gr_name}"\n')
        settings.chmod(0o600)
        options = ("--config", str(settings), "--tcp-port", str(free_port()), "--http", "off")
        with running(state, *options, workers="dht=1,onion=2,relay=1") as node:
            own = [settings, state / "keys", state / "lock", state]
            closed = [] if root or not closes else own
            for path in closed:
                path.chmod(0o100 if path.is_dir() and member else 0)
            groups = (group.gr_gid,) if member else ()
            try:
                with script.shell(home, groups) as shell:
                    shell.run("export PYTHONPATH=$HOME/toxmesh:$PYTHONPATH")
                    shell.run('toxmesh() { python3 -m toxmesh "$@"; }')
                    shell.run(f"NODE=127.0.0.1:{node.udp_port}:{bytes(node.key).hex()}")
                    yield Place(shell, state, settings)
            finally:
                for path in reversed(closed):
                    path.chmod(0o700)


def test_every_command_is_tried() -> None:
    every = {" ".join(words) for words in names(cli.commands()) if words[0] == "ops"}
    assert set(DONE) | OWN | ELSEWHERE == every


@pytest.mark.slow
def test_a_member_of_the_group_does_all_that_is_asked_at_the_door() -> None:
    with operated(closes=False) as here:
        here.shell.run("(until test -e done; do toxmesh ops " + _PING + "; done) > pings 2>&1 &")
        wrong = []
        for command, rest in DONE.items():
            done = here.ask(f"{command} {rest}")
            if done.code not in (0, 1):
                wrong.append((command, done))
        here.shell.run("touch done")
        assert wrong == []
        where = f"--state-dir '{here.state}'"
        here.shell.run(f"toxmesh ops watch worker --count 1 {where} > watched & WATCH=$!")
        restart = f"toxmesh ops worker restart dht {where} > restarted"
        assert here.shell.run(f"while kill -0 $WATCH 2> /dev/null; do {restart}; done").code == 0
        assert "dht.0" in here.shell.run("cat watched").out


REFUSED = {
    "keys show": "the keys file {state}/keys cannot be read by this user; run as its owner",
    "keys generate": "this user may not write",
    "keys import '{state}/keys'": "the keys file {state}/keys cannot be read by this user",
    "run": "this user may not write",
    "ops report '{state}/report.tar.gz'": "cannot be written: permission denied",
    "ops capture --count 1 --pcap '{state}/a.pcap'": "cannot be written: permission denied",
}
OF_FILES = {
    "config check '{settings}'": "{settings}: this user may not read it; do it with sudo",
    "config show '{settings}'": "{settings}: this user may not read it; do it with sudo",
    "config migrate '{settings}'": "{settings}: cannot be read: permission denied",
    "run --config '{settings}'": "{settings}: this user may not read it; do it with sudo",
    "ops keys new '{state}/key'": "cannot be written: permission denied",
    "man '{state}/pages'": "cannot be written: permission denied",
}


def test_what_only_the_node_s_user_may_do_is_said_in_one_sentence_with_exit_code_5() -> None:
    with operated() as here:
        for lines, run in ((REFUSED, here.ask), (OF_FILES, here.toxmesh)):
            for line, words in lines.items():
                fill = {"state": here.state, "settings": here.settings}
                done = run(line.format(**fill))
                (said,) = [row for row in done.out.splitlines() if row.startswith("toxmesh: ")]
                assert (line, done.code) == (line, NO_PERMISSION), said
                assert words.format(**fill) in said
        done = here.ask(f"ops doctor --config '{here.settings}'")
        assert done.code == NO_PERMISSION, done.out
        assert f"deny  settings     {here.settings}: this user may not read it" in done.out
        assert f"deny  state        this user may not look into {here.state}" in done.out
        assert "ok    node         toxmesh" in done.out
        assert "0 failed, 2 that this user may not look at" in done.out


def test_who_is_no_member_of_the_group_is_told_who_may_ask() -> None:
    with operated(member=False) as here:
        for line in ("ops status", "ops top --batch -n 1", "ops worker restart dht", "ops upgrade"):
            done = here.ask(line)
            assert (line, done.code) == (line, NO_PERMISSION)
            assert done.out.startswith(f"toxmesh: this user may not open {here.state}/control.sock")
            assert "a member of the group that its setting control_group names" in done.out
        done = here.ask("ops doctor")
        assert f"deny  node         this user may not open {here.state}/control.sock" in done.out
        assert done.code == NO_PERMISSION, done.out
