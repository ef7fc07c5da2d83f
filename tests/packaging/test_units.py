"""The units and what stands beside them: systemd reads them, and finds little to complain about."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from core.link import dispatch
from core.slots import SlotTable
from ops.doctor_system import BUFFER
from ops.paths import SERVICE_STATE_DIR, running_state_dir
from tests.cli.commands import CHECKOUT
from tests.packaging.tools import needed
from toxmesh.settings import PORT_RANGE

UNITS = CHECKOUT / "ops/systemd"
EXPOSURE = 1.3
"""As `systemd-analyze security` 252 says it, from 0 to 10; docs/install.md has it as well."""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = needed("systemd-analyze")
    return subprocess.run(
        [str(tool.path), *arguments],
        env=tool.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def system_with(folder: Path, change: tuple[str, str] = ("", "")) -> Path:
    """Makes a root directory with the units and a command in it; `change`: text in all units."""
    (folder / "usr/bin").mkdir(parents=True)
    shutil.copy("/bin/true", folder / "usr/bin/toxmesh")
    place = folder / "etc/systemd/system"
    place.mkdir(parents=True)
    for unit in UNITS.iterdir():
        if unit.suffix in (".service", ".socket"):
            (place / unit.name).write_text(unit.read_text().replace(*change))
    return folder


def verify(root: Path) -> subprocess.CompletedProcess[str]:
    units = ("toxmesh.service", "toxmesh.socket", "toxmesh-udp.socket")
    options = (f"--root={root}", "--man=no", "--recursive-errors=no")
    return analyze("verify", *options, *units)


def settings(unit: str) -> dict[str, str]:
    """Returns the last value of each setting of a unit's middle section."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they stand
    parser.read_string((UNITS / unit).read_text())
    return dict(parser["Service" if unit.endswith(".service") else "Socket"])


def test_systemd_reads_all_units_without_a_word(tmp_path: Path) -> None:
    said = verify(system_with(tmp_path / "good"))
    assert (said.returncode, said.stderr) == (0, "")
    said = verify(system_with(tmp_path / "bad", ("OOMPolicy=", "OOMPolice=")))
    assert said.returncode != 0
    assert "Unknown key 'OOMPolice'" in said.stderr


def test_the_sandbox_leaves_little_exposed(tmp_path: Path) -> None:
    unit = str(UNITS / "toxmesh.service")
    most = ("security", "--offline=yes", f"--threshold={int(10 * EXPOSURE)}")
    said = analyze(*most, unit)
    assert said.returncode == 0
    assert f"Overall exposure level for toxmesh.service: {EXPOSURE}" in said.stdout
    assert f"exposure level of {EXPOSURE}" in (CHECKOUT / "docs/install.md").read_text()
    worse = tmp_path / "toxmesh.service"
    worse.write_text(Path(unit).read_text().replace("CapabilityBoundingSet=\n", ""))
    assert analyze(*most, str(worse)).returncode != 0


def test_a_service_that_was_told_wrong_is_not_started_again_and_again() -> None:
    service = settings("toxmesh.service")
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == ["3", "5"]
    assert service["LimitCORE"] == "0"


def test_the_service_s_directory_is_the_one_that_operators_are_led_to(tmp_path: Path) -> None:
    assert Path("/var/lib", settings("toxmesh.service")["StateDirectory"]) == SERVICE_STATE_DIR
    tmpfiles = (UNITS / "toxmesh.tmpfiles").read_text()
    mode = settings("toxmesh.service")["StateDirectoryMode"]
    assert f"d {SERVICE_STATE_DIR} {mode} toxmesh toxmesh" in tmpfiles


def test_operators_are_led_to_their_own_node_first_and_then_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, own = tmp_path / "service", tmp_path / ".local/state/toxmesh"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert running_state_dir({}, service) == own
    service.mkdir()
    assert running_state_dir({}, service) == service
    assert running_state_dir({"STATE_DIRECTORY": "/named"}, service) == Path("/named")
    own.mkdir(parents=True)
    assert running_state_dir({}, service) == own
    monkeypatch.setenv("HOME", "/" + "x" * 300)  # a home that cannot even be looked for
    assert running_state_dir({}, service) == service


def test_the_kernel_may_queue_as_much_as_the_node_asks_for() -> None:
    text = (UNITS / "toxmesh.sysctl").read_text()
    found = {name: int(size) for name, size in re.findall(r"net\.core\.(\w+) = (\d+)", text)}
    assert found == {"rmem_max": BUFFER, "wmem_max": BUFFER}
    script = (CHECKOUT / "ops/debian/postinst").read_text()
    assert set(re.findall(r"raise (\w+) (\d+)", script)) == {
        (name, str(size)) for name, size in found.items()
    }


def test_the_udp_unit_has_a_socket_for_each_reader_of_the_smallest_node() -> None:
    listed = re.findall(
        r"^ListenDatagram=(\S+)$", (UNITS / "toxmesh-udp.socket").read_text(), re.MULTILINE
    )
    tables = {"dht": SlotTable.even(1), "onion": SlotTable.even(1), "relay": SlotTable.even(1)}
    wanted = 1 + len(dispatch.lanes(tables))
    port = PORT_RANGE[0]
    assert {place: listed.count(place) for place in listed} == {
        f"0.0.0.0:{port}": wanted,
        f"[::]:{port}": wanted,
    }
