"""`toxmesh run`: prepare settings, state directory, keys and known nodes, then run the node."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toxmesh.commands import STATE_DIR_HELP, DirectoryPath, complain

if TYPE_CHECKING:
    from core.crypto import KeyPair
    from toxmesh.settings import Settings


@click.command("run")
@click.option("--config", type=DirectoryPath, metavar="FILE", help="Settings file (TOML).")
@click.option("--dev", is_flag=True, help="Loopback, throw-away state, no outside nodes.")
@click.option("--listen", multiple=True, metavar="ADDR", help="Address without port; repeatable.")
@click.option("--udp-port", type=int, metavar="N", help="Must be free; 0 is off [33445-33545].")
@click.option(
    "--tcp-port", type=int, multiple=True, metavar="N", help="The same for TCP; repeatable."
)
@click.option("--state-dir", type=DirectoryPath, metavar="DIR", help=STATE_DIR_HELP)
@click.option(
    "--bootstrap",
    multiple=True,
    metavar="HOST:PORT:PUBLICKEY",
    help="Node to begin with; repeatable; replaces the shipped list.",
)
@click.option("--no-lan-discovery", is_flag=True, help="No search in the local network.")
@click.option("--motd", metavar="TEXT", help="Message for those who ask for bootstrap info.")
@click.option("--http", metavar="ADDRESS:PORT", help="Metrics and page; or off [127.0.0.1:9745].")
@click.option("--workers", metavar="dht=2,onion=2,relay=2", help="Processes by role; 0 is off.")
@click.option(
    "--dispatch",
    type=click.Choice(["kernel", "broker"]),
    help="Who gives workers their datagrams [kernel].",
)
@click.option("--brokers", type=int, metavar="N", help="That read UDP, with --dispatch broker [1].")
def command(
    config: Path | None,
    dev: bool,
    listen: tuple[str, ...],
    udp_port: int | None,
    tcp_port: tuple[int, ...],
    state_dir: Path | None,
    bootstrap: tuple[str, ...],
    no_lan_discovery: bool,
    motd: str | None,
    http: str | None,
    workers: str | None,
    dispatch: str | None,
    brokers: int | None,
) -> int:
    """Run a node until SIGTERM or Ctrl-C.

    Without any option it makes its keys at the first start, listens on UDP and TCP port 33445 (or
    the next free port up to 33545) and joins the network by a shipped list of nodes. When it
    listens it prints one line on stdout: ready udp=PORT tcp=PORT[,PORT] key=HEX.
    """
    with ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o077))
        if dev and state_dir is None:
            state_dir = Path(tempfile.mkdtemp(prefix="toxmesh-dev-"))
            stack.callback(shutil.rmtree, state_dir, ignore_errors=True)
        flags = {
            "dev": dev or None,
            "listen": listen,
            "udp_port": udp_port,
            "tcp_ports": tcp_port,
            "state_dir": state_dir,
            "bootstrap": bootstrap,
            "lan_discovery": False if no_lan_discovery else None,
            "motd": motd,
            "http": http,
            "workers": workers,
            "dispatch": dispatch,
            "brokers": brokers,
        }
        return _run(config, flags, stack)


def _run(config: Path | None, flags: dict[str, Any], stack: ExitStack) -> int:
    from ops.paths import KEYS_FILE
    from toxmesh import keys, settings_file, storage

    try:
        settings = settings_file.load(config, flags).settings
    except settings_file.SettingsError as error:
        for problem in error.problems:
            complain(str(problem))
        return 3
    directory = storage.StateDirectory(settings.state_dir)
    try:
        directory.make()
        directory.lock()
        stack.callback(directory.unlock)
        pair, new = keys.load_or_generate(settings.state_dir / KEYS_FILE)
    except storage.StorageError as error:
        complain(str(error))
        return error.code
    except keys.KeysError as error:
        complain(str(error))
        return error.code
    if new:
        click.echo(f"made new keys in {settings.state_dir / KEYS_FILE}", err=True)
    return _serve(settings, pair, lambda: settings_file.load(config, flags).settings)


def _serve(
    settings: "Settings", pair: "KeyPair", reread: Callable[[], "Settings"]
) -> int:
    """Hands everything to the supervisor, which greets when the node listens."""
    from toxmesh import greeting, storage, supervisor

    def greet(addresses: Sequence[str], udp_port: int, tcp_ports: Sequence[int]) -> None:
        own = greeting.own_addresses()
        for line in greeting.lines(settings, pair.public, addresses, udp_port, tcp_ports, own):
            click.echo(line, err=True)

    return supervisor.run(
        settings,
        pair,
        saved_nodes=storage.load_nodes(settings.state_dir),
        save_nodes=lambda nodes: storage.save_nodes(settings.state_dir, nodes),
        on_ready=greet,
        reread=reread,
    )
