"""What a protocol module looks like, and the outbox into which it puts all its effects."""

import mmap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from core.asking import Events
from core.crypto import KeyPair, SecretKey, SharedKeys
from core.endpoint import Endpoint
from core.entropy import Entropy
from core.messages import Message
from core.slots import SlotTable


class ProtocolViolation(Exception):
    """A well-formed packet with which the peer broke a rule; `reason` is what is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LocalError(Exception):
    """Our own mistake: counted, logged once, and ten in ten seconds end the worker."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Settings that modules follow; plain values, the same in every worker of a node."""

    udp_port: int = 33445  # 0: no UDP
    tcp_ports: tuple[int, ...] = (33445,)
    has_ipv4: bool = True
    has_ipv6: bool = True
    loopback_ipv4: bool = False  # what answers nobody leaves from a socket that is bound to
    loopback_ipv6: bool = False  # loopback, and so can only go to this machine
    lan_discovery: bool = True
    lan_targets: tuple[Endpoint, ...] = ()  # broadcast addresses; ports are ignored
    motd: str = ""
    relay_connections: int = 20_000  # TCP connections, as far as descriptors allow
    relay_per_address: int = 64  # of them from one address; 0: no limit
    relay_per_prefix: int = 256  # and from one /24 or /64
    relay_unconfirmed_per_address: int = 32  # that have not sent a good frame yet
    bootstrap: tuple[tuple[Endpoint, bytes], ...] = ()  # address, DHT public key
    saved_nodes: tuple[tuple[Endpoint, bytes], ...] = ()  # known when the node last stopped
    draining: bool = False  # whether nobody new is taken, because the node is to be stopped
    services_off: tuple[str, ...] = ()  # names of core.services
    identities: tuple[str, ...] = ()  # profiles that are hosted (paths); these are for messenger
    identity_passphrase: str = ""  # path of the file with the passphrase of encrypted ones
    identity_acts: tuple[str, ...] = ()  # what they do by themselves: "accept", "echo"
    identity_ports: tuple[int, ...] = ()  # first and last UDP port to try; empty: no UDP
    identity_hosts: tuple[str, ...] = ()  # own addresses, at most one of a family
    identity_nodes: tuple[str, ...] = ()  # HOST:PORT:PUBLICKEY, to begin with
    identity_relays: tuple[str, ...] = ()  # the same of relays


@dataclass(slots=True)
class Context:
    """What a module is given when it is made: who it is, which shard, and its sources of chance."""

    keys: KeyPair  # the DHT identity this module serves
    master: SecretKey  # root of the secrets that all shards derive (crypto.derive_key)
    entropy: Entropy
    out: "Outbox"
    shard: int = 0
    slots: dict[str, SlotTable] = field(default_factory=dict)  # by role; changes with workers
    options: NodeOptions = NodeOptions()
    started: float = 0.0  # monotonic seconds: when the node (not this worker) started
    unix_offset: float = 0.0  # unix time minus monotonic time, for the few packets that tell a time
    events: Events = field(default_factory=Events)  # what operators may follow
    lasting: Callable[[int], mmap.mmap] | None = None  # gives so many bytes that outlive the worker
    shared_keys: SharedKeys | None = None  # the worker's one cache for `keys`; None: make one
    light: bool = False  # one of thousands in a process: short lists and caches, few wakes

    def key_cache(self) -> SharedKeys:
        """Returns the worker's one cache of combined keys, making it at the first call."""
        if self.shared_keys is None:
            self.shared_keys = SharedKeys(self.keys.secret)
        return self.shared_keys


class Outbox(Protocol):
    """Where a module puts what it wants done; whoever runs the module carries it out."""

    drops: Counter[str]
    """How many inputs were refused, by reason; also `WireError` and `ProtocolViolation`."""

    def send(self, endpoint: Endpoint, packet: bytes) -> None:
        """Sends a datagram; an answer leaves through the socket its request came to."""
        ...

    def tell(self, role: str, key: bytes, message: Message) -> None:
        """Tells the shard of `role` that owns the 32-byte `key`."""
        ...

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Tells one shard by number."""
        ...

    def tell_all(self, role: str, message: Message) -> None:
        """Tells every shard of `role`."""
        ...


class Module(Protocol):
    """One protocol module on one shard; `now` is monotonic seconds, one value for a whole call."""

    out: Outbox

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes one datagram. Raises WireError or ProtocolViolation; the caller counts them."""
        ...

    def handle_message(self, message: Message, now: float) -> None:
        """Takes what another module tells."""
        ...

    def handle_timer(self, now: float) -> None:
        """Does what is due at `now`."""
        ...

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called next, or None."""
        ...


class Collected:
    """An outbox that keeps everything, for simulations and tests."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self.sent: list[tuple[Endpoint, bytes]] = []
        self.told: list[tuple[str, bytes | int | None, Message]] = []

    def send(self, endpoint: Endpoint, packet: bytes) -> None:
        """Keeps the datagram in `sent`."""
        self.sent.append((endpoint, packet))

    def tell(self, role: str, key: bytes, message: Message) -> None:
        """Keeps the message in `told` with its key."""
        self.told.append((role, key, message))

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Keeps the message in `told` with its shard number."""
        self.told.append((role, shard, message))

    def tell_all(self, role: str, message: Message) -> None:
        """Keeps the message in `told` with None: all shards."""
        self.told.append((role, None, message))
