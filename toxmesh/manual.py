"""The manual pages, made of what `--help` prints and of the settings' own rules.

One page for each command, in the macros of man(7): toxmesh.1, toxmesh-run.1, toxmesh-ops-status.1,
and toxmesh.toml.5 for the settings file.
"""

import re
import time
from collections.abc import Iterator

import click

from toxmesh import __version__, settings_help
from toxmesh.cli import EXIT_CODES

_ENVIRONMENT = {
    "STATE_DIRECTORY": "State directory where --state-dir is not given; systemd sets it.",
    "NOTIFY_SOCKET, WATCHDOG_USEC": "The service manager's: a node tells it that it is ready, feeds"
    " its watchdog while every process answers, says what it does, and that it stops.",
    "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES": "Sockets that the service manager opened for the"
    " node, used in place of its own.",
    "NO_COLOR": "No colours, whatever the screen can do.",
}
_FILES = {
    "/etc/toxmesh/toxmesh.toml": "Settings of the service.",
    "/var/lib/toxmesh": "State directory of the service.",
    "~/.local/state/toxmesh": "State directory of a node that a user runs.",
    "STATE/keys": "Public and secret key, 64 bytes. Whoever has it is this node.",
    "STATE/nodes.db": "The nodes known when it last stopped; may be deleted.",
    "STATE/control.sock": "Where toxmesh ops asks.",
}


def escape(text: str) -> str:
    """Returns text as roff prints it; `words in backticks` become bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)
    return re.sub(r"`([^`\n]+)`", r"\\fB\1\\fR", text)


def _paragraphs(text: str) -> Iterator[str]:
    """Lays out a help text: paragraphs, and those behind \\b as they stand."""
    for paragraph in re.split(r"\n\s*\n", text.split("\f")[0].strip()):
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines and lines[0] == "\b":
            yield ".PP\n.nf\n" + "\n".join(map(escape, lines[1:])) + "\n.fi"
        else:
            yield ".PP\n" + escape(" ".join(lines))


def _pair(head: str, text: str) -> str:
    """Returns one entry of a list: what it is called, and below what it is."""
    return f".TP\n\\fB{escape(head)}\\fR\n{escape(text.strip() or 'No more to say.')}"


def _section(title: str, parts: list[str]) -> list[str]:
    return [f".SH {title}", *parts] if parts else []


def _page(name: str, section: int, summary: str, date: str, parts: list[str]) -> str:
    """Puts a page together."""
    head = f'.TH "{escape(name.upper())}" "{section}" "{date}" "toxmesh {__version__}" "toxmesh"'
    lines = [head, ".nh", ".ad l", ".SH NAME", f"{escape(name)} \\- {escape(summary)}", *parts]
    text = "\n".join(lines)
    return re.sub(r"(\.SH [A-Z ]+)\n\.PP\n", r"\1\n", text) + "\n"  # .SH begins a paragraph


def _summary(command: click.Command) -> str:
    """Returns the first sentence of a help text, as a heading has it."""
    text = " ".join((command.help or "").split("\f")[0].split("\n\n")[0].split())
    first = re.split(r"(?<=[a-z0-9)])[.:;](?:\s|$)", text, maxsplit=1)[0].rstrip(".")
    return (first[:1].lower() + first[1:]) if first else "a command of toxmesh"


def _context(command: click.Command, names: list[str]) -> click.Context:
    parent = None
    for name in names[:-1]:
        parent = click.Context(click.Group(name), info_name=name, parent=parent)
    return click.Context(command, info_name=names[-1], parent=parent)


def _command_page(command: click.Command, names: list[str], others: list[str], date: str) -> str:
    context = _context(command, names)
    usage = " ".join(command.collect_usage_pieces(context))
    synopsis = f"\\fB{escape(' '.join(names))}\\fR {escape(usage)}"
    options = [
        _pair(*record)
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None
    ]
    parts = [*_section("SYNOPSIS", [synopsis])]
    parts += _section("DESCRIPTION", list(_paragraphs(command.help or "")))
    parts += _section("OPTIONS", options)
    if isinstance(command, click.Group):
        below = _children(command, context)
        rows = [_pair(name, child.get_short_help_str(200)) for name, child in below]
        parts += _section("COMMANDS", rows)
    if len(names) == 1:
        parts += _section("ENVIRONMENT", [_pair(*row) for row in _ENVIRONMENT.items()])
        parts += _section("FILES", [_pair(*row) for row in _FILES.items()])
    own = command.help or ""
    if "Exit code" not in own:
        parts += _section("EXIT STATUS", [escape(EXIT_CODES.partition(": ")[2].capitalize())])
    parts += _section("SEE ALSO", [_references(others)])
    return _page("-".join(names), 1, _summary(command), date, parts)


def _references(names: list[str]) -> str:
    """Returns the list of other pages, with commas between them."""
    parts = [name.rpartition(".") for name in names]
    lines = [f".BR {escape(name)} ({section})" for name, _, section in parts]
    return " ,\n".join(lines)


def _children(
    group: click.Group, context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield name, command


def _tree(
    command: click.Command, names: list[str]
) -> Iterator[tuple[click.Command, list[str]]]:
    """Yields a command and all below it."""
    yield command, names
    if isinstance(command, click.Group):
        for name, child in _children(command, _context(command, names)):
            yield from _tree(child, [*names, name])


def _settings_page(date: str) -> str:
    intro = (
        "The settings of a node in TOML, given with `toxmesh run --config FILE`; the service reads"
        " `/etc/toxmesh/toxmesh.toml`. Every setting has a default, so an empty file is a good one."
        " Unknown names and wrong values are mistakes: `toxmesh config check FILE` names all of"
        " them with their lines, and a node with a wrong file does not start."
        " `toxmesh config show FILE` prints what all settings come to, `toxmesh config example` a"
        " file to begin with."
    )
    rows = [
        _pair(row.name, f"{row.text} {row.kind.capitalize()}. Default: {row.default}.")
        for row in settings_help.settings()
    ]
    tables = "A name with a dot stands in a table: `workers.dht` is `dht` below `[workers]`."
    parts = _section("DESCRIPTION", list(_paragraphs(intro)))
    parts += _section("SETTINGS", [f".PP\n{escape(tables)}", *rows])
    parts += _section("SEE ALSO", [_references(["toxmesh.1", "toxmesh-run.1"])])
    return _page("toxmesh.toml", 5, "settings of a toxmesh node", date, parts)


def pages(root: click.Command, unix_time: float) -> dict[str, str]:
    """Returns every page by the name of its file; the date of them all is `unix_time`'s."""
    date = time.strftime("%Y-%m-%d", time.gmtime(unix_time))
    tree = list(_tree(root, ["toxmesh"]))
    result = {}
    for command, names in tree:
        near = [
            "-".join(other) + ".1"
            for _, other in tree
            if other != names and (other[:-1] == names or names[:-1] == other)
        ]
        if len(names) < 3:
            near.append("toxmesh.toml.5")
        result["-".join(names) + ".1"] = _command_page(command, names, near, date)
    result["toxmesh.toml.5"] = _settings_page(date)
    return result

