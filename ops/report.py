"""`toxmesh ops report`: one file about a node for those who help, without its secrets."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson

from core.link.logs import redact
from ops import client, options, screen

_LOG_LINES = 1_000
_MOST_ROWS = 10_000


class Part(NamedTuple):
    """One file of a report."""

    name: str
    what: str
    text: str


Ask = Callable[[str, dict[str, Any]], dict[str, Any]]

_ASKED: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("status.json", "status", {}, "state, processes, packets by kind, what modules tell"),
    ("workers.json", "workers", {"limit": _MOST_ROWS}, "each process: load, memory, restarts"),
    ("rates.json", "rates", {}, "what is going on in this second"),
    ("drops.json", "drops", {"limit": _MOST_ROWS}, "what was refused or dropped, by reason"),
    ("queues.json", "queues", {"limit": _MOST_ROWS}, "what waits, and where"),
    ("keys-cache.json", "keys cache", {}, "combined keys at hand"),
    ("routes.json", "routes", {}, "who has which kind of packet and which keys"),
    ("log-levels.json", "log levels", {}, "how much each process logs"),
)


def gather(ask: Ask, redacted: bool) -> list[Part]:
    """Asks the node for everything; what it cannot tell is named in the first part."""
    facts = ask("facts", {})
    parts = [
        Part(f"{name}.json", what, _json(facts[name]))
        for name, what in (
            ("versions", "toxmesh, Python and libraries"),
            ("settings", "what the node is told to do, without secrets"),
            ("system", "kernel, limits, memory, processors"),
        )
    ]
    parts.append(Part("metrics.txt", "what /metrics shows", facts["metrics"]))
    missing = []
    for name, request, args, what in _ASKED:
        try:
            parts.append(Part(name, what, _json(ask(request, args))))
        except client.AskError as error:
            if error.code == client.UNREACHABLE:
                raise
            missing.append(f"{name}: {error}")
    log = ask("log tail", {"limit": _LOG_LINES})
    lines = b"".join(orjson.dumps(row) + b"\n" for row in log["rows"]).decode()
    parts.append(Part("log.jsonl", f"the last {log['shown']} records of the log", lines))
    if redacted:
        parts = [part._replace(text=redact(part.text)) for part in parts]
    about = [
        f"Report of a node of toxmesh {facts['versions']['toxmesh']}, made "
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC.",
        "IP addresses are taken out." if redacted else "IP addresses are in it (see --redact).",
        "No secret key is in it: the node never tells one.",
        *(f"{part.name}: {part.what}" for part in parts),
        *(f"missing: {line}" for line in missing),
    ]
    return [Part("README.txt", "what is in this report", "\n".join(about) + "\n"), *parts]


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def bundle(parts: list[Part], folder: str) -> bytes:
    """Returns the parts as tar.gz, under one folder; nothing tells who packed them."""
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for part in parts:
            data = part.text.encode()
            entry = tarfile.TarInfo(f"{folder}/{part.name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _write(path: Path, data: bytes) -> tuple[str, int]:
    """Makes the file, mode 0600; returns what went wrong, and the exit code."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as stream:
            stream.write(data)
    except FileExistsError:
        return f"{path} is there already; name another file, or remove it first", client.FAILED
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        denied = isinstance(error, PermissionError)
        code = client.NO_PERMISSION if denied else client.FAILED
        return f"{path} cannot be written: {reason}; name a file elsewhere", code
    return "", 0


@click.command("report")
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@click.option("--redact", "redacted", is_flag=True, help="Take IP addresses out.")
@options.asks
def command(file: Path | None, redacted: bool, state_dir: Path, as_json: bool) -> int:
    """Put what is known about a node into one file, for those who help.

    FILE (toxmesh-report-DATE.tar.gz, mode 0600) has versions, settings, state, metrics, drops,
    queues, the last log lines and facts about the machine. No secret key is in it. What is in it is
    printed first: look at it before you give it away. Exit codes: 0 done, 2 not written, 4 no node
    answers, 5 permission.
    """
    folder = f"toxmesh-report-{time.strftime('%Y%m%d-%H%M%S')}"
    path = Path(f"{folder}.tar.gz") if file is None else file
    parts = gather(lambda name, args: client.ask(state_dir, name, args), redacted)
    rows = [{"name": row.name, "what": row.what, "bytes": len(row.text.encode())} for row in parts]
    if not as_json:
        shown = [[row.name, row.what, screen.count(len(row.text.encode()))] for row in parts]
        click.echo("\n".join(screen.table([["in the report", "", "bytes"], *shown], left=2)))
    failure, code = _write(path, bundle(parts, folder))
    if failure:
        click.echo(f"toxmesh: {failure}", err=True)
        return code
    if as_json:
        options.print_json({"file": str(path), "redacted": redacted, "contents": rows})
    else:
        click.echo(f"written: {path}")
    return 0

