"""What each setting is for, in one place: the manual toxmesh.toml(5) and the file to begin with.

The names, kinds, bounds and defaults come from `settings_file.Model`; a test holds both together.
"""

import textwrap
import types
from typing import Any, Literal, NamedTuple, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from core.slots import IDENTITY_ROLES
from toxmesh.settings import PORT_RANGE, ROLES
from toxmesh.settings_file import Model
from toxmesh.settings_tables import IdentitiesTable, WorkersTable
from toxmesh.toml_lines import toml_value

_FREE = f"the first free port of {PORT_RANGE[0]}-{PORT_RANGE[-1]}"

HELP: dict[str, str] = {
    "state_dir": "Directory of keys, known nodes and the control door. The service sets it by"
    " itself.",
    "listen": "Addresses to listen on, IPv4 or IPv6, without port. Empty: all of this machine.",
    "udp_port": "UDP port; it has to be free. 0 switches UDP off.",
    "tcp_ports": "TCP ports of the relay, each on every address of `listen`. 443 and 3389 pass many"
    " firewalls. [0] switches TCP off.",
    "bootstrap": "Nodes to begin with, each `HOST:PORT:PUBLICKEY`, in place of the shipped list.",
    "lan_discovery": "Whether to look for other nodes in the local network by broadcast.",
    "motd": "Message of the day: at most 255 bytes that anybody may ask for. These are filled in:"
    " {{start_date}}, {{uptime}}, {{tcp_packets_in}}, {{tcp_packets_out}}, {{udp_packets_in}},"
    " {{udp_packets_out}}.",
    "services_off": "Services that the node does not offer: some of relay, onion, announce, data,"
    " forward, bootstrap-info, LAN.",
    "relay_connections": "TCP connections at a time, as far as the limit of descriptors allows.",
    "relay_per_address": "TCP connections from one address. 0: no limit.",
    "relay_per_prefix": "TCP connections from one IPv4 /24 or IPv6 /64. 0: no limit.",
    "http": "ADDRESS:PORT of metrics, health checks and the status page, or `off`.",
    "control_group": "Group whose members may ask and change the running node, as its own user may."
    " Empty: nobody else.",
    "remote": "ADDRESS:PORT where remote operators ask with keys of their own, or `off`.",
    "remote_operators": "Who they are, each `read:KEY` or `full:KEY`; `toxmesh ops keys new` makes"
    " keys.",
    "log_level": "Least important messages that are logged.",
    "log_format": "How log lines look: text, or one JSON object a line. `auto`: with priorities for"
    " the journal, text on a terminal, else JSON.",
    "log_redact": "Whether IP addresses are taken out of the log.",
    "dispatch": "Who gives workers their UDP datagrams: the kernel, by a program in it, or the"
    " broker process.",
    "brokers": "Broker processes that read UDP; more than one with dispatch = \"broker\" alone.",
    "workers.dht": "Processes that answer who is where in the network. 0: off.",
    "workers.onion": "Processes for onion paths and announcements. 0: off.",
    "workers.relay": "Processes of the TCP relay. 0: off.",
    "workers.net_crypto": "Processes that have the identities' sessions.",
    "workers.messenger": "Processes that have the identities' friends and messages.",
    "identities.directory": "Directory of Tox profiles that the node hosts, each a file `NAME.tox`."
    " Without it none is hosted.",
    "identities.profiles": "Names of those that are hosted, without `.tox`. Empty: all of them.",
    "identities.accept": "Whether everybody who asks becomes a friend of theirs.",
    "identities.echo": "Whether they answer each message with itself.",
    "identities.udp_ports": "First and last UDP port to try, of which each identity takes one."
    " [0]: by TCP relays alone.",
    "identities.passphrase_file": "File with the passphrase of profiles that are encrypted; for the"
    " node's user alone.",
}
"""By name; settings of a table with its name before a dot."""

_DEFAULTS = {
    "state_dir": "`$STATE_DIRECTORY`, else `~/.local/state/toxmesh`",
    "udp_port": _FREE,
    "tcp_ports": _FREE,
    "bootstrap": "the shipped list",
    **{f"workers.{role}": "follows the cores" for role in ROLES},
    **{f"workers.{role}": "1 where identities are hosted" for role in IDENTITY_ROLES},
    "identities.directory": "none",
    "identities.passphrase_file": "none",
}
_EXAMPLES = {
    "state_dir": "/var/lib/toxmesh",
    "udp_port": PORT_RANGE[0],
    "tcp_ports": (443, PORT_RANGE[0]),
    "bootstrap": (f"tox.example.org:{PORT_RANGE[0]}:" + 8 * "0123ABCD",),
    **dict.fromkeys((f"workers.{role}" for role in ROLES), 2),
    **dict.fromkeys((f"workers.{role}" for role in IDENTITY_ROLES), 1),
    "identities.directory": "/var/lib/toxmesh/identities",
    "identities.profiles": ("bot",),
    "identities.passphrase_file": "/etc/toxmesh/passphrase",
}
"""What the file to begin with shows for settings whose default is no value that can be written."""


class Setting(NamedTuple):
    """One setting, as people read about it."""

    name: str  # with the name of its table before a dot
    kind: str
    default: str
    example: str  # as TOML
    text: str


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """Says in words what values a setting takes."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return " or ".join(toml_value(value) for value in inner)
    if type(None) in inner and (get_origin(annotation) is types.UnionType or len(inner) == 2):
        return _kind(next(part for part in inner if part is not type(None)), metadata)
    if get_origin(annotation) is tuple:
        return "list of whole numbers" if "int" in str(inner[0]) else "list of texts"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _kind(inner[0], [*metadata, *annotation.__metadata__])
    if annotation is bool:
        return "true or false"
    if annotation is int:
        flat = [part for row in metadata for part in getattr(row, "metadata", [row])]
        low = next((part.ge for part in flat if isinstance(part, Ge)), 0)
        high = next((part.le for part in flat if isinstance(part, Le)), None)
        return f"whole number from {low} to {high}" if high is not None else "whole number"
    return "text"


def _setting(name: str, field: FieldInfo) -> Setting:
    default = field.default
    shown = _DEFAULTS.get(name) or f"`{toml_value(default)}`"
    example = toml_value(_EXAMPLES.get(name, default))
    return Setting(name, _kind(field.annotation, list(field.metadata)), shown, example, HELP[name])


def settings() -> list[Setting]:
    """Returns every setting of a file, tables last."""
    rows = [
        _setting(name, field)
        for name, field in Model.model_fields.items()
        if name not in ("dev", "workers", "identities")
    ]
    tables: dict[str, type[BaseModel]] = {"workers": WorkersTable, "identities": IdentitiesTable}
    rows += [
        _setting(f"{table}.{name}", field)
        for table, model in tables.items()
        for name, field in model.model_fields.items()
    ]
    return rows


def example() -> str:
    """Returns a settings file in which every setting stands as a comment."""
    lines = ["# Settings of toxmesh: see toxmesh.toml(5). Each line shows a default or an example;"]
    lines += ["# `toxmesh config check FILE` says what is wrong with a file.", ""]
    table = ""
    for row in settings():
        head, dot, name = row.name.rpartition(".")
        if dot and head != table:
            table = head
            lines += [f"[{table}]"]
        text = f"{row.text} Default: {row.default}.".replace("`", "")
        lines += textwrap.wrap(text, 96, initial_indent="# ", subsequent_indent="# ")
        value = f"{name if dot else row.name} = {row.example}"
        lines += [f"#{line}" for line in value.splitlines()]
        lines += [] if dot else [""]
    return "\n".join(lines) + "\n"
