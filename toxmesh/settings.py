"""What a node is told to do, one frozen value of plain parts; `settings_file` makes it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from core.slots import IDENTITY_ROLES
from toxmesh.nodes import BootstrapNode

PORT_RANGE = range(33445, 33546)  # c-toxcore network.h: TOX_PORTRANGE_FROM, TOX_PORTRANGE_TO
MAX_WORKERS = 64  # of one role: a shard needs at least 4 of the 256 slots
MAX_BROKERS = 16  # one reads what three workers answer, and one role has 64
ROLES = ("dht", "onion", "relay")
"""Roles that serve strangers."""
ALL_ROLES = (*ROLES, *IDENTITY_ROLES)

_MOST_RELAYS = 2  # a frame costs the one broker 4.4 us then, and each relay 3.3 (performance.md)


def default_workers(cores: int | None = None) -> Mapping[str, int]:
    """Returns how many workers each role gets, from the cores that this process may use.

    With the broker they are as many as there are cores, so that each has one of its own, and four
    processes at least. Relays: one for four cores, two at most, for the one broker that has all
    TCP keeps no more of them busy. The rest is shared by dht and onion, whose shards share nothing;
    an odd one is for onion, since each answer of a client's search passes it three times.
    """
    usable = len(os.sched_getaffinity(0)) if cores is None else cores
    relay = min(_MOST_RELAYS, max(1, usable // 4))
    rest = max(2, usable - 1 - relay)
    dht = min(MAX_WORKERS, rest // 2)
    onion = min(MAX_WORKERS, rest - rest // 2)
    return MappingProxyType({"dht": dht, "onion": onion, "relay": relay})


@dataclass(frozen=True, slots=True)
class Identities:
    """Which identities a node hosts, and how."""

    directory: str = ""  # of the profiles; empty: no identity is hosted
    profiles: tuple[str, ...] = ()  # names, without .tox; empty: all that are in the directory
    accept: bool = False  # whether everybody who asks becomes a friend
    echo: bool = False  # whether each message is answered with itself
    udp_ports: tuple[int, ...] = (PORT_RANGE[0], PORT_RANGE[-1])  # first and last; empty: no UDP
    passphrase_file: str = ""  # of those that are encrypted


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one node, checked; the supervisor follows them and nothing changes them."""

    state_dir: Path
    listen: tuple[str, ...] = ()  # addresses without port; empty: 0.0.0.0, and :: if there is any
    udp_port: int | None = None  # None: the first free of PORT_RANGE; 0: off; else it must be free
    tcp_ports: tuple[int, ...] | None = None  # None: as above; empty: off
    bootstrap: tuple[BootstrapNode, ...] = ()  # the shipped list is filled in already
    lan_discovery: bool = True
    motd: str = ""  # a template (toxmesh.motd_template)
    services_off: tuple[str, ...] = ()  # names of core.services
    relay_connections: int = 20_000  # TCP connections, as far as descriptors allow
    relay_per_address: int = 64  # of them from one address; 0: no limit
    relay_per_prefix: int = 256  # and from one /24 or /64; 0: no limit
    workers: Mapping[str, int] = field(default_factory=default_workers)  # by role; 0: off;
    # roles of identities are there only where some are hosted
    identities: Identities = Identities()
    dispatch: str = "kernel"  # who gives workers their datagrams: the kernel or the broker
    brokers: int = 1  # that read UDP, where the broker dispatches; the first has all TCP
    http: str = "127.0.0.1:9745"  # metrics and the live page; empty: off
    remote: str = ""  # where remote operators are let in; empty: nowhere
    remote_operators: tuple[str, ...] = ()  # ROLE:KEY of each
    control_group: str = ""  # whose members may open the control door; empty: this user alone
    dev: bool = False
    log_level: str = "info"  # debug, info, warning or error
    log_format: str = "auto"  # by where the log goes; or text, or json
    log_redact: bool = False  # whether addresses are taken out of the log
