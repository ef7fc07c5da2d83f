"""`toxmesh identity`: make, list, show, bring along, hand out and remove Tox identities."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ops.options import as_json as json_option
from ops.options import print_json
from ops.paths import default_state_dir
from toxmesh.commands import STATE_DIR_HELP, DirectoryPath, complain

if TYPE_CHECKING:
    from core.savedata.profile import Profile
    from toxmesh.identity.profiles import AskPassphrase, Profiles

Command = TypeVar("Command", bound=Callable[..., Any])
_MOST_NAME = 128  # bytes.  c-toxcore Messenger.h: MAX_NAME_LENGTH

state_dir_option = click.option(
    "--state-dir",
    type=DirectoryPath,
    metavar="DIR",
    callback=lambda context, parameter, value: value or default_state_dir(),
    help=STATE_DIR_HELP,
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Its first line is the passphrase; - reads it from standard input.",
)
force_option = click.option("--force", is_flag=True, help="Replace what is there; it is lost.")


class _Group(click.Group):
    """The commands of this file, and those that are loaded when they are wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), "serve", "status"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "serve":
            from toxmesh.commands import identity_serve

            return identity_serve.command
        if cmd_name == "status":
            from toxmesh.commands import identity_status

            return identity_status.command
        return super().get_command(ctx, cmd_name)


@click.group("identity", cls=_Group)
def group() -> None:
    """Make, list, bring along, hand out and serve Tox identities."""


def says_why(command: Callable[..., int]) -> Callable[..., int]:
    """Makes one sentence on stderr and the exit code of a profile that cannot be used."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> int:
        from toxmesh.identity.profiles import ProfileError

        try:
            return command(*args, **kwargs)
        except ProfileError as error:
            complain(str(error))
            return error.code

    return run


def passphrase_from(source: Path | None, what: str, again: bool = False) -> "AskPassphrase":
    """Returns what reads the passphrase: from a file, or typed where a person sits there."""

    def ask() -> str:
        from toxmesh.identity.profiles import ProfileError, passphrase_in

        if source is not None:
            return passphrase_in(source)
        if not sys.stdin.isatty():
            raise ProfileError(f"{what} is encrypted; give --passphrase-file FILE")
        return str(
            click.prompt(
                f"Passphrase of {what}", hide_input=True, confirmation_prompt=again, err=True
            )
        )

    return ask


def _profiles(state_dir: Path) -> "Profiles":
    from toxmesh.identity.profiles import Profiles

    return Profiles(state_dir)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _row(name: str, profile: "Profile", encrypted: bool) -> dict[str, Any]:
    return {
        "name": name,
        "tox_id": str(profile.tox_id),
        "public_key": profile.keys.public.hex().upper(),
        "nick": _text(profile.name),
        "status_message": _text(profile.status_message),
        "status": profile.status.name.lower(),
        "encrypted": encrypted,
        "friends": [
            {
                "key": friend.key.hex().upper(),
                "state": friend.state.name.lower(),
                "nick": _text(friend.name),
                "status_message": _text(friend.status_message),
                "last_seen": friend.last_seen or None,
            }
            for friend in profile.friends
        ],
    }


def _clear(path: Path, profile: "Profile") -> None:
    """Moves the messages away that an identity left behind which had this place before."""
    from toxmesh.identity.mailbox import MailboxError, move_unreadable
    from toxmesh.identity.profiles import MESSAGES, ProfileError

    try:
        moved = move_unreadable(path.with_suffix(MESSAGES), profile.keys.secret)
    except MailboxError as error:
        raise ProfileError(str(error)) from None
    if moved is not None:
        complain(
            f"messages of the identity that was here before are in {moved} now; "
            "that identity alone can read them"
        )


@group.command("create")
@click.argument("name")
@click.option("--nick", default="", help="What friends see as its name [NAME].")
@click.option("--encrypt", is_flag=True, help="Keep it under a passphrase.")
@passphrase_option
@state_dir_option
@says_why
def create(
    name: str, nick: str, encrypt: bool, passphrase_file: Path | None, state_dir: Path
) -> int:
    """Make a new identity and print its Tox ID."""
    from core.entropy import SystemEntropy
    from core.savedata.profile import Profile
    from toxmesh.identity.profiles import ProfileError, ProfileFile

    profiles = _profiles(state_dir)
    path = profiles.path(name)
    shown = (nick or name).encode()
    if len(shown) > _MOST_NAME:
        raise ProfileError(f"a nick has at most {_MOST_NAME} bytes, and this one {len(shown)}")
    profiles.make()
    wanted = encrypt or passphrase_file is not None
    passphrase = passphrase_from(passphrase_file, name, again=True)() if wanted else ""
    profile = Profile.generate(SystemEntropy(), shown)
    instead = f"give another name, or take it away with: toxmesh identity remove {name}"
    ProfileFile.create(path, profile, passphrase, otherwise=instead)
    _clear(path, profile)
    click.echo(f"wrote {path}", err=True)
    click.echo(profile.tox_id)
    return 0


@group.command("list")
@json_option
@state_dir_option
@says_why
def show_all(as_json: bool, state_dir: Path) -> int:
    """List the identities; what stands in encrypted ones is not shown."""
    from toxmesh.identity.profiles import ProfileError, ProfileFile

    profiles = _profiles(state_dir)
    rows: list[dict[str, Any]] = []
    for name in profiles.names():
        row: dict[str, Any] = {"name": name, "encrypted": False, "tox_id": None, "nick": None}
        row |= {"friends": None, "error": None}
        try:
            _, profile = ProfileFile.open(profiles.path(name), _locked)
        except _EncryptedError:
            row["encrypted"] = True
        except ProfileError as error:
            row["error"] = str(error)
        else:
            row |= {"tox_id": str(profile.tox_id), "nick": _text(profile.name)}
            row["friends"] = len(profile.friends)
        rows.append(row)
    if as_json:
        print_json({"rows": rows, "total": len(rows), "shown": len(rows)})
        return 0
    for row in rows:
        told = row["tox_id"] or ("encrypted" if row["encrypted"] else row["error"])
        click.echo(f"{row['name']:<20} {told}")
    if not rows:
        click.echo("no identities; make one with: toxmesh identity create NAME", err=True)
    return 0


class _EncryptedError(Exception):
    """The file would need a passphrase."""


def _locked() -> str:
    raise _EncryptedError


@group.command("show")
@click.argument("name")
@json_option
@passphrase_option
@state_dir_option
@says_why
def show(name: str, as_json: bool, passphrase_file: Path | None, state_dir: Path) -> int:
    """Print an identity's Tox ID, what it says of itself, and its friends."""
    from toxmesh.identity.profiles import ProfileFile

    path = _profiles(state_dir).existing(name)
    file, profile = ProfileFile.open(path, passphrase_from(passphrase_file, name))
    row = _row(name, profile, file.key is not None)
    if as_json:
        print_json(row)
        return 0
    for title in ("tox_id", "nick", "status_message", "status"):
        click.echo(f"{title.replace('_', ' '):<16}{row[title]}")
    click.echo(f"{'friends':<16}{len(row['friends'])}")
    for friend in row["friends"]:
        click.echo(f"  {friend['key']}  {friend['state']:<10} {friend['nick']}")
    return 0


@group.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--plain", is_flag=True, help="Without passphrase, though ours has one.")
@force_option
@passphrase_option
@state_dir_option
@says_why
def export(
    name: str, file: Path, plain: bool, force: bool, passphrase_file: Path | None, state_dir: Path
) -> int:
    """Write an identity to FILE, for qTox, toxic, uTox or another node.

    Use it in one place at a time: two clients with one identity take each other's messages."""
    from toxmesh.identity.profiles import ProfileFile

    path = _profiles(state_dir).existing(name)
    ask = passphrase_from(passphrase_file, name)
    known: list[str | bytes] = []

    def remember() -> str | bytes:
        known.append(ask())
        return known[-1]

    _, profile = ProfileFile.open(path, remember)
    passphrase = known[0] if known and not plain else ""
    instead = "choose another name, or add --force to lose what is there"
    ProfileFile.create(file, profile, passphrase, replace=force, otherwise=instead)
    click.echo(f"wrote {file}", err=True)
    return 0


@group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name", required=False)
@force_option
@passphrase_option
@state_dir_option
@says_why
def bring(
    file: Path, name: str | None, force: bool, passphrase_file: Path | None, state_dir: Path
) -> int:
    """Take in the profile FILE of another Tox client and print its Tox ID.

    It stays encrypted if it is, with the same passphrase. NAME is the file's, if none is given."""
    from toxmesh.identity.profiles import ProfileError, ProfileFile

    profiles = _profiles(state_dir)
    name = name or file.stem
    path = profiles.path(name)
    opened, profile = ProfileFile.open(file, passphrase_from(passphrase_file, file.name))
    profiles.make()
    if path.exists() and not force:
        raise ProfileError(
            f"there is an identity {name!r} already; give another name, or --force to lose it"
        )
    with ProfileFile(path, opened.key).locked() as target:
        _clear(path, profile)
        target.save(profile)
    click.echo(f"wrote {path}", err=True)
    click.echo(profile.tox_id)
    return 0


@group.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_dir_option
@says_why
def remove(name: str, yes: bool, state_dir: Path) -> int:
    """Delete an identity for good: nobody can be reached under its Tox ID any more."""
    from toxmesh.identity.profiles import ProfileError

    profiles = _profiles(state_dir)
    profiles.existing(name)
    if not yes:
        if not sys.stdin.isatty():
            raise ProfileError("it would be lost for good; say --yes if you mean it")
        click.confirm(f"Delete the identity {name} for good?", abort=True, err=True)
    profiles.remove(name)
    click.echo(f"removed {name}", err=True)
    return 0


@group.command("nospam")
@click.argument("name")
@passphrase_option
@state_dir_option
@says_why
def nospam(name: str, passphrase_file: Path | None, state_dir: Path) -> int:
    """Give an identity another Tox ID, and print it: friends stay, new ones need it."""
    from core.entropy import SystemEntropy
    from toxmesh.identity.profiles import ProfileFile

    path = _profiles(state_dir).existing(name)
    with ProfileFile.taken(path, passphrase_from(passphrase_file, name)) as (file, profile):
        changed = profile.with_new_nospam(SystemEntropy())
        file.save(changed)
    click.echo(changed.tox_id)
    return 0


@group.command("passphrase")
@click.argument("name")
@click.option("--new-file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
              help="Its first line is the new passphrase.")  # fmt: skip
@click.option("--none", "plain", is_flag=True, help="Keep it without a passphrase from now on.")
@passphrase_option
@state_dir_option
@says_why
def passphrase(
    name: str, new_file: Path | None, plain: bool, passphrase_file: Path | None, state_dir: Path
) -> int:
    """Set, change or take away the passphrase of an identity."""
    from toxmesh.identity.profiles import ProfileError, ProfileFile

    if plain and new_file is not None:
        raise ProfileError("--none and --new-file exclude each other")
    path = _profiles(state_dir).existing(name)
    with ProfileFile.taken(path, passphrase_from(passphrase_file, name)) as (file, profile):
        new = "" if plain else passphrase_from(new_file, f"{name}, the new one", again=True)()
        file.change_passphrase(profile, new)
    click.echo(f"wrote {path}", err=True)
    return 0
