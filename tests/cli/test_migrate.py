"""`toxmesh config migrate`: what the old node did is kept, and what is not is said."""

import os
import secrets
import stat
from pathlib import Path

import pytest

from core.crypto import KeyPair
from tests.cli.commands import Said, call
from toxmesh import settings_file
from toxmesh.settings import Settings

KEY = "AB" * 32
OTHER = "CD" * 32

BOOTSTRAPD = f"""
port = 33446
keys_file_path = "KEYS"
pid_file_path = "/run/tox-bootstrapd.pid"
enable_ipv6 = false
enable_ipv4_fallback = true
enable_lan_discovery = false
enable_tcp_relay = true
tcp_relay_ports = [443, 33445, 443, 70000]
enable_motd = true
motd = "hello"
bootstrap_nodes = (
  {{ address = "node.example.org"; port = 33445; public_key = "{KEY}" }},
  {{ address = "2001:db8::1"; port = 443; public_key = "{OTHER}" }},
  {{ address = "::1/128"; port = 443; public_key = "{OTHER}" }},
  {{ address = "192.0.2.1"; public_key = "{OTHER}" }}
)
colour = "blue"
"""
TOX_NODE = f"""
log-type: Syslog
keys-file: KEYS
udp-address: 0.0.0.0:33445
tcp-addresses:
  - 0.0.0.0:33445
  - 0.0.0.0:443
tcp-connections-limit: 8192
lan-discovery: True
threads: auto
motd: "up {{{{uptime}}}}"
bootstrap-nodes:
  - pk: {KEY}
    addr: node.example.org:33445
  - pk: {OTHER}
    addr: "[2001:db8::1]:443"
nonsense: 1
"""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    pair = KeyPair.from_secret(secrets.token_bytes(32))
    path = tmp_path / "old keys"
    path.write_bytes(pair.public + pair.secret.reveal())
    path.chmod(0o644)
    return path


def old_file(folder: Path, text: str, keys: Path | None = None, name: str = "old.conf") -> Path:
    path = folder / name
    path.write_text(text.replace("KEYS", str(keys or folder / "none")))
    return path


def migrated(
    capsys: pytest.CaptureFixture[str], folder: Path, text: str, name: str = "old.conf"
) -> tuple[Settings, Said]:
    """Migrates a text without its keys and returns the settings that `run` would use."""
    out = folder / "new.toml"
    said = call(
        capsys, "config", "migrate", old_file(folder, text, name=name), "--no-keys", "--force",
        "--out", out,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert call(capsys, "config", "check", out).code == 0
    return settings_file.load(out).settings, said


def test_all_of_tox_bootstrapd_that_has_a_counterpart_is_taken_over(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings, _ = migrated(capsys, tmp_path, BOOTSTRAPD)
    assert settings.listen == ("0.0.0.0",)
    assert settings.udp_port == 33446
    assert settings.tcp_ports == (443, 33445)
    assert settings.lan_discovery is False
    assert settings.motd == "hello"
    assert [str(node) for node in settings.bootstrap] == [
        f"node.example.org:33445:{KEY}",
        f"[2001:db8::1]:443:{OTHER}",
    ]


def test_what_tox_bootstrapd_has_besides_is_named_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, said = migrated(capsys, tmp_path, BOOTSTRAPD)
    for line, text in (
        (4, "pid_file_path: has no counterpart"),
        (9, "443 is there twice"),
        (9, "70000 is no port"),
        (15, "a node is left out: '::1/128' is not an IPv6 address"),
        (16, "a node without address, port and key is left out"),
        (18, "colour: tox-bootstrapd does not know it either"),
    ):
        assert any(
            row.startswith(f"{tmp_path}/old.conf:{line}: ") and text in row
            for row in said.err.splitlines()
        ), (line, text)


def test_an_empty_file_comes_to_the_defaults_of_tox_bootstrapd(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings, _ = migrated(capsys, tmp_path, "")
    assert (settings.udp_port, settings.tcp_ports) == (33445, (443, 3389, 33445))
    assert (settings.listen, settings.bootstrap) == ((), ())
    assert (settings.motd, settings.lan_discovery) == ("tox-bootstrapd", True)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("enable_tcp_relay = false", "tcp_ports", ()),
        ("tcp_relay_ports = (443)", "tcp_ports", ()),
        ("tcp_relay_ports = []", "tcp_ports", ()),
        ("enable_motd = false", "motd", ""),
        ('port = "33446"', "udp_port", 33445),
        ("enable_lan_discovery = 0", "lan_discovery", True),
        ("enable_ipv4_fallback = false", "listen", ("0.0.0.0", "::")),
        ('motd = "' + "ä" * 200 + '"', "motd", "ä" * 127),
        ('motd = "a\\tb"', "motd", "ab"),
    ],
)
def test_odd_settings_come_to_what_tox_bootstrapd_makes_of_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, name: str, value: object
) -> None:
    settings, _ = migrated(capsys, tmp_path, text)
    assert getattr(settings, name) == value


def test_all_of_tox_node_that_has_a_counterpart_is_taken_over(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings, said = migrated(capsys, tmp_path, TOX_NODE, "config.yml")
    assert settings.listen == ("0.0.0.0",)
    assert (settings.udp_port, settings.tcp_ports) == (33445, (33445, 443))
    assert settings.relay_connections == 8192
    assert (settings.lan_discovery, settings.motd) == (True, "up {{uptime}}")
    assert [str(node) for node in settings.bootstrap] == [
        f"node.example.org:33445:{KEY}",
        f"[2001:db8::1]:443:{OTHER}",
    ]
    for line, name in ((2, "log-type"), (10, "threads"), (17, "nonsense")):
        assert f"{tmp_path}/config.yml:{line}: {name}: " in said.err


@pytest.mark.parametrize(
    ("text", "listen", "udp_port", "tcp_ports"),
    [
        ("udp-address: '[::]:1'", ("0.0.0.0", "::"), 1, ()),
        ("tcp-addresses: [127.0.0.1:5]", ("127.0.0.1",), 0, (5,)),
        ("udp-address: 192.0.2.1:1\ntcp-addresses: [127.0.0.1:5]", ("192.0.2.1", "127.0.0.1"), 1,
         (5,)),
    ],
)  # fmt: skip
def test_addresses_of_tox_node_become_addresses_and_ports(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    text: str,
    listen: tuple[str, ...],
    udp_port: int,
    tcp_ports: tuple[int, ...],
) -> None:
    settings, said = migrated(capsys, tmp_path, f"keys-file: KEYS\n{text}\n", "config.yml")
    assert (settings.listen, settings.udp_port, settings.tcp_ports) == (listen, udp_port, tcp_ports)
    assert ("open besides" in said.err) == (len(listen) == 2 and "::" not in listen)


@pytest.mark.parametrize(
    ("name", "text", "line", "reason"),
    [
        ("a.conf", "port = 1\nmotd =", 2, "is no value"),
        ("a.conf", "port = 70000", 1, "port must be 1-65535"),
        ("a.conf", "a = 1\n" + "\xff" * 3, 2, "has no meaning here"),
        ("a.yml", "keys-file: a\nudp-address: here", 2, "address with port"),
        ("a.yml", "keys-file: a\nudp-address: 1.2.3.4:0", 2, "1-65535"),
        ("a.yml", "udp-address: 1.2.3.4:1", 0, "keys-file is not set"),
        ("a.yml", "keys-file: a", 0, "neither udp-address nor tcp-addresses"),
        ("a.yml", "udp-address: 1.2.3.4:1\nkeys-file: a\nlan-discovery: perhaps", 3, "True or"),
        ("a.yml", "tcp-addresses: [1.2.3.4:1]\nkeys-file: a\ntcp-connections-limit: many", 3,
         "must be a number"),
        ("a.yml", "tcp-addresses: [1.2.3.4:1]\nkeys-file: a\ntcp-connections-limit: 99999999", 0,
         "no good: relay_connections must be at most"),
        ("a.yml", "udp-address: 1.2.3.4:1\nkeys-file: [a]", 2, "must be a text"),
        ("a.yml", "udp-address: 1.2.3.4:1\nkeys-file: a\nbootstrap-nodes: x", 3, "a list of pk"),
        ("a.yml", "udp-address: 1.2.3.4:1\nkeys-file: a\nbootstrap-nodes:\n- pk: A\n  addr: b", 4,
         "HOST:PORT"),
    ],
)  # fmt: skip
def test_a_file_that_the_old_node_would_refuse_is_refused_with_its_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    text: str,
    line: int,
    reason: str,
) -> None:
    old = old_file(tmp_path, text, name=name)
    said = call(capsys, "config", "migrate", old, "--out", tmp_path / "new.toml")
    assert said.code == 3
    assert said.err.startswith(f"toxmesh: {old}:{line}: " if line else f"toxmesh: {old}: ")
    assert reason in said.err
    assert os.listdir(tmp_path) == [name]


def test_keys_are_copied_for_the_owner_alone_and_the_directory_goes_into_the_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: Path
) -> None:
    out, state = tmp_path / "new.toml", tmp_path / "state"
    old = old_file(tmp_path, BOOTSTRAPD, keys)
    said = call(capsys, "config", "migrate", old, "--out", out, "--state-dir", state)
    assert said.code == 0, said.err
    assert (state / "keys").read_bytes() == keys.read_bytes()
    assert stat.S_IMODE((state / "keys").stat().st_mode) == 0o600
    assert settings_file.load(out).settings.state_dir == state
    assert call(capsys, "keys", "show", "--state-dir", state).out.strip() == (
        keys.read_bytes()[:32].hex().upper()
    )


def test_without_out_the_settings_are_shown_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: Path
) -> None:
    old = old_file(tmp_path, BOOTSTRAPD, keys)
    before = sorted(tmp_path.iterdir())
    said = call(capsys, "config", "migrate", old, "--state-dir", tmp_path / "state")
    assert said.code == 0
    assert "nothing was written" in said.err
    shown = tmp_path / "shown.toml"
    assert sorted(tmp_path.iterdir()) == before
    shown.write_text(said.out)
    assert settings_file.load(shown).settings.udp_port == 33446


def test_nothing_that_is_there_is_replaced_without_force(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: Path
) -> None:
    old, out, state = old_file(tmp_path, BOOTSTRAPD, keys), tmp_path / "new", tmp_path / "state"
    out.write_text("mine")
    arguments = ("config", "migrate", old, "--out", out, "--state-dir", state)
    said = call(capsys, *arguments)
    assert (said.code, out.read_text(), state.exists()) == (3, "mine", False)
    assert "--force" in said.err
    out.unlink()
    assert call(capsys, "keys", "generate", "--state-dir", state).code == 0
    made = (state / "keys").read_bytes()
    said = call(capsys, *arguments)
    assert (said.code, out.exists(), (state / "keys").read_bytes()) == (3, False, made)
    out.write_text("mine")
    assert call(capsys, *arguments, "--force").code == 0
    assert (state / "keys").read_bytes() == keys.read_bytes()
    assert call(capsys, "config", "check", out).code == 0


def test_the_same_keys_may_be_there_already(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: Path
) -> None:
    old, state = old_file(tmp_path, BOOTSTRAPD, keys), tmp_path / "state"
    assert call(capsys, "keys", "import", keys, "--state-dir", state).code == 0
    said = call(
        capsys, "config", "migrate", old, "--out", tmp_path / "new", "--state-dir", state
    )
    assert said.code == 0
    assert "already" in said.err


@pytest.mark.parametrize("broken", [b"", b"x" * 63, b"x" * 64])
def test_keys_that_are_none_change_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, broken: bytes
) -> None:
    bad = tmp_path / "bad keys"
    bad.write_bytes(broken)
    old, out = old_file(tmp_path, BOOTSTRAPD), tmp_path / "new"
    out.write_text("mine")
    said = call(
        capsys, "config", "migrate", old, "--out", out, "--keys", bad, "--force",
        "--state-dir", tmp_path / "state",
    )  # fmt: skip
    assert (said.code, out.read_text()) == (3, "mine")
    assert "--no-keys" in said.err
    assert not (tmp_path / "state").exists()


def test_keys_that_are_not_where_the_file_says_can_be_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: Path
) -> None:
    old, state = old_file(tmp_path, TOX_NODE, name="c.yaml"), tmp_path / "state"
    arguments = ("config", "migrate", old, "--out", tmp_path / "new", "--state-dir", state)
    said = call(capsys, *arguments)
    assert (said.code, (tmp_path / "new").exists()) == (3, False)
    assert "there is no keys file" in said.err
    assert call(capsys, *arguments, "--keys", keys).code == 0
    assert (state / "keys").read_bytes() == keys.read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "options", "port"),
    [
        ("x.conf", "port = 1", (), 1),
        ("x", "port = 2", (), 2),
        ("x", "keys-file: a\nudp-address: 1.2.3.4:3", (), 3),
        ("x.conf", "keys-file: a\nudp-address: 1.2.3.4:4", ("--from", "tox-node"), 4),
        ("x.yml", "port = 5", ("--from", "tox-bootstrapd"), 5),
    ],
)
def test_whose_settings_they_are_shows_or_is_said(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    text: str,
    options: tuple[str, ...],
    port: int,
) -> None:
    said = call(capsys, "config", "migrate", old_file(tmp_path, text, name=name), *options)
    assert f"udp_port = {port} " in said.out


def test_a_file_that_is_not_there_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = call(capsys, "config", "migrate", tmp_path / "none.conf")
    assert said.code == 3
    assert "cannot be read: no such file" in said.err
