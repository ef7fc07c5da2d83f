"""`toxmesh identity serve`: identities that are online by themselves, as bots."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import click

from toxmesh.commands.identity import says_why
from toxmesh.commands.identity_online import identity, online_options, patience, run

_LAST_PORT = 65535


@click.command("serve")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--echo", is_flag=True, help="Answer each message with itself.")
@click.option("--accept", is_flag=True, help="Take everybody as a friend who asks.")
@click.option("--programs", is_flag=True, help="Let programs use them (HostedIdentity).")
@online_options
@says_why
def command(
    names: tuple[str, ...],
    echo: bool,
    accept: bool,
    programs: bool,
    udp_port: int | None,
    **options: Any,
) -> int:
    """Keep identities online until SIGTERM or Ctrl-C; says on stdout what happens.

    Of several, each line begins with the name, each has a UDP port of its own (from --udp-port on,
    the first that are free), and --passphrase-file is for all that are encrypted.

    --echo makes an echo bot of each, that takes everybody as a friend. With --programs, what
    happens is told to the programs of the same user that use the identity, and not on stdout."""
    from toxmesh.identity.bot import Bot
    from toxmesh.identity.gate import open_gate
    from toxmesh.identity.profiles import ProfileError

    if len(set(names)) != len(names):
        raise ProfileError("an identity is named twice, and can be online only once")
    if programs and (echo or accept):
        raise ProfileError("--programs leaves it to them: --echo and --accept exclude it")
    last_port = udp_port and min(udp_port + len(names) - 1, _LAST_PORT)  # 0 is any
    served = [identity(name, udp_port=udp_port, last_port=last_port, **options) for name in names]

    def say(name: str) -> Callable[[str], None]:
        begin = f"{name} " if len(names) > 1 else ""
        return lambda line: click.echo(begin + line)

    async def serve() -> int:
        async with AsyncExitStack() as stack:
            for own in served:  # each with a door for `toxmesh identity status`
                await stack.enter_async_context(own)
                await stack.enter_async_context(patience(own))
                own.open_door()
                if programs:
                    await stack.enter_async_context(open_gate(own))
            await asyncio.gather(
                *(
                    Bot(own, say(name), echo=echo, accept=accept).serve(listens=not programs)
                    for name, own in zip(names, served, strict=True)
                )
            )
        return 0

    return run(serve)
