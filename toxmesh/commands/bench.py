"""`toxmesh bench`: put load on a node, and say what it answers and what that costs it."""

import math
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from toxmesh.commands import complain

if TYPE_CHECKING:
    from core.endpoint import Endpoint
    from toxmesh.bench.clients import Clients
    from toxmesh.bench.plan import Options
    from toxmesh.bench.rows import Row
    from toxmesh.bench.traffic import Brake
    from toxmesh.nodes import BootstrapNode

MAX_KEYS = 100_000  # 64 bytes and a datagram each, and 60 us to make
MAX_NUMBERS = 8  # of keys, in one run
MAX_SECONDS = 600.0
MAX_REPEATS = 9  # of each load; new clients are others each time, 20,000 of them
MAX_SOURCES = 10_000
MAX_WINDOW = 4096
MAX_RATE = 1_000_000  # datagrams a second; nobody reaches that
REMOTE_RATE = 1000  # at a machine that may be somebody else's
REMOTE_KEYS = 1000
REMOTE_WINDOW = 256
REMOTE_LOADS = (
    "ping", "nodes", "onion 0x80", "onion 0x81", "onion 0x82", "onion 0x8c", "onion 0x8d",
    "onion 0x8e", "announce search",
)  # fmt: skip
"""Loads that leave nothing behind in a node; the others are for loopback alone."""
GOOD, WORSE, FAILED, USAGE, UNREACHED, PERMISSION = range(6)


class Refused(Exception):
    """This run cannot be made; the text says why, and the code is that of the command."""

    def __init__(self, text: str, code: int = USAGE) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    loads: str | None
    keys: tuple[int, ...]
    seconds: float
    repeat: int
    rate: float
    window: int
    sources: int | None
    tcp_port: int | None
    pid: int | None
    json: Path | None
    compare: Path | None
    tolerance: float
    allow_remote: bool


def _key_numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Reads one number of client keys, or several with commas between them."""
    words = [word.strip() for word in value.split(",")]
    if len(words) > MAX_NUMBERS or not all(
        word.isascii() and word.isdigit() and 1 <= int(word[:9]) <= MAX_KEYS for word in words
    ):
        raise click.BadParameter(
            f"{value!r} must be a number from 1 to {MAX_KEYS:,}, or up to {MAX_NUMBERS} of them"
        )
    return tuple(dict.fromkeys(map(int, words)))


def _finite(
    ctx: click.Context, param: click.Parameter, value: float | None
) -> float | None:
    """Refuses `nan`, which is within all bounds."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


@click.command("bench")
@click.argument("node", metavar="HOST:PORT:PUBLICKEY")
@click.option("--load", "loads", metavar="NAME,...", help="Names or parts of names [all].")
@click.option(
    "--keys", callback=_key_numbers, default="1000", metavar="N[,N...]",
    help="Client keys; each number is a row [1000].",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0.1, MAX_SECONDS), default=3.0, callback=_finite,
    help="Of each measurement [3].",
)  # fmt: skip
@click.option(
    "--repeat", type=click.IntRange(1, MAX_REPEATS), default=1,
    help="Measurements of each load, the median of which counts [1].",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(1, MAX_RATE), default=None, callback=_finite,
    help="Datagrams a second at most [as many as are answered].",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(1, MAX_WINDOW), default=256,
    help="Unanswered requests at a time [256].",
)  # fmt: skip
@click.option(
    "--sources", type=click.IntRange(1, MAX_SOURCES), default=None,
    help="Loopback addresses that the load comes from [1000].",
)  # fmt: skip
@click.option(
    "--tcp-port", type=click.IntRange(1, 65535), default=None, help="Of the relay [PORT]."
)
@click.option(
    "--pid", type=click.IntRange(1), default=None,
    help="Main process of the node: its CPU time and memory are shown.",
)  # fmt: skip
@click.option("--json", type=click.Path(path_type=Path, readable=False), metavar="FILE",
              help="Write all figures there.")  # fmt: skip
@click.option("--compare", type=click.Path(path_type=Path, readable=False), metavar="FILE",
              help="Show this run beside one that --json wrote.")  # fmt: skip
@click.option(
    "--tolerance", type=click.FloatRange(0, 1000), default=30.0, metavar="PERCENT",
    callback=_finite,
    help="By how much a figure may be worse than there [30].",
)  # fmt: skip
@click.option(
    "--allow-remote", is_flag=True,
    help=f"A node that is not on this machine; needs --rate, at most {REMOTE_RATE}.",
)  # fmt: skip
def command(node: str, rate: float | None, tolerance: float, **others: Any) -> int:
    """Put load on a Tox node and show its answers a second, latency and CPU time.

    The loads: ping, nodes, onion 0x80-0x82 and 0x8c-0x8e, announce search and store, data to
    route, ping 2000/s (latency), first contact (keys never seen), relay handshake, relay 1400 B
    and 100 B (frames). A node on loopback is meant: it gets made-up clients from many addresses of
    127.0.0.0/8, as many requests as it answers, and announces that it keeps for five minutes.
    Ctrl-C ends the run with what was measured. docs/bench.md explains all rows and the JSON file.

    Exit codes: 0 measured, 1 a figure is worse than in the run compared with, 2 stopped early or a
    load had no good answers, 3 usage, 4 the node does not answer, 5 permission.
    """
    asked = Asked(rate=rate or 0.0, tolerance=tolerance / 100, **others)
    try:
        return _bench(node, asked)
    except Refused as error:
        complain(str(error))
        return error.code


def _bench(text: str, asked: Asked) -> int:
    from toxmesh import nodes
    from toxmesh.bench import report

    try:
        node = nodes.parse(text)
    except ValueError as error:
        raise Refused(str(error)) from None
    target = _resolve(node)
    names = _loads(asked, _is_loopback(target))
    options = _options(asked, target)
    try:
        earlier = report.rows_of(asked.compare) if asked.compare else None
    except report.ReportError as error:
        denied = isinstance(error.__cause__, PermissionError)
        raise Refused(str(error), PERMISSION if denied else USAGE) from None
    if asked.json is not None:
        _check_writable(asked.json)
    _check_seen(asked.pid)
    if not _is_loopback(target):
        _say(
            f"warning: this sends up to {options.rate:g} datagrams a second to another machine; "
            "do so only to a node of your own"
        )
    with _brake() as brake:
        made = _clients(node, names, options, brake)
        rows = _rows(node, target, made, names, options, asked, brake)
    return _tell(node, rows, options, asked, earlier, brake.pulled)


def _resolve(node: "BootstrapNode") -> "Endpoint":
    """Returns the first address of the node's host."""
    from core import endpoint

    try:
        found = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Refused(f"{node.host} has no address: {reason}", UNREACHED) from None
    return endpoint.from_text(str(found[0][4][0]).partition("%")[0], node.port)


def _is_loopback(target: "Endpoint") -> bool:
    import ipaddress

    from core import endpoint

    return ipaddress.ip_address(endpoint.ip_of(target)).is_loopback


def _loads(asked: Asked, loopback: bool) -> list[str]:
    """Returns the names of the loads; refuses what is too much for a foreign machine."""
    from toxmesh.bench import plan

    if not loopback:
        if not asked.allow_remote:
            raise Refused(
                "the node is not on this machine's loopback: only with --allow-remote, and only "
                "at a node of your own"
            )
        if not 0 < asked.rate <= REMOTE_RATE:
            raise Refused(
                f"--allow-remote needs --rate, datagrams a second, at most {REMOTE_RATE}"
            )
        if (asked.sources or 1) > 1 or max(asked.keys) > REMOTE_KEYS:
            raise Refused(f"--allow-remote allows 1 source and {REMOTE_KEYS} keys at most")
    try:
        names = plan.chosen(asked.loads)
    except ValueError as error:
        raise Refused(str(error)) from None
    if loopback:
        return names
    left = [name for name in names if name in REMOTE_LOADS]
    if asked.loads is not None and len(left) < len(names):
        refused = ", ".join(name for name in names if name not in left)
        raise Refused(f"for loopback alone, as they leave something behind: {refused}")
    return left


def _options(asked: Asked, target: "Endpoint") -> "Options":
    from core import endpoint
    from toxmesh.bench.plan import Options

    loopback = _is_loopback(target)
    spread = loopback and endpoint.is_ipv4(target)
    if not spread and (asked.sources or 1) > 1:
        raise Refused("only IPv4 loopback has more than one source address: leave --sources out")
    return Options(
        keys=asked.keys,
        seconds=asked.seconds,
        repeats=asked.repeat,
        sources=(asked.sources or 1000) if spread else 1,
        window=asked.window if loopback else min(asked.window, REMOTE_WINDOW),
        rate=asked.rate,
        max_rate=0.0 if loopback else asked.rate,
    )


def _check_writable(path: Path) -> None:
    """Refuses before the run what could not be written after it."""
    if path.is_dir() or not path.parent.is_dir():
        raise Refused(f"{path} cannot be written: it must be a file in a directory that is there")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Refused(f"{path} cannot be written: permission denied", PERMISSION)


def _check_seen(pid: int | None) -> None:
    """Refuses a process that is not there, or that this user may not look at."""
    import psutil

    from toxmesh.bench.target import tree, weigh

    try:
        seen = pid is None or weigh(tree(pid)).cpu
    except psutil.AccessDenied:
        raise Refused(f"this user may not look at process {pid}", PERMISSION) from None
    if not seen:
        raise Refused(f"no process has the id {pid}: give that of the node's main process")


@contextmanager
def _brake() -> Iterator["Brake"]:
    """Yields the brake that Ctrl-C pulls; a second Ctrl-C ends the command at once."""
    from toxmesh.bench.traffic import Brake

    brake = Brake()

    def pull(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        brake.pulled = True

    before = signal.signal(signal.SIGINT, pull)
    try:
        yield brake
    finally:
        signal.signal(signal.SIGINT, before)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _clients(
    node: "BootstrapNode", names: list[str], options: "Options", brake: "Brake"
) -> "Clients":
    """Makes the clients of the load; Ctrl-C ends that too."""
    from core.crypto import PublicKey
    from toxmesh.bench import plan
    from toxmesh.bench.clients import Clients, make_rows

    count = plan.clients_needed(names, options.keys, options.repeats)
    progress = plan.Progress(_say, f"making {count:,} client keys", count)

    def step(done: int) -> None:
        if brake.pulled:
            raise click.Abort
        progress(done)

    try:
        return Clients(PublicKey(node.key), make_rows(PublicKey(node.key), count, step))
    except ValueError as error:
        raise Refused(str(error)) from None


def _rows(
    node: "BootstrapNode",
    target: "Endpoint",
    made: "Clients",
    names: list[str],
    options: "Options",
    asked: Asked,
    brake: "Brake",
) -> "list[Row]":
    """Makes sure that the node is there, then runs the loads and says each row on stderr."""
    from core import endpoint
    from toxmesh.bench import plan, table
    from toxmesh.bench.target import KnownProcess

    _reach(node, target, made, options, brake)
    host = endpoint.to_text(target).rpartition(":")[0].strip("[]")
    address = (host, asked.tcp_port or node.port)
    if plan.RELAY & set(names) and not plan.relay_listens(address):
        if asked.loads is not None:
            raise Refused(f"no relay listens on TCP port {address[1]}: give --tcp-port", UNREACHED)
        _say(f"no relay listens on TCP port {address[1]} (--tcp-port): its loads are left out")
        names = [name for name in names if name not in plan.RELAY]
    _raise_descriptors()
    known = KnownProcess(f"{node.host}:{node.port}", target, address, asked.pid)
    rows: list[Row] = []
    for row in plan.run([known], made, names, options, brake):
        if brake.pulled:
            last = row.repeats[-1]
            last.note = "; ".join(filter(None, (last.note, "cut short")))
        if row.answers or not brake.pulled:
            rows.append(row)
            _say("  " + "  ".join(table.cells(row, rows, "")))
    return rows


def _reach(
    node: "BootstrapNode", target: "Endpoint", made: "Clients", options: "Options", brake: "Brake"
) -> None:
    from toxmesh.bench.reach import Reached, reach
    from toxmesh.bench.traffic import Generator

    generator = Generator(target, options.sources, 1, brake)
    try:
        found = reach(generator, made)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Refused(f"{node.host}:{node.port} cannot be reached: {reason}", UNREACHED) from None
    finally:
        generator.close()
    if brake.pulled:
        raise click.Abort
    if found is Reached.OTHER_KEY:
        raise Refused(
            f"the node at {node.host}:{node.port} does not have this public key", UNREACHED
        )
    if found is Reached.SILENT:
        raise Refused(
            f"no answer from {node.host}:{node.port}: does a node run there, and is this its "
            "public key?",
            UNREACHED,
        )


def _raise_descriptors() -> None:
    """Lets this process open as many sockets as it may: 1,000 connections are more than usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell(
    node: "BootstrapNode",
    rows: "list[Row]",
    options: "Options",
    asked: Asked,
    earlier: list[dict[str, Any]] | None,
    cut_short: bool,
) -> int:
    """Prints the tables, writes the file, and returns the exit code."""
    from toxmesh import __version__
    from toxmesh.bench import report, table

    if rows:
        about = (
            f"{node.host}:{node.port}; {options.sources} source addresses, window "
            f"{options.window}, {options.repeats} x {options.seconds:g} s each"
            + (f", {options.rate:g} datagrams a second at most" if options.rate else "")
        )
        click.echo(f"{about}\n\n{table.render(rows)}")
    plain = report.document(
        rows,
        {
            "toxmesh": __version__,
            "node": str(node),
            "sources": options.sources,
            "window": options.window,
            "seconds": options.seconds,
            "repeats": options.repeats,
            "rate": options.rate,
        },
        cut_short,
    )
    if asked.json is not None:
        try:
            asked.json.write_text(report.text(plain))
        except OSError as error:
            raise Refused(
                f"{asked.json} cannot be written: {(error.strerror or str(error)).lower()}", FAILED
            ) from None
    code = GOOD
    if earlier is not None:
        compared = report.compare(plain["rows"], earlier, asked.tolerance)
        click.echo(f"\n{asked.compare}, and now:\n\n{report.render(compared)}")
        code = WORSE if any(row.worse for row in compared) else GOOD
        if not compared:
            complain("the two runs have no load in common")
            code = FAILED
    silent = [row.load for row in rows if not row.answered or row.wrong]
    if silent:
        complain(f"no good answers to: {', '.join(dict.fromkeys(silent))}")
        code = FAILED
    if cut_short:
        complain("stopped before it was done: the figures are those until then")
        code = FAILED
    return code
