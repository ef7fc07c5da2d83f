"""The command `toxmesh`: which commands there are, and the exit code of everything that can happen.

A command is loaded when it is called, so that `toxmesh ops` starts without pydantic and ZeroMQ.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import click

FAILED = 2
USAGE = 3

EXIT_CODES = (
    "Exit codes: 0 good, 1 degraded, 2 down or failed, 3 usage or configuration, 4 cannot reach "
    "the node, 5 permission."
)


class LazyGroup(click.Group):
    """A group whose commands stand in modules that are imported when they are called."""

    def __init__(
        self,
        name: str,
        places: Mapping[str, str],
        help_text: str,
        params: Sequence[click.Parameter] = (),
        callback: Callable[..., object] | None = None,
    ) -> None:
        super().__init__(
            name, help=help_text, epilog=EXIT_CODES, params=list(params), callback=callback
        )
        self._places = dict(places)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order they were given."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the module of a command; None for a name that is not there."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None


def commands() -> LazyGroup:
    """Returns the whole tree of commands."""
    tree = LazyGroup(
        "toxmesh",
        {
            "run": "toxmesh.commands.run:command",
            "keys": "toxmesh.commands.keys:group",
            "config": "toxmesh.commands.config:group",
            "identity": "toxmesh.commands.identity:group",
            "chat": "toxmesh.commands.chat:command",
            "send-file": "toxmesh.commands.send_file:command",
            "ops": "toxmesh.cli:ops",
            "bench": "toxmesh.commands.bench:command",
            "completion": "toxmesh.commands.completion:command",
            "man": "toxmesh.commands.man:command",
            "version": "toxmesh.cli:version",
        },
        "A Tox bootstrap, onion and relay node that uses every core of its machine.",
    )
    option = click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_say_version,
        help="Print the version of toxmesh.",
    )  # fmt: skip
    tree.params.append(option)
    return tree


def _say_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        version.main(args=[], standalone_mode=False)
        context.exit()


def _choose_node(remote: str | None, key: Path | None) -> None:
    """Lets the command that follows ask a node elsewhere, with --remote."""
    from ops import client
    from ops.remote import choose

    try:
        choose(remote, key)
    except client.AskError as error:
        click.echo(f"toxmesh: {error}", err=True)
        click.get_current_context().exit(error.code)


ops = LazyGroup(
    "ops",
    {
        "status": "ops.status:command",
        "workers": "ops.workers:command",
        "top": "ops.top:command",
        "stat": "ops.stat:command",
        "watch": "ops.watch:command",
        "drops": "ops.drops:command",
        "queues": "ops.queues:command",
        "routes": "ops.routes:command",
        "keys-cache": "ops.keys_cache:command",
        "dht": "toxmesh.cli:dht",
        "lookup": "ops.lookup:command",
        "announces": "toxmesh.cli:announces",
        "data": "ops.data:command",
        "onion": "ops.onion:command",
        "metrics": "ops.metrics:command",
        "capture": "ops.capture:command",
        "decode": "ops.decode_command:command",
        "replay": "ops.replay:command",
        "relay": "toxmesh.cli:relay",
        "identities": "ops.identities:identities",
        "friends": "ops.identities:friends",
        "sessions": "ops.identities:sessions",
        "session": "toxmesh.cli:session",
        "check": "ops.check:command",
        "doctor": "toxmesh.commands.doctor:command",
        "reload": "ops.reload:command",
        "drain": "ops.drain:command",
        "ban": "toxmesh.cli:ban",
        "limits": "toxmesh.cli:limits",
        "worker": "toxmesh.cli:worker",
        "log": "toxmesh.cli:log",
        "report": "ops.report:command",
        "upgrade": "ops.upgrade:command",
        "services": "ops.services:command",
        "motd": "toxmesh.cli:motd",
        "keys": "toxmesh.cli:operator_keys",
    },
    "Ask a running node how it is.",
    [
        click.Option(
            ["--remote"],
            metavar="WHERE",
            envvar="TOXMESH_REMOTE",
            help="Node elsewhere: ADDRESS:PORT:SERVERKEY, or operator's file [$TOXMESH_REMOTE].",
        ),
        click.Option(
            ["--key"],
            type=click.Path(path_type=Path, readable=False),
            metavar="FILE",
            help="The operator's file with --remote [~/.config/toxmesh/operator.toml].",
        ),
    ],
    _choose_node,
)

dht = LazyGroup(
    "dht",
    {
        "show": "ops.dht:show",
        "near": "ops.dht:near",
        "buckets": "ops.dht:buckets",
        "diversity": "ops.dht:diversity",
    },
    "Look into the table of nodes that the running node keeps.",
)

motd = LazyGroup(
    "motd",
    {"show": "ops.motd:show", "set": "ops.motd:set_"},
    "The message of the day of the running node.",
)

announces = LazyGroup(
    "announces",
    {
        "find": "ops.announces:find",
        "stats": "ops.announces:stats",
        "groups": "ops.announces:groups",
    },
    "Look into what clients have announced at the running node.",
)

relay = LazyGroup(
    "relay",
    {
        "clients": "ops.relay:clients",
        "client": "ops.relay:client",
        "links": "ops.relay:links",
        "kick": "ops.relay:kick",
    },
    "Look at the clients of the relay, and close their connections.",
)

session = LazyGroup(
    "session",
    {"close": "ops.identities:close", "trace": "ops.identities:trace"},
    "Follow the sessions of hosted identities with a friend, or end them.",
)

ban = LazyGroup(
    "ban",
    {"add": "ops.ban:add", "list": "ops.ban:show", "remove": "ops.ban:remove"},
    "Shut out prefixes of addresses and keys, everywhere in the node.",
)

limits = LazyGroup(
    "limits",
    {"show": "ops.limits:show", "set": "ops.limits:change"},
    "See and change the bounds that strangers can fill.",
)

worker = LazyGroup(
    "worker",
    {
        "restart": "ops.worker:restart",
        "add": "ops.worker:add",
        "remove": "ops.worker:remove",
        "drain": "ops.worker:drain",
    },
    "Change the processes of a running node.",
)


operator_keys = LazyGroup(
    "keys",
    {"new": "ops.operator_keys:new", "server": "ops.operator_keys:server"},
    "Make the key of a remote operator; show the key of a node's remote door.",
)

log = LazyGroup(
    "log",
    {"level": "ops.log:level", "tail": "ops.log:tail"},
    "Read the log of a running node, and change how much it says.",
)


@click.command("version")
def version() -> int:
    """Print the version of toxmesh."""
    from toxmesh import __version__

    click.echo(f"toxmesh {__version__}")
    return 0


def run(arguments: Sequence[str] | None = None) -> int:
    """Carries out one command line and returns its exit code."""
    try:
        result = commands().main(
            args=None if arguments is None else list(arguments),
            prog_name="toxmesh",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("toxmesh: stopped before it was done", err=True)
        return FAILED
    except (BrokenPipeError, SystemExit):  # the reader of a pipe had enough, as `head` does
        _forget_stdout()  # (click makes an exit with 1 of that, which is our word for degraded)
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        reason = (error.strerror or str(error)).lower()
        _forget_stdout()
        click.echo(f"toxmesh: the answer could not be written: {reason}", err=True)
        return FAILED
    return result if isinstance(result, int) else 0


def _forget_stdout() -> None:
    """Keeps the interpreter from failing once more when it flushes stdout at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """The entry point of the installed command."""
    sys.exit(run())
