"""The commands of `toxmesh`, one file each; heavy modules are imported when a command runs."""

from pathlib import Path

import click

STATE_DIR_HELP = "State directory [$STATE_DIRECTORY, else ~/.local/state/toxmesh]."
# click itself would refuse what this user may not read as wrong usage (exit 3, not 5).
DirectoryPath = click.Path(path_type=Path, readable=False)


def complain(text: str) -> None:
    """Tells a person what is wrong, on stderr."""
    click.echo(f"toxmesh: {text}", err=True)
