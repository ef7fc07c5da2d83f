"""What a node is told to do: defaults, TOML file and command line made into one frozen `Settings`.

Every mistake is reported at once, each with its place. Only the process that starts a node and
`toxmesh config` import this (and pydantic); workers get plain values.
"""

import difflib
import grp
import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import pydantic_core
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from core.services import SERVICES
from core.slots import IDENTITY_ROLES
from ops.paths import default_state_dir
from toxmesh import motd_template, nodes
from toxmesh.nodes import BootstrapNode
from toxmesh.remote import operators
from toxmesh.settings import ALL_ROLES, MAX_BROKERS, PORT_RANGE, ROLES, Settings
from toxmesh.settings_tables import IdentitiesTable, Port, WorkersTable, path_of
from toxmesh.toml_lines import KeyPath, key_lines, line_of, toml_value
from toxmesh.web.address import parse as parse_http

MAX_LISTEN = 16  # addresses, and TCP ports: each pair of both is one listening socket
MAX_BOOTSTRAP = 256
MAX_FILE = 1 << 18  # bytes of a settings file

Limit = Annotated[StrictInt, Field(ge=0, le=1_000_000)]


class Problem(NamedTuple):
    """One mistake in the settings: where it stands and what to do about it."""

    where: str  # "node.toml:3" or "--workers"
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def _place(problem: Problem) -> tuple[str, int]:
    """Sorts problems by file and line."""
    name, _, line = problem.where.rpartition(":")
    return (name, int(line)) if line.isdigit() else (problem.where, 0)


class SettingsError(Exception):
    """The settings cannot be used; `problems` has every reason, and `code` is the exit code."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=_place)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def code(self) -> int:
        """5 where this user may not read them, else 3."""
        return 5 if isinstance(self.__cause__, PermissionError) else 3


class Model(BaseModel):
    """The shape of a settings file, and every rule about its values."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    state_dir: Path
    listen: tuple[StrictStr, ...] = ()
    udp_port: Port | None = None
    tcp_ports: tuple[Port, ...] | None = None
    bootstrap: tuple[BootstrapNode, ...] = Field(default_factory=nodes.shipped)
    lan_discovery: StrictBool = True
    motd: StrictStr = ""
    services_off: tuple[StrictStr, ...] = ()
    relay_connections: Limit = 20_000
    relay_per_address: Limit = 64
    relay_per_prefix: Limit = 256
    http: StrictStr = "127.0.0.1:9745"
    control_group: StrictStr = ""
    remote: StrictStr = ""
    remote_operators: tuple[StrictStr, ...] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    log_redact: StrictBool = False
    workers: WorkersTable = Field(default_factory=WorkersTable)
    identities: IdentitiesTable = Field(default_factory=IdentitiesTable)
    dispatch: Literal["kernel", "broker"] = "kernel"
    brokers: Annotated[StrictInt, Field(ge=1, le=MAX_BROKERS)] = 1
    dev: StrictBool = False

    @field_validator("state_dir", mode="before")
    @classmethod
    def _state_dir_is_a_path(cls, value: object) -> object:
        return path_of(value)

    @field_validator("listen")
    @classmethod
    def _listen_has_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MAX_LISTEN:
            raise ValueError(f"must have at most {MAX_LISTEN} addresses, not {len(value)}")
        known: list[str] = []
        for text in value:
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise ValueError(_no_address(text)) from None
            if address.is_multicast or "%" in text:
                raise ValueError(f"{text!r} is no address to listen on")
            if address.version == 6 and address.ipv4_mapped is not None:
                raise ValueError(f"write {text!r} as {address.ipv4_mapped}: one socket, one family")
            if str(address) in known:
                raise ValueError(f"{text!r} is there twice")
            known.append(str(address))
        return tuple(known)

    @field_validator("tcp_ports")
    @classmethod
    def _tcp_ports_agree(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if 0 in value:
            if set(value) != {0}:
                raise ValueError("0 switches TCP off, so it cannot stand beside other ports")
            return ()
        if len(set(value)) != len(value):
            raise ValueError("a port is there twice")
        if len(value) > MAX_LISTEN:
            raise ValueError(f"must have at most {MAX_LISTEN} ports, not {len(value)}")
        return value

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _bootstrap_is_parsed(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list of HOST:PORT:PUBLICKEY, not {_shown(value)}")
        if len(value) > MAX_BOOTSTRAP:
            raise ValueError(f"must have at most {MAX_BOOTSTRAP} nodes, not {len(value)}")
        return value

    @field_validator("motd")
    @classmethod
    def _motd_fits(cls, value: str) -> str:
        wrong = motd_template.problem(value)
        if wrong:
            raise ValueError(wrong)
        return value

    @field_validator("services_off")
    @classmethod
    def _services_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in SERVICES]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no service; services are {', '.join(SERVICES)}")
        return tuple(sorted(set(value)))

    @field_validator("remote_operators")
    @classmethod
    def _operators_are_parsed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(str, operators.parse_all(value)))

    @field_validator("http", "remote")
    @classmethod
    def _http_is_an_address(cls, value: str) -> str:
        address = parse_http(value)
        return "" if address is None else str(address)

    @field_validator("control_group")
    @classmethod
    def _control_group_is_there(cls, value: str) -> str:
        if value:
            try:
                grp.getgrnam(value)
            except (KeyError, ValueError):
                raise ValueError(f"must be a group of this machine, not {value[:60]!r}") from None
        return value

    @model_validator(mode="after")
    def _something_is_served(self) -> "Model":
        if self.udp_port == 0 and self.tcp_ports == ():
            raise ValueError("UDP and TCP are both off, so nobody could reach the node")
        if not any(getattr(self.workers, role) for role in ROLES):
            raise ValueError("every worker role is off, so the node would answer nothing")
        hosts = self.identities.directory is not None
        counts = self.workers.counts(hosts)
        for role in IDENTITY_ROLES:
            if hosts != (role in counts):
                raise ValueError(
                    f"identities.directory needs workers.{role}, which is 0"
                    if hosts
                    else f"workers.{role} needs identities.directory, for there is no identity"
                )
        if self.remote and not self.remote_operators:
            raise ValueError("remote needs remote_operators, or nobody could come in")
        if self.brokers > 1 and self.dispatch == "kernel":
            raise ValueError(
                f'brokers = {self.brokers} needs dispatch = "broker": the kernel does it now'
            )
        return self


class Origins:
    """Where each setting came from: a line of the file, a flag, or nowhere (the default)."""

    def __init__(self, file: Path | None = None, text: str = "") -> None:
        self._file = file
        self._lines = key_lines(text) if text else {}
        self._flags: dict[KeyPath, str] = {}

    def flag(self, path: KeyPath, name: str) -> None:
        """Notes that `path` was given by the flag `name`."""
        self._flags[path] = name

    def of(self, path: KeyPath) -> str:
        """Returns `FILE:LINE` or the flag for `path` or the nearest setting around it."""
        near = path
        while near:
            if near in self._flags:
                return self._flags[near]
            if near in self._lines:
                break
            near = near[:-1]
        if self._file is not None and self._lines:
            return f"{self._file}:{line_of(self._lines, path)}"
        return "settings" if self._file is None else str(self._file)

    def given(self, path: KeyPath) -> bool:
        """Tells whether `path` was set by file or flag."""
        return path in self._flags or path in self._lines


class Loaded(NamedTuple):
    """Settings and where each came from."""

    settings: Settings
    origins: Origins


def _shown(value: object) -> str:
    """Returns a short form of a value for a message."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


def _no_address(text: str) -> str:
    """Says why `text` cannot be listened on."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and host.strip("[]"):
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            pass
        else:
            return f"{text!r} has a port; give the address alone, and ports on their own"
    if text.startswith("[") and text.endswith("]"):
        return f"write {text!r} without brackets"
    return f"{text!r} is not an IPv4 or IPv6 address; 0.0.0.0 and :: stand for all"


def _nearest(word: str, known: list[str]) -> str:
    """Returns `; did you mean "x"?` or nothing."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(known)}"


def _plain(error: "pydantic_core.ErrorDetails", path: KeyPath) -> str:
    """Says in plain words what pydantic found."""
    name = ".".join(str(part) for part in path if isinstance(part, str))
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        if path[0] == "workers":
            return f"no such worker role: {path[-1]}" + _nearest(str(path[-1]), list(ALL_ROLES))
        model = IdentitiesTable if path[0] == "identities" and len(path) > 1 else Model
        known = [key for key in model.model_fields if key != "dev"]
        return f'unknown setting "{name}"' + _nearest(str(path[-1]), known)
    if kind == "value_error":
        text = str(context["error"])
        return f"{name} {text}" if text.startswith("must ") else text
    wanted = {
        "int_type": "a whole number",
        "bool_type": "true or false",
        "string_type": "a text in quotes",
        "tuple_type": "a list in brackets",
        "literal_error": f"one of {context.get('expected')}",
        "model_type": "a table",
        "model_attributes_type": "a table",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than_equal": f"at most {context.get('le')}",
    }.get(kind)
    if wanted is None:
        return f"{name}: {error['msg']}"
    return f"{name} must be {wanted}, not {_shown(value)}"


def _read(file: Path) -> str:
    """Returns the text of a settings file; SettingsError says why it cannot be read."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        text = f"cannot be read: {reason}"
        if isinstance(error, PermissionError):
            text = "this user may not read it; do it with sudo, or let its owner allow it"
        raise SettingsError([Problem(str(file), text)]) from error
    if len(data) > MAX_FILE:
        raise SettingsError([Problem(str(file), f"is longer than {MAX_FILE} bytes")])
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError([Problem(f"{file}:{line}", "is not UTF-8 text")]) from None


def _parse(file: Path, text: str) -> dict[str, Any]:
    """Reads TOML; SettingsError has the line of the mistake."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        digits = "".join(part for part in place.split(",")[0] if part.isdigit())
        line = int(digits) if digits else text.count("\n") + 1
        reason = reason[:1].lower() + reason[1:]
        raise SettingsError([Problem(f"{file}:{line}", f"is not TOML: {reason}")]) from None
    except RecursionError:
        raise SettingsError([Problem(str(file), "is nested too deeply")]) from None


def parse_workers(text: str) -> dict[str, int]:
    """Reads `dht=2,onion=2`. SettingsError has every mistake in it."""
    counts: dict[str, int] = {}
    problems: list[Problem] = []
    for part in text.split(","):
        role, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not role:
            reason = f"{part.strip()!r} is not ROLE=NUMBER, as in dht=2,onion=2,relay=2"
        elif role in counts:
            reason = f"{role} is there twice"
        elif role not in ALL_ROLES:
            reason = f"no such worker role: {role}" + _nearest(role, list(ALL_ROLES))
        elif not (number.isascii() and number.isdigit() and len(number) < 9):
            reason = f"{role} must be a whole number, not {number!r}"
        else:
            counts[role] = int(number)
            continue
        problems.append(Problem("--workers", reason))
    if problems:
        raise SettingsError(problems)
    return counts


def _parse_bootstrap(values: dict[str, Any], origins: Origins) -> list[Problem]:
    """Turns the texts of `bootstrap` into nodes, in place; returns a problem for each bad one."""
    rows = values.get("bootstrap")
    if not isinstance(rows, list | tuple):
        return []
    problems: list[Problem] = []
    parsed: list[BootstrapNode] = []
    for index, row in enumerate(rows):
        if not isinstance(row, str):
            text = f"bootstrap must be a list of texts HOST:PORT:PUBLICKEY, not {_shown(row)}"
            problems.append(Problem(origins.of(("bootstrap", index)), text))
            continue
        try:
            parsed.append(nodes.parse(row))
        except ValueError as error:
            problems.append(Problem(origins.of(("bootstrap", index)), str(error)))
    values["bootstrap"] = tuple(parsed)
    return problems


def _use_flags(values: dict[str, Any], flags: Mapping[str, Any], origins: Origins) -> list[Problem]:
    """Lays what flags say over what the file says; returns the problems of flags."""
    problems: list[Problem] = []
    for name, value in flags.items():
        if value is None or value == ():
            continue
        flag = {"tcp_ports": "--tcp-port", "lan_discovery": "--no-lan-discovery"}.get(
            name, "--" + name.replace("_", "-")
        )
        if name == "workers":
            try:
                counts = parse_workers(value)
            except SettingsError as error:
                problems += error.problems
                continue
            table = values.get("workers")
            values["workers"] = {**(table if isinstance(table, dict) else {}), **counts}
            for role in counts:
                origins.flag(("workers", role), flag)
        else:
            values[name] = value
            origins.flag((name,), flag)
    return problems


def _dev_defaults(values: dict[str, Any], problems: list[Problem], origins: Origins) -> None:
    """Keeps a node for trying things on this machine: loopback, no outside nodes, one of each."""
    values.setdefault("listen", ["127.0.0.1"])
    values.setdefault("bootstrap", [])
    values["lan_discovery"] = False
    table = values.setdefault("workers", {})
    if isinstance(table, dict):
        for role in ROLES:
            table.setdefault(role, 1)
    rows = values["listen"]
    for text in rows if isinstance(rows, list | tuple) else ():
        try:
            inside = ipaddress.ip_address(text).is_loopback
        except ValueError:
            continue  # reported with the others
        if not inside:
            where = origins.of(("listen",))
            problems.append(Problem(where, f"--dev stays on loopback, and {text} is not there"))


def _settings(model: Model) -> Settings:
    """Makes the plain value that the supervisor gets."""
    values: dict[str, Any] = {name: getattr(model, name) for name in Model.model_fields}
    identities = model.identities.plain()
    counts = model.workers.counts(bool(identities.directory))
    tables = {"workers": MappingProxyType(counts), "identities": identities}
    return Settings(**{**values, **tables})


def load(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Makes the settings of defaults, then `file`, then `flags` (named as the settings are).

    A flag that is None or empty was not given. Raises SettingsError with every problem found.
    """
    text = "" if file is None else _read(file)
    values: dict[str, Any] = {} if file is None else _parse(file, text)
    origins = Origins(file, text)
    problems: list[Problem] = []
    if "dev" in values:
        problems.append(Problem(origins.of(("dev",)), "dev is a flag of `toxmesh run`: --dev"))
        del values["dev"]
    problems += _use_flags(values, flags or {}, origins)
    if values.get("dev"):
        _dev_defaults(values, problems, origins)
    values.setdefault("state_dir", default_state_dir())
    problems += _parse_bootstrap(values, origins)
    try:
        model = Model.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            path: KeyPath = tuple(detail["loc"])
            where = origins.of(path) if path else str(file or "settings")
            problems.append(Problem(where, _plain(detail, path or ("settings",))))
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    if "bootstrap" not in values and model.listen and all(map(_is_loopback, model.listen)):
        model = model.model_copy(update={"bootstrap": ()})  # nobody outside can be reached
    return Loaded(_settings(model), origins)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def as_toml(loaded: Loaded) -> str:
    """Returns all settings as a settings file that `load` reads, each with where it is from."""
    settings, origins = loaded

    def line(path: KeyPath, value: object) -> str:
        origin = origins.of(path) if origins.given(path) else "default"
        if value is None:  # TOML has no word for it
            first, last = PORT_RANGE[0], PORT_RANGE[-1]
            return f"# {path[-1]} = the first free port of {first}-{last}  # {origin}"
        if isinstance(value, BootstrapNode):
            value = str(value)
        return f"{path[-1]} = {toml_value(value)}  # {origin}"

    rows = {
        "state_dir": settings.state_dir,
        "listen": settings.listen,
        "udp_port": settings.udp_port,
        "tcp_ports": settings.tcp_ports,
        "lan_discovery": settings.lan_discovery,
        "motd": settings.motd,
        "services_off": settings.services_off,
        "relay_connections": settings.relay_connections,
        "relay_per_address": settings.relay_per_address,
        "relay_per_prefix": settings.relay_per_prefix,
        "dispatch": settings.dispatch,
        "brokers": settings.brokers,
        "http": settings.http or "off",
        "control_group": settings.control_group,
        "remote": settings.remote or "off",
        "remote_operators": settings.remote_operators,
        "log_level": settings.log_level,
        "log_format": settings.log_format,
        "log_redact": settings.log_redact,
        "bootstrap": tuple(str(node) for node in settings.bootstrap),
    }
    lines = [line((name,), value) for name, value in rows.items()]
    lines += ["", "[workers]"]
    lines += [line(("workers", role), count) for role, count in settings.workers.items()]
    if settings.identities.directory:
        lines += ["", "[identities]"]
        values = asdict(settings.identities).items()
        lines += [line(("identities", name), value) for name, value in values if value != ""]
    return "\n".join(lines)
