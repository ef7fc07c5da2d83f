"""Command lines completed by real shells, with the scripts that `toxmesh completion` prints."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class

from tests.cli.commands import CHECKOUT, call
from tests.packaging.terminal import Terminal
from tests.packaging.tools import Tool, needed
from toxmesh import cli
from toxmesh.commands.completion import SHELLS, VARIABLE

pytestmark = pytest.mark.process

# what is typed, what the shell must make of it
LINES = (
    ("toxmesh ver\t", r"toxmesh version "),
    ("toxmesh ops statu\t", r"toxmesh ops status "),
    ("toxmesh ops d\t\t", r"(?s)toxmesh ops d.*doctor"),
    ("toxmesh run --disp\t", r"toxmesh run --dispatch "),
    ("toxmesh run --dispatch ke\t", r"toxmesh run --dispatch kernel "),
    ("toxmesh config check settings-of\t", r"toxmesh config check settings-of-mine\.toml "),
    ("toxmesh ops dht div\t", r"toxmesh ops dht diversity "),
    ("toxmesh ops announces fi\t", r"toxmesh ops announces find "),
    ("toxmesh ops relay ki\t", r"toxmesh ops relay kick "),
    ("toxmesh ops check onio\t", r"toxmesh ops check onion "),
    ("toxmesh ops check ping x --nag\t", r"toxmesh ops check ping x --nagios "),
    ("toxmesh ops doctor --config settings-of\t", r"doctor --config settings-of-mine\.toml "),
    ("toxmesh ops log level dht.0 deb\t", r"toxmesh ops log level dht\.0 debug "),
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


def words(command: click.Command, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yields each command line that names a command or one of its long options, and no more."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield (*names, name)
            child = command.get_command(context, name)
            assert child is not None
            yield from words(child, (*names, name))
        return
    for parameter in command.params:
        for option in parameter.opts:
            if isinstance(parameter, click.Option) and option.startswith("--"):
                yield (*names, option)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_completed(shell: str) -> None:
    """As the shells' scripts ask for it, without the shells: in this process, so that it is all."""
    kind = get_completion_class(shell)
    assert kind is not None
    completer = kind(cli.commands(), {}, "toxmesh", VARIABLE)
    rows = list(words(cli.commands(), ()))
    assert len(rows) > 100
    for row in rows:
        found = completer.get_completions(list(row[:-1]), row[-1][:-1])
        assert row[-1] in [item.value for item in found], row
        (exact,) = (item for item in found if item.value == row[-1])
        assert row[-1] in completer.format_completion(exact)


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
