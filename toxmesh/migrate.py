"""Turns the settings file of tox-bootstrapd or tox-node into ours, and says what is left behind.

What the old node would have done is kept, also where the old file says nothing and its defaults
are not ours. Nothing is written here; `toxmesh config migrate` does that.
"""

import ipaddress
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toxmesh import nodes
from toxmesh.foreign import MAX_FILE, Entry, Settings, TextError, decode, flat_yaml, libconfig
from toxmesh.motd_template import MAX_SIZE, NAMES, fitting, known
from toxmesh.settings_file import Problem, SettingsError, load
from toxmesh.toml_lines import toml_value

BOOTSTRAPD = "tox-bootstrapd"
TOX_NODE = "tox-node"
KINDS = (BOOTSTRAPD, TOX_NODE)

_MAX_PORT = 65535
_YAML = re.compile(r"^(keys-file|udp-address|tcp-addresses|bootstrap-nodes)[ \t]*:", re.MULTILINE)


@dataclass(slots=True)
class Migration:
    """What an old settings file comes to."""

    file: Path
    kind: str
    keys_file: Path | None = None
    """Where the old node has its keys."""
    keys_line: int = 0
    rows: list[tuple[str, object, str]] = field(default_factory=list)
    """Our settings: name, value, and what it comes from."""
    notes: list[Problem] = field(default_factory=list)
    """What has no counterpart here or became something else, with its place and why."""

    def at(self, line: int) -> str:
        """Returns the place of a line of the old file."""
        return f"{self.file}:{line}" if line else str(self.file)

    def note(self, line: int, text: str) -> None:
        """Remembers what a person has to know."""
        self.notes.append(Problem(self.at(line), text))

    def put(self, name: str, value: object, entry: Entry | None, old: str) -> None:
        """Sets one of our settings, from an old one or from the old node's default."""
        origin = f"{old}, line {entry.line}" if entry else f"default of {self.kind}: {old}"
        self.rows.append((name, value, origin))

    def refuse(self, line: int, text: str) -> SettingsError:
        """Makes the error for an old file that the old node would not take either."""
        return SettingsError([Problem(self.at(line), text)])


def read(file: Path, kind: str | None = None) -> Migration:
    """Reads an old settings file of `kind`, or of the kind it looks like. Raises SettingsError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise SettingsError([Problem(str(file), f"cannot be read: {reason}")]) from error
    try:
        text = decode(data)
        kind = kind or _kind(file, text)
        migration = Migration(file, kind)
        if kind == TOX_NODE:
            _tox_node(migration, flat_yaml.parse(text))
        else:
            _bootstrapd(migration, libconfig.parse(text))
    except TextError as error:
        raise SettingsError([Problem(f"{file}:{error.line}", error.text)]) from None
    return migration


def _kind(file: Path, text: str) -> str:
    if file.suffix in (".yml", ".yaml"):
        return TOX_NODE
    if file.suffix == ".conf":
        return BOOTSTRAPD
    return TOX_NODE if _YAML.search(text) else BOOTSTRAPD


def as_toml(migration: Migration, state_dir: Path | None) -> str:
    """Returns the new settings file, which `toxmesh config check` takes. Raises SettingsError."""
    lines = [f"# Made by `toxmesh config migrate` from {_one_line(migration.file.name)}.", ""]
    if state_dir is not None:
        lines.append(f"state_dir = {toml_value(state_dir.absolute())}")
    for name, value, origin in migration.rows:
        lines.append(f"{name} = {toml_value(value)}  # {_one_line(origin)}")
    if migration.notes:
        lines += ["", "# Left behind or changed:"]
        lines += [f"# {_one_line(str(note))}" for note in migration.notes]
    text = "\n".join(lines) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "new.toml"
        trial.write_text(text, "utf-8")
        try:
            load(trial)
        except SettingsError as error:
            problems = [
                Problem(str(migration.file), f"comes to settings that are no good: {problem.text}")
                for problem in error.problems
            ]
            raise SettingsError(problems) from None
    return text


def _one_line(text: str) -> str:
    """Returns what can stand in a comment: no line end, nothing that TOML does not allow there."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


def _motd(migration: Migration, entry: Entry | None, text: str) -> None:
    """Takes a message over, cut to what fits into the answer."""
    line = entry.line if entry else 0
    clean = "".join(letter for letter in text if ord(letter) >= 32 or letter == "\n")
    if clean != text:
        migration.note(line, "motd: control characters are left out")
    text = known(clean)
    if text != clean:
        migration.note(line, f"motd: only {', '.join(NAMES)} are filled in; others are left out")
    cut = fitting(text)
    if cut != text:
        migration.note(line, f"motd: cut to {MAX_SIZE} bytes, as much as the answer holds")
    migration.put("motd", cut, entry, "motd")


# tox-bootstrapd: names and defaults of other/bootstrap_daemon/src/config.c and config_defaults.h


class _Lookup:
    """Reads settings as tox-bootstrapd does: one of another type is as good as none."""

    def __init__(self, migration: Migration, settings: Settings) -> None:
        self._migration = migration
        self._settings = settings
        self.asked: set[str] = set()

    def get(self, name: str, kind: type, default: Any) -> tuple[Any, Entry | None]:
        """Returns a setting's value and where it stands, or the default and None."""
        self.asked.add(name)
        entry = self._settings.get(name)
        if entry is None:
            return default, None
        if type(entry.value) is not kind:
            self._migration.note(
                entry.line,
                f"{name}: {_shown_type(entry)} is not what tox-bootstrapd takes here, so that its "
                f"default holds: {_shown(default)}",
            )
            return default, None
        return entry.value, entry

    def raw(self, name: str) -> Entry | None:
        """Returns a setting of whatever type."""
        self.asked.add(name)
        return self._settings.get(name)

    def unknown(self) -> dict[str, Entry]:
        """Returns the settings that nobody asked for."""
        return {name: row for name, row in self._settings.items() if name not in self.asked}


def _shown_type(entry: Entry) -> str:
    value = entry.value
    if isinstance(value, list | tuple | dict):
        return {list: "an array", tuple: "a list", dict: "a group"}[type(value)]
    return _shown(value)


def _bootstrapd(migration: Migration, settings: Settings) -> None:
    lookup = _Lookup(migration, settings)
    port, entry = lookup.get("port", int, 33445)
    if not 1 <= port <= _MAX_PORT:
        raise migration.refuse(entry.line if entry else 0, f"port must be 1-65535, not {port}")
    ipv6, ipv6_entry = lookup.get("enable_ipv6", bool, True)
    fallback, _ = lookup.get("enable_ipv4_fallback", bool, True)
    if not ipv6:
        migration.put("listen", ["0.0.0.0"], ipv6_entry, "enable_ipv6")
    elif not fallback:
        migration.put("listen", ["0.0.0.0", "::"], ipv6_entry, "enable_ipv6, enable_ipv4_fallback")
    migration.put("udp_port", port, entry, "port")
    _bootstrapd_relay(migration, lookup)
    discovery, entry = lookup.get("enable_lan_discovery", bool, True)
    migration.put("lan_discovery", discovery, entry, "enable_lan_discovery")
    with_motd, motd_entry = lookup.get("enable_motd", bool, True)
    motd, entry = lookup.get("motd", str, BOOTSTRAPD)
    if with_motd:
        _motd(migration, entry, motd)
    else:
        migration.put("motd", "", motd_entry, "enable_motd")
        migration.note(
            motd_entry.line if motd_entry else 0,
            "enable_motd: those who ask for bootstrap info get the version and an empty message, "
            "where tox-bootstrapd was silent",
        )
    keys, entry = lookup.get("keys_file_path", str, "tox-bootstrapd.keys")
    migration.keys_file, migration.keys_line = Path(keys), entry.line if entry else 0
    _, entry = lookup.get("pid_file_path", str, "")
    if entry is not None:
        migration.note(
            entry.line,
            "pid_file_path: has no counterpart, for toxmesh stays in the foreground, where systemd "
            "knows its process; `toxmesh ops status` shows its number",
        )
    _bootstrapd_nodes(migration, lookup)
    for name, entry in lookup.unknown().items():
        migration.note(entry.line, f"{name}: tox-bootstrapd does not know it either")


def _bootstrapd_relay(migration: Migration, lookup: _Lookup) -> None:
    relay, relay_entry = lookup.get("enable_tcp_relay", bool, True)
    entry = lookup.raw("tcp_relay_ports")
    if not relay:
        migration.put("tcp_ports", [], relay_entry, "enable_tcp_relay")
        return
    if entry is None:
        migration.put("tcp_ports", [443, 3389, 33445], None, "tcp_relay_ports")
        return
    ports: list[int] = []
    if not isinstance(entry.value, list):
        migration.note(
            entry.line,
            f"tcp_relay_ports: {_shown_type(entry)} is no array [443, 33445], so that "
            "tox-bootstrapd is no relay, and the new settings switch TCP off",
        )
    for row in entry.value if isinstance(entry.value, list) else []:
        port = row.value
        if type(port) is not int or not 1 <= port <= _MAX_PORT:
            migration.note(row.line, f"tcp_relay_ports: {_shown(port)} is no port, and left out")
        elif port in ports:
            migration.note(row.line, f"tcp_relay_ports: {port} is there twice")
        else:
            ports.append(port)
    migration.put("tcp_ports", ports, entry, "tcp_relay_ports")


def _bootstrapd_nodes(migration: Migration, lookup: _Lookup) -> None:
    entry = lookup.raw("bootstrap_nodes")
    rows = entry.value if entry is not None else []
    texts = []
    for row in rows if isinstance(rows, list | tuple) else []:
        parts = row.value if isinstance(row.value, dict) else {}
        address, port, key = (
            parts[name].value if name in parts else None
            for name in ("address", "port", "public_key")
        )
        texts.append((row.line, address, port, key))
    _put_nodes(migration, entry, "bootstrap_nodes", texts)


def _put_nodes(
    migration: Migration, entry: Entry | None, old: str, rows: list[tuple[int, Any, Any, Any]]
) -> None:
    """Takes over the nodes that can be read; both old nodes pass over the others too."""
    found: list[str] = []
    for line, address, port, key in rows:
        if not isinstance(address, str) or not isinstance(key, str) or type(port) is not int:
            migration.note(line, f"{old}: a node without address, port and key is left out")
            continue
        host = f"[{address}]" if ":" in address else address
        try:
            node = str(nodes.parse(f"{host}:{port}:{key}"))
        except ValueError as error:
            migration.note(line, f"{old}: a node is left out: {error}")
            continue
        if node not in found:
            found.append(node)
    if not found:
        migration.note(
            entry.line if entry else 0,
            f"{old}: there are none, so that the node waits until others find it; take the line "
            "`bootstrap = []` out to begin with the list that toxmesh has",
        )
    migration.put("bootstrap", found, entry, old)


# tox-node: names and defaults of src/node_config.rs

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<name>[^\[\]:]+)):(?P<port>[0-9]{1,5})")


def _tox_node(migration: Migration, settings: Settings) -> None:
    left = dict(settings)
    sockets = _sockets(migration, left)
    _listen(migration, sockets)
    limit = left.pop("tcp-connections-limit", None)
    if limit is not None or sockets["tcp-addresses"]:
        number = _number(migration, "tcp-connections-limit", limit) if limit else 512
        migration.put("relay_connections", number, limit, "tcp-connections-limit")
    entry = left.pop("motd", None)
    _motd(migration, entry, _text(migration, "motd", entry) if entry else "This is tox-rs")
    entry = left.pop("lan-discovery", None)
    word = _text(migration, "lan-discovery", entry).lower() if entry else "false"
    if word not in _TRUE + _FALSE:
        raise migration.refuse(
            entry.line if entry else 0, f"lan-discovery must be True or False, not {_shown(word)}"
        )
    migration.put("lan_discovery", word in _TRUE, entry, "lan-discovery")
    keys = left.pop("keys-file", None)
    if keys is None:
        raise migration.refuse(0, "keys-file is not set, and tox-node would not start without it")
    migration.keys_file, migration.keys_line = (
        Path(_text(migration, "keys-file", keys)),
        keys.line,
    )
    _tox_node_nodes(migration, left.pop("bootstrap-nodes", None))
    for name, entry in left.items():
        migration.note(entry.line, f"{name}: {_LEFT.get(name, 'tox-node does not know it either')}")


_LEFT: Mapping[str, str] = {
    "log-type": "has no counterpart, for toxmesh says everything on stderr, which systemd takes "
    "into its journal; log_format = \"json\" is for other collectors",
    "threads": "has no counterpart, for toxmesh works in processes: it makes as many as there are "
    "cores, and [workers] sets other numbers",
}


def _text(migration: Migration, name: str, entry: Entry) -> str:
    if not isinstance(entry.value, str):
        raise migration.refuse(entry.line, f"{name} must be a text on its line")
    return entry.value


def _number(migration: Migration, name: str, entry: Entry) -> int:
    text = _text(migration, name, entry)
    if not re.fullmatch(r"\+?[0-9]{1,9}", text, re.ASCII):
        raise migration.refuse(entry.line, f"{name} must be a number, not {_shown(text)}")
    return int(text)


def _sockets(migration: Migration, left: Settings) -> dict[str, list[tuple[str, int, Entry]]]:
    """Reads the addresses of both kinds: each with its port and where it stands."""
    found: dict[str, list[tuple[str, int, Entry]]] = {}
    for name in ("udp-address", "tcp-addresses"):
        entry = left.pop(name, None)
        value = entry.value if entry else None
        rows = value if isinstance(value, list) else [entry] if entry and value else []
        found[name] = []
        for row in rows:
            text = _text(migration, name, row)
            match = _ADDRESS.fullmatch(text)
            try:
                address = ipaddress.ip_address(match["six"] or match["four"] if match else "")
            except ValueError:
                raise migration.refuse(
                    row.line, f"{name} must be an address with port, not {_shown(text)}"
                ) from None
            port = int(match["port"]) if match else 0
            if not 1 <= port <= _MAX_PORT:
                raise migration.refuse(row.line, f"{name}: the port must be 1-65535, not {port}")
            found[name].append((str(address), port, row))
    if not any(found.values()):
        raise migration.refuse(0, "neither udp-address nor tcp-addresses is set")
    return found


def _listen(migration: Migration, sockets: dict[str, list[tuple[str, int, Entry]]]) -> None:
    """Sets addresses and ports; toxmesh listens at each address on each port."""
    udp, tcp = sockets["udp-address"], sockets["tcp-addresses"]
    rows = [*udp, *tcp]
    addresses: list[str] = []
    for address, _, _ in rows:
        for one in ("0.0.0.0", "::") if address == "::" else (address,):  # Linux: :: takes both
            if one not in addresses:
                addresses.append(one)
    migration.put("listen", addresses, rows[0][2], "udp-address, tcp-addresses")
    entry = udp[0][2] if udp else None
    migration.put("udp_port", udp[0][1] if udp else 0, entry, "udp-address")
    ports = list(dict.fromkeys(port for _, port, _ in tcp))
    migration.put("tcp_ports", ports, tcp[0][2] if tcp else None, "tcp-addresses")

    def more(kind: str, given: list[tuple[str, int, Entry]]) -> None:
        wanted = {
            (one, port)
            for address, port, _ in given
            for one in (("0.0.0.0", "::") if address == "::" else (address,))
        }
        extra = [
            f"{kind} port {port} of {address}"
            for port in dict.fromkeys(port for _, port, _ in given)
            for address in addresses
            if (address, port) not in wanted
        ]
        if extra:
            migration.note(
                rows[0][2].line,
                "toxmesh listens at each address on each port, so that these are open besides: "
                + ", ".join(extra),
            )

    more("UDP", udp)
    more("TCP", tcp)


def _tox_node_nodes(migration: Migration, entry: Entry | None) -> None:
    value = entry.value if entry else None
    if entry and value is not None and not isinstance(value, list):
        raise migration.refuse(entry.line, "bootstrap-nodes must be a list of pk and addr")
    rows: list[tuple[int, Any, Any, Any]] = []
    for row in value if isinstance(value, list) else []:
        parts = row.value if isinstance(row.value, dict) else {}
        key, place = (parts[name].value if name in parts else None for name in ("pk", "addr"))
        match = _HOST.fullmatch(place) if isinstance(place, str) else None
        if match is None:
            raise migration.refuse(
                row.line, f"bootstrap-nodes: addr must be HOST:PORT, not {_shown(place)}"
            )
        rows.append((row.line, match["six"] or match["name"], int(match["port"]), key))
    _put_nodes(migration, entry, "bootstrap-nodes", rows)
