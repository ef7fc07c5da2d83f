"""The settings of a running node are read again: what can be followed is, and the rest is said."""

import grp
import os
import signal
import socket
import stat
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ops import client
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, free_port, running, until
from toxmesh import reload
from toxmesh.cli import run
from toxmesh.settings import ALL_ROLES, Identities, Settings

SETTINGS = """motd = "good morning"
relay_per_address = 3
log_level = "warning"
http = "off"
"""


def info(port: int) -> bytes:
    """Returns the message of the day of a node."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.settimeout(3)
        guest.sendto(b"\xf0" + bytes(77), ("127.0.0.1", port))
        return guest.recv(2048)[5:].rstrip(b"\0")


def ask(node: Node, **args: Any) -> dict[str, Any]:
    answer = client.ask(node.state_dir, "reload", args, timeout_s=60)
    assert differences(shapes.REQUESTS["reload"].answer, answer) == []
    return answer


def test_every_setting_has_its_way_and_its_value_in_words() -> None:
    names = {field.name for field in fields(Settings)} - {"workers", "identities"}
    names |= {f"workers.{role}" for role in ALL_ROLES}
    names |= {f"identities.{field.name}" for field in fields(Identities)}
    assert set(reload.WAYS) == names
    assert {way.how for way in reload.WAYS.values()} <= {
        reload.LIVE, reload.REPLACE, reload.RESTART,
    }  # fmt: skip
    settings = Settings(Path("x"), workers=dict.fromkeys(ALL_ROLES, 1))
    assert set(reload.flat(settings)) == set(reload.WAYS)
    assert all(reload.shown(value) for value in reload.flat(settings).values())


def test_differences_name_what_differs_and_nothing_else() -> None:
    old = Settings(Path("x"), workers={"dht": 1, "onion": 1, "relay": 1})
    assert reload.differences(old, old) == []
    new = reload.with_value(reload.with_value(old, "workers.onion", 2), "udp_port", 33446)
    rows = [row.row(done=False) for row in reload.differences(old, new)]
    assert [(row["setting"], row["old"], row["new"], row["how"]) for row in rows] == [
        ("udp_port", "the first free port of 33445-33545", "33446", "restart"),
        ("workers.onion", "1", "2", reload.WAYS["workers.onion"].how),
    ]


@pytest.mark.process
def test_a_changed_file_is_followed_and_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(SETTINGS)
    port = free_port(socket.SOCK_STREAM)
    arguments = ("--config", str(file), "--tcp-port", str(port))
    with running(tmp_path / "state", *arguments, workers="dht=1,onion=0,relay=1") as here:
        assert info(here.udp_port) == b"good morning"
        assert ask(here)["rows"] == []
        before = here.status()
        web = free_port(socket.SOCK_STREAM)
        file.write_text(
            f'motd = "good evening"\nrelay_per_address = 1\nlog_level = "debug"\n'
            f'log_format = "json"\nhttp = "127.0.0.1:{web}"\nbrokers = 2\ndispatch = "broker"\n'
        )
        preview = ask(here, dry_run=True)
        assert {row["setting"]: row["how"] for row in preview["rows"]} == {
            "motd": "live", "relay_per_address": "live", "log_level": "live",
            "log_format": "live", "http": "live", "brokers": "restart", "dispatch": "restart",
        }  # fmt: skip
        assert not any(row["done"] for row in preview["rows"])
        assert info(here.udp_port) == b"good morning"

        done = {row["setting"]: row["done"] for row in ask(here)["rows"]}
        assert [name for name, good in done.items() if not good] == ["dispatch", "brokers"]
        assert until(lambda: info(here.udp_port) == b"good evening", 5)
        status = here.status()
        assert status["node"]["http"] == f"127.0.0.1:{web}"
        assert status["node"]["pending"] == [
            {"setting": "dispatch", "now": "kernel", "then": "broker"},
            {"setting": "brokers", "now": "1", "then": "2"},
        ]
        assert [row["pid"] for row in status["workers"]] == [
            row["pid"] for row in before["workers"]
        ]
        with (
            socket.create_connection(("127.0.0.1", port), 3) as first,
            socket.create_connection(("127.0.0.1", port), 3) as second,
        ):
            first.sendall(b"x")  # the kernel hands a stream out when it says something
            assert until(lambda: accepted(here) == 1, 5)
            second.sendall(b"x")
            with pytest.raises(ConnectionResetError):  # of relay_per_address = 1
                second.recv(1)
        drops = until(lambda: here.status()["totals"]["drops"].get("relay_per_address"), 5)
        assert drops == 1

        file.write_text(SETTINGS)  # back again, what waited with it
        ask(here)
        assert here.status()["node"]["pending"] == []


def accepted(node: Node) -> int:
    counts = node.status()["modules"]["broker"].get("counts", {})
    return int(counts.get("accepted", 0))


@pytest.mark.process
def test_a_bad_file_changes_nothing_and_is_said_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(SETTINGS)
    with running(tmp_path / "state", "--config", str(file), "--tcp-port", "0") as here:
        file.write_text('motd = "x"\nrelay_per_address = "many"\nudp_prot = 3\n')
        code = run(["ops", "reload", "--state-dir", str(here.state_dir)])
        said = capsys.readouterr().err
        assert code == 3
        assert f"{file}:2: relay_per_address must be a whole number" in said
        assert f'{file}:3: unknown setting "udp_prot"; did you mean "udp_port"?' in said
        assert "nothing was changed" in said
        assert info(here.udp_port) == b"good morning"
        assert here.status()["node"]["reloads"] == {"good": 0, "bad": 1}
        file.unlink()
        assert run(["ops", "reload", "--state-dir", str(here.state_dir)]) == 3
        assert "no such file" in capsys.readouterr().err


@pytest.mark.process
def test_a_hangup_reads_the_settings_again_and_tells_the_service_manager(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(SETTINGS)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    try:
        with running(tmp_path / "state", "--config", str(file), "--tcp-port", "0") as here:
            del os.environ["NOTIFY_SOCKET"]
            hear(manager, b"READY=1")
            file.write_text('motd = "by signal"\nhttp = "off"\nlan_discovery = true\n')
            here.process.send_signal(signal.SIGHUP)
            said = hear(manager, b"RELOADING=1")
            assert b"MONOTONIC_USEC=" in said
            hear(manager, b"READY=1")
            assert until(lambda: info(here.udp_port) == b"by signal", 5)
            file.write_text("motd = 3\n")
            here.process.send_signal(signal.SIGHUP)
            hear(manager, b"RELOADING=1")
            hear(manager, b"READY=1")
            assert here.status()["node"]["reloads"] == {"good": 1, "bad": 1}
            assert info(here.udp_port) == b"by signal"
            pinger = Pinger(here.key, here.udp_port)
            assert pinger.answered(3.0)
            pinger.close()
    finally:
        os.environ.pop("NOTIFY_SOCKET", None)
        manager.close()


def hear(manager: socket.socket, word: bytes) -> bytes:
    """Waits for a message with this word."""
    while True:
        said = manager.recv(4096)
        if word in said.splitlines():
            return said


@pytest.mark.process
def test_a_group_may_pass_to_the_door_and_nowhere_else(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    file = tmp_path / "node.toml"
    file.write_text('http = "off"\n')
    state_dir = tmp_path / "state"
    with running(state_dir, "--config", str(file), "--tcp-port", "0") as here:
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        file.write_text(f'http = "off"\ncontrol_group = "{group}"\n')
        ask(here)
        assert stat.S_IMODE((state_dir / "control.sock").stat().st_mode) == 0o660
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o710
        assert stat.S_IMODE((state_dir / "keys").stat().st_mode) == 0o600
        file.write_text('http = "off"\n')
        ask(here)
        assert stat.S_IMODE((state_dir / "control.sock").stat().st_mode) == 0o600
        file.write_text('http = "off"\ncontrol_group = "no such group"\n')
        with pytest.raises(client.AskError, match="must be a group of this machine"):
            ask(here)
