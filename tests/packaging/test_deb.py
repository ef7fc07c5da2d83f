"""The Debian package on a fresh system under systemd: its life, and what the units promise."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import CHECKOUT
from tests.packaging.machine import Machine
from toxmesh import __version__

pytestmark = [pytest.mark.process, pytest.mark.slow]

NEXT = "999.0.0"  # a version that comes after this one
CLIENTS = 20
STATE = "var/lib/toxmesh"
SETTINGS = "etc/toxmesh/toxmesh.toml"


def build(tree: Path, out: Path) -> Path:
    """Builds wheel and package of a source tree, as `make deb` does."""
    wheels = out / "wheels"
    line = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels)]
    subprocess.run([*line, str(tree)], check=True, stdout=subprocess.DEVNULL)
    (wheel,) = wheels.iterdir()
    subprocess.run(
        [str(tree / "ops/debian/build"), str(wheel), str(out)],
        check=True,
        env={**os.environ, "VENV": sys.prefix},
        stdout=subprocess.DEVNULL,
    )
    (package,) = out.glob("*.deb")
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CHECKOUT, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def next_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the package of a later version, whose unit and settings file have changed too."""
    tree = tmp_path_factory.mktemp("next")
    for name in ("toxmesh", "ops", "workers", "broker", "core", "docs"):
        shutil.copytree(CHECKOUT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, tree)
    for name, before, after in (
        ("toxmesh/__init__.py", __version__, NEXT),
        ("toxmesh/settings_help.py", "# Settings of toxmesh", "# New words about toxmesh"),
        ("ops/systemd/toxmesh.service", "RestartSec=2", "RestartSec=3"),
    ):
        text = (tree / name).read_text()
        assert before in text
        (tree / name).write_text(text.replace(before, after))
    return build(tree, tmp_path_factory.mktemp("next-package"))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as row:
        yield row


def of_another_form(package: Path, folder: Path) -> Path:
    """Returns a package whose node cannot go on from the state of the running one."""
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(folder / "tree")], check=True)
    (life,) = (folder / "tree/usr/lib/toxmesh").rglob("toxmesh/life.py")
    text, count = re.subn(r"^FORM = \d+$", "FORM = 999", life.read_text(), flags=re.MULTILINE)
    assert count == 1
    life.write_text(text)
    other = folder / "other.deb"
    line = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(folder / "tree"), str(other)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return other


def status(machine: Machine) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(machine.good("toxmesh", "ops", "status", "--json"))
    return answer


@contextmanager
def relay_clients(machine: Machine, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Has clients on the node while the block runs; fills in what became of them after it."""
    line = [*machine.inside("--net"), sys.executable, "-m", "tests.packaging.load", "127.0.0.1"]
    line += [str(node["tcp_ports"][0]), node["public_key"], str(CLIENTS)]
    with subprocess.Popen(
        line, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        result: dict[str, Any] = {}
        yield result
        out, _ = process.communicate(timeout=30)
        result.update(json.loads(out))


def as_user(name: str) -> list[str]:
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"]


def test_a_package_is_installed_used_upgraded_under_load_removed_and_purged(
    machine: Machine, package: Path, next_package: Path
) -> None:
    # Installed: the node runs, as its own user, and starts with the machine.
    machine.install(package)
    machine.wait_for("SubState", "running")
    assert machine.unit("UnitFileState") == "enabled"
    assert machine.unit("NRestarts") == "0"
    node = status(machine)["node"]
    assert (node["state"], node["version"]) == ("good", __version__)
    assert machine.good("stat", "-c", "%U %a", f"/{STATE}/keys") == "toxmesh 600\n"
    assert re.match(r"[\d,]+ packets/s, 0 relay clients,", machine.unit("StatusText"))
    for name in ("man1/toxmesh-ops-status.1.gz", "man5/toxmesh.toml.5.gz"):
        assert (machine.root / "usr/share/man" / name).is_file()
    for name in ("bash-completion/completions/toxmesh", "zsh/vendor-completions/_toxmesh"):
        assert "toxmesh" in (machine.root / "usr/share" / name).read_text()

    # Reloaded: a mistake is refused with its line and changes nothing, a good file is followed.
    settings = machine.root / SETTINGS
    shipped = settings.read_text()
    settings.write_text(shipped + 'motd = "hello"\nmodt = 1\n')
    refused = machine.run("systemctl", "reload", "toxmesh")
    assert refused.returncode != 0
    assert "modt" in machine.journal()
    assert machine.unit("SubState") == "running"
    mine = 'control_group = "toxmesh"\n' + shipped
    settings.write_text(mine)
    machine.good("systemctl", "reload", "toxmesh")
    assert "the settings are as the node has them" in machine.good("toxmesh", "ops", "reload")

    # Asked by members of the group, and by nobody else.
    machine.good("useradd", "--groups", "toxmesh", "alice")
    machine.good("useradd", "bob")
    assert machine.run(*as_user("alice"), "toxmesh", "ops", "status").returncode == 0
    assert machine.run(*as_user("bob"), "toxmesh", "ops", "status").returncode == 5

    # Upgraded while relay clients send: the same process, and nobody notices.
    pid = machine.unit("MainPID")
    with relay_clients(machine, node) as clients:
        said = machine.install(next_package, "--force-confold")
        assert f"the node is toxmesh {NEXT} now" in said
    assert clients.pop("answers") > 1000
    assert clients == {"alive": CLIENTS, "lost": 0, "wrong": 0}
    assert machine.unit("MainPID") == pid
    assert machine.unit("NRestarts") == "0"
    after = status(machine)
    assert (after["node"]["state"], after["node"]["version"]) == ("good", NEXT)
    assert after["node"]["public_key"] == node["public_key"]
    assert {row["restarts"] for row in after["workers"]} == {0}
    assert settings.read_text() == mine
    assert machine.unit("RestartUSec") == "3s"
    machine.good("systemctl", "restart", "toxmesh")
    assert status(machine)["node"]["state"] == "good"

    # Removed: the node is gone, settings and keys are there for the next installation.
    keys = (machine.root / STATE / "keys").read_bytes()
    machine.good("dpkg", "--remove", "toxmesh")
    assert machine.run("systemctl", "is-active", "toxmesh").stdout == "inactive\n"
    assert not (machine.root / "usr/lib/toxmesh").exists()
    assert not (machine.root / "usr/bin/toxmesh").is_symlink()
    assert (machine.root / STATE / "keys").read_bytes() == keys
    assert settings.read_text() == mine
    machine.install(next_package)
    machine.wait_for("SubState", "running")
    assert status(machine)["node"]["public_key"] == node["public_key"]

    # Purged: nothing is left.
    machine.good("dpkg", "--purge", "toxmesh")
    found = machine.good("find", "/", "-xdev", "-name", "*toxmesh*", "-not", "-path", "/root/*")
    assert found.split() == []
    assert machine.run("getent", "passwd", "toxmesh").returncode != 0
    assert machine.run("getent", "group", "toxmesh").returncode != 0
    assert "toxmesh" not in machine.good("dpkg-query", "--show", "--showformat", "${Package}\n")


def impatient(machine: Machine) -> None:
    """Lets systemd wait for 3 s for the node, where the unit has 30."""
    drop_in = machine.root / "etc/systemd/system/toxmesh.service.d/test.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=3\n")


def test_a_node_that_was_stopped_or_is_broken_is_not_in_the_way_of_an_upgrade(
    machine: Machine, package: Path, next_package: Path, tmp_path: Path
) -> None:
    impatient(machine)
    machine.install(package)
    machine.wait_for("SubState", "running")
    machine.good("systemctl", "stop", "toxmesh")
    machine.install(next_package)
    assert machine.unit("ActiveState") == "inactive"
    # Back to the version before: it goes on in place as well.
    machine.good("systemctl", "start", "toxmesh")
    said = machine.install(package)
    assert f"the node is toxmesh {__version__} now" in said
    # A supervisor that does not answer cannot be upgraded: systemd starts the new version.
    machine.good("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "toxmesh")
    machine.install(next_package)
    machine.wait_for("SubState", "running")
    assert status(machine)["node"]["version"] == NEXT
    # A version that cannot go on from the state of the running one refuses: restarted, too.
    pid = machine.unit("MainPID")
    said = machine.install(of_another_form(next_package, tmp_path))
    assert "the installed version cannot go on" in said
    machine.wait_for("SubState", "running")
    assert machine.unit("MainPID") != pid
    assert status(machine)["node"]["state"] == "good"


def test_systemd_ends_a_node_that_hangs_and_does_not_repeat_mistakes(
    machine: Machine, package: Path
) -> None:
    impatient(machine)
    machine.install(package)
    machine.wait_for("SubState", "running")
    machine.good("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "toxmesh")
    machine.wait_for("NRestarts", "1")
    assert "Watchdog timeout" in machine.journal()
    machine.wait_for("SubState", "running")
    assert status(machine)["node"]["state"] == "good"

    (machine.root / SETTINGS).write_text("modt = 1\n")
    assert machine.run("systemctl", "restart", "toxmesh").returncode != 0
    assert machine.unit("ActiveState") == "failed"
    assert machine.unit("ExecMainStatus") == "3"
    assert machine.unit("NRestarts") == "0"


def test_systemd_opens_ports_that_the_node_may_not_and_keeps_them(
    machine: Machine, package: Path
) -> None:
    machine.install(package)
    machine.wait_for("SubState", "running")
    sockets = ("toxmesh.socket", "toxmesh-udp.socket")
    machine.good("systemctl", "stop", "toxmesh")
    machine.good("systemctl", "enable", "--now", *sockets)
    machine.good("systemctl", "start", "toxmesh")
    for _ in range(2):
        node = status(machine)["node"]
        assert node["state"] == "good"
        assert (node["udp_port"], node["tcp_ports"]) == (33445, [33445, 443])
        assert node["dispatch"] == "kernel"
        machine.good("systemctl", "restart", "toxmesh")
    said = machine.good("toxmesh", "ops", "upgrade")  # with the same sockets
    assert "the node is toxmesh" in said
    assert status(machine)["node"]["tcp_ports"] == [33445, 443]
    machine.good("dpkg", "--purge", "toxmesh")
    for unit in sockets:
        assert machine.run("systemctl", "is-active", unit).stdout == "inactive\n"
    found = machine.good("find", "/etc", "-name", "*toxmesh*")
    assert found.split() == []
