"""`toxmesh config`: say whether a settings file is good, what it comes to, or make one of
another node's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.paths import KEYS_FILE, default_state_dir
from toxmesh.commands import STATE_DIR_HELP, DirectoryPath, complain

if TYPE_CHECKING:
    from toxmesh.migrate import Migration
    from toxmesh.settings_file import Loaded, SettingsError

PERMISSION = 5

file_argument = click.argument("file", type=DirectoryPath, required=False)


@click.group("config")
def group() -> None:
    """Check a settings file, show what it comes to, or take over another node's."""


def _load(file: Path | None) -> "Loaded | int":
    """Reads settings, or says on stderr all that is wrong with them and returns the exit code."""
    from toxmesh import settings_file

    try:
        return settings_file.load(file)
    except settings_file.SettingsError as error:
        return _complain_all(error)


def _complain_all(error: "SettingsError") -> int:
    for problem in error.problems:
        complain(str(problem))
    return error.code


@group.command("check")
@file_argument
def check(file: Path | None) -> int:
    """Report every mistake in FILE at once; without FILE, check the defaults."""
    loaded = _load(file)
    if isinstance(loaded, int):
        return loaded
    click.echo(f"{file or 'defaults'}: good")
    return 0


@group.command("show")
@file_argument
def show(file: Path | None) -> int:
    """Print all settings as a settings file, each with where it comes from."""
    from toxmesh.settings_file import as_toml

    loaded = _load(file)
    if isinstance(loaded, int):
        return loaded
    click.echo(as_toml(loaded))
    return 0


@group.command("example")
def example() -> int:
    """Print a settings file to begin with: every setting as a comment, with what it is for."""
    from toxmesh import settings_help

    click.echo(settings_help.example(), nl=False)
    return 0


class _CannotWrite(Exception):
    """The new files cannot be put in place: why, and the exit code; nothing was changed."""

    def __init__(self, text: str, code: int = 3) -> None:
        super().__init__(text)
        self.code = code


@group.command("migrate")
@click.argument("file", type=DirectoryPath)
@click.option(
    "--out", type=DirectoryPath, metavar="FILE", help="Write the settings there, and copy the keys."
)
@click.option("--state-dir", type=DirectoryPath, metavar="DIR", help=STATE_DIR_HELP)
@click.option(
    "--keys", type=DirectoryPath, metavar="FILE", help="The old node's keys [where its FILE says]."
)
@click.option("--no-keys", is_flag=True, help="Leave the keys: the node gets a new address.")
@click.option(
    "--from", "kind", type=click.Choice(["tox-bootstrapd", "tox-node"]),
    help="Whose settings FILE has [by its name and text].",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace settings and keys that are there.")
def migrate(
    file: Path,
    out: Path | None,
    state_dir: Path | None,
    keys: Path | None,
    no_keys: bool,
    kind: str | None,
    force: bool,
) -> int:
    """Make settings of those of tox-bootstrapd (libconfig) or tox-node (YAML), and take its keys.

    Prints the new settings file, and on stderr what has no counterpart or changes. With --out
    it is written, and the keys are copied into the state directory; nothing that is there already
    is replaced without --force, and a mistake in FILE changes nothing.
    """
    from toxmesh import migrate, settings_file

    try:
        migration = migrate.read(file, kind)
        text = migrate.as_toml(migration, state_dir)
    except settings_file.SettingsError as error:
        return _complain_all(error)
    for note in migration.notes:
        click.echo(str(note), err=True)
    source = None if no_keys else _keys_of(migration, keys)
    state = state_dir or default_state_dir()
    if out is None:
        click.echo(text, nl=False)
        what = "" if source is None else f", and copy {source} to {state / KEYS_FILE}"
        click.echo(f"nothing was written; --out FILE would write this{what}", err=True)
        return 0
    try:
        _write(text, out, source, state, force)
    except _CannotWrite as error:
        complain(str(error))
        return error.code
    click.echo(f"wrote {out}; begin with: toxmesh run --config '{out}'", err=True)
    return 0


def _keys_of(migration: "Migration", given: Path | None) -> Path:
    """Returns the old keys file; a relative path is meant from where the old node was started."""
    return given or migration.keys_file or Path("keys")


def _write(text: str, out: Path, source: Path | None, state: Path, force: bool) -> None:
    """Puts both files in place, or none of them."""
    from toxmesh import storage

    try:
        before = out.read_bytes() if force and out.exists() else None
        if before is None:
            storage.create(out, text.encode(), 0o644)
        else:
            storage.replace(out, text.encode(), 0o644)
    except FileExistsError:
        raise _CannotWrite(f"{out} is there already; add --force to replace it") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        code = PERMISSION if isinstance(error, PermissionError) else 3
        raise _CannotWrite(f"{out} cannot be written: {reason}", code) from None
    if source is None:
        return
    try:
        _copy_keys(source, state, force)
    except _CannotWrite:
        if before is None:
            out.unlink()
        else:
            storage.replace(out, before, 0o644)
        raise


def _copy_keys(source: Path, state: Path, force: bool) -> None:
    """Copies the keys with mode 0600; those that are there already may be the same."""
    from toxmesh import keys, storage

    directory, target = storage.StateDirectory(state), state / KEYS_FILE
    try:
        old = keys.read_other(source)
    except keys.KeysError as error:
        text = f"{error}; or name it with --keys, or leave it with --no-keys"
        raise _CannotWrite(text, error.code) from None
    try:
        directory.make()
        if not force and target.exists() and keys.load(target).public == old.public:
            click.echo(f"the keys are in {target} already", err=True)
            return
        keys.bring(source, target, force)
    except (keys.KeysError, storage.StorageError) as error:
        raise _CannotWrite(str(error), error.code) from None
    click.echo(f"copied {source} to {target}", err=True)
