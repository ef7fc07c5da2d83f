"""What every child process of a node does first: take its orders from the supervisor.

The control channel is the child's standard input. Settings, keys and descriptors come through it
and nowhere else; when it closes, the supervisor is gone and the child stops in order.
"""

import gc
import os
import select
import signal
import socket
import time
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from core.crypto import KeyPair, SecretKey
from core.link import logs
from core.link.descriptors import Channel, ChannelClosed, Note
from core.module import NodeOptions
from core.slots import SlotTable

BEAT_INTERVAL = 1.0  # seconds between heartbeats; SECURITY R-05: three missed end the child
_START_WAIT = 30.0  # seconds a child waits for its orders

_GC_FIRST = 50_000  # containers made and kept until the youngest are looked at (Python: 700)

EXIT_BUGS = 70  # sysexits.h: EX_SOFTWARE; too many bugs in a short time


def _frozen(value: Any) -> Any:
    """Makes tuples of the lists that msgpack makes of tuples."""
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _options(body: dict[str, Any]) -> NodeOptions:
    """Returns options that travelled as plain data."""
    return NodeOptions(**{name: _frozen(value) for name, value in body.items()})


@dataclass(frozen=True)
class Start:
    """The supervisor's first words to a child."""

    name: str
    role: str
    shard: int
    generation: int  # of this incarnation; no two processes of a node ever have the same
    path: str  # where to bind the inlet
    started: float  # monotonic seconds when the node started
    secret: bytes = field(repr=False)
    master: bytes = field(repr=False)
    options: NodeOptions = field(default_factory=NodeOptions, repr=False)
    families: tuple[int, ...] = ()  # address family of each UDP socket
    version_number: int = 0  # said in bootstrap info
    unix_offset: float = 0.0  # unix time minus monotonic time, the same in all processes
    log_level: str = "info"
    log_passing: tuple[Any, ...] = ()  # a level that passes, and when (monotonic seconds)
    log_format: str = "auto"
    log_redact: bool = False  # whether addresses are taken out of the log
    dispatch: str = "broker"  # who gives workers their datagrams: "broker" or "kernel"
    lanes: tuple[tuple[int, str], ...] = ()  # of each of `inputs`: index in `udp`, class
    udp: tuple[int, ...] = ()  # descriptors to send on, in the order of `families`; the broker's
    # also to read
    inputs: tuple[int, ...] = ()  # descriptors that a worker reads: kernel dispatch
    successor: bool = False  # a broker that takes over the connections of the one before
    in_hand: tuple[int, ...] = ()  # of a worker: the descriptor of its `InHand`
    lasting: tuple[int, ...] = ()  # of a worker: memory that its successor gets too
    tcp: tuple[int, ...] = ()  # listening descriptors; the broker's alone

    def to_note(self) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Returns the body and the descriptors of the message."""
        body = {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("udp", "inputs", "in_hand", "lasting", "tcp", "options")
        }
        body["udp_count"] = len(self.udp)
        body["options"] = asdict(self.options)
        body["in_hand_count"] = len(self.in_hand)
        body["lasting_count"] = len(self.lasting)
        return body, self.udp + self.inputs + self.in_hand + self.lasting + self.tcp

    @classmethod
    def from_note(cls, note: Note) -> "Start":
        """Reads what `to_note` made."""
        body = dict(note.body)
        sent = body.pop("udp_count")
        read = sent + len(body["lanes"])
        counted = read + body.pop("in_hand_count")
        kept = counted + body.pop("lasting_count")
        options = _options(body.pop("options"))
        body["families"] = tuple(body["families"])
        body["lanes"] = _frozen(body["lanes"])
        body["log_passing"] = _frozen(body["log_passing"])
        return cls(
            options=options,
            udp=note.descriptors[:sent],
            inputs=note.descriptors[sent:read],
            in_hand=note.descriptors[read:counted],
            lasting=note.descriptors[counted:kept],
            tcp=note.descriptors[kept:],
            **body,
        )

    def keys(self) -> KeyPair:
        """Returns the DHT identity."""
        return KeyPair.from_secret(self.secret)

    def master_key(self) -> SecretKey:
        """Returns the root of the secrets that all shards share."""
        return SecretKey(self.master)


class Peer(NamedTuple):
    """One process of the node that others may talk to."""

    name: str
    role: str
    shard: int
    generation: int
    path: str


class Topology(NamedTuple):
    """Who is up, and which shard owns which slot."""

    slots: dict[str, SlotTable]
    peers: dict[tuple[str, int], Peer]

    def to_body(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "slots": {
                role: [table.generation, list(table.shards)] for role, table in self.slots.items()
            },
            "peers": [list(peer) for peer in self.peers.values()],
        }

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> "Topology":
        """Reads what `to_body` made."""
        slots = {
            role: SlotTable(generation, tuple(shards))
            for role, (generation, shards) in body["slots"].items()
        }
        peers = [Peer(*row) for row in body["peers"]]
        return cls(slots, {(peer.role, peer.shard): peer for peer in peers})


def follow_settings(note: Note) -> NodeOptions:
    """Takes a note `settings`, which comes when they changed: logs as it says, at the level that
    this process has, and returns the options that its modules are to follow."""
    logs.change(str(note.body["log_format"]), bool(note.body["log_redact"]))
    return _options(note.body["options"])


def rss() -> int:
    """Returns the resident memory of this process in bytes (0 where /proc does not say)."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:  # three system calls, each second in each process; `open` makes eight
            return int(os.read(file, 128).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        finally:
            os.close(file)
    except (OSError, IndexError, ValueError):
        return 0


def plain(value: Any) -> Any:
    """Returns a module's snapshot as data that JSON can say: text keys, bytes as hex."""
    if isinstance(value, dict):
        return {
            key.hex() if isinstance(key, bytes) else str(key): plain(part)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def begin() -> tuple[Channel, Start, list[Note]]:
    """Takes the control channel and waits for the first words.

    Returns the channel, the orders, and what came right behind them. Raises ChannelClosed when the
    supervisor goes away before.
    """
    channel, notes = first_notes()
    start = Start.from_note(notes[0])
    set_name(start.name)
    logs.start_logging(start.log_level, start.log_format, start.name, start.log_redact)
    if start.log_passing:
        logs.set_level(*start.log_passing)
    _calm_collector()
    return channel, start, notes[1:]


def first_notes() -> tuple[Channel, list[Note]]:
    """Takes the control channel from standard input, and what comes first through it.

    SIGINT, SIGTERM and SIGHUP are ignored: a terminal or a service manager sends them to all
    processes, and the supervisor orders the stop. Raises ChannelClosed.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    channel = Channel(end)
    poll = select.poll()
    poll.register(end, select.POLLIN)
    deadline = time.monotonic() + _START_WAIT
    while time.monotonic() < deadline:
        if poll.poll(1000):
            notes = channel.receive()
            if notes:
                return channel, notes
    raise ChannelClosed("no orders came")


def _calm_collector() -> None:
    """Lets the collector of cycles look seldom, and never at what was there from the start.

    Hot paths make no cycles; a full look at a store of 100,000 entries halts a worker for long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_FIRST, 20, 50)


def set_name(name: str) -> None:
    """Makes `ps` and `top` show which process this is (15 bytes at most)."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(f"toxmesh {name}"[:15])
    except OSError:
        return  # a name is a courtesy
