"""What every command does that goes online as an identity: its options, and how it ends."""

import asyncio
import errno
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toxmesh.commands import complain
from toxmesh.commands.identity import passphrase_from, passphrase_option, state_dir_option

if TYPE_CHECKING:
    from toxmesh.identity.identity import Identity

Command = TypeVar("Command", bound=Callable[..., Any])

PATIENCE_S = 60.0
"""A start takes some 10 s, and by relays alone 30."""

_OPTIONS = (
    click.option(
        "--bootstrap",
        multiple=True,
        metavar="HOST:PORT:KEY",
        help="Node to begin with, repeatable [the shipped list].",
    ),
    click.option(
        "--relay", "relays", multiple=True, metavar="HOST:PORT:KEY", help="TCP relay, repeatable."
    ),
    click.option("--no-udp", is_flag=True, help="Go by TCP relays alone."),
    click.option(
        "--udp-port", type=click.IntRange(0, 65535), metavar="N", help="UDP port [33445-33545]."
    ),
    click.option(
        "--listen", multiple=True, metavar="ADDR", help="Own address, repeatable [all]."
    ),
    click.option("--lan-discovery", is_flag=True, help="Look for nodes of the local network."),
    click.option("--proxy", metavar="URL", help="socks5://… or http://…, for relays; no UDP then."),
    passphrase_option,
    state_dir_option,
)  # fmt: skip


def online_options(command: Command) -> Command:
    """Adds the options of a command that goes online; it gets them as keywords for `identity`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def identity(
    name: str,
    *,
    bootstrap: tuple[str, ...],
    relays: tuple[str, ...],
    no_udp: bool,
    udp_port: int | None,
    listen: tuple[str, ...],
    lan_discovery: bool,
    proxy: str | None,
    passphrase_file: Path | None,
    state_dir: Path,
    last_port: int | None = None,
) -> "Identity":
    """Makes the identity of a name; `last_port` is the last UDP port to try, if there are more than
    one. Raises ProfileError."""
    from toxmesh.identity.identity import Identity
    from toxmesh.identity.profiles import ProfileError, ProfileFile, Profiles

    path = Profiles(state_dir).existing(name)
    file, profile = ProfileFile.open(path, passphrase_from(passphrase_file, name))
    options: dict[str, Any] = {"udp": not no_udp, "lan_discovery": lan_discovery, "proxy": proxy}
    if bootstrap or relays:
        options["bootstrap"] = bootstrap
    if udp_port is not None:
        options["ports"] = (udp_port, udp_port if last_port is None else last_port)
    if listen:
        options["hosts"] = listen
    try:
        return Identity(profile, file, relays=relays, **options)
    except ValueError as error:
        raise ProfileError(str(error)) from None


@asynccontextmanager
async def patience(own: "Identity") -> AsyncIterator[None]:
    """Says once what to do if friends cannot find an identity for long after its start."""

    async def wait() -> None:
        await asyncio.sleep(PATIENCE_S)
        if not own.connected:
            complain(
                f"no way into the network within {PATIENCE_S:g} s; it is tried on. Is this machine "
                "online? Nodes of yours are named with --bootstrap, relays with --relay"
            )

    waiting = asyncio.get_running_loop().create_task(wait())
    try:
        yield
    finally:
        waiting.cancel()


def run(main: Callable[[], Coroutine[Any, Any, int]], stopped_code: int = 0) -> int:
    """Runs a command until it ends by itself, or SIGINT or SIGTERM ends it: then in order, with
    `stopped_code`.

    Raises ProfileError for what can be said in a sentence.
    """
    from toxmesh.identity.mailbox import MailboxError
    from toxmesh.identity.profiles import ProfileError
    from toxmesh.identity.udp import PortError

    async def guarded() -> int:
        loop = asyncio.get_running_loop()
        task = loop.create_task(main())
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, ValueError):  # not in the main thread
                loop.add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            if not stopped:
                raise
            return stopped_code

    try:
        return asyncio.run(guarded())
    except PortError as error:
        then = "choose another with --udp-port"
        if error.errno == errno.EADDRNOTAVAIL:
            then = "give an address of this machine with --listen"
        raise ProfileError(f"{error.strerror}; {then}") from None
    except MailboxError as error:
        raise ProfileError(str(error)) from None
