"""The command line as a whole: exit codes, usage errors, pipes, and what is loaded when."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import CHECKOUT, call, spawn
from toxmesh import __version__, cli


@pytest.mark.parametrize(
    "arguments",
    [
        "", "frob", "--frob", "run extra", "run --frob", "run --udp-port x", "run --tcp-port x",
        "run --udp-port", "keys", "keys frob", "keys import", "config", "config frob", "ops",
        "ops frob", "ops status --frob", "version extra", "keys show --force",
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_3(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, *arguments.split())
    assert (said.code, said.out) == (3, "")
    assert "Error: " in said.err or "Usage: toxmesh" in said.err


@pytest.mark.parametrize(
    "arguments", ["", "run", "keys", "keys generate", "keys import", "config show", "ops status"]
)
def test_help_is_exit_0(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, *arguments.split(), "--help")
    assert (said.code, said.err) == (0, "")
    if not arguments or arguments == "ops":
        assert "4 cannot reach" in said.out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "version") == (0, f"toxmesh {__version__}\n", "")
    assert call(capsys, "--version") == call(capsys, "version")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--udp-port", "70000"),
        ("--tcp-port", "0", "--udp-port", "0"),
        ("--listen", "1.2.3.4:33445"),
        ("--listen", "nowhere"),
        ("--bootstrap", "node.example.org:33445"),
        ("--workers", "messenger=1"),
        ("--workers", "dht"),
        ("--workers", "dht=1,dht=2"),
        ("--workers", ""),
        ("--workers", "dht=0,onion=0,relay=0"),
        ("--motd", "x" * 257),
        ("--dev", "--listen", "0.0.0.0"),
        ("--config", "no/such/file"),
    ],
)
def test_r14_run_refuses_a_bad_configuration_with_exit_3(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    said = call(capsys, "run", "--state-dir", state, *arguments)
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("toxmesh: ")
    assert said.err.count("\n") == 1
    assert not state.exists()  # nothing was half done


def test_config_check_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("udp_port = 5\n")
    bad.write_text("udp_prot = 5\nmotd = 1\n")
    assert call(capsys, "config", "check", good) == (0, f"{good}: good\n", "")
    assert call(capsys, "config", "check").code == 0
    for command in ("check", "show"):
        said = call(capsys, "config", command, bad)
        assert (said.code, said.out, said.err.count("\n")) == (3, "", 2)
        assert f"toxmesh: {bad}:1: unknown setting" in said.err
    said = call(capsys, "config", "show", good)
    assert said.code == 0
    assert f"udp_port = 5  # {good}:1" in said.out
    assert "relay = " in said.out


def test_dev_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.umask(0o022)
    os.umask(before)
    assert call(capsys, "run", "--dev", "--udp-port", "70000").code == 3
    assert list(tmp_path.iterdir()) == []
    assert os.umask(before) == before


def test_an_interrupted_command_is_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(file: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toxmesh.settings_file.load", interrupt)
    said = call(capsys, "config", "check")
    assert said.code == 2
    assert "stopped before it was done" in said.err


def test_a_closed_pipe_or_a_full_disk_is_no_traceback() -> None:
    command = f"{sys.executable} -m toxmesh config show"
    for redirect, code in (("| true", 0), ("> /dev/full", 2)):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} {redirect}"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code
        assert ("no space left" in done.stderr) == (code == 2)


def test_nothing_depends_on_assertions(tmp_path: Path) -> None:
    state = tmp_path / "state"
    said = spawn("keys", "generate", "--state-dir", state, options=("-O",))
    assert said.code == 0
    (state / "keys").chmod(0o644)
    for line in ("keys show", "keys generate", "run", "run --workers x=1"):
        assert spawn(*line.split(), "--state-dir", state, options=("-O",)).code == 3
    assert spawn("ops", "status", "--state-dir", state, options=("-O",)).code == 4


def test_the_main_command_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    tree = cli.commands()
    said = call(capsys, "--help")
    for name in ("run", "keys", "config", "ops", "version"):
        assert f"  {name} " in said.out
    assert tree.get_command(None, "frob") is None  # type: ignore[arg-type]  # no context needed
