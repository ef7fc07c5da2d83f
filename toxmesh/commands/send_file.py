"""`toxmesh send-file`: one file to one friend, with a progress bar."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from toxmesh.commands import complain
from toxmesh.commands.identity import says_why
from toxmesh.commands.identity_online import identity, online_options, patience, run

FAILED = 2


@click.command("send-file")
@click.argument("name")
@click.argument("friend")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the friend, and then for an answer.",
)
@online_options
@says_why
def command(name: str, friend: str, file: Path, timeout_s: float, **options: Any) -> int:
    """Send FILE to FRIEND (a Tox ID or public key), as the identity NAME.

    Somebody who is no friend yet is asked to become one, if it is a Tox ID.

    A transfer that was stopped goes on where it was, if the friend's client keeps what it has.

    Exit codes: 0 all of it has arrived, 2 it has not: the friend did not come or did not take it,
    or somebody stopped it; 3 usage."""
    from core.messenger.errors import MessengerError, UnknownFriend
    from toxmesh.identity.files import TransferFailed
    from toxmesh.identity.naming import key_of
    from toxmesh.identity.profiles import ProfileError

    try:
        key = key_of(friend)
    except ValueError as error:
        raise ProfileError(str(error)) from None
    own = identity(name, **options)

    async def send() -> int:
        async with own, patience(own):
            listening = asyncio.get_running_loop().create_task(_drain(own))
            try:
                try:
                    own.friend(key)
                except UnknownFriend:
                    own.add_friend(friend, f"{file.name} is for you")
                    click.echo("asked to become a friend", err=True)
                click.echo("waiting for the friend", err=True)
                async with asyncio.timeout(timeout_s):
                    await own.wait_online(key)
                size = file.stat().st_size
                with click.progressbar(
                    length=size, label=file.name, file=sys.stderr, width=0
                ) as bar:
                    done = 0

                    def progress(at: int, _: int | None) -> None:
                        nonlocal done
                        bar.update(at - done)
                        done = at

                    await own.send_file(key, file, progress=progress)
            except TimeoutError:
                why = "not been online, or has not taken you as a friend"
                if not own.connected:
                    why = "not been found: no node answers you; name some with --bootstrap"
                complain(f"the friend was not there within {timeout_s:g} s: they have {why}")
                return FAILED
            except (TransferFailed, MessengerError, OSError) as error:
                complain(f"{file} was not sent: {error}")
                return FAILED
            except asyncio.CancelledError:
                complain(f"stopped: {file} has not arrived; the same command goes on with it")
                raise
            except ValueError as error:
                raise ProfileError(f"no friend of yours, and {error}") from None
            finally:
                listening.cancel()
        click.echo(f"{size} bytes have arrived")
        return 0

    return run(send, FAILED)


async def _drain(own: Any) -> None:
    """Takes events that nobody looks at here; messages stay for whoever comes next."""
    async for event in own.events():
        if hasattr(event, "received"):
            return
