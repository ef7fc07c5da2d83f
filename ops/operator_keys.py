"""`toxmesh ops keys`: keys of remote operators, and the key of a node's remote door."""

import os
from pathlib import Path

import click

from ops import client, options, remote, screen


@click.command("new")
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@click.option("--address", default="", metavar="ADDRESS:PORT", help="Of the node, for the file.")
@click.option("--server-key", default="", metavar="KEY", help="Of the node, for the file.")
def new(file: Path | None, address: str, server_key: str) -> int:
    """Make the key pair of an operator who asks nodes elsewhere.

    FILE [~/.config/toxmesh/operator.toml], mode 0600, gets the secret key; with --address and
    --server-key it is all that `toxmesh ops --remote FILE` needs. The line that is printed goes
    into the settings of the node. Exit codes: 0 done, 2 not written, 5 permission.
    """
    from core.crypto import KeyPair
    from core.entropy import SystemEntropy

    path = file or remote.default_file()
    pair = KeyPair.generate(SystemEntropy())
    public = pair.public.hex().upper()
    lines = ["# Key of a remote operator of toxmesh: toxmesh ops --remote", f"# public {public}"]
    lines += [f'secret_key = "{pair.secret.reveal().hex().upper()}"']
    lines += [f'{name} = "{value}"' for name, value in
              (("address", address), ("server_key", server_key)) if value]  # fmt: skip
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "w") as stream:
            stream.write("\n".join(lines) + "\n")
    except FileExistsError:
        click.echo(f"toxmesh: there is a key in {path} already; name another file", err=True)
        return client.FAILED
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        click.echo(f"toxmesh: {path} cannot be written: {reason}; name another file", err=True)
        return client.NO_PERMISSION if isinstance(error, PermissionError) else client.FAILED
    click.echo(f"wrote {path}; this goes into the node's settings (or full: for read:)", err=True)
    click.echo(f'remote_operators = ["read:{public}"]')
    return 0


@click.command("server")
@options.asks
def server(state_dir: Path, as_json: bool) -> int:
    """Show where a node's remote door is, its key, and whose keys may come in.

    Exit codes: 0 the door is open, 1 it is not, 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "remote")
    code = 0 if answer["address"] else client.NOT_FOUND
    if as_json:
        options.print_json(answer)
        return code
    if code:
        why = "it cannot be opened; see: toxmesh ops log tail" if answer["wanted"] else (
            'set remote = "ADDRESS:PORT" and remote_operators in the settings')  # fmt: skip
        click.echo(f"the remote door is closed: {why}")
    else:
        click.echo(f"remote door  {screen.plain(answer['address'])}")
        click.echo(f"ask it with  toxmesh ops --remote {answer['address']}:{answer['server_key']}")
    rows = [[row["key"], row["role"], screen.count(row["clients"])] for row in answer["rows"]]
    if rows:
        click.echo("\n".join(screen.table([["operator", "role", "clients"], *rows], left=2)))
    return code
