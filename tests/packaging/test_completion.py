"""Command lines completed by real shells, with the scripts that `toxmesh completion` prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import CHECKOUT, call
from tests.packaging.terminal import Terminal
from tests.packaging.tools import Tool, needed

pytestmark = pytest.mark.process

# what is typed, what the shell must make of it
LINES = (
    ("toxmesh ver\t", r"toxmesh version "),
    ("toxmesh ops statu\t", r"toxmesh ops status "),
    ("toxmesh ops st\t\t", r"(?s)toxmesh ops st.*atus"),
    ("toxmesh run --disp\t", r"toxmesh run --dispatch "),
    ("toxmesh run --dispatch ke\t", r"toxmesh run --dispatch kernel "),
    ("toxmesh config check settings-of\t", r"toxmesh config check settings-of-mine\.toml "),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Returns a home directory with the command in bin/ and a settings file."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/toxmesh"
    command = f'PYTHONPATH={CHECKOUT} exec {sys.executable} -m toxmesh "$@"'
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    (tmp_path / "settings-of-mine.toml").touch()
    return tmp_path


def environment(place: Path, tool: Tool) -> dict[str, str]:
    return {
        **tool.environment,
        "HOME": str(place),
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(place / "config"),
        "XDG_DATA_HOME": str(place / "data"),
    }


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    said = call(capsys, "completion", shell)
    assert said.code == 0
    return said.out


def complete(terminal: Terminal, prompt: str) -> None:
    """Types every line, and clears it before the next."""
    terminal.wait_for(prompt)
    for typed, wanted in LINES:
        terminal.settle()
        terminal.enter(typed)
        terminal.wait_for(wanted)
        terminal.settle()
        terminal.enter("\x15")  # forget the line


def test_bash_completes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bash = needed("bash")
    file = place / "toxmesh.bash"
    file.write_text(script(capsys, "bash"))
    (place / "rc").write_text(f"PS1='ready> '\nsource {file}\n")
    command = [str(bash.path), "--rcfile", str(place / "rc"), "-i"]
    with Terminal(command, environment(place, bash), place) as terminal:
        complete(terminal, "ready> ")


def test_zsh_completes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zsh = needed("zsh")
    functions = place / "functions"
    functions.mkdir()
    (functions / "_toxmesh").write_text(script(capsys, "zsh"))
    own = "".join(
        f"{name}=({folder})\n"
        for name, pattern in (
            ("fpath", "usr/share/zsh/functions"),
            ("module_path", "usr/lib/*/zsh/*"),
        )
        for folder in [" ".join(map(str, folders(zsh, pattern)))]
        if zsh.root != Path("/")
    )
    (place / ".zshrc").write_text(
        f"{own}fpath=({functions} $fpath)\nPS1='ready> '\nunsetopt zle_bracketed_paste\n"
        "autoload -U compinit && compinit -u -D\n"
    )
    variables = {**environment(place, zsh), "ZDOTDIR": str(place)}
    with Terminal([str(zsh.path), "-d", "-i"], variables, place) as terminal:
        complete(terminal, "ready> ")


def folders(tool: Tool, pattern: str) -> list[Path]:
    """Returns folders of an unpacked package and those below them."""
    found = [path for path in tool.root.glob(pattern) if path.is_dir()]
    return found + [path for top in found for path in sorted(top.rglob("*")) if path.is_dir()]


def test_fish_completes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fish = needed("fish")
    file = place / "toxmesh.fish"
    file.write_text(script(capsys, "fish"))
    command = [str(fish.path), "--no-config", "--private", "-c"]
    for typed, wanted in (
        ("toxmesh ver", "version"),
        ("toxmesh ops st", "status"),
        ("toxmesh run --disp", "--dispatch"),
    ):
        done = subprocess.run(
            [*command, f"source {file}; complete -C '{typed}'"],
            env=environment(place, fish),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert wanted in [line.split("\t")[0] for line in done.stdout.splitlines()], done


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "completion", "tcsh")
    assert said.code == 3
    assert "'bash', 'zsh', 'fish'" in said.err
