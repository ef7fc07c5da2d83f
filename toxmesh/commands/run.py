"""`toxmesh run`: prepare settings, state directory, keys and known nodes, then run the node."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toxmesh.commands import STATE_DIR_HELP, DirectoryPath, complain

if TYPE_CHECKING:
    from core.crypto import KeyPair
    from toxmesh.life import Life, Nodes
    from toxmesh.reload import Reread
    from toxmesh.settings import Settings
    from toxmesh.sockets import NodeSockets
    from toxmesh.supervisor import Supervisor


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
    from toxmesh import life

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
    if life.PROBE in os.environ or life.VARIABLE in os.environ:
        return _go_on(config, flags)
    with ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o077))
        throw_away = dev and state_dir is None
        if throw_away:
            flags["state_dir"] = path = Path(tempfile.mkdtemp(prefix="toxmesh-dev-"))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
        return _run(config, flags, stack, throw_away)


def _go_on(config: Path | None, flags: dict[str, Any]) -> int:
    """Goes on with the node that the version before has left, or says whether that is possible."""
    from toxmesh import life, storage, upgrade

    probed = life.PROBE in os.environ
    try:
        state = life.given(life.PROBE if probed else life.VARIABLE)
    except life.StateError as error:
        complain(str(error))
        return 3
    if probed:
        importlib.import_module("broker.main")
        importlib.import_module("workers.host")
        click.echo(upgrade.probe_says())
        return 0
    with ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o077))
        path = state.settings.state_dir
        if state.throw_away:
            flags["state_dir"] = path
            stack.callback(shutil.rmtree, path, ignore_errors=True)
        directory = storage.StateDirectory(path)
        directory.keep_lock(state.lock)
        stack.callback(directory.unlock)
        _prepare(state.settings)
        parts = (state.settings, state.keys(), state.bound(), state.life())
        return _node(*parts, _reread(config, flags)).run()


def _reread(config: Path | None, flags: dict[str, Any]) -> "Reread":
    """Returns what reads the settings again as they are written at that time."""
    from toxmesh import settings_file

    return lambda: settings_file.load(config, flags).settings


def _run(
    config: Path | None, flags: dict[str, Any], stack: ExitStack, throw_away: bool
) -> int:
    from ops.paths import KEYS_FILE
    from toxmesh import keys, settings_file, storage
    from toxmesh.life import Life

    reread = _reread(config, flags)
    try:
        settings = reread()
        _check_identities(settings)
    except settings_file.SettingsError as error:
        for problem in error.problems:
            complain(str(problem))
        return error.code
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
    nodes = storage.load_nodes(settings.state_dir)
    life = Life.new(settings, nodes, directory.lock_descriptor, throw_away)
    stack.callback(shutil.rmtree, life.run_dir, ignore_errors=True)
    return _serve(settings, pair, life, reread)


def _check_identities(settings: "Settings") -> None:
    """Looks whether the identities can be had. Raises SettingsError."""
    if not settings.identities.directory:
        return  # a node without any does not even load what looks
    from toxmesh.hosting.chosen import check
    from toxmesh.identity.profiles import ProfileError
    from toxmesh.settings_file import Problem, SettingsError

    try:
        check(settings.identities)
    except ProfileError as error:
        cause = PermissionError() if error.code == 5 else None
        raise SettingsError([Problem("identities", str(error))]) from cause


def _serve(settings: "Settings", pair: "KeyPair", life: "Life", reread: "Reread") -> int:
    """Hands everything to the supervisor, which greets when the node listens."""
    from toxmesh import activation, greeting, sockets
    from toxmesh.control import Refused

    def greet(addresses: Sequence[str], udp_port: int, tcp_ports: Sequence[int]) -> None:
        own = greeting.own_addresses()
        for line in greeting.lines(settings, pair.public, addresses, udp_port, tcp_ports, own):
            click.echo(line, err=True)

    _prepare(settings)
    try:
        places = (settings.listen, settings.udp_port, settings.tcp_ports)
        bound = sockets.bind(*places, activation.inherited())
    except (activation.ActivationError, sockets.BindError) as error:
        complain(str(error))
        return error.code
    try:
        node = _node(settings, pair, bound, life, reread)
    except (sockets.BindError, Refused) as error:
        bound.close()
        complain(str(error))
        return error.code if isinstance(error, sockets.BindError) else 2
    return node.run(greet)


def _prepare(settings: "Settings") -> None:
    """Starts the log, and allows as many descriptors as there may be."""
    from core.link import logs
    from toxmesh import surroundings
    from toxmesh.logbook import SUPERVISOR

    logs.start_logging(settings.log_level, settings.log_format, SUPERVISOR, settings.log_redact)
    surroundings.raise_limits()


def _node(
    settings: "Settings",
    pair: "KeyPair",
    bound: "NodeSockets",
    life: "Life",
    reread: "Reread",
) -> "Supervisor":
    from toxmesh import storage
    from toxmesh.supervisor import Supervisor

    directory = settings.state_dir

    def save(nodes: "Nodes") -> None:
        storage.save_nodes(directory, nodes)

    return Supervisor(settings, pair, bound, life, save, reread=reread)
