"""`toxmesh ops doctor`: each finding is made to happen, with the line that mends it."""

import base64
import errno
import hashlib
import json
import os
import re
import socket
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.crypto import KeyPair
from core.entropy import SeededEntropy
from ops import (
    doctor,
    doctor_files,
    doctor_machine,
    doctor_network,
    doctor_packages,
    doctor_system,
)
from ops.doctor_machine import DENY, FAIL, OK, WARN, Finding, Machine, Plan
from tests.cli.commands import CHECKOUT, call
from tests.ops.schema import differences
from tests.ops.shapes import COMMANDS
from tests.processes.node import running

BIG = "12345678"
STATUS: dict[str, Any] = {
    "node": {
        "pid": 10, "version": "1", "state": "good", "addresses": [], "udp_port": 33445,
        "public_key": "AB" * 32,
    },
    "broker": {"name": "broker", "pid": 11, "state": "good"},
    "workers": [{"name": f"dht.{i}", "pid": 12 + i, "state": "good"} for i in range(3)],
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which all is well, and no node runs."""
    root = tmp_path / "root"
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    pair = KeyPair.generate(SeededEntropy(1))
    (state / "keys").write_bytes(pair.public + pair.secret.reveal())
    (state / "keys").chmod(0o600)
    (state / "nodes.db").write_bytes(b"x" * 100)
    found = Machine(
        state_dir=state,
        plan=Plan(listen=("127.0.0.1",), udp_port=0, tcp_ports=()),
        root=root,
        packages=(),
        cores=4,
        owner=lambda path: os.getuid(),
        free_bytes=lambda path: 1 << 40,
        synchronised=lambda: True,
        descriptors=lambda: 1 << 20,
        sodium_is_direct=lambda: True,
    )
    for path, text in {
        "proc/sys/net/core/rmem_max": BIG,
        "proc/sys/net/core/wmem_max": BIG,
        "proc/sys/fs/file-nr": "1000\t0\t9223372036854775807",
        "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 0 kB",
        "proc/net/if_inet6": "00000000000000000000000000000001 01 80 10 80 lo",
        "proc/sys/net/netfilter/nf_conntrack_count": "10",
        "proc/sys/net/netfilter/nf_conntrack_max": "1000",
        "proc/10/cgroup": "0::/system.slice/toxmesh.service",
        "proc/11/limits": "Limit  Soft Hard Units\nMax open files  1024  1048576  files",
        "proc/10/status": "VmSwap: 0 kB",
        "sys/fs/cgroup/system.slice/toxmesh.service/cpu.max": "max 100000",
        "sys/fs/cgroup/system.slice/toxmesh.service/memory.max": "max",
        "sys/fs/cgroup/system.slice/toxmesh.service/pids.max": "1000",
        "etc/systemd/system/multi-user.target.wants/toxmesh.service": "[Unit]",
    }.items():
        put(found, path, text)
    return found


def put(machine: Machine, path: str, text: str) -> None:
    file = machine.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def up(machine: Machine, **changes: object) -> Machine:
    return replace(machine, status={**STATUS, **changes})


LOOKS = {
    "files": doctor_files.files,
    "node": lambda machine: iter([doctor_files.node(machine)]),
    "ports": doctor_network.ports,
    "ipv6": doctor_network.ipv6,
    "firewall": doctor_network.firewall,
    "buffers": doctor_system.buffers,
    "descriptors": doctor_system.descriptors,
    "cores": doctor_system.cores,
    "memory": doctor_system.memory,
    "clock": doctor_system.clock,
    "service": doctor_system.service,
    "sodium": doctor_packages.sodium,
}


def bad(look: str, machine: Machine) -> list[Finding]:
    """Returns what is not ok; each of them says how it is mended."""
    found = list(LOOKS[look](machine))
    assert found or look == "firewall"
    rows = [row for row in found if row.verdict != OK]
    assert all(row.mend and "\n" not in row.mend for row in rows)
    assert all(not row.mend for row in found if row.verdict == OK)
    return rows


def one(look: str, machine: Machine) -> Finding:
    (row,) = bad(look, machine)
    return row


@pytest.mark.parametrize("look", list(LOOKS))
@pytest.mark.parametrize("runs", [False, True])
def test_a_machine_that_is_well_has_no_findings(
    machine: Machine, look: str, runs: bool
) -> None:
    if runs and look == "ports":
        assert list(doctor_network.ports(up(machine))) == []  # it has no addresses
        return
    if look == "ports":
        machine = replace(machine, plan=replace(machine.plan, udp_port=None))
    assert bad(look, up(machine) if runs else machine) == []


SYSTEM = [
    # look, file and what stands in it, whether a node runs; verdict, words, the line that mends
    ("buffers", "proc/sys/net/core/rmem_max", "212992", False, WARN, "212,992",
     "sudo sysctl -w net.core.rmem_max=4194304"),
    ("buffers", "proc/sys/net/core/wmem_max", "212992", True, WARN, "wmem_max",
     "tee /etc/sysctl.d/60-toxmesh-wmem_max.conf"),
    ("descriptors", "proc/11/limits", "Max open files 1024 4096 files", True, WARN, "4,096",
     "LimitNOFILE=1048576"),
    ("descriptors", "proc/11/limits", "Max open files 256 512 files", True, FAIL, "512",
     "systemctl restart toxmesh.service"),
    ("descriptors", "proc/sys/fs/file-nr", "900 0 1000", False, WARN, "900 of 1,000",
     "sudo sysctl -w fs.file-max=2000"),
    ("cores", "sys/fs/cgroup/system.slice/toxmesh.service/cpu.max", "150000 100000", True, WARN,
     "1.5 cores", "CPUQuota="),
    ("memory", "proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 102400 kB", True, FAIL,
     "100 of 8,192 MiB", "ps -eo rss"),
    ("memory", "proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 204800 kB", False, WARN,
     "wants 400", "--workers"),
    ("memory", "proc/12/status", "Name: x\nVmSwap: 20480 kB", True, WARN, "20 MiB",
     "MemorySwapMax=0"),
    ("service", "sys/fs/cgroup/system.slice/toxmesh.service/pids.max", "20", True, WARN,
     "20 tasks", "TasksMax=256"),
    ("service", "sys/fs/cgroup/system.slice/toxmesh.service/memory.max", "104857600", True, WARN,
     "100 MiB", "MemoryMax=400M"),
    ("ipv6", "proc/sys/net/ipv6/conf/all/disable_ipv6", "1", False, WARN, "switched off",
     "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0"),
    ("ipv6", "proc/net/if_inet6", "2a000000000000000000000000000001 02 40 00 80 eth0", False, WARN,
     "2a00::1", "--listen ::"),
    ("ipv6", "proc/net/if_inet6", "2a000000000000000000000000000001 02 40 00 80 eth0", True, WARN,
     "IPv4 alone", "--listen ::"),
    ("firewall", "etc/ufw/ufw.conf", "ENABLED=yes\n", False, OK, "ufw is on", ""),
    ("firewall", "proc/sys/net/netfilter/nf_conntrack_count", "900", False, WARN, "900 of 1,000",
     "sudo sysctl -w net.netfilter.nf_conntrack_max=4000"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("look", "path", "text", "runs", "verdict", "words", "mend"), SYSTEM
)
def test_each_finding_of_the_system_has_its_line(
    machine: Machine,
    look: str,
    path: str,
    text: str,
    runs: bool,
    verdict: str,
    words: str,
    mend: str,
) -> None:
    put(machine, path, text)
    changes = {"node": {**STATUS["node"], "addresses": ["udp 0.0.0.0:33445"]}}
    found = up(machine, **changes) if runs else machine
    if verdict == OK:
        assert bad(look, found) == []
        return
    row = one(look, found)
    assert row.verdict == verdict
    assert words in row.text
    assert mend in row.mend


def test_a_low_limit_of_this_user_is_told_while_no_node_runs(machine: Machine) -> None:
    row = one("descriptors", replace(machine, descriptors=lambda: 4096))
    assert (row.verdict, "limits.d" in row.mend, "this user" in row.text) == (WARN, True, True)
    assert bad("descriptors", replace(machine, descriptors=lambda: -1)) == []


def test_the_limit_of_a_service_that_is_down_counts(machine: Machine) -> None:
    machine = replace(machine, descriptors=lambda: 100)
    put(machine, "lib/systemd/system/toxmesh.service", "[Service]\nLimitNOFILE=1048576\n")
    assert bad("descriptors", machine) == []
    put(machine, "etc/systemd/system/toxmesh.service", "[Service]\nLimitNOFILE=1024:4096\n")
    row = one("descriptors", machine)
    assert "the service's limit is 4,096" in row.text
    assert "LimitNOFILE=1048576" in row.mend


def test_more_processes_than_cores_are_told(machine: Machine) -> None:
    plan = replace(machine.plan, processes=9, default_workers="dht=1,onion=2,relay=1")
    row = one("cores", replace(machine, plan=plan))
    assert row.mend.startswith("toxmesh run --workers dht=1,onion=2,relay=1")
    rows = [{"name": f"dht.{i}", "pid": 12 + i, "state": "good"} for i in range(8)]
    assert "9 processes on 4" in one("cores", up(machine, workers=rows)).text


def test_a_clock_that_nobody_keeps_is_told(machine: Machine) -> None:
    row = one("clock", replace(machine, synchronised=lambda: False))
    assert (row.verdict, row.mend) == (WARN, "sudo timedatectl set-ntp true")
    assert bad("clock", replace(machine, synchronised=lambda: None)) == []
    assert doctor_machine.clock_is_synchronised() in (True, False, None)


def test_a_slow_way_into_libsodium_is_told(machine: Machine) -> None:
    row = one("sodium", replace(machine, sodium_is_direct=lambda: False))
    assert "--force-reinstall" in row.mend


@pytest.mark.parametrize("runs", [False, True])
def test_a_service_that_does_not_start_with_the_machine_is_told(
    machine: Machine, runs: bool
) -> None:
    (machine.root / "etc/systemd/system/multi-user.target.wants/toxmesh.service").unlink()
    assert bad("service", machine) == []  # not installed at all
    put(machine, "lib/systemd/system/toxmesh.service", "[Unit]")
    row = one("service", up(machine) if runs else machine)
    assert row.mend.startswith("sudo systemctl enable")


def test_a_firewall_without_a_rule_for_the_port_is_told(machine: Machine) -> None:
    put(machine, "etc/ufw/ufw.conf", "ENABLED=yes\n")
    put(machine, "etc/ufw/user.rules", "-A ufw-user-input -p udp --dport 22 -j ACCEPT\n")
    assert one("firewall", machine).mend == "sudo ufw allow 33445"
    put(machine, "etc/ufw/user.rules", "-A ufw-user-input -p udp --dport 33445 -j ACCEPT\n")
    assert bad("firewall", machine) == []


# Files


def breaks(machine: Machine, what: str) -> Machine:
    """Makes one thing of the state directory bad."""
    state, keys = machine.state_dir, machine.state_dir / "keys"
    if what == "everybody writes":
        state.chmod(0o707)
    elif what == "everybody reads":
        state.chmod(0o755)
    elif what == "keys for all":
        keys.chmod(0o644)
    elif what == "keys short":
        keys.write_bytes(b"x" * 10)
    elif what == "keys damaged":
        keys.write_bytes(b"x" * 32 + keys.read_bytes()[32:])
    elif what == "keys a link":
        keys.rename(state / "elsewhere")
        keys.symlink_to(state / "elsewhere")
    elif what == "keys a folder":
        keys.unlink()
        keys.mkdir()
    elif what == "nodes empty":
        (state / "nodes.db").write_bytes(b"")
    elif what == "another's file":
        return replace(machine, owner=lambda path: os.getuid() + (path.name == "nodes.db"))
    elif what == "another's directory":
        return replace(machine, uid=4242)
    elif what == "disk full":
        return replace(machine, free_bytes=lambda path: 1 << 20)
    elif what == "no directory":
        return replace(machine, state_dir=keys)
    elif what == "settings wrong":
        file = state.parent / "toxmesh.toml"
        file.touch(0o600)
        return replace(machine, config=file, problems=("line 1: udp_prot is unknown",))
    elif what == "settings for all":
        file = state.parent / "toxmesh.toml"
        file.touch()
        file.chmod(0o666)
        return replace(machine, config=file)
    return machine


@pytest.mark.parametrize(
    ("what", "verdict", "words", "mend"),
    [
        ("everybody writes", FAIL, "anybody may write", "chmod 700 "),
        ("everybody reads", WARN, "anybody may look", "chmod o-rwx "),
        ("keys for all", FAIL, "mode 0644", "chmod 600 "),
        ("keys short", FAIL, "10 bytes, not 64", "toxmesh keys generate --force"),
        ("keys damaged", FAIL, "do not belong together", "toxmesh keys generate --force"),
        ("keys a link", FAIL, "symbolic link", "cp --remove-destination "),
        ("keys a folder", FAIL, "is no file", "mv "),
        ("nodes empty", WARN, "is empty", "rm "),
        ("another's file", FAIL, "nodes.db in ", "sudo chown -R "),
        ("another's directory", WARN, "and this is 4242", "sudo -u "),
        ("disk full", FAIL, "1 MiB", "sudo journalctl --vacuum"),
        ("no directory", FAIL, "is not a directory", "mv "),
        ("settings wrong", FAIL, "udp_prot is unknown", "toxmesh config check "),
        ("settings for all", FAIL, "anybody may write to", "chmod o-w "),
    ],
)
def test_each_finding_of_the_files_has_its_line(
    machine: Machine, what: str, verdict: str, words: str, mend: str
) -> None:
    row = one("files", breaks(machine, what))
    assert (row.verdict, row.mend.startswith(mend)) == (verdict, True), row
    assert words in row.text


def test_the_lines_of_chmod_mend_what_they_are_for(machine: Machine) -> None:
    for what in ("everybody writes", "everybody reads", "keys for all", "keys a link"):
        row = one("files", breaks(machine, what))
        assert os.system(row.mend) == 0
        assert bad("files", machine) == [], what


def test_nothing_of_a_node_that_was_never_started_is_a_mistake(machine: Machine) -> None:
    assert bad("files", replace(machine, state_dir=machine.state_dir / "a" / "b")) == []
    for name in ("keys", "nodes.db"):
        (machine.state_dir / name).unlink()
    assert bad("files", machine) == []


def test_a_directory_that_cannot_be_made_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may all
    row = one("files", replace(machine, state_dir=machine.state_dir / "a"))
    assert row.mend.startswith("sudo install -d -m 700 -o ")


def test_what_may_not_be_looked_at_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "listdir", refuse)  # root may all
    row = one("files", machine)
    assert (row.verdict, row.mend.startswith("sudo -u ")) == (DENY, True)
    text = "node.toml: this user may not read it"
    unread = replace(machine, config=Path("node.toml"), problems=(text,), may_read=False)
    assert bad("files", unread)[0] == Finding(
        "settings", DENY, text, "sudo toxmesh ops doctor --config 'node.toml'"
    )
    row = one("node", replace(machine, no_answer="this user may not open it", may_ask=False))
    assert (row.verdict, row.text) == (DENY, "this user may not open it")
    assert row.mend == f"sudo toxmesh ops doctor --state-dir '{machine.state_dir}'"


def test_keys_that_may_not_be_read_are_told_and_never_shown(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = (machine.state_dir / "keys").read_bytes()[32:].hex()
    said = json.dumps(doctor.plain(list(doctor_files.files(machine))))
    assert secret[:8] not in said.lower()

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "may not read" in one("files", machine).text


# The node and its ports


def test_the_node_itself(machine: Machine) -> None:
    (machine.state_dir / "control.sock").touch()
    row = one("node", machine)
    assert (row.verdict, row.mend) == (WARN, f"toxmesh run --state-dir '{machine.state_dir}'")
    row = one("node", replace(machine, no_answer="it does not answer"))
    assert (row.verdict, row.text) == (FAIL, "it does not answer")
    rows = [{**STATUS["workers"][0], "state": "restarting"}]
    row = one("node", up(machine, workers=rows))
    assert (row.verdict, "dht.0" in row.text) == (WARN, True)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_taken_port_is_told(machine: Machine, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        udp = kind == socket.SOCK_DGRAM
        plan = replace(
            machine.plan, udp_port=port if udp else 0, tcp_ports=() if udp else (port,)
        )
        row = one("ports", replace(machine, plan=plan))
        assert row.mend == f"sudo ss -lnp {'-u' if udp else '-t'} 'sport = :{port}'"
    assert bad("ports", replace(machine, plan=plan)) == []


@pytest.mark.parametrize(
    ("number", "host", "words"),
    [
        (errno.EACCES, "0.0.0.0", "ip_unprivileged_port_start=443"),
        (errno.EADDRNOTAVAIL, "192.0.2.1", "ip -brief address"),
    ],
)
def test_a_port_that_cannot_be_had_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int, host: str, words: str
) -> None:
    monkeypatch.setattr(doctor_network, "_bind", lambda kind, host, port: number)
    plan = replace(machine.plan, tcp_ports=(443,), listen=(host,))
    assert words in one("ports", replace(machine, plan=plan)).mend


def test_a_range_without_a_free_port_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_network, "_bind", lambda kind, host, port: errno.EADDRINUSE)
    plan = replace(machine.plan, udp_port=None)
    assert "ss -lnp -u" in one("ports", replace(machine, plan=plan)).mend


def test_an_address_where_the_node_does_not_answer_is_told(machine: Machine) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    key = KeyPair.generate(SeededEntropy(1)).public.hex()
    addresses = [f"udp 127.0.0.1:{port}", f"tcp 127.0.0.1:{port}"]
    node = {**STATUS["node"], "addresses": addresses, "public_key": key}
    rows = bad("ports", up(machine, node=node))
    assert [row.verdict for row in rows] == [FAIL, FAIL]
    assert "nobody listens" in rows[0].text


def test_a_drained_node_is_not_asked_as_a_client_would(machine: Machine) -> None:
    row = one("ports", up(machine, node={**STATUS["node"], "state": "draining"}))
    assert (row.verdict, "drain --cancel" in row.mend) == (WARN, True)


# Packages


def pack(folder: Path, name: str, version: str, text: str = "x = 1\n") -> None:
    """Installs a package, as a wheel is."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "one.py").write_text(text)
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
    row = f"{name}/one.py,sha256={digest.rstrip('=')},{len(text)}\n"
    (info / "RECORD").write_text(f"{row}{info.name}/METADATA,,\n")


@pytest.fixture
def packed(tmp_path: Path, machine: Machine) -> Machine:
    folder = tmp_path / "site"
    for name, version in doctor_packages.NEEDED.items():
        pack(folder, name, version)
    return replace(machine, packages=(str(folder),))


def bad_packages(machine: Machine) -> Iterator[Finding]:
    return (row for row in doctor_packages.packages(machine) if row.verdict != OK)


def test_whole_packages_are_ok(packed: Machine) -> None:
    assert list(bad_packages(packed)) == []
    pack(Path(packed.packages[0]), "toxmesh", "1.0")
    assert list(bad_packages(packed)) == []
    assert [row.verdict for row in doctor_packages.own(packed)] == [OK]


@pytest.mark.parametrize(
    ("what", "verdict", "words", "mend"),
    [
        ("missing", FAIL, "orjson is not installed", "'orjson>=3.10'"),
        ("old", FAIL, "orjson 3.9.9 is older than 3.10", "'orjson>=3.10'"),
        ("overwritten", FAIL, "orjson/one.py of orjson", "--force-reinstall --no-deps 'orjson"),
        ("file gone", FAIL, "orjson/one.py of orjson", "--force-reinstall --no-deps 'orjson"),
        ("twice", FAIL, "over itself", "rm -r "),
        ("hidden", WARN, "hides 3.99", "-m venv "),
        ("own", FAIL, "toxmesh/one.py of toxmesh", "--force-reinstall --no-deps toxmesh"),
    ],
)
def test_each_finding_of_the_packages_has_its_line(
    packed: Machine, tmp_path: Path, what: str, verdict: str, words: str, mend: str
) -> None:
    folder = Path(packed.packages[0])
    info, file = folder / "orjson-3.10.dist-info", folder / "orjson/one.py"
    if what == "missing":
        (info / "METADATA").unlink()
        (info / "RECORD").unlink()
        info.rmdir()
    elif what == "old":
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: orjson\nVersion: 3.9.9\n")
    elif what == "overwritten":
        file.write_text("x = 2\n")
    elif what == "file gone":
        file.unlink()
    elif what == "twice":
        pack(folder, "orjson", "3.99")
    elif what == "hidden":
        pack(tmp_path / "other", "orjson", "3.99")
        packed = replace(packed, packages=(*packed.packages, str(tmp_path / "other")))
    elif what == "own":
        pack(folder, "toxmesh", "1.0")
        (folder / "toxmesh/one.py").write_text("x = 2\n")
    (row,) = bad_packages(packed)
    assert (row.verdict, words in row.text, mend in row.mend) == (verdict, True, True), row


def test_files_of_the_debian_package_are_compared_with_its_own_list(packed: Machine) -> None:
    packed = replace(packed, prefix="/usr/lib/toxmesh")
    assert list(bad_packages(packed)) == []
    put(packed, "usr/lib/toxmesh/one.py", "x = 1\n")
    digest = hashlib.md5(b"x = 1\n").hexdigest()
    put(
        packed,
        "var/lib/dpkg/info/toxmesh.md5sums",
        f"{digest}  usr/lib/toxmesh/one.py\n{digest}  usr/share/doc/toxmesh/README.md\n",
    )
    assert list(bad_packages(packed)) == []
    put(packed, "usr/lib/toxmesh/one.py", "x = 2\n")
    (row,) = bad_packages(packed)
    assert (row.verdict, row.mend) == (FAIL, "sudo apt-get install --reinstall toxmesh")
    (packed.root / "usr/lib/toxmesh/one.py").unlink()
    assert len(list(bad_packages(packed))) == 1


def test_a_package_without_a_list_of_files_is_not_called_whole(packed: Machine) -> None:
    folder = Path(packed.packages[0])
    (folder / "orjson-3.10.dist-info/RECORD").unlink()
    texts = [row.text for row in doctor_packages.packages(packed)]
    assert "orjson 3.10, without a list of its files" in texts


def test_packages_of_another_are_told() -> None:
    home = Path("/home/a")
    places = dict.fromkeys(doctor_packages.OWN, home)
    assert doctor_packages.same_place(places).verdict == OK
    row = doctor_packages.same_place({**places, "core": Path("/home/b")})
    assert (row.verdict, "core in /home/b" in row.text) == (FAIL, True)
    del places["broker"]
    assert "broker nowhere" in doctor_packages.same_place(places).text


def test_the_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = dict(re.fullmatch(r"([\w-]+)>=(.+)", row).groups() for row in project["dependencies"])  # type: ignore[union-attr,misc]  # all rows match
    assert wanted == doctor_packages.NEEDED


# The command


def test_verdicts_and_exit_codes() -> None:
    rows = [doctor_machine.ok("a", "b"), doctor_machine.warn("a", "b", "c")]
    assert doctor.plain(rows[:1])["exit"] == 0
    assert doctor.plain(rows)["exit"] == 1
    rows.append(doctor_machine.deny("a", "b", "c"))
    assert (doctor.plain(rows)["verdict"], doctor.plain(rows)["exit"]) == (DENY, 5)
    rows.append(doctor_machine.fail("a", "b", "c"))
    assert (doctor.plain(rows[::-1])["verdict"], doctor.plain(rows)["exit"]) == (FAIL, 2)
    assert doctor.verdict([]) == OK


def test_a_node_that_is_down_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, "ops", "doctor", "--state-dir", tmp_path / "state", "--json")
    answer = json.loads(said.out)
    assert (answer["version"], differences(COMMANDS["doctor"].answer, answer)) == (1, [])
    assert said.code == answer["exit"] == doctor.CODES[answer["verdict"]]
    assert {row["area"] for row in answer["findings"]} >= {
        "node", "state", "ports", "ipv6", "buffers", "descriptors", "cores", "memory", "clock",
        "service", "packages", "crypto",
    }  # fmt: skip
    assert not (tmp_path / "state").exists()  # nothing was made


def test_wrong_settings_are_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "toxmesh.toml"
    file.write_text("udp_prot = 5\n")
    state = tmp_path / "state"
    said = call(capsys, "ops", "doctor", "--config", file, "--state-dir", state, "--bad")
    assert said.code == 2
    assert f"mend with    toxmesh config check '{file}'\n" in said.out
    assert re.search(r"\d+ ok, \d+ to warn of, \d+ failed\n\Z", said.out)
    assert not re.search(r"(?m)^ok ", said.out)


@pytest.mark.process
def test_a_node_that_runs_is_asked_and_pinged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path, "--http", "off", workers="dht=1,onion=0,relay=1"):
        said = call(capsys, "ops", "doctor", "--state-dir", tmp_path, "--json")
        rows = json.loads(said.out)["findings"]
        texts = [row["text"] for row in rows if row["area"] == "ports"]
        assert [text.split()[0] for text in texts] == ["udp", "tcp"]
        assert all(re.search(r"127\.0\.0\.1:\d+ answers in ", text) for text in texts)
        assert "all at work" in next(row["text"] for row in rows if row["area"] == "node")
        assert not [row for row in rows if row["verdict"] == FAIL]
