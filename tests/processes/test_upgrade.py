"""A running node goes on as another version: nobody loses a connection, a frame or an announce."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from core.bootstrap_node import BootstrapNode
from core.link import handover
from ops import client
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, free_port, gone, until
from toxmesh import __version__, life
from toxmesh.bench.clients import Clients, make_rows
from toxmesh.bench.relay import RelayLoad
from toxmesh.children import Child, State
from toxmesh.settings import Settings
from toxmesh.sockets import NodeSockets

pytestmark = pytest.mark.process
CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("toxmesh", "ops", "workers", "broker", "core")
VERSION = "9.8.7"
PATIENCE_S = 120.0


class Installed:
    """A copy of toxmesh that a node runs from, and that is changed as a package manager does."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name in PACKAGES:
            shutil.copytree(
                CHECKOUT / name, place / name, ignore=shutil.ignore_patterns("__pycache__")
            )

    def change(self, file: str, before: str, after: str) -> None:
        """Changes a file of the installed version."""
        path = self.place / file
        text = path.read_text("utf-8")
        assert before in text
        path.write_text(text.replace(before, after), "utf-8")

    def install(self, version: str) -> None:
        """Installs a version that differs in its number alone."""
        self.change("toxmesh/__init__.py", __version__, version)

    @contextmanager
    def running(self, state_dir: Path, *arguments: str) -> Iterator[Node]:
        """Runs a node from the copy until the block ends."""
        line = [sys.executable, "-m", "toxmesh", "run", "--dev", "--state-dir", str(state_dir)]
        line += ["--udp-port", str(free_port()), "--http", "off", *arguments]
        variables = {**os.environ, "PYTHONPATH": str(self.place)}
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, text=True, cwd=self.place, env=variables
        )
        try:
            yield Node(process, state_dir)
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
                assert process.stdout is not None
                process.stdout.close()


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    (tmp_path / "state").mkdir(mode=0o700)
    return Installed(tmp_path / "code")


def upgrade(state_dir: Path, check: bool = False) -> dict[str, Any]:
    return dict(client.ask(state_dir, "upgrade", {"check": check}, PATIENCE_S))


def play(node: Node, port: int, connections: int, upgrades: int, size: int, flight: int) -> Any:
    """Upgrades a node again and again while pairs of relay clients send; returns what arrived."""
    load = RelayLoad(
        Clients(node.key, make_rows(node.key, connections)), ("127.0.0.1", port), connections
    )
    assert load.connect_pairs(connections) == connections
    answers: list[dict[str, Any]] = []
    failed: list[BaseException] = []

    def change() -> None:
        try:
            answers.extend(upgrade(node.state_dir) for _ in range(upgrades))
        except client.AskError as error:
            failed.append(error)
        load.brake.pulled = True

    changing = threading.Thread(target=change)
    changing.start()
    result = load.frames(size, flight, PATIENCE_S * upgrades)
    changing.join(PATIENCE_S)
    assert not failed
    assert len(answers) == upgrades
    connected = len(load.connections)
    load.close()
    return result, connected, answers


def test_a_node_becomes_another_version_and_no_connection_or_frame_is_lost(
    installed: Installed, tmp_path: Path
) -> None:
    port = free_port()
    options = ("--tcp-port", str(port), "--workers", "dht=1,onion=1,relay=2")
    with installed.running(tmp_path / "state", *options) as node:
        before = node.status()
        pids = set(node.children())
        installed.install(VERSION)
        checked = upgrade(node.state_dir, check=True)
        assert checked["version"] == VERSION
        assert node.status()["node"]["version"] == __version__
        shape = shapes.REQUESTS["upgrade"].answer
        result, connected, answers = play(node, port, 40, 2, 200, 3)
        assert (result.lost, result.wrong, connected) == (0, 0, 40)
        assert result.answers > 500
        after = node.status()
        assert [differences(shape, row) for row in (checked, *answers)] == [[], [], []]
        assert [(row["version"], row["was"]) for row in answers] == [
            (VERSION, __version__),
            (VERSION, VERSION),
        ]
        assert after["node"]["version"] == VERSION
        assert (after["node"]["pid"], after["node"]["public_key"]) == (
            node.process.pid,
            before["node"]["public_key"],
        )
        assert after["node"]["started_s"] == before["node"]["started_s"]
        assert not pids & set(node.children())
        assert all(gone(pid) for pid in pids)
        assert sum(row["restarts"] for row in after["workers"]) == 0
        assert not [reason for reason in after["totals"]["drops"] if "lost" in reason]
        pinger = Pinger(node.key, node.udp_port)
        assert pinger.answered(3.0)
        pinger.close()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(20) == 0
        assert all(gone(row["pid"]) for row in [after["broker"], *after["workers"]])
        assert not (node.state_dir / "control.sock").exists()


def test_what_operators_have_changed_stays_as_it_is(
    installed: Installed, tmp_path: Path
) -> None:
    def ask(request: str, **args: Any) -> dict[str, Any]:
        return client.ask(tmp_path / "state", request, args)

    settings = tmp_path / "node.toml"
    settings.write_text('motd = "before"\n')
    options = ("--config", str(settings), "--tcp-port", "0", "--workers", "dht=1,onion=1")
    with installed.running(tmp_path / "state", *options) as node:
        ask("services set", names=["data"], on=False)
        ask("log level", name="dht.0", level="error")
        ask("log level", name="supervisor", level="debug", seconds=600)
        ask("ban add", what="192.0.2.0/24", note="too loud")
        ask("limits set", name="keys.waiting", value=99)
        settings.write_text('motd = "then"\nbrokers = 2\ndispatch = "broker"\n')
        ask("reload")
        pending = node.status()["node"]["pending"]
        asked = ("services", "log levels", "ban list")
        before = {request: ask(request)["rows"] for request in asked}
        upgrade(node.state_dir)
        after = {request: ask(request)["rows"] for request in asked}
        for rows in (before["ban list"], after["ban list"], before["log levels"]):
            for row in rows:
                row.pop("back_in_s", None)
        levels = after["log levels"]
        assert 0 < levels[0].pop("back_in_s") <= 600
        for row in levels[1:]:
            row.pop("back_in_s")
        assert after == before
        assert (pending, node.status()["node"]["pending"]) == (pending, pending)
        assert len(pending) == 2
        limits = ask("limits show", changed=True)["rows"]
        assert [(row["name"], row["value"]) for row in limits] == [("keys.waiting", 99)]
        said = [row["message"] for row in ask("log tail", limit=1000)["rows"]]
        assert any("goes on as toxmesh" in text for text in said)


@pytest.mark.slow
def test_two_thousand_relay_clients_see_nothing_of_twenty_upgrades(
    installed: Installed, tmp_path: Path
) -> None:
    port = free_port()
    options = ("--tcp-port", str(port), "--workers", "dht=1,onion=1,relay=2")
    with installed.running(tmp_path / "state", *options) as node:
        result, connected, answers = play(node, port, 2000, 20, 200, 1)
        assert (result.lost, result.wrong, connected) == (0, 0, 2000)
        assert len(answers) == 20
        drops = node.status()["totals"]["drops"]
        assert not [reason for reason in drops if "lost" in reason]


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("broker/main.py", "class Broker:", "class Broker(:", "SyntaxError|invalid syntax"),
        ("toxmesh/life.py", f"\nFORM = {life.FORM}\n", "\nFORM = 99\n", "stop the node and start"),
        ("toxmesh/__main__.py", "from", "raise SystemExit(0)\nfrom", "is no toxmesh that can"),
    ],
)
def test_a_version_that_cannot_go_on_changes_nothing(
    installed: Installed, tmp_path: Path, file: str, before: str, after: str, said: str
) -> None:
    with installed.running(tmp_path / "state", "--tcp-port", "0", "--workers", "dht=1") as node:
        installed.change(file, before, after)
        pids = node.children()
        with pytest.raises(client.AskError, match=said) as refused:
            upgrade(node.state_dir)
        assert refused.value.code == client.FAILED
        assert node.children() == pids
        pinger = Pinger(node.key, node.udp_port)
        assert pinger.answered(3.0)
        pinger.close()


def test_a_node_that_is_told_to_stop_amid_an_upgrade_stops_in_order(
    installed: Installed, tmp_path: Path
) -> None:
    with installed.running(tmp_path / "state", "--tcp-port", "0", "--workers", "dht=1") as node:
        pids = node.children()

        def ask() -> None:
            with suppress(client.AskError):
                upgrade(node.state_dir)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: b"TOXMESH_STATE" in environment(node.process.pid), 20)
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
        asking.join(30)
        assert all(gone(pid) for pid in pids)


def environment(pid: int) -> bytes:
    """Returns the variables that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_a_child_that_the_version_before_started_is_seen_to_end(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"],
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, ours, 0), (os.POSIX_SPAWN_CLOSE, theirs)],
    )
    row = Child("dht", 0, None)
    row.state, row.pid, row.path = State.UP, pid, str(tmp_path / "dht.0.1")
    first, second = socket.socketpair()
    body = {**_body(row, first.fileno()), "beat": {"packets": 5}}
    after = Child.from_body(body)
    assert (after.name, after.state, after.alive, after.beat) == (
        "dht.0",
        State.UP,
        True,
        {"packets": 5},
    )
    first.detach()
    os.close(ours)
    os.close(theirs)
    assert after.reap(after.heard) == 7
    assert (after.state, after.alive, after.channel) == (State.DOWN, False, None)
    second.close()


def _body(row: Child, descriptor: int) -> dict[str, Any]:
    channel = {"fd": descriptor, "received": b"", "descriptors": []}
    plain = {name: getattr(row, name) for name in ("role", "shard", "core", "pid", "path")}
    counts = {"generation": 1, "restarts": 0, "deaths": 0, "spawned": 0.0}
    rates = {"packets_per_s": 0.0, "cpu_percent": 0.0, "version": "1.0.0"}
    return {**plain, **counts, **rates, "channel": channel, "in_hand": {"fd": -1}}


def test_settings_and_totals_travel_unchanged(tmp_path: Path) -> None:
    settings = Settings(
        tmp_path,
        listen=("127.0.0.1", "::1"),
        udp_port=5,
        tcp_ports=(1, 2),
        bootstrap=(BootstrapNode("a.example.org", 3, bytes(32)),),
        workers={"dht": 3},
        motd="hello",
        dev=True,
    )
    row = life.Life.new(settings, lock=5, throw_away=True)
    row.totals.drops["x"] = 2
    row.totals.received[5] = 7
    state, named = life.put(settings, b"s" * 32, NodeSockets(), row)
    assert named == [5]
    os.environ[life.PROBE] = str(state)
    back = life.given(life.PROBE)
    assert back.settings == settings
    assert (back.lock, back.throw_away, back.secret) == (5, True, b"s" * 32)
    again = back.life()
    assert (again.totals.drops, again.totals.received) == (row.totals.drops, row.totals.received)
    assert (again.master, again.slots, again.run_dir) == (row.master, row.slots, row.run_dir)
    assert row.master.hex() not in repr(row) + repr(again)
    assert life.PROBE not in os.environ


def test_what_a_newer_version_no_longer_knows_falls_away(tmp_path: Path) -> None:
    body = life.settings_to_body(Settings(tmp_path, workers={"dht": 1}))
    assert life.settings_from_body({**body, "gone": 5}) == Settings(tmp_path, workers={"dht": 1})


@pytest.mark.parametrize("text", ["", "x", "12345"])
def test_a_state_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(life.VARIABLE, text)
    with pytest.raises(life.StateError, match="for an upgrade alone"):
        life.given(life.VARIABLE)


def test_a_state_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for body in ({"form": life.FORM + 1}, ["no", "object"]):
        monkeypatch.setenv(life.VARIABLE, str(handover.put(body)))
        with pytest.raises(life.StateError, match="stop the node and start this version"):
            life.given(life.VARIABLE)
    monkeypatch.setenv(life.VARIABLE, str(handover.put({"form": life.FORM})))
    with pytest.raises(life.StateError, match="cannot be read"):
        life.given(life.VARIABLE)
