"""The commands of `toxmesh`, one file each; heavy modules are imported when a command runs."""

from pathlib import Path

import click

STATE_DIR_HELP = "State directory [$STATE_DIRECTORY, else ~/.local/state/toxmesh]."
DirectoryPath = click.Path(path_type=Path)


def complain(text: str) -> None:
    """Tells a person what is wrong, on stderr."""
    click.echo(f"toxmesh: {text}", err=True)
