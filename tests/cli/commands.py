"""Runs `toxmesh` command lines for the tests, in this process or in one of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from toxmesh import cli

CHECKOUT = Path(__file__).resolve().parents[2]


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> Said:
    """Runs a command line in this process."""
    capsys.readouterr()
    code = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def spawn(
    *arguments: object,
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    umask: int = -1,
    user: int | None = None,
) -> Said:
    """Runs a command line in a process of its own; `options` are Python's."""
    done = subprocess.run(
        [sys.executable, *options, "-m", "toxmesh", *(str(argument) for argument in arguments)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=30,
        umask=umask,
        user=user,
    )
    return Said(done.returncode, done.stdout, done.stderr)
