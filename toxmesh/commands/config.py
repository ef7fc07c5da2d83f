"""`toxmesh config`: say whether a settings file is good, and what it comes to."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toxmesh.commands import DirectoryPath, complain

if TYPE_CHECKING:
    from toxmesh.settings_file import Loaded

file_argument = click.argument("file", type=DirectoryPath, required=False)


@click.group("config")
def group() -> None:
    """Check a settings file, or show what it comes to."""


def _load(file: Path | None) -> "Loaded | None":
    """Reads settings, or says on stderr all that is wrong with them."""
    from toxmesh import settings_file

    try:
        return settings_file.load(file)
    except settings_file.SettingsError as error:
        for problem in error.problems:
            complain(str(problem))
        return None


@group.command("check")
@file_argument
def check(file: Path | None) -> int:
    """Report every mistake in FILE at once; without FILE, check the defaults."""
    if _load(file) is None:
        return 3
    click.echo(f"{file or 'defaults'}: good")
    return 0


@group.command("show")
@file_argument
def show(file: Path | None) -> int:
    """Print all settings as a settings file, each with where it comes from."""
    from toxmesh.settings_file import as_toml

    loaded = _load(file)
    if loaded is None:
        return 3
    click.echo(as_toml(loaded))
    return 0
