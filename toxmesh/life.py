"""What a node keeps over an upgrade: all that its supervisor knows and nobody could find out again.

The supervisor of the old version writes it into memory without a name and becomes the new version
by execve(2): the same process, with the same descriptors and children. A child notices nothing but
that it is not asked anything for the half second that this takes.
"""

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from core.bootstrap_node import BootstrapNode
from core.crypto import KEY_SIZE, KeyPair
from core.endpoint import Endpoint
from core.link import handover
from core.slots import SlotTable
from core.wire import WireError
from toxmesh.children import Child, Totals
from toxmesh.lasting import Lasting
from toxmesh.settings import Identities, Settings
from toxmesh.sockets import NodeSockets

VARIABLE = "TOXMESH_STATE"
"""Environment: the number of the descriptor that has the state. Never the state itself."""
PROBE = "TOXMESH_PROBE"
"""Environment: as VARIABLE, but only to say whether this version could go on from there."""
FORM = 2
"""Raised when processes of the version before and of this one do not understand each other: the
state below, control messages, frames (`core.batch`), what processes hand over to successors."""
BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that wait while the supervisor is replaced: nothing would take them."""

_PATH_LIMIT = 107  # bytes of a unix socket's path (sockaddr_un: 108 with the NUL)
_NAME_ROOM = 24  # bytes for /relay.63.1234567890

_PLAIN = (
    "started",
    "started_wall",
    "master",
    "generation",
    "dispatch",
    "log",
    "remote",
    "asked",
    "door",
    "guest",
    "web",
    "lock",
    "throw_away",
    "version_before",
    "left_at",
    "upgrades",
    "limits",
    "drain",
)
"""Fields of a life that msgpack carries as they are."""

Nodes = tuple[tuple[Endpoint, bytes], ...]


class StateError(Exception):
    """A state cannot be gone on from; the text is one sentence with the next step."""


def run_directory(state_dir: Path) -> Path:
    """Makes the 0700 directory for the sockets between processes, where their names fit."""
    path = (state_dir / "run").absolute()
    if len(os.fsencode(path)) + _NAME_ROOM <= _PATH_LIMIT:
        shutil.rmtree(path, ignore_errors=True)  # left by a node that was killed; the lock is ours
        path.mkdir(mode=0o700, parents=True)
        return path
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base is None or len(os.fsencode(base)) + _NAME_ROOM + 18 > _PATH_LIMIT:
        base = "/tmp"  # mkdtemp makes a fresh 0700 directory in it
    return Path(tempfile.mkdtemp(prefix="toxmesh-", dir=base))


@dataclass
class Life:
    """One node's life so far, as every supervisor of it has to know it."""

    run_dir: Path
    started: float  # monotonic seconds
    started_wall: float  # unix seconds
    master: bytes = field(repr=False)  # 32 bytes: the root of the secrets that shards share
    generation: int = 0  # of the youngest child
    slots: dict[str, SlotTable] = field(default_factory=dict)
    dispatch: str = ""  # empty: to be chosen
    nodes: Nodes = ()
    totals: Totals = field(default_factory=Totals)
    lasting: Lasting = field(default_factory=Lasting)
    children: Sequence[Child] = ()
    log: dict[str, Any] = field(default_factory=dict)  # what `LogBook` keeps
    remote: dict[str, Any] = field(default_factory=dict)  # the process of the remote door
    asked: int = 0  # questions to children: no number is used twice
    door: int = -1  # descriptors: the control door, who waits for the upgrade, the web door
    guest: int = -1
    web: int = -1
    lock: int = -1  # of the state directory
    throw_away: bool = False  # whether the state directory goes with the node
    version_before: str = ""
    left_at: float = 0.0  # monotonic seconds when the version before left
    upgrades: int = 0
    limits: dict[str, list[Any]] = field(default_factory=dict)  # laid down: value and end
    drain: dict[str, Any] = field(default_factory=dict)  # what `toxmesh.drain` keeps; or empty

    @classmethod
    def new(
        cls, settings: Settings, nodes: Nodes = (), lock: int = -1, throw_away: bool = False
    ) -> "Life":
        """Begins one."""
        return cls(
            run_directory(settings.state_dir),
            time.monotonic(),
            time.time(),
            secrets.token_bytes(KEY_SIZE),
            slots={
                role: SlotTable.even(count) for role, count in settings.workers.items() if count
            },
            nodes=nodes,
            lock=lock,
            throw_away=throw_away,
        )

    def to_body(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "run_dir": str(self.run_dir),
            "slots": {
                role: [table.generation, list(table.shards)] for role, table in self.slots.items()
            },
            "nodes": [[bytes(place), key] for place, key in self.nodes],
            "totals": self.totals.to_body(),
            "lasting": self.lasting.to_body(),
            "children": [row.to_body() for row in self.children],
            **{name: getattr(self, name) for name in _PLAIN},
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Life":
        """Reads what `to_body` made."""
        row = dict(body)
        row["run_dir"] = Path(row["run_dir"])
        row["slots"] = {
            role: SlotTable(generation, tuple(shards))
            for role, (generation, shards) in row["slots"].items()
        }
        row["nodes"] = tuple((Endpoint(bytes(place)), bytes(key)) for place, key in row["nodes"])
        row["totals"] = Totals.from_body(row["totals"])
        row["lasting"] = Lasting.from_body(row["lasting"])
        row["children"] = [Child.from_body(child) for child in row["children"]]
        return cls(**row)


def settings_to_body(settings: Settings) -> dict[str, Any]:
    """Returns settings as plain data."""
    body: dict[str, Any] = {}
    for row in fields(settings):
        value = getattr(settings, row.name)
        if isinstance(value, Path):
            value = str(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        elif isinstance(value, Identities):
            value = asdict(value)
        body[row.name] = value
    return body


def settings_from_body(body: Mapping[str, Any]) -> Settings:
    """Reads what a version wrote: what this one does not know falls away, the new is default."""
    known = {row.name for row in fields(Settings)}
    row = {name: value for name, value in body.items() if name in known}
    row["state_dir"] = Path(row["state_dir"])
    row["workers"] = MappingProxyType(dict(row["workers"]))
    hosted = {name: _tuples(value) for name, value in row.get("identities", {}).items()}
    row["identities"] = Identities(**hosted)
    row["bootstrap"] = tuple(BootstrapNode(*node) for node in row["bootstrap"])
    return Settings(**{name: _tuples(value) for name, value in row.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


class State:
    """The whole state as it goes from version to version."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Reads it as far as the processes of this version understand it. Raises StateError."""
        form = body.get("form")
        if form != FORM:
            raise StateError(
                f"the running node's processes speak form {form} and this version form {FORM}:"
                " it cannot go on from there; stop the node and start this version"
            )
        try:
            self.settings = settings_from_body(body["settings"])
            self.lock = int(body["life"]["lock"])  # descriptor
            self.throw_away = bool(body["life"]["throw_away"])
            self.secret = bytes(body["secret"])
            self._bound = body["bound"]
            self._life = body["life"]
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"the running node's state cannot be read ({error!r})") from None

    def keys(self) -> KeyPair:
        """Returns the node's DHT identity."""
        return KeyPair.from_secret(self.secret)

    def bound(self) -> NodeSockets:
        """Returns the node's sockets: to be called once, in the process that goes on."""
        return NodeSockets.from_body(self._bound)

    def life(self) -> Life:
        """Returns the node's life: to be called once, in the process that goes on."""
        return Life.from_body(self._life)


def put(
    settings: Settings,
    secret: bytes,
    bound: NodeSockets,
    life: Life,
) -> tuple[int, list[int]]:
    """Returns the descriptor of memory that has the whole state, and all that it names."""
    body = {
        "form": FORM,
        "settings": settings_to_body(settings),
        "secret": secret,
        "bound": bound.to_body(),
        "life": life.to_body(),
    }
    named = [life.door, life.guest, life.web, life.lock, *_descriptors(body)]
    return handover.put(body), [fd for fd in named if fd >= 0]


def given(variable: str) -> State:
    """Returns the state that the version before has left in this process.

    Raises StateError for one that this version does not understand, or for none.
    """
    try:
        body = handover.take(int(os.environ.pop(variable, "")))
    except (OSError, ValueError, WireError):
        raise StateError(f"{variable} names no state; it is for an upgrade alone") from None
    return State(body if isinstance(body, dict) else {})


def hold_signals() -> None:
    """Lets signals wait for the next version of the supervisor."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


def take_signals() -> None:
    """Lets signals come that had to wait."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)


def _descriptors(body: Any) -> Iterator[int]:
    """Finds every descriptor that a body of `NodeSockets` or `Child` names."""
    if isinstance(body, Mapping):
        for name, value in body.items():
            if name == "fd":
                yield value
            else:
                yield from _descriptors(value)
    elif isinstance(body, list | tuple):
        for value in body:
            yield from _descriptors(value)


def keep_open(numbers: Sequence[int], keep: bool) -> None:
    """Lets descriptors outlive execve, or not."""
    for number in numbers:
        with suppress(OSError):
            os.set_inheritable(number, keep)
