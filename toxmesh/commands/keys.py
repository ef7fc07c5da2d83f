"""`toxmesh keys`: make, show or bring along the key pair that others know a node by."""

from pathlib import Path

import click

from ops.paths import KEYS_FILE, default_state_dir
from toxmesh.commands import STATE_DIR_HELP, DirectoryPath, complain

state_dir_option = click.option(
    "--state-dir", type=DirectoryPath, metavar="DIR", help=STATE_DIR_HELP
)
force_option = click.option(
    "--force", is_flag=True, help="Replace keys that are there; they are lost."
)


@click.group("keys")
def group() -> None:
    """Make, show or bring along the keys of a node."""


def _put(state_dir: Path | None, source: Path | None, force: bool) -> int:
    """Makes or brings keys into a state directory and prints the public one."""
    from toxmesh import keys, storage

    directory = storage.StateDirectory(state_dir or default_state_dir())
    path = directory.path / KEYS_FILE
    try:
        directory.make()
        pair = keys.bring(source, path, force) if source else keys.generate(path, force)
    except storage.StorageError as error:
        complain(str(error))
        return error.code
    except keys.KeysError as error:
        complain(str(error))
        return error.code
    click.echo(f"wrote {path}", err=True)
    click.echo(pair.public.hex().upper())
    return 0


@group.command("generate")
@state_dir_option
@force_option
def generate(state_dir: Path | None, force: bool) -> int:
    """Make new keys and print the public one."""
    return _put(state_dir, None, force)


@group.command("import")
@click.argument("file", type=DirectoryPath)
@state_dir_option
@force_option
def bring(file: Path, state_dir: Path | None, force: bool) -> int:
    """Copy the keys FILE of tox-bootstrapd (64 bytes) and print the public key."""
    return _put(state_dir, file, force)


@group.command("show")
@state_dir_option
def show(state_dir: Path | None) -> int:
    """Print the public key alone, in upper-case hexadecimal."""
    from toxmesh import keys

    try:
        pair = keys.load((state_dir or default_state_dir()) / KEYS_FILE)
    except keys.KeysError as error:
        complain(str(error))
        return error.code
    click.echo(pair.public.hex().upper())
    return 0
